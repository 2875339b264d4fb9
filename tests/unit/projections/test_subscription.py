"""Subscriptions on memory: what a projection is given, in which order, and what an error means."""

import asyncio
from uuid import uuid4

import pytest

from mainstay.errors import (
    ConfigurationError,
    InvalidOperationError,
    SubscriptionNotFoundError,
)
from mainstay.events.log import EVERYTHING
from mainstay.events.registry import EventRegistry
from mainstay.events.store import EventStore, InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.shard import RunState
from mainstay.projections.store import Checkpoint, DeadLetterStatus, ShardStatus
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from tests.support.counting import NAME, QUICK, Counted, Noted, Seen, count, is_stopped, state_of
from tests.support.odd_errors import ODD, broken_logging
from tests.support.waiting import eventually


async def test_events_are_handled_in_order_those_before_and_those_after_the_start(store, manager) -> None:
    seen = Seen()
    await count(store, 1, 2, 3)
    await manager.subscribe(seen, QUICK)
    await manager.start()

    await manager.wait_until(await count(store, 4, 5))

    assert seen.numbers == [1, 2, 3, 4, 5]
    assert manager.subscriptions[NAME].states == {0: RunState.LIVE}


async def test_pages_follow_each_other(store, manager) -> None:
    seen = Seen()
    last = await count(store, *range(23))
    await manager.subscribe(seen, SubscriptionConfig(batch_size=5, poll=0.05))
    await manager.start()

    await manager.wait_until(last)

    assert seen.numbers == list(range(23))


async def test_unwanted_events_are_passed_by_and_the_checkpoint_with_them(store, manager, checkpoints) -> None:
    seen = Seen()
    await manager.subscribe(seen, QUICK)
    await manager.start()
    done = await store.append(StreamId("Counter", "a"), [Noted(text="x")] * 1)

    await manager.wait_until(done.position)

    assert seen.calls == 0
    assert (await state_of(checkpoints)).checkpoint.event_id is None


async def test_a_restarted_subscription_goes_on_where_it_was(store, checkpoints) -> None:
    seen = Seen()
    for numbers in ([1, 2], [3, 4]):
        manager = SubscriptionManager(store, checkpoints)
        await manager.subscribe(seen, QUICK)
        async with manager:
            await manager.wait_until(await count(store, *numbers))

    assert seen.numbers == [1, 2, 3, 4]


async def test_a_subscription_can_begin_now(store, manager) -> None:
    seen = Seen()
    await count(store, 1, 2)
    await manager.subscribe(seen, SubscriptionConfig(start="now", poll=0.05))
    await manager.start()

    await manager.wait_until(await count(store, 3))

    assert seen.numbers == [3]


async def test_an_event_that_fails_and_recovers_loses_nothing(store, manager, checkpoints) -> None:
    seen = Seen()
    seen.refused = {3}
    last = await count(store, 1, 2, 3, 4, 5)
    config = SubscriptionConfig(poll=0.05, retry_policy=RetryPolicy(max_attempts=1_000_000, backoff_schedule=[0.001]))
    await manager.subscribe(seen, config)
    await manager.start()
    await eventually(lambda: seen.calls > 10)
    assert manager.subscriptions[NAME].states == {0: RunState.RETRYING}

    seen.refused = set()
    await manager.wait_until(last)

    assert sorted(set(seen.numbers)) == [1, 2, 3, 4, 5]
    assert seen.numbers[-3:] == [3, 4, 5]
    assert (await state_of(checkpoints)).dead_letters == 0


async def test_an_event_that_cannot_be_handled_stops_the_subscription(store, manager, checkpoints) -> None:
    seen = Seen()
    seen.refused = {3}
    last = await count(store, 1, 2, 3, 4)
    await manager.subscribe(seen, QUICK)
    await manager.start()

    async def stopped():
        return (await state_of(checkpoints)).status is ShardStatus.STOPPED

    await eventually(stopped)

    state = await state_of(checkpoints)
    assert (
        state.reason == f"ProjectedCounted at position {last - 1} of Counter/a failed 3 times: ValueError: no 3 today"
    )
    assert state.checkpoint.position == last - 2
    assert 4 not in seen.numbers
    assert not await manager.is_healthy()
    seen.refused = set()
    await manager.resume(NAME, actor="ann")
    await manager.wait_until(last)
    assert seen.numbers[-2:] == [3, 4]


