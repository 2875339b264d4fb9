"""What probes and Prometheus are told by a worker."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.metrics import _internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from mainstay import (
    CommandBus,
    HandlerRegistry,
    MemoryCommandStore,
    PostgreSQLEventStore,
    SendRequest,
    SubscriptionManager,
    Worker,
    metrics,
    service,
)
from mainstay.commands.failures import fingerprint
from mainstay.commands.store import Lease
from mainstay.errors import ConfigurationError, MissingDependencyError
from mainstay.metrics import METRICS
from mainstay.operations.probes import HealthServer
from mainstay.operations.prometheus import PrometheusRecorder, prometheus_name
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.counting import QUICK, Seen, count
from tests.support.waiting import eventually, eventually_sync

DOMAIN = "orders"


async def get(server: HealthServer, path: str) -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    return await asyncio.to_thread(ask)


def values(text: bytes) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and its labels' values."""
    order = ("domain", "command_type", "outcome", "le")
    return {
        (sample.name, *(sample.labels[label] for label in order if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def registry() -> HandlerRegistry:
    made = HandlerRegistry()

    @made.decorator(DOMAIN, "Do")
    async def do(command, context):
        return {}

    return made


@asynccontextmanager
async def working(worker: Worker) -> Any:
    task = asyncio.create_task(worker.run(3, 0.1))
    try:
        await eventually(lambda: worker.is_running)
        yield
    finally:
        await worker.stop(5)
        await task


async def test_prometheus_reads_what_happened_and_what_waits(pool: Any, monkeypatch) -> None:
    monkeypatch.setattr(metrics, "REFRESH", 0.0)  # the numbers of a moment ago would do for five seconds
    store = PostgresCommandStore(pool)
    bus = CommandBus(store)
    worker = Worker(store, DOMAIN, registry())
    async with HealthServer([worker]) as server:
        nothing = values((await get(server, "/metrics"))[1])
        await bus.send(DOMAIN, "Do", uuid4(), {})
        await bus.send(DOMAIN, "Nobody", uuid4(), {})
        await bus.breakers.set(DOMAIN, "CallSupplier", probe_after=600)
        await bus.breakers.force_open(DOMAIN, "CallSupplier", fingerprint("no answer"), operator="ada")
        async with working(worker):

            async def troubled() -> bool:
                return (await worker.backlog()).troubleshooting == 1

            await eventually(troubled)
            await eventually(lambda: worker.handled_count == 2)
            status, text = await get(server, "/metrics")
    found = values(text)

    assert status == 200
    assert nothing["mainstay_worker_slots", DOMAIN] == 0
    assert found["mainstay_commands_sent_total", DOMAIN, "Do"] == 1
    assert found["mainstay_commands_handled_total", DOMAIN, "Do", "completed"] == 1
    assert found["mainstay_commands_handled_total", DOMAIN, "(no handler)", "troubleshot"] == 1
    assert found["mainstay_command_duration_seconds_count", DOMAIN, "Do", "completed"] == 1
    assert found["mainstay_command_attempts_sum", DOMAIN, "Do", "completed"] == 1
    assert found["mainstay_flush_size_sum", DOMAIN] == 2
    assert found["mainstay_worker_slots", DOMAIN] == 3
    assert found["mainstay_queue_ready", DOMAIN] == 0
    assert found["mainstay_troubleshooting", DOMAIN] == 1
    assert found["mainstay_breakers_open", DOMAIN] == 1


@pytest.fixture
def reader(monkeypatch):
    """OpenTelemetry's SDK as the provider of the process, which it lets one set only once."""
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    monkeypatch.setattr(_internal, "_METER_PROVIDER", provider)
    metrics._instruments.cache_clear()
    yield found
    provider.shutdown()
    metrics._instruments.cache_clear()


def gauged(reader: InMemoryMetricReader) -> dict[tuple[str, ...], float]:
    """Every gauge, by its name and its labels' values; read as an SDK's reader does, in a thread."""
    data = reader.get_metrics_data()
    return {
        (metric.name, *point.attributes.values()): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if isinstance(metric.data, Gauge)
    }


async def test_opentelemetry_reads_the_queue_of_a_worker_that_runs(reader, pool: Any, monkeypatch) -> None:
    monkeypatch.setattr(metrics, "REFRESH", 0.0)
    store = PostgresCommandStore(pool)
    bus = CommandBus(store)
    may_end = asyncio.Event()
    handlers = HandlerRegistry()

    @handlers.handler(DOMAIN, "Wait")
    async def wait(command: Any, context: Any) -> None:
        await may_end.wait()

    one, other = Worker(store, DOMAIN, handlers), Worker(store, DOMAIN, handlers)
    before = gauged(reader)
    async with working(one), working(other):
        await bus.send_batch([SendRequest(DOMAIN, "Wait", uuid4(), {}) for _ in range(6)])
        await eventually(lambda: one.in_flight_count + other.in_flight_count == 6)
        await bus.send(DOMAIN, "Nobody", uuid4(), {}, delay=0)

        async def read() -> dict[tuple[str, ...], float]:
            return await asyncio.to_thread(gauged, reader)

        found = await read()
        on_the_loop = gauged(reader)  # which must not wait for itself
        may_end.set()
    after = await asyncio.to_thread(gauged, reader)

    assert (before, after) == ({}, {})
    assert found["mainstay.worker.slots", DOMAIN] == 6
    assert found["mainstay.worker.in_flight", DOMAIN] == 6
    assert found["mainstay.queue.leased", DOMAIN] + found["mainstay.queue.ready", DOMAIN] >= 6
    assert found["mainstay.queue.oldest_ready.age", DOMAIN] >= 0
    assert on_the_loop["mainstay.worker.slots", DOMAIN] == 6


async def test_nothing_is_asked_of_the_database_unless_somebody_reads_and_then_seldom(monkeypatch) -> None:
    store = MemoryCommandStore()
    asked: list[str] = []
    ask = store.backlog

    async def counted(domain: str) -> Any:
        asked.append(domain)
        return await ask(domain)

    monkeypatch.setattr(store, "backlog", counted)
    monkeypatch.setattr(metrics, "REFRESH", 3600.0)
    worker = Worker(store, DOMAIN, registry())
    async with working(worker):
        await CommandBus(store).send(DOMAIN, "Do", uuid4(), {})
        await eventually(lambda: worker.handled_count == 1)
        unread = len(asked)
        for _ in range(3):
            await asyncio.to_thread(metrics.observations)

    assert (unread, len(asked)) == (0, 1)


async def test_a_worker_is_ready_while_it_runs_and_reaches_its_database() -> None:
    worker = Worker(MemoryCommandStore(), DOMAIN, registry())
    async with HealthServer([worker], metrics=False) as server:
        assert (await get(server, "/health/live"))[0] == 200
        status, body = await get(server, "/health/ready")
        assert (status, json.loads(body)["workers"][0]["reasons"]) == (503, ["the worker does not run"])
        async with working(worker):
            await eventually(lambda: worker.health().is_ready)
            status, body = await get(server, "/health/ready")
            assert (status, json.loads(body)["status"]) == (200, "ok")
        assert (await get(server, "/health/ready"))[0] == 503
        assert (await get(server, "/metrics"))[0] == 404
        assert (await get(server, "/elsewhere"))[0] == 404


async def test_a_worker_is_not_ready_when_its_database_is_gone(monkeypatch, pool: Any) -> None:
    monkeypatch.setattr(service, "RECENT", 0.2)
    worker = Worker(PostgresCommandStore(pool), DOMAIN, registry())
    async with working(worker):
        await eventually(lambda: worker.health().is_ready)
        worker._folder.touch([Lease(uuid4(), 1, 1, in_batch=True)])
        await eventually(lambda: any("last reached" in why for why in worker.health().ready))

        assert worker.health().is_live


async def test_a_handler_that_blocks_the_loop_makes_the_process_not_live(monkeypatch) -> None:
    monkeypatch.setattr(service, "STILL", 0.2)
    store, asked = MemoryCommandStore(), []
    made = HandlerRegistry()
    worker = Worker(store, DOMAIN, made)
    async with HealthServer([worker], metrics=False) as server:

        @made.decorator(DOMAIN, "Block")
        async def block(command, context):
            asked.append(eventually_sync(lambda: dead(server.port)))  # the loop stands still meanwhile

        await CommandBus(store).send(DOMAIN, "Block", uuid4(), {})
        async with working(worker):
            await eventually(lambda: asked)

    assert "has not turned for" in asked[0]


def dead(port: int) -> str:
    """What a probe is told, if it is told off."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=10):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()


async def test_a_port_that_cannot_be_had_says_so() -> None:
    async with HealthServer([], metrics=False) as first:
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            async with HealthServer([], port=first.port, metrics=False):
                pass
    for port in (-1, 65536, "9100", 1.5, True, None):
        with pytest.raises(ConfigurationError, match="a port is"):
            HealthServer([], port=port)


def test_a_missing_client_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*prometheus"):
        PrometheusRecorder()


def test_every_metric_is_in_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/telemetry.md").read_text(encoding="utf-8")

    assert [one.name for one in METRICS if f"`{one.name}`" not in guide] == []
    assert [prometheus_name(one) for one in METRICS if f"`{prometheus_name(one)}" not in guide] == []


async def test_probes_and_prometheus_tell_of_subscriptions(pool: Any, monkeypatch) -> None:
    monkeypatch.setattr(metrics, "REFRESH", 0.0)
    store = PostgreSQLEventStore(pool)
    manager = SubscriptionManager(store)
    seen = Seen()
    await manager.subscribe(seen, QUICK)
    async with HealthServer(managers=[manager]) as server:
        status, body = await get(server, "/health/ready")
        found = json.loads(body)["subscriptions"][0]["reasons"]
        assert (status, found) == (503, ["the subscription manager does not run"])
        async with manager:
            await manager.wait_until(await count(store, 1, 2))
            await eventually(lambda: not manager.probe().ready)
            assert (await get(server, "/health/ready"))[0] == 200
            assert (await get(server, "/health/live"))[0] == 200
            _, text = await get(server, "/metrics")

    lines = text.decode().splitlines()
    assert 'mainstay_projection_lag_events{subscription="Seen"} 0.0' in lines
    assert 'mainstay_projection_events_total{subscription="Seen"} 2.0' in lines
    assert 'mainstay_events_appended_total{category="Counter",event_type="ProjectedCounted"} 2.0' in lines
    assert any(line.startswith("mainstay_horizon_age_seconds 0") for line in lines)
