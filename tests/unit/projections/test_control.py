"""What people do with subscriptions: wait for them, drain them, stop them, and ask how they are."""

import asyncio
import contextlib
import os
import signal
import time
from uuid import uuid4

import pytest

from mainstay.commands.command import Reply
from mainstay.commands.lifecycle import ReplyOutcome
from mainstay.errors import InvalidInputError, SubscriptionHeldError, SubscriptionLateError, SubscriptionNotFoundError
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.elsewhere import Elsewhere
from mainstay.projections.shard import RunState
from mainstay.projections.store import ShardStatus
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from tests.support.counting import NAME, QUICK, Counted, Noted, Seen, count, is_stopped
from tests.support.waiting import eventually

PATIENT = SubscriptionConfig(poll=3600.0)
PATIENCE = 90.0


class Slow(Seen):
    """Handles an event when it is let."""

    name = NAME

    def __init__(self):
        super().__init__()
        self.may = asyncio.Event()
        self.begun = 0

    async def handle(self, envelope, conn):
        self.begun += 1
        await self.may.wait()
        await super().handle(envelope, conn)


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_who_waits_for_many_events_asks_for_checkpoints_a_few_times(store, manager, checkpoints, monkeypatch):
    asked = []
    states = checkpoints.states
    monkeypatch.setattr(checkpoints, "states", lambda *args: asked.append(args) or states(*args))
    await manager.subscribe(Seen(), SubscriptionConfig(batch_size=1, poll=3600.0))
    await manager.start()

    await asyncio.gather(*(manager.wait_until(number) for number in range(1, 101)), count(store, *range(100)))

    assert len(asked) < 150


async def test_another_process_that_waits_looks_less_and_less_often(store, manager, checkpoints, monkeypatch) -> None:
    slow = Slow()
    await manager.subscribe(slow, PATIENT)
    await manager.start()
    last = await count(store, 1)
    elsewhere = SubscriptionManager(store, checkpoints)
    asked = []
    states = checkpoints.states
    monkeypatch.setattr(checkpoints, "states", lambda *args: asked.append(time.monotonic()) or states(*args))

    waiting = [asyncio.create_task(elsewhere.wait_until(last, subscription=NAME)) for _ in range(50)]
    await eventually(lambda: asked and time.monotonic() - asked[0] > 1.0)
    looked = len(asked)
    slow.may.set()
    await asyncio.gather(*waiting)

    assert looked < 100, "each of the fifty would have looked a dozen times"


async def test_what_nobody_wants_is_passed_at_once_for_who_waits_here(store, manager) -> None:
    await manager.subscribe(Seen(), PATIENT)
    await manager.start()
    for _ in range(3):
        done = await store.append(StreamId("Counter", "a"), [Noted()])
        await manager.wait_until(done.position, timeout=20)


async def test_who_waits_in_vain_is_told_why(store, manager, checkpoints) -> None:
    seen = Seen()
    seen.refused = {1}
    await manager.subscribe(seen, QUICK)
    last = await count(store, 1)
    with pytest.raises(TimeoutError, match=r"at 0, not at 1, after 0\.01 s; no process has shard 0\. Wait"):
        await manager.wait_until(last, timeout=0.01)
    with pytest.raises(TimeoutError, match="the feed itself can be read up to 1 only"):
        await manager.wait_until(last + 1, timeout=0.01)
    with pytest.raises(
        SubscriptionLateError, match=r"after 0 s; no process has shard 0\."
    ) as late:  # the feed was not asked
        await manager.wait_until(last + 1, timeout=0)
    assert (late.value.subscription, late.value.reached, late.value.position) == (NAME, 0, last + 1)
    assert isinstance(late.value, TimeoutError)
    assert f"`mainstay projections lag {NAME}`" in str(late.value)
    await manager.start()
    await eventually(lambda: is_stopped(checkpoints))
    with pytest.raises(SubscriptionHeldError, match=r"is stopped \(.* no 1 today\) at 0, and does not come to 1"):
        await manager.wait_until(last, timeout=PATIENCE)
    with pytest.raises(SubscriptionNotFoundError):
        await manager.wait_until(last, subscription="nobody's")


