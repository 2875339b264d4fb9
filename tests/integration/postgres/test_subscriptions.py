"""Subscriptions on PostgreSQL: exactly once, wherever the connection breaks or the process is killed."""

import asyncio
import contextlib
import subprocess
import sys

import pytest

from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.declarative import DatabaseProjection
from mainstay.projections.shard import RunState
from mainstay.projections.store import ShardStatus
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.thorough import thorough
from tests.support.waiting import eventually

PATIENCE = 90.0
QUICK = SubscriptionConfig(batch_size=10, poll=0.05, lease=5.0)
SHORT_LEASE = SubscriptionConfig(batch_size=10, poll=0.05, lease=1.0, shards=3)


class Deposited(DomainEvent, aggregate_type="TestAccount", event_type="TestDeposited"):
    amount: int


class Balances(DatabaseProjection):
    """One row for each event that was handled: what happened twice is there twice."""

    @handles(Deposited)
    async def deposited(self, event, conn):
        await conn.execute(
            "insert into seen (account, amount) values (%s, %s)", [str(event.aggregate_id), event.amount]
        )


@pytest.fixture
async def store(pool):
    async with pool.connection() as conn:
        await conn.execute("create table seen (number int generated always as identity, account text, amount int)")
    return EventStore(PostgresEventLog(pool))


async def deposit(store, *amounts, account="a") -> int:
    done = None
    for amount in amounts:
        done = await store.append(StreamId("TestAccount", account), [Deposited(amount=amount)])
    assert done is not None
    return done.position


async def seen(pool) -> list[tuple[str, int]]:
    async with pool.connection() as conn:
        cursor = await conn.execute("select account, amount from seen order by number")
        return await cursor.fetchall()


def manager_of(store, pool) -> SubscriptionManager:
    return SubscriptionManager(store, PostgresProjectionStore(pool))


async def test_what_is_appended_is_handled_once_and_in_order(store, pool) -> None:
    manager = manager_of(store, pool)
    await deposit(store, *range(25))
    await manager.subscribe(Balances(), QUICK)
    async with manager:
        await manager.wait_until(await deposit(store, *range(25, 40)), timeout=PATIENCE)

    assert await seen(pool) == [("a", amount) for amount in range(40)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "statement",
    [
        thorough("begin"),
        thorough("select shard, position"),
        thorough("insert into seen"),
        "update eventsource.shard",
        "commit",
    ],
)
async def test_a_connection_cut_at_any_statement_of_a_batch_is_gone_on_from(store, pool, dsn, statement, when) -> None:
    last = await deposit(store, *range(25))
    with Proxy(dsn) as proxy:
        async with open_pool(proxy.dsn) as cut_pool:
            manager = manager_of(store, cut_pool)
            await manager.subscribe(Balances(), QUICK)
            cut = proxy.cut_before(statement, times=2) if when == "before" else proxy.cut_after(statement, times=2)
            async with manager:
                await manager.wait_until(last, timeout=PATIENCE)

    assert cut.happened.is_set()
    assert await seen(pool) == [("a", amount) for amount in range(25)]


PROCESS = """
import asyncio, sys
from mainstay.events.store import EventStore
from mainstay.projections.subscription import SubscriptionManager
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.integration.postgres.test_subscriptions import SHORT_LEASE, Balances

async def main():
    async with open_pool(sys.argv[1], max_size=8) as pool:
        manager = SubscriptionManager(EventStore(PostgresEventLog(pool)), PostgresProjectionStore(pool))
        await manager.subscribe(Balances(), SHORT_LEASE)
        async with manager:
            print("reading", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def reading(dsn):
    """A process with the subscription, killed at the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, dsn, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"reading\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.thorough
