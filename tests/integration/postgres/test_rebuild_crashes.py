"""Rebuilds while others write and follow, and processes and connections that die at any moment of one."""

import asyncio
import contextlib
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from mainstay.errors import InvalidOperationError
from mainstay.events.handles import handles
from mainstay.projections.checks import rebuild_name
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.proxy import Proxy
from tests.support.savings import (
    PATIENCE,
    SHORT_LEASE,
    Saved,
    Savings,
    caught_up,
    caught_up_alone,
    is_each_event_once,
    rows,
    save,
    store_of,
    store_with_tables,
    subscribed,
)
from tests.support.servers import open_pool
from tests.support.waiting import eventually

pytestmark = pytest.mark.thorough

PROCESS = """
import asyncio, sys
from mainstay.events.store import EventStore
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.events import PostgresEventLog
from tests.support.savings import SHORT_LEASE, save, subscribed
from dataclasses import replace

async def write(store, account):
    for amount in range(150):
        await save(store, amount, account=f"{account}{amount % 7}")

async def rebuild(store, pool, shards):
    manager = await subscribed(store, pool, replace(SHORT_LEASE, shards=shards))
    print("rebuilding", flush=True)
    await manager.rebuild("savings", actor="ann")

async def follow(store, pool, shards):
    manager = await subscribed(store, pool, replace(SHORT_LEASE, shards=shards))
    async with manager:
        print("following", flush=True)
        await asyncio.Event().wait()

async def main(dsn, what, argument):
    async with open_pool(dsn, max_size=8) as pool:
        store = EventStore(PostgresEventLog(pool))
        if what == "write":
            await write(store, argument)
        elif what == "rebuild":
            await rebuild(store, pool, int(argument))
        else:
            await follow(store, pool, int(argument))

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def process(dsn, what, argument, says=None):
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, dsn, what, argument, stdout=subprocess.PIPE
    )
    try:
        if says is not None:
            assert running.stdout is not None
            assert await running.stdout.readline() == says
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.fixture
async def store(pool):
    return await store_with_tables(pool)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (3, 2)])
async def test_two_writers_a_follower_elsewhere_and_each_event_is_there_once(store, pool, dsn, before, after) -> None:
    for account in ("a1", "b1", "c1"):
        await save(store, *range(40), account=account)
    old = replace(SHORT_LEASE, shards=before)
    manager = await subscribed(store, pool, old)
    async with process(dsn, "follow", str(before), b"following\n"), process(dsn, "write", "a") as first:
        async with process(dsn, "write", "b") as second:
            for _ in range(2):
                done = await manager.rebuild("savings", actor="ann", config=replace(SHORT_LEASE, shards=after))
                assert (done.swapped, done.is_same) == (True, True)
            await asyncio.gather(first.wait(), second.wait())
        await caught_up(manager, store)

    assert (await store.horizon()).position >= 420
    await is_each_event_once(store, pool)
    assert len(await PostgresProjectionStore(pool).states("savings")) == after


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "statement",
    [
        "select eventsource.hold_subscription",
        "select eventsource.create_beside",
        "select shards, version from eventsource.register",
        "insert into entry__rebuild",
        "update eventsource.shard",
        "select eventsource.compare_tables",
        "select eventsource.swap_tables",
        "select eventsource.swap_subscription",
        "commit",
    ],
)
async def test_a_connection_cut_at_any_statement_leaves_one_that_serves(store, pool, dsn, statement, when) -> None:
    await save(store, *range(25))
    await caught_up_alone(store, pool)
    with Proxy(dsn) as proxy:
        async with open_pool(proxy.dsn) as cut_pool:
            manager = await subscribed(store_of(cut_pool), cut_pool, SHORT_LEASE)
            cut = proxy.cut_before(statement) if when == "before" else proxy.cut_after(statement)
            async with asyncio.timeout(PATIENCE):
                done = await manager.rebuild("savings", actor="ann")

    assert cut.happened.is_set()
    assert (done.swapped, done.is_same) == (True, True)
    await save(store, *range(25, 30))
    await caught_up_alone(store, pool)
    await is_each_event_once(store, pool)
    assert (await PostgresProjectionStore(pool).states("savings"))[0].generation == 2


async def test_a_commit_that_was_cut_at_the_swap_is_known_to_have_happened(store, pool, dsn) -> None:
    await save(store, *range(5))
    await caught_up_alone(store, pool)
    with Proxy(dsn) as proxy:
        async with open_pool(proxy.dsn) as cut_pool:
            manager = await subscribed(store_of(cut_pool), cut_pool, SHORT_LEASE)

            def cut_the_next_commit(found) -> bool:
                proxy.cut_after("commit")
                return True

            done = await manager.rebuild("savings", actor="ann", accept=cut_the_next_commit)

    assert (done.swapped, done.is_same) == (True, True)
    assert (await PostgresProjectionStore(pool).states("savings"))[0].generation == 2


async def test_a_rebuild_that_was_killed_is_gone_on_with(store, pool, dsn) -> None:
    await save(store, *range(400))
    await caught_up_alone(store, pool)
    async with process(dsn, "rebuild", "1", b"rebuilding\n"):

        async def begun():
            states = await PostgresProjectionStore(pool).states(rebuild_name("savings"))
            return bool(states) and states[0].checkpoint.position > 20

        await eventually(begun, timeout=PATIENCE)
    (state,) = await PostgresProjectionStore(pool).states(rebuild_name("savings"))
    assert state.checkpoint.position < 400
    await save(store, *range(5))
    await caught_up_alone(store, pool)

    manager = await subscribed(store, pool, SHORT_LEASE)
    done = await manager.rebuild("savings", actor="ben")

    assert (done.swapped, done.is_same) == (True, True)
    await is_each_event_once(store, pool)


class Waiting(Savings):
    """Waits in a rebuild until it may go on."""

    name = "savings"

    def __init__(self):
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    @handles(Saved)
    async def saved(self, event, conn):
        if self.rebuilding:
            self.began.set()
            await self.go_on.wait()
        await super().saved(event, conn)


async def test_one_who_rebuilds_is_told_that_another_canceled_it(store, pool) -> None:
    await save(store, *range(30))
    await caught_up_alone(store, pool)
    waiting = Waiting()
    manager = await subscribed(store, pool, projection=waiting)
    rebuilding = asyncio.create_task(manager.rebuild("savings", actor="ann"))
    await waiting.began.wait()
    pausing = asyncio.create_task(manager.pause("savings~rebuild", actor="ben"))

    async def waits():
        return await rows(pool, "select 1 from pg_locks where not granted")

    await eventually(waits, timeout=PATIENCE)
    waiting.go_on.set()
    await pausing

    assert await manager.cancel_rebuild("savings")

    with pytest.raises(InvalidOperationError, match="the rebuild of 'savings' was ended by another process"):
        await rebuilding


@pytest.mark.parametrize("seed", [1, 2])
async def test_rebuilds_killed_at_any_moment_while_others_write_and_follow(store, pool, dsn, seed) -> None:
    """Some were killed before their swap, some had swapped: generations tell."""
    chance = random.Random(seed)
    await save(store, *range(60), account="a1")
    manager = await subscribed(store, pool, SHORT_LEASE)
    async with process(dsn, "follow", "1", b"following\n"), process(dsn, "write", "a") as writer:
        for _ in range(8):
            async with process(dsn, "rebuild", "1", b"rebuilding\n") as rebuilding:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rebuilding.wait(), chance.uniform(0.0, 0.4))
        await writer.wait()
        await manager.rebuild("savings", actor="ann")
        await caught_up(manager, store)

    await is_each_event_once(store, pool)
    left = await rows(pool, "select to_regclass('entry__rebuild'), to_regclass('total__rebuild')")
    assert left == [(None, None)]
    assert {each.subscription for each in await PostgresProjectionStore(pool).states()} == {"savings"}