@pytest.mark.parametrize("on_error", ["stop", "dead_letter"])
@pytest.mark.parametrize("name", [*ODD, "an ordinary one"])
async def test_whatever_a_handler_raises_is_an_attempt(store, manager, checkpoints, name, on_error) -> None:
    error = ODD.get(name, ValueError(name))

    class Refuses(Seen):
        name = NAME

        async def handle(self, envelope, conn):
            self.calls += 1
            raise error

    refuses = Refuses(on_error)
    with broken_logging():
        last = await count(store, 1)
        await manager.subscribe(refuses, QUICK)
        await manager.start()
        if on_error == "stop":
            await eventually(lambda: is_stopped(checkpoints))
            assert type(error).__name__ in (await state_of(checkpoints)).reason
        else:
            await manager.wait_until(last)
            (letter,) = await checkpoints.dead_letters(NAME)
            assert letter.attempts == 3
    assert refuses.calls == 3
    await manager.stop()


async def test_a_shard_that_ends_by_an_error_of_ours_says_so_in_its_health(
    store, manager, checkpoints, monkeypatch
) -> None:
    def broken(claim):
        raise RuntimeError("a defect")

    monkeypatch.setattr(checkpoints, "batch", broken)
    await count(store, 1)
    await manager.subscribe(Seen(), QUICK)
    await manager.start()

    async def is_told():
        return (await manager.health(NAME))[0].last_error == "RuntimeError: a defect"

    await eventually(is_told)
    assert (await manager.health(NAME))[0].attempts > 0


async def test_a_dead_letter_takes_its_key_along_and_nothing_else(store, manager, checkpoints) -> None:
    seen = Seen("dead_letter")
    seen.refused = {2}
    await count(store, 1, 2, 3, stream="a")
    await count(store, 10, stream="b")
    await manager.subscribe(seen, QUICK)
    await manager.start()
    await manager.wait_until(await count(store, 4, stream="a"))
    await manager.wait_until(await count(store, 11, stream="b"))

    assert list(dict.fromkeys(seen.numbers)) == [1, 10, 11]
    letters = await checkpoints.dead_letters(NAME)
    assert [(each.key, each.error, each.attempts) for each in letters] == [
        ("Counter/a", "no 2 today", 3),
        ("Counter/a", None, 0),
        ("Counter/a", None, 0),
    ]


async def test_replayed_letters_are_handled_in_order_and_the_key_goes_on(store, manager, checkpoints) -> None:
    seen = Seen("dead_letter")
    seen.refused = {2}
    last = await count(store, 1, 2, 3)
    await manager.subscribe(seen, QUICK)
    await manager.start()
    await manager.wait_until(last)

    again = await manager.replay(NAME, actor="ann", reason="not mended yet")
    assert (again.handled, again.failed) == (0, {"Counter/a": "ValueError: no 2 today"})
    assert (await checkpoints.dead_letters(NAME))[0].attempts == 4

    seen.refused, seen.numbers = set(), []
    replayed = await manager.replay(NAME, actor="ann", reason="mended")
    await manager.wait_until(await count(store, 4))

    assert (replayed.handled, replayed.failed) == (2, {})
    assert seen.numbers == [2, 3, 4]
    handled = await checkpoints.dead_letters(NAME, status=DeadLetterStatus.HANDLED)
    assert [(each.actor, each.reason) for each in handled] == [("ann", "mended")] * 2


async def test_two_replays_at_once_handle_each_letter_once(store, manager) -> None:
    seen = Seen("dead_letter")
    seen.refused = {1}
    last = await count(store, 1, 2, 3)
    await manager.subscribe(seen, QUICK)
    await manager.start()
    await manager.wait_until(last)
    seen.refused, seen.numbers = set(), []

    done = await asyncio.gather(*(manager.replay(NAME, actor="ann") for _ in range(4)))

    assert sum(each.handled for each in done) == 3
    assert seen.numbers == [1, 2, 3]


async def test_an_outage_of_the_storage_is_no_attempt(store, manager, checkpoints) -> None:
    seen = Seen()
    seen.outage = 4
    last = await count(store, 1, 2)
    await manager.subscribe(seen, QUICK)
    await manager.start()

    await manager.wait_until(last)

    assert seen.numbers == [1, 2]
    assert (await state_of(checkpoints)).status is ShardStatus.ACTIVE