async def test_processes_killed_one_after_another_handle_each_event_once_and_in_order(store, pool, dsn) -> None:
    accounts = [f"account {number}" for number in range(6)]
    last = 0
    for turn in range(3):
        for amount in range(turn * 20, turn * 20 + 20):
            for account in accounts:
                last = await deposit(store, amount, account=account)
        handled = len(await seen(pool))
        async with reading(dsn):

            async def more(before=handled):
                return len(await seen(pool)) > before

            await eventually(more, timeout=PATIENCE)
    manager = manager_of(store, pool)
    await manager.subscribe(Balances(), SHORT_LEASE)
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)

    for account in accounts:
        assert [amount for mine, amount in await seen(pool) if mine == account] == list(range(60))


async def test_an_open_transaction_that_appended_is_waited_for_and_nothing_is_skipped(store, pool) -> None:
    manager = manager_of(store, pool)
    await manager.subscribe(Balances(), QUICK)
    async with manager:
        async with store.transaction() as conn:
            await store.append(StreamId("TestAccount", "slow"), [Deposited(amount=1)], conn=conn)
            last = await deposit(store, 2)
            async with pool.connection() as other:
                await other.execute("select 1")
            assert await seen(pool) == []
        await manager.wait_until(last, timeout=PATIENCE)

    assert await seen(pool) == [("slow", 1), ("a", 2)]


async def test_a_connection_that_breaks_in_a_handler_is_no_attempt_at_the_event(store, pool, dsn) -> None:
    class Impatient(Balances):
        name = "impatient"
        on_error = "dead_letter"
        calls = 0

        @handles(Deposited)
        async def deposited(self, event, conn):
            self.calls += 1
            if self.calls in (2, 4):
                async with pool.connection() as other:
                    await other.execute("select pg_terminate_backend(%s)", [conn.info.backend_pid])
            await super().deposited(event, conn)

    last = await deposit(store, 1, 2, 3)
    manager = manager_of(store, pool)
    projection = Impatient()
    once = RetryPolicy(max_attempts=1)
    await manager.subscribe(projection, SubscriptionConfig(poll=0.05, retry_policy=once))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)

    assert await seen(pool) == [("a", 1), ("a", 2), ("a", 3)]
    assert await PostgresProjectionStore(pool).dead_letters("impatient") == []


async def test_a_handlers_error_undoes_its_batch_and_stops_with_a_reason(store, pool) -> None:
    class Picky(Balances):
        name = "picky"

        @handles(Deposited)
        async def deposited(self, event, conn):
            await conn.execute("insert into seen (account, amount) values ('a', 1 / (5 - %s))", [event.amount])

    checkpoints = PostgresProjectionStore(pool)
    manager = SubscriptionManager(store, checkpoints)
    await deposit(store, 4, 3, 5, 4)
    patience = RetryPolicy(max_attempts=5, backoff_schedule=[0.01])
    await manager.subscribe(Picky(), SubscriptionConfig(poll=0.05, retry_policy=patience))
    async with manager:

        async def stopped():
            return (await checkpoints.states("picky"))[0].status is ShardStatus.STOPPED

        await eventually(stopped, timeout=PATIENCE)

    (state,) = await checkpoints.states("picky")
    assert "failed 5 times: DivisionByZero: division by zero" in state.reason
    assert len(await seen(pool)) == 2


async def test_a_floor_that_came_late_does_not_make_a_checkpoint_look_wrong(store, pool) -> None:
    """A writer was slow between reading the sequence and locking its floor; what was drawn meanwhile has been read."""
    checkpoints = PostgresProjectionStore(pool)
    last = await deposit(store, *range(5))
    manager = SubscriptionManager(store, checkpoints)
    await manager.subscribe(Balances(), QUICK)
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)
    again = SubscriptionManager(store, checkpoints)
    await again.subscribe(Balances(), QUICK)
    async with pool.connection() as conn:
        await conn.execute("update eventsource.feed_horizon set position = 0, holder = null")
        await conn.commit()  # as if nobody had published yet
        await conn.execute("select pg_advisory_xact_lock_shared(28019::bigint << 48 | %s)", [last - 3])
        assert (await store.log.horizon()).position < last
        async with again:
            await eventually(lambda: again.subscriptions["Balances"].states == {0: RunState.LIVE}, timeout=PATIENCE)

    assert (await checkpoints.states("Balances"))[0].status is ShardStatus.ACTIVE
