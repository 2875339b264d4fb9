"""What telemetry costs while nobody records: a look, and nothing of OpenTelemetry's."""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from uuid import uuid4

from mainstay import (
    CommandBus,
    DomainEvent,
    EventRegistry,
    HandlerRegistry,
    InMemoryEventStore,
    MemoryCommandStore,
    MemoryProjectionStore,
    StreamId,
)
from mainstay.commands.execution import Execution
from mainstay.projections.tracing import projecting
from tests.support.telemetry import recorded_spans


class Priced(DomainEvent, aggregate_type="Costly", event_type="TestPriced"):
    pass


OURS = ("telemetry.py", "metrics.py", "tracing.py")


async def calls_of(act: Callable[[], Awaitable[object]]) -> Counter[str]:
    """How many Python functions are called, of OpenTelemetry and of our own telemetry."""
    counted: Counter[str] = Counter()

    def count(frame, event, _):
        if event == "call":
            path = frame.f_code.co_filename
            counted["theirs"] += "/opentelemetry/" in path
            counted["ours"] += "/mainstay/" in path and path.endswith(OURS)

    await act()  # what is done once is done
    sys.setprofile(count)
    try:
        await act()
    finally:
        sys.setprofile(None)
    return counted


async def test_a_send_looks_once_and_calls_nothing_of_opentelemetry() -> None:
    bus = CommandBus(MemoryCommandStore())

    async def send() -> None:
        await bus.send("orders", "Do", uuid4(), {})

    quiet = await calls_of(send)
    with recorded_spans():
        loud = await calls_of(send)

    assert quiet["theirs"] == 0
    assert quiet["ours"] <= 16
    assert loud["theirs"] > 20


async def test_a_handler_runs_without_calling_anything_of_opentelemetry() -> None:
    store, registry = MemoryCommandStore(), HandlerRegistry()

    @registry.decorator("orders", "Do")
    async def do(command, context):
        return {}

    await CommandBus(store).send("orders", "Do", uuid4(), {})
    (received,) = await store.receive("orders", limit=1, lease_seconds=30, worker="w")
    execution = Execution(
        store, "orders", registry, None, lambda: None, lambda _: False, lambda _: None, lambda *_: None
    )

    async def handle() -> None:
        await execution.run(received)

    quiet = await calls_of(handle)
    with recorded_spans():
        loud = await calls_of(handle)

    assert quiet["theirs"] == 0
    assert quiet["ours"] <= 10
    assert loud["theirs"] > 20


async def test_an_append_looks_once_and_calls_nothing_of_opentelemetry() -> None:
    store = InMemoryEventStore(registry=EventRegistry([Priced]))

    async def append() -> None:
        await store.append(StreamId("Costly", "a"), [Priced()])

    quiet = await calls_of(append)
    with recorded_spans():
        loud = await calls_of(append)

    assert quiet["theirs"] == 0
    assert quiet["ours"] <= 10
    assert loud["theirs"] > 20


async def test_a_batch_of_events_looks_once_however_many_they_are() -> None:
    store = InMemoryEventStore(registry=EventRegistry([Priced]))
    await store.append(StreamId("Costly", "a"), [Priced() for _ in range(50)])
    events = (await store.log.read_feed()).events
    claims = MemoryProjectionStore()
    await claims.register("costly")
    (claim,) = await claims.claim("costly", owner="me", seconds=30, most=1)

    async def project() -> None:
        with projecting(claim, events) as seen:
            for recorded in events:
                with seen.event(recorded):
                    pass

    quiet = await calls_of(project)
    with recorded_spans():
        loud = await calls_of(project)

    assert quiet["theirs"] == 0
    assert quiet["ours"] <= len(events) + 13
    assert loud["theirs"] > 20