async def test_an_event_that_cannot_be_read_is_named_and_not_skipped(store, checkpoints) -> None:
    await count(store, 1)
    position = (await store.append(StreamId("Counter", "a"), [Noted()])).position
    registry = EventRegistry([Counted])
    reader = EventStore(store.log, registry=registry)
    seen = Seen()
    seen.wanted = lambda source: EVERYTHING
    manager = SubscriptionManager(reader, checkpoints)
    await manager.subscribe(seen, QUICK)
    async with manager:

        async def stopped():
            return (await state_of(checkpoints)).status is ShardStatus.STOPPED

        await eventually(stopped)

    state = await state_of(checkpoints)
    assert f"ProjectedNoted at position {position}" in state.reason
    assert "UnknownEventTypeError" in state.reason
    assert state.checkpoint.position == position - 1


async def test_shards_share_the_streams_and_keep_their_order(store, manager) -> None:
    seen = Seen()
    await manager.subscribe(seen, SubscriptionConfig(shards=4, poll=0.05))
    await manager.start()
    for number in range(40):
        last = await count(store, number, stream=f"s{number % 8}")

    await manager.wait_until(last)

    assert sorted(seen.numbers) == list(range(40))
    for stream in range(8):
        mine = [number for number in seen.numbers if number % 8 == stream]
        assert mine == sorted(mine)


async def test_two_processes_share_one_subscription(store, checkpoints) -> None:
    first, second = Seen(), Seen()
    managers = [SubscriptionManager(store, checkpoints, owner=owner) for owner in ("one", "two")]
    for manager, seen in zip(managers, (first, second), strict=True):
        await manager.subscribe(seen, QUICK)
    async with managers[0], managers[1]:
        await managers[0].wait_until(await count(store, *range(20)))

    assert sorted(first.numbers + second.numbers) == list(range(20))
    assert [] in (first.numbers, second.numbers)


async def test_another_goes_on_when_one_has_stopped(store, checkpoints) -> None:
    first, second = Seen(), Seen()
    managers = [SubscriptionManager(store, checkpoints, owner=owner) for owner in ("one", "two")]
    for manager, seen in zip(managers, (first, second), strict=True):
        await manager.subscribe(seen, QUICK)
    async with managers[1]:
        async with managers[0]:
            await managers[1].wait_until(await count(store, 1, 2))
        await managers[1].wait_until(await count(store, 3))

    assert sorted(first.numbers + second.numbers) == [1, 2, 3]


async def test_a_paused_subscription_waits(store, manager, checkpoints) -> None:
    seen = Seen()
    await manager.subscribe(seen, QUICK)
    await manager.start()
    await manager.wait_until(await count(store, 1))

    await manager.pause(NAME, actor="ann", reason="a release")
    last = await count(store, 2)
    await eventually(lambda: manager.subscriptions[NAME].states == {0: RunState.LOST})
    assert seen.numbers == [1]

    await manager.resume(NAME, actor="ann")
    await manager.wait_until(last)
    assert seen.numbers == [1, 2]


@pytest.mark.parametrize("change", ["ahead", "another event"])
async def test_a_checkpoint_that_does_not_fit_the_events_stops_with_an_explanation(store, checkpoints, change) -> None:
    last = await count(store, 1, 2)
    epoch = (await store.log.horizon()).epoch
    where = last + 5 if change == "ahead" else last
    await checkpoints.register(NAME, start=Checkpoint(where, epoch, uuid4(), where))
    seen = Seen()
    manager = SubscriptionManager(store, checkpoints)
    await manager.subscribe(seen, QUICK)
    async with manager:

        async def stopped():
            return (await state_of(checkpoints)).status is ShardStatus.STOPPED

        await eventually(stopped)

    assert "does not fit the events" in (await state_of(checkpoints)).reason
    assert "rebuild the projection" in (await state_of(checkpoints)).reason
    assert seen.calls == 0


async def test_the_same_events_under_another_epoch_are_adopted(store, checkpoints) -> None:
    last = await count(store, 1, 2)
    event = (await store.log.event_at(last)).event
    await checkpoints.register(NAME, start=Checkpoint(last, uuid4(), event.event_id, last))
    seen = Seen()
    manager = SubscriptionManager(store, checkpoints)
    await manager.subscribe(seen, QUICK)
    async with manager:
        await manager.wait_until(await count(store, 3))

    assert seen.numbers == [3]
    assert (await state_of(checkpoints)).checkpoint.epoch == (await store.log.horizon()).epoch


