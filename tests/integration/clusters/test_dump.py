"""A dump, restored into a fresh server, goes on; a checkpoint that knows more than it stops with an explanation."""

from contextlib import asynccontextmanager

import pytest

from mainstay import PostgreSQLEventStore, SubscriptionManager
from mainstay.errors import OptimisticLockError
from mainstay.events.stream import StreamId
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.doctor import CHECKS, Level, Patient
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.ledger import (
    PATIENCE,
    QUICK,
    Entered,
    Ledger,
    enter,
    entries,
    make_table,
    numbers,
    state_of,
    stopped,
)
from tests.support.servers import open_pool

pytestmark = pytest.mark.thorough


@asynccontextmanager
async def subscribed(store, pool):
    """Ledger at work, until the end of the block."""
    manager = SubscriptionManager(store, PostgresProjectionStore(pool))
    await manager.subscribe(Ledger(), QUICK)
    async with manager:
        yield manager


def restored(clusters, cluster):
    """A fresh cluster, made of a dump of another."""
    fresh = clusters.blank()
    fresh.start()
    cluster.dump(cluster.directory / "dump")
    fresh.restore(cluster.directory / "dump")
    return fresh


async def test_a_restored_dump_goes_on_with_appends_checkpoints_and_read_models(clusters):
    old = clusters.primary()
    async with open_pool(old.dsn()) as pool:
        store = PostgreSQLEventStore(pool)
        await make_table(pool)
        async with subscribed(store, pool) as manager:
            await manager.wait_until(await enter(store, *range(30)), timeout=PATIENCE)
        last = await enter(store, *range(30, 40))  # not handled before the dump
        epoch = (await store.horizon()).epoch

    async with open_pool(restored(clusters, old).dsn()) as pool:
        store = PostgreSQLEventStore(pool)
        assert (await store.horizon()).position == last
        with pytest.raises(OptimisticLockError):
            await store.append(StreamId("Ledger", "a"), [Entered(amount=0)], expected=39)
        async with subscribed(store, pool) as manager:
            position = await enter(store, *range(40, 50))
            await manager.wait_until(position, timeout=PATIENCE)

        assert await entries(pool) == list(range(50))
        assert (await state_of(pool)).checkpoint.epoch == epoch
        assert position >= last + 10
        assert (await PostgresCommandStore(pool).fsck()).findings == ()
        assert {check.level for name in ("feed", "schema") for check in await CHECKS[name](Patient(pool))} == {Level.OK}


@pytest.mark.parametrize("appended", [0, 60], ids=["ahead of the events", "on another event"])
async def test_a_checkpoint_kept_elsewhere_that_a_dump_does_not_fit_stops_with_an_explanation(clusters, appended):
    old, elsewhere = clusters.primary(), clusters.primary()
    async with open_pool(elsewhere.dsn()) as kept:
        await make_table(kept)
        async with open_pool(old.dsn()) as pool:
            store = PostgreSQLEventStore(pool)
            await enter(store, *range(10))
            fresh = restored(clusters, old)
            async with subscribed(store, kept) as manager:
                await manager.wait_until(await enter(store, *range(10, 30)), timeout=PATIENCE)
        async with open_pool(fresh.dsn()) as pool:
            store = PostgreSQLEventStore(pool)
            if appended:
                await enter(store, *range(100, 100 + appended))
            async with subscribed(store, kept) as manager:
                reason = await stopped(kept)
                assert not await manager.is_healthy()

            said = "where now stands event" if appended else "the events end at 10"
            assert said in reason
            assert "rebuild the projection, or reset the subscription" in reason
            assert await entries(kept) == list(range(30))

            await _reset_as_the_reason_says(store, kept)
            wanted = numbers(range(30), range(100, 100 + appended), [7])
            async with subscribed(store, kept) as manager:
                await manager.wait_until(await enter(store, 7), timeout=PATIENCE)
            assert await entries(kept) == wanted


async def _reset_as_the_reason_says(store, kept):
    """To the last event that both have, which is the tenth."""
    checkpoints = PostgresProjectionStore(kept)
    page = await store.log.read_feed(limit=10)
    last, epoch = page.events[-1], (await store.horizon()).epoch
    checkpoint = (await state_of(kept)).checkpoint
    right = type(checkpoint)(last.position, epoch, last.event.event_id, last.position)
    await checkpoints.reset("ledger", right, actor="ann")
    await checkpoints.resume("ledger", actor="ann")