async def test_who_waits_for_what_is_paused_is_told_at_once_unless_it_came_so_far(store, manager) -> None:
    await manager.subscribe(Seen(), QUICK)
    await manager.start()
    there = await count(store, 1)
    await manager.wait_until(there)
    await manager.pause(NAME, actor="ann", reason="for the night")
    last = await count(store, 2)

    await manager.wait_until(there, timeout=PATIENCE)
    with pytest.raises(
        SubscriptionHeldError, match=r"is paused \(for the night\) at 1, .*run `mainstay projections"
    ) as told:
        await manager.wait_until(last, timeout=PATIENCE)
    assert (told.value.subscription, told.value.reached, told.value.position) == (NAME, 1, 2)


async def test_who_runs_no_projection_waits_for_one_by_its_name_and_a_reply(store, manager, checkpoints) -> None:
    elsewhere = Elsewhere(store, checkpoints)
    seen = Seen()
    await manager.subscribe(seen, QUICK)
    done = await store.append(StreamId("Counter", "a"), [Counted(number=1)])
    await manager.start()

    await elsewhere.caught_up(NAME, done)
    await elsewhere.caught_up(
        NAME, Reply(uuid4(), None, ReplyOutcome.SUCCESS, position=done.position), timeout=PATIENCE
    )
    assert seen.numbers == [1]
    await elsewhere.caught_up("never started", None)
    with pytest.raises(SubscriptionNotFoundError, match="no subscription 'never started' is known"):
        await elsewhere.caught_up("never started", 1, timeout=PATIENCE)
    for wrong in ((NAME, "1"), (NAME, -1), (1, 1)):
        with pytest.raises(InvalidInputError):
            await elsewhere.caught_up(*wrong)


# -- draining and stopping ---------------------------------------------------------------------------------------------


async def test_draining_handles_what_is_there_and_stops(store, manager) -> None:
    seen = Seen()
    await manager.subscribe(seen, SubscriptionConfig(batch_size=2, poll=3600.0))
    await count(store, *range(20))
    await manager.start()

    await manager.drain()

    assert seen.numbers == list(range(20))
    await count(store, 20)
    assert not manager.subscriptions[NAME].is_running


async def test_draining_does_not_wait_for_what_is_paused(store, manager) -> None:
    await manager.subscribe(Seen(), QUICK)
    await manager.start()
    await manager.pause(NAME, actor="ann")
    await count(store, 1)

    await asyncio.wait_for(manager.drain(), 20)


async def test_draining_that_takes_too_long_stops_and_says_how_far_it_is(store, manager) -> None:
    await manager.subscribe(Slow(), PATIENT)
    await count(store, 1)
    await manager.start()

    with pytest.raises(TimeoutError, match=r"is at 0, not at 1, after 0\.05 s"):
        await manager.drain(0.05)

    assert not manager.subscriptions[NAME].is_running


async def test_a_stop_waits_for_the_batch_in_hand_or_cancels_it(store, checkpoints) -> None:
    slow = Slow()
    await count(store, 1, 2)
    for timeout, numbers in ((0.05, []), (None, [1, 2])):
        manager = SubscriptionManager(store, checkpoints)
        await manager.subscribe(slow, PATIENT)
        await manager.start()
        slow.begun = 0
        await eventually(lambda: slow.begun)
        stopping = asyncio.create_task(manager.stop(timeout))
        if timeout is None:
            slow.may.set()
        await stopping
        assert slow.numbers == numbers