async def test_what_was_passed_by_under_another_epoch_is_looked_at_again(store, checkpoints) -> None:
    first = await count(store, 1)
    last = await count(store, 2, 3)
    event = (await store.log.event_at(first)).event
    await checkpoints.register(NAME, start=Checkpoint(last, uuid4(), event.event_id, first))
    seen = Seen()
    manager = SubscriptionManager(store, checkpoints)
    await manager.subscribe(seen, QUICK)
    async with manager:
        await manager.wait_until(await count(store, 4))

    assert seen.numbers == [2, 3, 4]


async def test_a_subscription_whose_log_is_another_after_an_outage_stops(store, checkpoints) -> None:
    """It runs on: nobody has restarted it when the log behind the same address has lost its last events."""
    await count(store, *range(5))
    reader = EventStore(store.log)
    seen = Seen()
    manager = SubscriptionManager(reader, checkpoints)
    await manager.subscribe(seen, QUICK)
    async with manager:
        await manager.wait_until(5)
        shorter = InMemoryEventStore()
        await count(shorter, *range(3))
        reader.log = shorter.log

        async def stopped():
            return (await state_of(checkpoints)).status is ShardStatus.STOPPED

        await eventually(stopped)

    assert "the events end at 3" in (await state_of(checkpoints)).reason
    assert seen.numbers == list(range(5))


async def test_waiting_says_how_far_it_is(store, manager) -> None:
    await manager.subscribe(Seen(), QUICK)

    with pytest.raises(TimeoutError, match=r"'Seen' is at 0, not at 1, after 0\.01 s"):
        await manager.wait_until(await count(store, 1), timeout=0.01)


async def test_waiting_says_what_fails_again_and_again(store, manager) -> None:
    seen = Seen()
    seen.refused = {1}
    patient = RetryPolicy(max_attempts=3, backoff_schedule=[60.0])
    await manager.subscribe(seen, SubscriptionConfig(poll=0.05, retry_policy=patient))
    await manager.start()
    position = await count(store, 1)
    await eventually(lambda: manager.subscriptions[NAME].failures)

    with pytest.raises(TimeoutError, match="its next event has failed once: ValueError: no 1 today"):
        await manager.wait_until(position, timeout=0.01)


async def test_lag_is_nothing_when_everything_is_seen(store, manager) -> None:
    await manager.subscribe(Seen(), QUICK)
    last = await count(store, 1)
    (behind,) = await manager.lag()
    assert (behind.position, behind.horizon) == (0, last)
    assert behind.seconds >= 0

    await manager.start()
    await manager.wait_until(last)

    (behind,) = await manager.lag()
    assert (behind.position, behind.seconds) == (last, 0.0)


async def test_a_manager_starts_and_stops_as_a_service_does(store, manager) -> None:
    await manager.stop()
    await manager.subscribe(Seen(), QUICK)
    await manager.start()
    await manager.start()
    await manager.stop()
    await manager.stop()
    await manager.start()
    await manager.wait_until(await count(store, 1))


async def test_a_projection_is_subscribed_while_others_run(store, manager) -> None:
    await manager.start()
    seen = Seen()
    await manager.subscribe(seen, QUICK)

    await manager.wait_until(await count(store, 1))

    assert seen.numbers == [1]


async def test_mistakes_are_told(manager) -> None:
    await manager.subscribe(Seen(), QUICK)
    with pytest.raises(ConfigurationError, match="'Seen' is there already"):
        await manager.subscribe(Seen(), QUICK)
    with pytest.raises(ConfigurationError, match="takes a Projection"):
        await manager.subscribe(object())
    for call in (manager.pause("x", actor="a"), manager.lag("x"), manager.replay("x", actor="a")):
        with pytest.raises(SubscriptionNotFoundError, match="no subscription 'x' is known"):
            await call


async def test_the_number_of_shards_does_not_change_by_accident(store, checkpoints) -> None:
    await SubscriptionManager(store, checkpoints).subscribe(Seen(), SubscriptionConfig(shards=2))

    with pytest.raises(InvalidOperationError, match="2 shards, not 3"):
        await SubscriptionManager(store, checkpoints).subscribe(Seen(), SubscriptionConfig(shards=3))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 0}, "batch_size must be 1 to 10,000, not 0"),
        ({"batch_size": True}, "batch_size"),
        ({"shards": 65}, "1 to 64 shards, not 65"),
        ({"start": -1}, "start must be"),
        ({"start": "end"}, "start must be 'beginning', 'now' or a position, not 'end'"),
        ({"retry_policy": None}, "retry_policy"),
        ({"lease": 0.5}, "lease must be at least 1 s, not 0.5"),
        ({"poll": 0}, "poll must be at least 0.01 s"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SubscriptionConfig(**settings)
