"""Gates under concurrency: who waits for whom, and what those pay who have none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mainstay.commands.gates import Limit
from mainstay.commands.store import CommandStore
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands.base import new
from tests.support.servers import open_pool
from tests.support.waiting import eventually

DOMAIN = "orders"
RECEIVE = "select command_id, limited from commandbus.receive('orders', 10, 60, 'w1')"
#: Counting without the lock, as one would write it at first.
NAIVE = """
create or replace function commandbus.lock_gates(p_domain text) returns void language sql as 'select'
"""
GATES = ("gate", "parked", "running_slot", "limit_grant")
SCANS = """
select relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) from pg_stat_xact_user_tables
where schemaname = 'commandbus' and relname = any (%s)
"""


@pytest.fixture
async def store(pool: AsyncConnectionPool[Any]) -> CommandStore:
    made = PostgresCommandStore(pool)
    await made.ensure_queue(DOMAIN)
    return made


@asynccontextmanager
async def transaction(dsn: str, options: str = "") -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(dsn, options=options) as conn:
        yield conn


async def received(conn: AsyncConnection[Any]) -> int:
    cursor = await conn.execute(RECEIVE)
    return len(await cursor.fetchall())


async def is_waiting(pool: AsyncConnectionPool[Any]) -> bool:
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock')"
        )
        row = await cursor.fetchone()
    return row is not None and row[0]


async def test_without_the_lock_two_receivers_exceed_a_limit(
    store: CommandStore, dsn: str, pool: AsyncConnectionPool[Any]
) -> None:
    async with pool.connection() as conn:
        await conn.execute(NAIVE)
    await store.gates.set_limit(Limit(DOMAIN, "CreateOrder", max_running=1))
    await store.send([new()])
    await store.send([new()])

    async with transaction(dsn) as one, transaction(dsn) as two:
        await one.execute("select from commandbus.receive('orders', 1, 60, 'w1')")

        assert await received(two) == 1


async def test_with_the_lock_the_second_receiver_waits_and_finds_no_room(
    store: CommandStore, dsn: str, pool: AsyncConnectionPool[Any]
) -> None:
    await store.gates.set_limit(Limit(DOMAIN, "CreateOrder", max_running=1))
    await store.send([new()])
    await store.send([new()])

    async with transaction(dsn) as one, transaction(dsn) as two:
        await one.execute("select from commandbus.receive('orders', 1, 60, 'w1')")
        second = asyncio.create_task(received(two))
        await eventually(lambda: is_waiting(pool))
        await one.commit()

        assert await second == 0


async def test_a_receive_that_is_rolled_back_leaves_its_place_free(store: CommandStore, dsn: str) -> None:
    await store.gates.set_limit(Limit(DOMAIN, "CreateOrder", max_running=1))
    await store.send([new()])

    async with transaction(dsn) as conn:
        lost = await received(conn)
        await conn.rollback()

    assert lost == 1
    assert len(await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w2")) == 1


async def test_commands_without_a_limit_wait_for_no_gate(store: CommandStore, dsn: str) -> None:
    await store.gates.set_limit(Limit(DOMAIN, "ShipOrder", max_running=1))
    await store.send([new(), new()])

    async with transaction(dsn) as holder, open_pool(dsn, kwargs={"options": "-c lock_timeout=2s"}) as impatient:
        await holder.execute("select commandbus.lock_gates('orders')")
        found = await PostgresCommandStore(impatient).receive(DOMAIN, limit=10, lease_seconds=30, worker="w1")

    assert len(found) == 2


async def test_a_domain_without_gates_pays_one_look(store: CommandStore, dsn: str) -> None:
    await store.send([new() for _ in range(5)])

    async with transaction(dsn) as conn:
        found = await received(conn)
        cursor = await conn.execute(SCANS, [list(GATES)])
        scans = dict(await cursor.fetchall())

    assert found == 5
    assert {table: scans.get(table, 0) for table in GATES} == {
        "gate": 1,
        "parked": 0,
        "running_slot": 0,
        "limit_grant": 0,
    }


async def test_a_gate_that_holds_nothing_any_more_is_gone(store: CommandStore, pool: AsyncConnectionPool[Any]) -> None:
    await store.gates.set_limit(Limit(DOMAIN, "CreateOrder", max_running=1, rate=5, per_seconds=1.0, burst=5))
    await store.send([new(), new()])
    await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w1")
    await store.gates.remove_limit(DOMAIN, "CreateOrder")
    released = await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="w1")

    async with pool.connection() as conn:
        cursor = await conn.execute("select count(*) from commandbus.gate")
        row = await cursor.fetchone()
    assert len(released) == 1
    assert row == (0,)
