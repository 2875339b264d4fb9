"""Order per key with sessions side by side: who may promote, from which snapshot, and what no hint may get lost by."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Verb
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands.base import new, saying
from tests.scenarios.order import OrderScenarios
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.world import DOMAIN
from tests.support.servers import open_pool
from tests.support.waiting import eventually

NAIVE = Path(__file__).with_name("naive_promote.sql")
PROMOTE = "select commandbus.promote_keys('orders', 100)"
WAITING = "select true from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class TestOrder(OnPostgres, OrderScenarios):
    pass


@pytest.fixture
async def store(pool) -> PostgresCommandStore:
    made = PostgresCommandStore(pool)
    await made.ensure_queue(DOMAIN)
    return made


@pytest.fixture
async def impatient(dsn: str, store: PostgresCommandStore) -> AsyncIterator[PostgresCommandStore]:
    """A store for which waiting for a lock is an error."""
    async with open_pool(dsn, kwargs={"options": "-c lock_timeout=1s"}) as pool:
        yield PostgresCommandStore(pool)


async def received(store: PostgresCommandStore) -> list[UUID]:
    taken = await store.receive(DOMAIN, limit=10, lease_seconds=60, worker="w")
    return [one.command.command_id for one in taken]


async def is_sound(store: PostgresCommandStore) -> bool:
    return (await store.fsck()).findings == ()


async def handle_in_one_transaction(conn: AsyncConnection[Any]) -> None:
    """Promote, receive and complete one command."""
    cursor = await conn.execute("select command_id, msg_id, lease_no from commandbus.receive('orders', 10, 60, 'w')")
    ((command_id, msg_id, lease_no),) = await cursor.fetchall()
    outcome = {"command_id": str(command_id), "msg_id": msg_id, "lease_no": lease_no, "verb": "COMPLETE"}
    await conn.execute("select commandbus.complete('orders', %s)", [Jsonb([outcome])])


async def promoted_behind_another(store: PostgresCommandStore, second: Any) -> None:
    """A promoter that begins when another has promoted the first command of a key, and ends when that one is done."""
    await store.send([new(key="k")])
    async with store.pool.connection() as conn:
        await handle_in_one_transaction(conn)
        await store.send([second])
        late = asyncio.create_task(ask(store.pool, PROMOTE))

        async def is_waiting_or_done() -> bool:
            return late.done() or bool(await ask(store.pool, WAITING))

        await eventually(is_waiting_or_done)
    await late


async def test_a_promoter_behind_another_takes_no_command_that_is_done(store) -> None:
    second = new(key="k")

    await promoted_behind_another(store, second)

    assert await received(store) == [second.command_id]
    assert await is_sound(store)


async def test_the_naive_promoter_takes_a_command_that_is_done_and_its_key_stands_still(store) -> None:
    await run(store.pool, NAIVE.read_text())
    second = new(key="k")

    await promoted_behind_another(store, second)

    assert await received(store) == []
    assert {finding.invariant for finding in (await store.fsck()).findings} == {
        "the head of a key is a command that has not ended"
    }


async def test_what_is_sent_while_a_promoter_finds_nothing_is_promoted_by_the_next(store, impatient) -> None:
    gone, sent = new(key="k"), new(key="k")
    await store.send([gone])
    await store.cancel(DOMAIN, gone.command_id, reason=None)
    async with store.pool.connection() as conn:
        promoted = await (await conn.execute(PROMOTE)).fetchone()
        await impatient.send([sent])
        meanwhile = await received(impatient)

    assert (promoted, meanwhile) == ((0,), [])
    assert await received(store) == [sent.command_id]
    assert await is_sound(store)


async def test_a_worker_frozen_before_its_commit_holds_up_its_key_and_no_receiver(store, impatient) -> None:
    first, second, other = new(key="k"), new(key="k"), new(key="other")
    await store.send([first])
    async with store.pool.connection() as conn:
        await handle_in_one_transaction(conn)
        await impatient.send([second, other])
        meanwhile = await received(impatient) + await received(impatient)

    assert meanwhile == [other.command_id]
    assert await received(store) == [second.command_id]
    assert await is_sound(store)


async def test_a_promoter_that_chose_what_is_being_cancelled_leaves_the_next_to_another(store) -> None:
    first, second, third = new(key="k"), new(key="k"), new(key="k")
    await store.send([first, second, third])
    (one,) = await store.receive(DOMAIN, limit=1, lease_seconds=60, worker="w")
    async with store.pool.connection() as conn:
        await conn.execute("select commandbus.cancel('orders', %s, null, false)", [second.command_id])
        await store.complete(DOMAIN, [saying(one, Verb.COMPLETE)])
        late = asyncio.create_task(ask(store.pool, PROMOTE))
        await eventually(lambda: ask(store.pool, WAITING))
    assert await late == [(0,)]

    assert await received(store) == [third.command_id]
    assert (await store.get(DOMAIN, second.command_id)).status is CommandStatus.CANCELED
    assert await is_sound(store)


async def test_promoters_side_by_side_promote_each_key_once(store, dsn) -> None:
    commands = [new(key=f"k{n % 40}", data={"n": n}) for n in range(200)]
    await store.send(commands)
    async with open_pool(dsn, max_size=8) as pool:
        promoted = sum(rows[0][0] for rows in await asyncio.gather(*(ask(pool, PROMOTE) for _ in range(8))))
        promoted += (await ask(pool, PROMOTE))[0][0]

    assert promoted == 40
    assert sorted(await received(store) + [c for _ in range(3) for c in await received(store)]) == sorted(
        command.command_id for command in commands[:40]
    )
    assert await is_sound(store)


async def test_an_index_finds_the_next_of_a_key_among_many(store) -> None:
    await run(
        store.pool,
        "insert into commandbus.keyed "
        "select 'orders', 'k' || n % 10, n, gen_random_uuid() from generate_series(1, 20000) as n",
    )
    await run(store.pool, "insert into commandbus.key_hint (domain, key) values ('orders', 'k7')")
    async with store.pool.connection() as conn, conn.transaction(force_rollback=True):
        before = await (await conn.execute(_SCANS)).fetchone()
        await conn.execute(PROMOTE)
        after = await (await conn.execute(_SCANS)).fetchone()

    assert before is not None
    assert after is not None
    assert after[0] == before[0]
    assert after[1] - before[1] < 10


#: Sequential scans of keyed, and rows that its index gave: this transaction's own numbers.
_SCANS = (
    "select coalesce(sum(seq_scan), 0), coalesce(sum(idx_tup_fetch), 0) "
    "from pg_stat_xact_user_tables where relname = 'keyed'"
)
