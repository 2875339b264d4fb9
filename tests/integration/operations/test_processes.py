"""``mainstay processes``: list, show, cancel."""

import asyncio
from uuid import UUID

import pytest

from mainstay import EventProcesses, Mainstay, PostgreSQLEventStore, StreamId, SubscriptionManager
from tests.scenarios.event_processes import Fulfil, Ordered, PaidFor
from tests.scenarios.processes import Buy, Purchase
from tests.support.cli import run

NIL = UUID(int=0)


@pytest.fixture
def process_id(dsn):
    async def start() -> UUID:
        async with Mainstay.connect(dsn) as app:
            return await app.processes.start(Buy(), Purchase())

    return asyncio.run(start())


def test_processes_are_listed_and_shown(dsn, process_id):
    listed = run("processes", "list", "--dsn", dsn)
    shown = run("processes", "show", process_id, "--dsn", dsn)
    as_json = run("processes", "show", process_id, "--dsn", dsn, "--json").json

    assert str(process_id) in listed.out
    assert "waiting for reply" in listed.out
    assert "Reserve" in shown.out
    assert "step sent" in shown.out
    assert as_json["process"]["steps"][0]["name"] == "Reserve"
    assert as_json["waiting_for"] == {"1": "PENDING"}
    assert run("processes", "list", "--dsn", dsn, "--json").json[0]["process_type"] == "Buy"


def test_the_events_that_a_process_took_are_shown_among_its_steps(dsn):
    fulfil = Fulfil()

    async def fulfilling() -> UUID:
        async with Mainstay.connect(dsn) as app:
            store = PostgreSQLEventStore(app.pool)
            manager = SubscriptionManager(store)
            await manager.subscribe(EventProcesses(fulfil))
            for stream in (StreamId("FulfilledOrder", "1", "acme"), StreamId("FulfilledPayment", "p", "acme")):
                event = Ordered() if stream.category == "FulfilledOrder" else PaidFor(order_id="1")
                await store.append(stream, [event])
            await manager.start()
            await manager.drain()
        return fulfil.process_id_of("1", "acme")

    process_id = asyncio.run(fulfilling())
    shown = run("processes", "show", process_id, "--dsn", dsn).out
    as_json = run("processes", "show", process_id, "--dsn", dsn, "--json").json["process"]
    places = [shown.index(word) for word in ("FulfilledOrderOrdered", "Charge", "FulfilledPaymentPaidFor", "Ship")]

    assert places == sorted(places)
    assert "acme" in shown
    assert [each["was_taken"] for each in as_json["events"]] == [True, True]
    assert as_json["tenant_id"] == "acme"


@pytest.mark.parametrize("options", [["-s", "failed"], ["-d", "elsewhere"], ["-t", "Sell"], ["--batch", str(NIL)]])
def test_only_what_was_asked_for_is_listed(dsn, process_id, options):
    assert run("processes", "list", "--dsn", dsn, *options).out.strip() == "No processes found."
    assert str(process_id) in run("processes", "list", "--dsn", dsn, "-s", "waiting", "-d", "buying").out


def test_a_process_is_asked_to_undo(dsn, process_id):
    done = run("processes", "cancel", process_id, "--reason", "a test", "--dsn", dsn)
    waiting = run("commands", "list", "--type", "ProcessCancel", "--dsn", dsn, "--json").json

    assert done.code == 0
    assert [each["data"]["reason"] for each in waiting] == ["a test"]


def test_what_is_not_there_is_told_with_a_code(dsn):
    assert run("processes", "list", "--dsn", dsn).out.strip() == "No processes were started yet."
    assert run("processes", "show", NIL, "--dsn", dsn).code == 5
    assert run("processes", "cancel", NIL, "--dsn", dsn, "--json").code == 5
    assert run("processes", "list", "-s", "sleeping", "--dsn", dsn).code == 2
