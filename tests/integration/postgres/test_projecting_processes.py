"""Processes with a subscription, killed at every statement, frozen beyond their lease, and with handlers that fail."""

import asyncio
import contextlib
import os
from itertools import count, islice

import pytest

from mainstay import PostgreSQLEventStore, SubscriptionConfig, SubscriptionManager
from mainstay.events.handles import handles
from mainstay.projections.store import DeadLetterStatus
from mainstay.retry import RetryPolicy
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.interleavings.test_postgres import replaced
from tests.scenarios.postgres import ask, run
from tests.support.ledger import PATIENCE, Entered, Ledger, enter, entries, make_table, stopped
from tests.support.projecting import REFUSED, VISITS, Nursery, freeze, kill, thaw
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

LEASES_END = "update eventsource.shard set leased_until = clock_timestamp()"
OVERLAPS = """
    select count(*) from visit as a join visit as b using (stream)
    where a.pid < b.pid
      and tstzrange(a.began, coalesce(a.ended, 'infinity')) && tstzrange(b.began, coalesce(b.ended, 'infinity'))
"""
QUICK_CONFIG = SubscriptionConfig(poll=0.05)
QUICK = RetryPolicy(max_attempts=6, backoff_schedule=[0.0])


@pytest.fixture
async def store(pool):
    await make_table(pool)
    return PostgreSQLEventStore(pool)


@pytest.fixture(scope="module")
def nursery():
    made = Nursery()
    yield made
    made.close()


def manager_of(store, pool) -> SubscriptionManager:
    return SubscriptionManager(store, PostgresProjectionStore(pool))


# --- kills ------------------------------------------------------------------------------------------------------------


async def killed_at_every_statement(pool, dsn, store, nursery, kind, *, after, every=1) -> tuple[int, int]:
    """For each statement a process with three more events, which is killed there; how many, and how many events."""
    last = 0
    for turn, number in enumerate(count(0, every)):
        for amount in range(3 * turn + 1, 3 * turn + 4):
            last = await enter(store, amount, stream=str(amount % 3))
        doomed: list[int] = []
        with Proxy(dsn) as proxy:
            cut = proxy.cut_at(number, after=after, then=lambda doomed=doomed: kill(*doomed))
            with nursery.projecting(proxy.dsn, kind) as process:
                doomed.append(process)

                async def done(last=last, cut=cut):
                    return cut.happened.is_set() or await reached(pool, "ledger") >= last

                await eventually(done, timeout=PATIENCE)
        if not cut.happened.is_set():
            print(f"killed at each of {number} statements")
            return number, 3 * turn + 3
        await run(pool, LEASES_END)
        with nursery.projecting(dsn, kind):  # so that the next one begins where this one did

            async def drained(last=last):
                return await reached(pool, "ledger") >= last

            await eventually(drained, timeout=PATIENCE)
        await run(pool, LEASES_END)
    raise AssertionError


async def by_stream(pool) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for stream, amount in await ask(pool, "select stream, amount from entry order by number"):
        found.setdefault(stream, []).append(amount)
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("after", [False, True], ids=["before it runs", "after it ran"])
async def test_a_process_killed_at_any_statement_is_gone_on_from_exactly_once(store, pool, dsn, nursery, after):
    statements, events = await killed_at_every_statement(pool, dsn, store, nursery, "ledger", after=after)

    assert statements >= 15
    assert await entries(pool) == list(range(1, events + 1))


FEW = 1 if "MAINSTAY_CHAOS_COMMANDS" in os.environ else 5
"""Of so many statements processes are killed at one."""
SENT = "select command_type, (data ->> 'amount')::int from commandbus.command order by 1, 2"


@pytest.mark.parametrize("after", [False, True] if FEW == 1 else [True])
async def test_what_a_killed_process_sends_is_sent_exactly_once(store, pool, dsn, nursery, after):
    statements, events = await killed_at_every_statement(pool, dsn, store, nursery, "reacting", after=after, every=FEW)

    assert statements >= 18
    assert await entries(pool) == list(range(1, events + 1))
    assert await ask(pool, SENT) == [(kind, n) for kind in ("Book", "Tell") for n in range(1, events + 1)]
    assert (await PostgresProjectionStore(pool).commands.fsck()).findings == ()


