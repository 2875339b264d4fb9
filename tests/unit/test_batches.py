"""Batches that are sent in a stream, as the bus offers them, on the memory store."""

import asyncio
import logging
from uuid import uuid4

import pytest

from mainstay import (
    BatchCommand,
    BatchNotFoundError,
    BatchStatus,
    CommandBus,
    DuplicateCommandError,
    HandlerRegistry,
    InvalidInputError,
    InvalidOperationError,
    MemoryCommandStore,
    Worker,
)
from mainstay.clock import FrozenClock
from mainstay.commands import outcomes
from mainstay.commands.actions import ActionState, OperatorRules
from mainstay.commands.batches import STREAM_CHUNK
from mainstay.commands.store import Outcome, Verb
from mainstay.sync import SyncCommandBus
from tests.support.waiting import eventually

MANY = 2 * STREAM_CHUNK + 1


@pytest.fixture
def store():
    return MemoryCommandStore(FrozenClock())


@pytest.fixture
async def bus(store):
    made = CommandBus(store)
    yield made
    await made.close()


def command(**changes):
    return BatchCommand(**{"command_type": "Order", "command_id": uuid4(), "data": {"n": 1}} | changes)


def commands(count):
    return (command() for _ in range(count))


async def later(count):
    for each in commands(count):
        yield each


async def complete_all(store, bus, batch_id):
    while taken := await store.receive("shop", limit=500, lease_seconds=60, worker="w1"):
        await store.complete("shop", [Outcome(each.lease, Verb.COMPLETE) for each in taken])
    await store.fold_batches("shop")
    return await bus.get_batch("shop", batch_id)


@pytest.mark.parametrize("source", [commands, later], ids=["sync", "async"])
async def test_any_iterable_becomes_a_stream_in_chunks(store, bus, source):
    made = await bus.create_batch("shop", source(MANY), name="all of them")
    done = await complete_all(store, bus, made.batch_id)

    assert (made.total_commands, made.command_results) == (MANY, [])
    assert (done.total_count, done.status, done.name) == (MANY, BatchStatus.COMPLETED, "all of them")


async def test_a_stream_that_breaks_leaves_an_open_batch_and_says_so(store, bus, caplog):
    key = uuid4()

    def broken():
        yield from commands(STREAM_CHUNK)
        raise ValueError("the file ends here")

    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="the file"):
        await bus.create_batch("shop", broken(), batch_id=key)

    found = await complete_all(store, bus, key)
    assert (found.sealed, found.is_complete, found.completed_count) == (False, False, STREAM_CHUNK)
    assert str(key) in caplog.text

    await bus.seal_batch("shop", key)

    assert (await complete_all(store, bus, key)).status is BatchStatus.COMPLETED


async def test_a_known_id_ends_the_stream(store, bus):
    known = command()
    key = uuid4()
    await bus.create_batch("shop", [known])

    with pytest.raises(DuplicateCommandError):
        async with bus.open_batch("shop", batch_id=key) as batch:
            await batch.send(command(), known)

    assert (await bus.get_batch("shop", key)).total_count == 0


async def test_what_is_sent_after_a_cancel_is_refused(bus):
    async with bus.open_batch("shop") as batch:
        await bus.cancel_batch("shop", batch.batch_id, operator="ada", reason="a mistake")
        await batch.send(command())
        with pytest.raises(InvalidOperationError, match="sealed or canceled"):
            await batch.finish()


async def test_a_stream_cannot_join_a_transaction(store, bus):
    async with store.transaction() as tx:
        with pytest.raises(InvalidInputError, match="cannot join"):
            await bus.create_batch("shop", commands(1), conn=tx)


async def test_a_batch_is_watched_until_it_has_ended(store, bus):
    made = await bus.create_batch("shop", [command(), command()])
    seen = []
    async for batch in bus.watch_batch("shop", made.batch_id, interval=0.05):
        seen.append((batch.completed_count, batch.is_complete))
        taken = await store.receive("shop", limit=1, lease_seconds=60, worker="w1")
        await store.complete("shop", [Outcome(each.lease, Verb.COMPLETE) for each in taken])
        if batch.completed_count == 2:
            await store.fold_batches("shop")

    assert seen == [(0, False), (1, False), (2, False), (2, True)]


async def test_watching_what_is_not_there_says_so(bus):
    with pytest.raises(BatchNotFoundError):
        await anext(bus.watch_batch("shop", uuid4()))
    with pytest.raises(InvalidInputError, match="interval"):
        await anext(bus.watch_batch("shop", uuid4(), interval="soon"))


async def test_cancelling_a_batch_keeps_to_the_rules(store, bus):
    made = await bus.create_batch("shop", [command(), command()])
    await store.set_rules(OperatorRules(approve_above=1), "boss")
    action = await bus.cancel_batch("shop", made.batch_id, operator="ada")

    assert (action.state, action.total) == (ActionState.PROPOSED, 2)
    assert (await bus.get_batch("shop", made.batch_id)).canceled_count == 0


def test_a_stream_and_a_watch_without_an_event_loop(store):
    with SyncCommandBus(store) as bus:
        with bus.open_batch("shop") as batch:
            batch.send(command(), command())
        (first,) = [next(bus.watch_batch("shop", batch.batch_id))]
        with pytest.raises(KeyError), bus.open_batch("shop") as broken:
            raise KeyError

        assert batch.sent == 2
        assert (first.total_count, first.sealed) == (2, True)
        assert not bus.get_batch("shop", broken.batch_id).sealed


class Looking(MemoryCommandStore):
    """Counts the looks at batches."""

    looks = 0

    async def fold_batches(self, domain):
        self.looks += 1
        return await super().fold_batches(domain)


@pytest.mark.parametrize("is_member", [True, False])
async def test_workers_look_at_batches_when_they_completed_something_in_one(monkeypatch, is_member):
    monkeypatch.setattr(outcomes, "FOLD_INTERVAL", 3600.0)
    store = Looking()
    bus, registry, done = CommandBus(store), HandlerRegistry(), asyncio.Event()

    @registry.decorator("shop", "Order")
    async def order(_command, _context):
        done.set()

    if is_member:
        batch = await bus.create_batch("shop", [command()])
    else:
        await bus.send("shop", "Order", uuid4(), {})
    worker = Worker(store, "shop", registry)
    running = asyncio.create_task(worker.run(concurrency=1))
    await done.wait()
    if is_member:
        await eventually(lambda: store.looks > 1)
        assert (await bus.get_batch("shop", batch.batch_id)).status is BatchStatus.COMPLETED
    await worker.stop()
    await running

    assert store.looks == 2 + is_member  # when it begins and when it ends it looks in any case
    await bus.close()