@pytest.mark.parametrize("signals", [1, 2])
async def test_signals_end_a_process_gently_or_at_once(store, manager, checkpoints, signals) -> None:
    slow = Slow()
    await manager.subscribe(slow, PATIENT)
    await count(store, 1)
    running = asyncio.create_task(manager.run_until_shutdown(grace=3600.0))
    await eventually(lambda: slow.begun)

    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(manager.subscriptions[NAME].stopping.is_set)
    assert not running.done()
    if signals == 2:
        os.kill(os.getpid(), signal.SIGINT)
    else:
        slow.may.set()
    await asyncio.wait_for(running, 20)

    assert slow.numbers == ([1] if signals == 1 else [])
    assert (await checkpoints.states(NAME))[0].owner is None


async def test_a_process_whose_subscription_ended_by_an_error_ends_with_it(store, manager, checkpoints, monkeypatch):
    await manager.subscribe(Seen(), QUICK)

    async def refused(*_, **__):
        raise PermissionError("no claims for you")

    monkeypatch.setattr(checkpoints, "claim", refused)
    with pytest.raises(PermissionError, match="no claims"):
        await asyncio.wait_for(manager.run_until_shutdown(), 20)


# -- health ------------------------------------------------------------------------------------------------------------


async def test_health_tells_how_far_it_is_and_what_went_wrong(store, manager, checkpoints) -> None:
    seen = Seen()
    config = SubscriptionConfig(poll=0.05, retry_policy=RetryPolicy(max_attempts=1_000_000, backoff_schedule=[0.001]))
    await manager.subscribe(seen, config)
    (idle,) = await manager.health()
    assert (idle.status, idle.unclaimed, idle.states, idle.last_error) == (ShardStatus.ACTIVE, 1, {}, None)

    await manager.start()
    seen.refused = {2}
    await count(store, 1, 2, 3)
    await eventually(lambda: seen.calls > 10)
    (trouble,) = await manager.health(NAME)
    assert trouble.states == {0: RunState.RETRYING}
    assert trouble.attempts > 2
    assert trouble.last_error == "ValueError: no 2 today"
    assert trouble.lag.events == 2
    assert trouble.is_healthy

    seen.refused = set()
    await manager.wait_until(3)
    (well,) = await manager.health()
    assert (well.attempts, well.last_error, well.lag.events) == (0, "ValueError: no 2 today", 0)
    assert well.unclaimed == 0

    await checkpoints.pause(NAME, actor="ann", reason="a release")
    (paused,) = await manager.health()
    assert (paused.status, paused.reasons) == (ShardStatus.PAUSED, ("a release",))


async def test_a_probe_says_why_a_process_is_not_ready(manager, checkpoints, monkeypatch) -> None:
    assert manager.probe().ready == ("the subscription manager does not run",)
    await manager.subscribe(Seen(), QUICK)
    await manager.start()
    await eventually(lambda: manager.probe().ready == ())

    async def refused(*_, **__):
        raise PermissionError("no claims for you")

    monkeypatch.setattr(checkpoints, "states", refused)
    manager.subscriptions[NAME]._tasks[0].cancel()
    monkeypatch.setattr(checkpoints, "claim", refused)
    await eventually(lambda: manager.probe().ready)
    assert manager.probe().ready == ("subscription Seen has ended by an error, which stop() raises",)
    with contextlib.suppress(PermissionError):
        await manager.stop()


# -- back-pressure -----------------------------------------------------------------------------------------------------


async def test_a_slow_handler_is_given_a_batch_and_no_more_is_read(store, manager, monkeypatch) -> None:
    given = []
    read = store.log.read_feed

    async def counted(**options):
        page = await read(**options)
        given.extend(page.events)
        return page

    monkeypatch.setattr(store.log, "read_feed", counted)
    slow = Slow()
    await manager.subscribe(slow, SubscriptionConfig(batch_size=10, poll=0.01))
    await manager.start()
    await store.append(StreamId("Counter", "a"), [Counted(number=number) for number in range(5_000)])
    await eventually(lambda: slow.begun)
    for _ in range(3):
        await store.append(StreamId("Counter", "a"), [Counted(number=0)])
        await manager.lag()  # reads one itself

    assert len(given) <= 10 + 3
    slow.may.set()
    await eventually(lambda: len(slow.numbers) == 5_003)