@pytest.mark.parametrize("after", [False, True] if FEW == 1 else [True])
async def test_processes_that_events_move_are_moved_once_wherever_their_teller_is_killed(
    store, pool, dsn, nursery, after
):
    statements, events = await killed_at_every_statement(pool, dsn, store, nursery, "counting", after=after, every=FEW)
    moved = "select (jsonb_array_elements_text(state -> 'amounts'))::int from commandbus.process order by 1"
    told = "select count(*), count(distinct event_id) from commandbus.process_event"

    assert statements >= 18
    assert [n for (n,) in await ask(pool, moved)] == list(range(1, events + 1))
    assert await ask(pool, told) == [(events, events)]
    assert await ask(pool, SENT.replace("order by", "where command_type = 'Book' order by")) == [
        ("Book", n) for n in range(1, events + 1)
    ]
    assert (await PostgresProjectionStore(pool).commands.fsck()).findings == ()


@pytest.mark.thorough
async def test_what_a_killed_process_sends_by_itself_is_sent_twice(store, pool, dsn, nursery):
    _, events = await killed_at_every_statement(pool, dsn, store, nursery, "careless", after=True, every=min(FEW, 4))
    sent = await ask(pool, SENT)

    assert await entries(pool) == list(range(1, events + 1))
    assert len(sent) > len(set(sent)) == 2 * events


@pytest.mark.thorough
@pytest.mark.parametrize("after", [False, True], ids=["before it runs", "after it ran"])
async def test_what_is_laid_apart_when_processes_are_killed_is_replayed_exactly_once(store, pool, dsn, nursery, after):
    statements, events = await killed_at_every_statement(pool, dsn, store, nursery, "picky", after=after)
    expected = {str(stream): list(range(stream or 3, events + 1, 3)) for stream in range(3)}
    refused = str(REFUSED % 3)

    assert statements >= 20
    assert await by_stream(pool) == {stream: amounts for stream, amounts in expected.items() if stream != refused}
    await run(pool, LEASES_END)
    manager = manager_of(store, pool)
    await manager.subscribe(Ledger(), QUICK_CONFIG)
    async with manager:
        replayed = await manager.replay("ledger", actor="ann")
        await manager.wait_until(await enter(store, 10_000, stream=refused), timeout=PATIENCE)
    assert (replayed.handled, replayed.failed) == (len(expected[refused]), {})
    assert await by_stream(pool) == expected | {refused: [*expected[refused], 10_000]}


# --- freezes ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def frozen_beyond_the_lease(pool, dsn, store, nursery, amounts):
    """Two processes; whoever is at work is frozen in the midst of an event until its lease is over.

    Gives the last position.
    """
    streams = [f"stream {number}" for number in range(6)]

    async def more() -> int:
        given = list(islice(amounts, 5))
        return max([await enter(store, *given, stream=stream) for stream in streams])

    async def at_work(process) -> bool:
        rows = await ask(pool, f"select count(*) from visit where pid = {process} and ended is null")
        return rows[0][0] > 0

    with nursery.projecting(dsn, "watched") as first, nursery.projecting(dsn, "watched") as second:
        last, frozen = await more(), None
        while frozen is None:
            for process in (first, second):
                freeze(process)
                if await at_work(process):
                    frozen = process
                    break
                thaw(process)
            if frozen is None and await reached(pool, "watched") >= last:
                last = await more()
        await run(pool, "select pg_sleep(1.3)")  # longer than the lease, in which the other one looks for shards
        thaw(frozen)
        yield last


async def reached(pool, name) -> int:
    rows = await ask(pool, f"select coalesce(min(position), 0) from eventsource.shard where subscription = '{name}'")
    return int(rows[0][0])


