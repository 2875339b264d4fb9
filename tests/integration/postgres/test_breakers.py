"""Breakers under concurrency: who waits for whom, what those pay who have none, and how a naive one fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mainstay.commands.breakers import BreakerRule, BreakerState
from mainstay.commands.failures import fingerprint
from mainstay.commands.store import CommandStore, Outcome, Received, Verb
from mainstay.operations.operator import Operator
from mainstay.serialization import to_json
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.doctor import Level, examine
from mainstay.storage.postgres.retention import Retention, prune
from mainstay.testing.contracts.commands.base import new
from tests.support.servers import open_pool
from tests.support.waiting import eventually

DOMAIN, TYPE = "orders", "CreateOrder"
DOWN = "the supplier does not answer"
WHICH = (DOMAIN, TYPE, fingerprint(DOWN))
LONG = 3600.0
RECEIVE = "select command_id from commandbus.receive('orders', 10, 60, 'w1') where command_id is not null"
#: A lock that is none, as if one row could not be changed by two.
NAIVE = """
create or replace function commandbus.lock_breakers(p_domain text) returns void language sql as 'select'
"""
NAIVE_TRY = """
create or replace function commandbus.try_lock_breakers(p_domain text) returns boolean language sql as 'select true'
"""
READ = """
select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
where schemaname = 'commandbus' and relname = 'parked'
"""
BREAKERS = ("breaker_rule", "breaker", "breaker_failure", "breaker_event", "parked")
SCANS = """
select relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) from pg_stat_xact_user_tables
where schemaname = 'commandbus' and relname = any (%s)
"""


def rule(**changes: Any) -> BreakerRule:
    usual: dict[str, Any] = {
        "domain": DOMAIN,
        "command_type": TYPE,
        "failures": 2,
        "within": LONG,
        "probe_after": LONG,
        "drip": 100.0,
    }
    return BreakerRule(**usual | changes)


@pytest.fixture
async def store(pool: AsyncConnectionPool[Any]) -> CommandStore:
    made = PostgresCommandStore(pool)
    await made.ensure_queue(DOMAIN)
    return made


@asynccontextmanager
async def transaction(dsn: str) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(dsn) as conn:
        yield conn


async def received(conn: AsyncConnection[Any]) -> list[UUID]:
    cursor = await conn.execute(RECEIVE)
    return [row[0] for row in await cursor.fetchall()]


async def in_hand(store: CommandStore, count: int) -> list[Received]:
    await store.send([new() for _ in range(count)])
    return await store.receive(DOMAIN, limit=count, lease_seconds=60, worker="w1")


def failure(one: Received) -> Outcome:
    return Outcome(one.lease, Verb.RETRY, error_type="TRANSIENT", error_code="DOWN", error_message=DOWN, delay=LONG)


async def fails(store: CommandStore, *those: Received) -> None:
    await store.complete(DOMAIN, [failure(one) for one in those])


async def writes(conn: AsyncConnection[Any], one: Received, verb: str) -> None:
    told = {"error_type": "TRANSIENT", "error_code": "DOWN", "error_message": DOWN, "delay": LONG}
    lease = {"command_id": str(one.lease.command_id), "msg_id": one.lease.msg_id, "lease_no": one.lease.lease_no}
    await conn.execute(
        "select from commandbus.complete('orders', %s)", [to_json([lease | told | {"verb": verb}]).decode()]
    )


async def is_waiting(pool: AsyncConnectionPool[Any]) -> bool:
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock')"
        )
        row = await cursor.fetchone()
    return row is not None and row[0]


async def scans(conn: AsyncConnection[Any]) -> dict[str, int]:
    cursor = await conn.execute(SCANS, [list(BREAKERS)])
    return {table: count for table, count in await cursor.fetchall() if count}


# --- counting ---------------------------------------------------------------------------------------------------------


async def test_without_the_lock_two_failures_at_the_same_time_both_miss_that_they_are_enough(
    store: CommandStore, dsn: str, pool: AsyncConnectionPool[Any]
) -> None:
    async with pool.connection() as conn:
        await conn.execute(NAIVE)
    await store.breakers.set_rule(rule(), operator=None)
    first, second = await in_hand(store, 2)

    async with transaction(dsn) as one, transaction(dsn) as two:
        await writes(one, first, "RETRY")
        await writes(two, second, "RETRY")

    assert await store.breakers.list_breakers(DOMAIN) == []


async def test_with_the_lock_the_second_failure_waits_and_opens_the_breaker(
    store: CommandStore, dsn: str, pool: AsyncConnectionPool[Any]
) -> None:
    await store.breakers.set_rule(rule(), operator=None)
    first, second = await in_hand(store, 2)

    async with transaction(dsn) as one, transaction(dsn) as two:
        await writes(one, first, "RETRY")
        waiting = asyncio.create_task(writes(two, second, "RETRY"))
        await eventually(lambda: is_waiting(pool))
        await one.commit()
        await waiting

    (found,) = await store.breakers.list_breakers(DOMAIN)
    assert found.parked == 1


async def test_failures_in_one_flush_count_together(store: CommandStore) -> None:
    await store.breakers.set_rule(rule(failures=3), operator=None)
    await fails(store, *await in_hand(store, 5))

    (found,) = await store.breakers.list_breakers(DOMAIN)
    assert found.parked == 5
    assert (await store.fsck()).findings == ()


# --- probing ----------------------------------------------------------------------------------------------------------


async def test_without_the_lock_two_receivers_let_two_probes_go(
    store: CommandStore, dsn: str, pool: AsyncConnectionPool[Any]
) -> None:
    async with pool.connection() as conn:
        await conn.execute(NAIVE_TRY)
    await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
    await fails(store, *await in_hand(store, 3))

    async with transaction(dsn) as one, transaction(dsn) as two:
        first = await eventually(lambda: received(one))
        waiting = asyncio.create_task(received(two))
        await eventually(lambda: is_waiting(pool))
        await one.commit()
        second = await waiting

    assert (len(first), len(second)) == (1, 1)
    assert first != second


async def test_while_one_receiver_lets_a_probe_go_the_others_neither_wait_nor_let_another_go(
    store: CommandStore, dsn: str
) -> None:
    await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
    await fails(store, *await in_hand(store, 3))

    async with transaction(dsn) as one, open_pool(dsn, kwargs={"options": "-c lock_timeout=5s"}) as impatient:
        probe = await eventually(lambda: received(one))
        others = await PostgresCommandStore(impatient).receive(DOMAIN, limit=10, lease_seconds=30, worker="w2")

    assert (len(probe), others) == (1, [])


async def test_a_receiver_that_is_killed_with_a_probe_in_hand_leaves_it_to_the_next(
    store: CommandStore, dsn: str
) -> None:
    await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
    await fails(store, *await in_hand(store, 2))

    async with transaction(dsn) as conn:
        lost = await eventually(lambda: received(conn))
        await conn.rollback()
    again = await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w2")

    assert [each.command.command_id for each in again] == lost


async def test_no_failure_waits_for_a_receiver_that_is_at_work_in_a_domain_without_breakers(
    store: CommandStore, dsn: str
) -> None:
    held = await in_hand(store, 1)
    await store.send([new()])

    async with transaction(dsn) as conn, open_pool(dsn, kwargs={"options": "-c lock_timeout=5s"}) as impatient:
        await received(conn)
        await fails(PostgresCommandStore(impatient), *held)

    assert (await store.stats(DOMAIN))[0].deferred == 1


# --- costs ------------------------------------------------------------------------------------------------------------


async def test_a_domain_without_breakers_pays_one_look_for_a_receive_and_one_for_a_failure(
    store: CommandStore, dsn: str
) -> None:
    failed, completed = await in_hand(store, 2)
    await store.send([new() for _ in range(5)])

    async with transaction(dsn) as conn:
        await received(conn)
        for_receive = await scans(conn)
    async with transaction(dsn) as conn:
        await writes(conn, completed, "COMPLETE")
        for_completion = await scans(conn)
    async with transaction(dsn) as conn:
        await writes(conn, failed, "RETRY")
        for_failure = await scans(conn)

    assert for_receive == {"breaker": 1}
    assert for_completion == {}
    assert for_failure == {"breaker_rule": 1}


async def test_what_is_held_costs_no_receive_a_walk(store: CommandStore, dsn: str) -> None:
    await store.breakers.set_rule(rule(failures=1), operator=None)
    await fails(store, *await in_hand(store, 50))

    async with transaction(dsn) as conn:
        await received(conn)
        few = (await scans(conn))["parked"]
    for _ in range(10):
        await fails(store, *await in_hand(store, 50))
    async with transaction(dsn) as conn:
        await received(conn)
        many = (await scans(conn))["parked"]

    assert many == few


async def test_letting_one_go_reads_the_longest_waiting_only(
    store: CommandStore, dsn: str, pool: AsyncConnectionPool[Any]
) -> None:
    await store.breakers.set_rule(rule(failures=1), operator=None)

    async def read() -> int:
        async with transaction(dsn) as conn:
            probe = await received(conn)
            cursor = await conn.execute(READ)
            row = await cursor.fetchone()
            await conn.rollback()
        assert len(probe) == 1
        assert row is not None
        return int(row[0])

    async def due_in(interval: str) -> None:
        async with pool.connection() as conn:
            await conn.execute(f"update commandbus.breaker set next_at = clock_timestamp() + '{interval}'")

    await fails(store, *await in_hand(store, 50))
    await due_in("0 s")
    few = await read()
    await due_in("1 day")
    for _ in range(20):
        await fails(store, *await in_hand(store, 50))
    await due_in("0 s")
    many = await read()

    assert many <= few


# --- operators --------------------------------------------------------------------------------------------------------


async def test_the_doctor_warns_of_an_open_breaker_and_its_advice_closes_it(
    store: CommandStore, pool: AsyncConnectionPool[Any]
) -> None:
    await store.breakers.set_rule(rule(failures=1, drip=0.001), operator=None)
    await fails(store, *await in_hand(store, 2))

    (seen,) = [check for check in await examine(pool) if check.name == "breakers"]
    words = seen.advice.split("`")[1].split()
    closed = await Operator(pool).breakers.force_close(*words[3:], operator="ada")
    (after,) = [check for check in await examine(pool) if check.name == "breakers"]

    assert (seen.level, seen.subject) == (Level.WARNING, " ".join(WHICH))
    assert "holds 2 commands" in seen.seen
    assert DOWN in seen.seen
    assert words[:3] == ["mainstay", "breakers", "close"]
    assert (closed, after.level) == (True, Level.OK)


async def test_what_lost_its_breaker_is_found_and_made_ready_again(
    store: CommandStore, pool: AsyncConnectionPool[Any]
) -> None:
    await store.breakers.set_rule(rule(failures=1), operator=None)
    (one,) = await in_hand(store, 1)
    await fails(store, one)
    async with pool.connection() as conn:
        await conn.execute("delete from commandbus.breaker")

    (finding,) = (await store.fsck()).findings
    (repair,) = await Operator(pool).repair()
    again = await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w2")

    assert (finding.invariant, finding.command_id) == ("what a breaker holds has its breaker", one.command.command_id)
    assert repair.did == "it is ready again"
    assert [each.command.command_id for each in again] == [one.command.command_id]
    assert (await store.fsck()).findings == ()


async def test_old_events_and_failures_are_pruned(store: CommandStore, pool: AsyncConnectionPool[Any]) -> None:
    await store.breakers.set_rule(rule(failures=5), operator=None)
    await fails(store, *await in_hand(store, 2))
    async with pool.connection() as conn:
        await conn.execute("update commandbus.breaker_event set at = at - interval '60 days'")
        await conn.execute("update commandbus.breaker_failure set at = at - interval '60 days'")
    await store.breakers.set_rule(rule(), operator="ada")

    done = await prune(pool, Retention(timedelta(days=30)))
    async with pool.connection() as conn:
        cursor = await conn.execute("select count(*) from commandbus.breaker_failure")
        failures = await cursor.fetchone()

    assert done.audit == 1
    assert [event.operator for event in await store.breakers.list_events(DOMAIN, limit=10)] == ["ada"]
    assert failures == (0,)


async def test_a_rule_that_is_removed_and_holds_nothing_leaves_nothing(
    store: CommandStore, pool: AsyncConnectionPool[Any]
) -> None:
    await store.breakers.set_rule(rule(), operator=None)
    await fails(store, *await in_hand(store, 1))
    await store.breakers.remove_rule(DOMAIN, TYPE, operator=None)

    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select (select count(*) from commandbus.breaker_rule), (select count(*) from commandbus.breaker_failure)"
        )
        left = await cursor.fetchone()
    assert left == (0, 0)


async def test_a_closing_breaker_is_watched_and_then_gone(store: CommandStore, pool: AsyncConnectionPool[Any]) -> None:
    await store.breakers.set_rule(rule(failures=1, probe_after=0.01), operator=None)
    await fails(store, *await in_hand(store, 1))
    (probe,) = await eventually(lambda: store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w1"))
    await store.complete(DOMAIN, [Outcome(probe.lease, Verb.COMPLETE)])
    await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w1")
    (watched,) = await store.breakers.list_breakers(DOMAIN)
    async with pool.connection() as conn:
        await conn.execute("update commandbus.breaker set next_at = next_at - interval '2 hours'")
    await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w1")

    assert (watched.state, watched.parked) == (BreakerState.CLOSING, 0)
    assert await store.breakers.list_breakers(DOMAIN) == []
