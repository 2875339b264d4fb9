"""Unique keys as the bus offers them, on the memory store."""

from datetime import timedelta
from uuid import uuid4

import pytest

from mainstay import (
    BatchCommand,
    CommandBus,
    CommandModel,
    InvalidInputError,
    KeyConflict,
    MemoryCommandStore,
    NotUniqueError,
    OnConflict,
    SendRequest,
)
from mainstay.clock import FrozenClock
from mainstay.commands.store import Outcome, Verb
from mainstay.sync import SyncCommandBus

DOMAIN = "search"


class Rebuild(CommandModel, domain=DOMAIN):
    index: str


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def store(clock):
    return MemoryCommandStore(clock)


@pytest.fixture
async def bus(store):
    made = CommandBus(store)
    yield made
    await made.close()


def request(unique_key="rebuild", **changes):
    return SendRequest(DOMAIN, "Rebuild", uuid4(), {}, unique_key=unique_key, **changes)


async def complete_all(store):
    for each in await store.receive(DOMAIN, limit=100, lease_seconds=60, worker="w1"):
        await store.complete(DOMAIN, [Outcome(each.lease, Verb.COMPLETE, b'{"done":true}')])


async def test_a_refusal_names_the_command_that_holds_the_key(bus):
    first = await bus.send(Rebuild(index="a"), unique_key="rebuild")
    second = uuid4()

    with pytest.raises(NotUniqueError) as caught:
        await bus.send(Rebuild(index="a"), command_id=second, unique_key="rebuild")

    error = caught.value
    assert error.conflicts == (KeyConflict(second, "rebuild", first.command_id),)
    assert (error.domain, error.command_id, error.unique_key, error.holder_id) == (DOMAIN, *error.conflicts[0])
    assert not await bus.command_exists(DOMAIN, second)
    assert (await bus.get_command(DOMAIN, first.command_id)).unique_key == "rebuild"


@pytest.mark.parametrize("on_conflict", ["skip", "SKIP", OnConflict.SKIP])
async def test_what_is_skipped_gives_the_command_that_holds_the_key(bus, on_conflict):
    first = await bus.send(Rebuild(index="a"), unique_key="rebuild", on_conflict=on_conflict)
    second = await bus.send(Rebuild(index="b"), unique_key="rebuild", on_conflict=on_conflict)

    assert (first.skipped, second.skipped) == (False, True)
    assert (second.command_id, second.msg_id) == (first.command_id, None)


async def test_a_sender_that_repeats_itself_finds_its_own_command(bus):
    key = uuid4()
    first = await bus.send(DOMAIN, "Rebuild", key, {}, unique_key="rebuild", idempotent=True)

    assert await bus.send(DOMAIN, "Rebuild", key, {}, unique_key="rebuild", idempotent=True) == first


async def test_a_window_counts_from_the_send(bus, store, clock):
    day = timedelta(days=1)
    first = await bus.send(Rebuild(index="a"), unique_key="daily", unique_for=day)
    clock.advance(day.total_seconds() / 2)
    await complete_all(store)

    with pytest.raises(NotUniqueError, match=str(first.command_id)):
        await bus.send(Rebuild(index="a"), unique_key="daily")
    clock.advance(day.total_seconds() / 2)
    await bus.send(Rebuild(index="a"), unique_key="daily")


async def test_a_send_batch_is_refused_whole_and_every_conflict_is_named(bus):
    await bus.send_batch([request("a"), request("b")])
    requests = [request("a"), request("c"), request("b"), request("c")]

    with pytest.raises(NotUniqueError) as caught:
        await bus.send_batch(requests)

    assert [each.unique_key for each in caught.value.conflicts] == ["a", "b", "c"]
    assert caught.value.conflicts[2].holder_id == requests[1].command_id
    assert "and 2 more" in str(caught.value)
    assert (await bus.send_batch([request("c")])).total_commands == 1


async def test_a_send_batch_leaves_out_what_may_be_skipped(bus):
    await bus.send_batch([request("a")])

    done = await bus.send_batch([request("a", on_conflict="skip"), request("b")])

    assert [each.skipped for each in done.results] == [True, False]
    assert done.total_commands == 1


@pytest.mark.parametrize("as_stream", [True, False])
async def test_a_batch_and_a_stream_count_what_was_not_skipped(bus, as_stream):
    await bus.send_batch([request("a")])
    commands = [BatchCommand("Rebuild", uuid4(), {}, unique_key=key, on_conflict="skip") for key in "abb"]

    made = await bus.create_batch(DOMAIN, iter(commands) if as_stream else commands)

    assert made.total_commands == 1
    assert (await bus.get_batch(DOMAIN, made.batch_id)).total_count == 1


@pytest.mark.parametrize("as_stream", [True, False])
async def test_a_batch_with_a_held_key_is_refused(bus, as_stream):
    await bus.send_batch([request("a")])
    commands = [BatchCommand.of(Rebuild(index="x"), unique_key=key) for key in "ba"]

    with pytest.raises(NotUniqueError):
        await bus.create_batch(DOMAIN, iter(commands) if as_stream else commands)
    assert (await bus.send_batch([request("b")])).total_commands == 1


async def test_a_schedule_says_when_it_cannot_run_now(bus):
    holder = (await bus.send(Rebuild(index="a"), unique_key="rebuild")).command_id
    made = await bus.schedules.set("nightly", Rebuild(index="a"), every=60, unique_key="rebuild", unique_for=30)

    assert (made.unique_key, made.unique_for, made.skipped_count) == ("rebuild", timedelta(seconds=30), 0)
    with pytest.raises(NotUniqueError) as caught:
        await bus.schedules.run_now("nightly")
    assert caught.value.holder_id == holder


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"unique_key": ""}, "must not be empty"),
        ({"unique_key": "x" * 201}, "unique_key must be a text"),
        ({"unique_key": 7}, "unique_key must be a text"),
        ({"unique_key": "a", "unique_for": -1}, "unique_for"),
        ({"unique_for": 60}, "give unique_key"),
        ({"on_conflict": "skip"}, "give unique_key"),
        ({"unique_key": "a", "on_conflict": "replace"}, 'on_conflict must be "refuse" or "skip", not \'replace\''),
        ({"unique_key": "a", "on_conflict": None}, 'on_conflict must be "refuse" or "skip", not None'),
    ],
)
async def test_what_cannot_be_meant_is_refused(bus, options, told):
    with pytest.raises(InvalidInputError, match=told):
        await bus.send(DOMAIN, "Rebuild", uuid4(), {}, **options)


async def test_a_completion_command_has_no_unique_key(bus):
    with pytest.raises(InvalidInputError, match="come what may"):
        await bus.create_batch(DOMAIN, [BatchCommand("Rebuild", uuid4(), {})], on_complete=request())


def test_code_that_blocks_has_the_same():
    with SyncCommandBus(MemoryCommandStore()) as bus:
        first = bus.send(Rebuild(index="a"), unique_key="rebuild")
        with pytest.raises(NotUniqueError) as caught:
            bus.send(Rebuild(index="a"), unique_key="rebuild")

        assert caught.value.holder_id == first.command_id
        assert bus.send(Rebuild(index="a"), unique_key="rebuild", on_conflict="skip").command_id == first.command_id