@pytest.mark.thorough
async def test_two_processes_with_one_subscription_never_handle_an_event_at_once_or_twice(store, pool, dsn, nursery):
    await run(pool, VISITS)
    amounts = count()
    for _ in range(3):
        async with frozen_beyond_the_lease(pool, dsn, store, nursery, amounts) as last:

            async def done(last=last):
                return await reached(pool, "watched") >= last

            await eventually(done, timeout=PATIENCE)

    assert await ask(pool, OVERLAPS) == [(0,)]
    doubled = "select stream, amount from entry group by 1, 2 having count(*) > 1"
    assert await ask(pool, doubled) == []
    unordered = (
        "select from (select amount, lag(amount) over (partition by stream order by number) as before from entry) as e"
        " where e.before >= e.amount"
    )
    assert await ask(pool, unordered) == []
    assert len(await entries(pool)) == (await ask(pool, "select count(*) from eventsource.event"))[0][0]


async def test_without_the_lock_on_the_shard_they_do(dsn, store, pool, nursery):
    """The control: the same processes, where a batch checks its lease and does not hold the shard."""
    await run(pool, VISITS)
    amounts = count()

    async def overlapping():
        return await ask(pool, OVERLAPS) != [(0,)]

    with replaced(dsn, "projections/begin_batch.sql", "    for update;", "    ;"):
        for _ in range(10):  # on a busy machine the other one may come when the first goes on again
            async with frozen_beyond_the_lease(pool, dsn, store, nursery, amounts):
                with contextlib.suppress(AssertionError):
                    await eventually(overlapping, timeout=5)
                    return
    pytest.fail("they never met")


# --- handlers that fail -----------------------------------------------------------------------------------------------


class Failing(Ledger):
    """Fails some times on one amount, after it has written."""

    name = "failing"

    def __init__(self, amount: int, times: int, on_error: str = "stop") -> None:
        self.amount, self.left, self.on_error = amount, times, on_error

    @handles(Entered)
    async def entered(self, event: Entered, conn) -> None:
        await super().entered(event, conn)
        if event.amount == self.amount and self.left:
            self.left -= 1
            raise ValueError("not today")


async def test_a_handler_that_fails_five_times_and_recovers_loses_nothing(store, pool):
    last = await enter(store, *range(20))
    manager = manager_of(store, pool)
    await manager.subscribe(Failing(7, times=5), SubscriptionConfig(batch_size=10, poll=0.05, retry_policy=QUICK))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)

    assert await entries(pool) == list(range(20))


async def test_a_handler_that_fails_too_often_stops_and_is_resumed_with_the_same_event(store, pool):
    last = await enter(store, *range(20))
    manager = manager_of(store, pool)
    patience = RetryPolicy(max_attempts=5, backoff_schedule=[0.0])
    await manager.subscribe(Failing(7, times=5), SubscriptionConfig(batch_size=10, poll=0.05, retry_policy=patience))
    async with manager:
        assert "TestEntered at position 8 of Ledger/a failed 5 times" in await stopped(pool, "failing")
        assert await entries(pool) == list(range(7))
        await manager.resume("failing", actor="ann")
        await manager.wait_until(last, timeout=PATIENCE)

    assert await entries(pool) == list(range(20))


async def test_an_event_that_was_laid_apart_is_replayed_in_its_place_among_its_key(store, pool):
    last = max([await enter(store, number, stream=stream) for number in range(10) for stream in "ab"])
    manager = manager_of(store, pool)
    patience = RetryPolicy(max_attempts=5, backoff_schedule=[0.0])
    failing = Failing(4, times=5, on_error="dead_letter")
    await manager.subscribe(failing, SubscriptionConfig(batch_size=6, poll=0.05, retry_policy=patience))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)
        of_a = "select amount from entry where stream = 'a' order by number"
        assert await ask(pool, of_a) == [(amount,) for amount in range(4)]
        first, second = await asyncio.gather(*(manager.replay("failing", actor="ann") for _ in range(2)))
        assert first.handled + second.handled == 6
        await manager.wait_until(await enter(store, 10), timeout=PATIENCE)

    for stream, wanted in (("a", range(11)), ("b", range(10))):
        rows = await ask(pool, f"select amount from entry where stream = '{stream}' order by number")
        assert [amount for (amount,) in rows] == list(wanted)
    letters = await PostgresProjectionStore(pool).dead_letters("failing", status=None)
    assert {letter.status for letter in letters} == {DeadLetterStatus.HANDLED}
