"""A standby that streams and is promoted: with all events it goes on, without the last ones it stops subscriptions."""

import pytest

from mainstay import MemoryProjectionStore, PostgreSQLEventStore, SubscriptionConfig, SubscriptionManager
from mainstay.errors import StorageUnavailableError
from mainstay.events.stream import StreamId
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.horizon import HorizonPublisher
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.ledger import (
    PATIENCE,
    QUICK,
    Entered,
    Ignored,
    Ledger,
    enter,
    entries,
    make_table,
    numbers,
    state_of,
    stopped,
)
from tests.support.servers import open_pool
from tests.support.waiting import eventually

pytestmark = pytest.mark.thorough

BY_THE_SEQUENCE = 33
"""PostgreSQL writes every 33rd draw of a sequence to its log: so far ahead a promoted standby goes on."""


def manager_of(store, pool) -> SubscriptionManager:
    return SubscriptionManager(store, PostgresProjectionStore(pool))


async def has_all(standby, position) -> None:
    """Wait until the standby has an event."""
    async with open_pool(standby.dsn()) as pool:

        async def there():
            async with pool.connection() as conn:
                cursor = await conn.execute("select max(position) from eventsource.event")
                return (await cursor.fetchone()) == (position,)

        await eventually(there, timeout=PATIENCE)


async def test_a_standby_gives_out_what_was_published_and_takes_nothing(clusters):
    primary = clusters.primary()
    standby = clusters.standby(primary)
    async with open_pool(primary.dsn()) as pool, open_pool(standby.dsn()) as its_pool:
        store, copy = PostgreSQLEventStore(pool), PostgreSQLEventStore(its_pool)
        last = await enter(store, *range(5))
        await has_all(standby, last)
        assert (await copy.horizon()).position == 0  # nobody has published how far it can be read
        async with HorizonPublisher(pool):

            async def published():
                return (await copy.horizon()).position == last

            await eventually(published, timeout=PATIENCE)

        assert [each.event.amount async for each in copy.read_all()] == list(range(5))
        with pytest.raises(StorageUnavailableError, match="read-only"):
            await enter(copy, 6)


@pytest.mark.parametrize("renewed", [True, False], ids=["new epoch", "same epoch"])
async def test_a_switchover_with_all_events_goes_on_and_adopts_the_epoch(clusters, renewed):
    primary = clusters.primary()
    standby = clusters.standby(primary)
    async with open_pool(primary.dsn()) as pool:
        store = PostgreSQLEventStore(pool)
        await make_table(pool)
        manager = manager_of(store, pool)
        await manager.subscribe(Ledger(), QUICK)
        async with manager:
            await manager.wait_until(await enter(store, *range(20)), timeout=PATIENCE)
        last = await enter(store, *range(20, 30))
        before = await store.horizon()
    primary.stop()  # in order: it sends all it has
    standby.promote()
    async with open_pool(standby.dsn()) as pool:
        store = PostgreSQLEventStore(pool)
        if renewed:
            async with pool.connection() as conn:
                await conn.execute("select eventsource.renew_epoch()")
        assert (await store.horizon()).position == last
        manager = manager_of(store, pool)
        await manager.subscribe(Ledger(), QUICK)
        async with manager:
            await manager.wait_until(await enter(store, *range(30, 40)), timeout=PATIENCE)

        assert await entries(pool) == list(range(40))
        epoch = (await state_of(pool)).checkpoint.epoch
        assert epoch == (await store.horizon()).epoch
        assert (epoch != before.epoch) == renewed
        assert (await PostgresCommandStore(pool).fsck()).findings == ()


async def promoted_without_the_tail(clusters, kept, *, tail: int, then=None):
    """A standby that did not get the last events, which a subscription that is kept elsewhere has handled."""
    primary = clusters.primary()
    standby = clusters.standby(primary)
    async with open_pool(primary.dsn()) as pool:
        store = PostgreSQLEventStore(pool)
        await make_table(kept)
        await has_all(standby, await enter(store, *range(10)))
        standby.stop()
        manager = manager_of(store, kept)
        await manager.subscribe(Ledger(), QUICK)
        async with manager:
            last = await enter(store, *range(10, 10 + tail))
            if then is not None:
                last = await then(store)
            await manager.wait_until(last, timeout=PATIENCE)
    primary.stop("immediate")
    standby.start()
    standby.promote()
    return standby


@pytest.mark.parametrize("appended", [0, 60], ids=["ahead of the events", "on another event"])
@pytest.mark.parametrize("renewed", [True, False], ids=["new epoch", "same epoch"])
async def test_a_standby_that_missed_the_tail_stops_with_an_explanation(clusters, appended, renewed):
    tail = BY_THE_SEQUENCE + 10
    elsewhere = clusters.primary()
    async with open_pool(elsewhere.dsn()) as kept:
        standby = await promoted_without_the_tail(clusters, kept, tail=tail)
        async with open_pool(standby.dsn()) as pool:
            store = PostgreSQLEventStore(pool)
            if renewed:
                async with pool.connection() as conn:
                    await conn.execute("select eventsource.renew_epoch()")
            if appended:
                await enter(store, *range(100, 100 + appended))
            manager = manager_of(store, kept)
            await manager.subscribe(Ledger(), QUICK)
            async with manager:
                reason = await stopped(kept)

        assert ("where now stands" in reason) if appended else ("the events end at 10" in reason)
        assert "rebuild the projection, or reset the subscription" in reason
        assert await entries(kept) == list(range(10 + tail))


async def test_events_that_took_the_place_of_unwanted_ones_are_handled_after_a_new_epoch(clusters):
    """The last event that was handled is there, so the checkpoint fits; but what it passed by after it is not."""
    elsewhere = clusters.primary()

    async def others(store):
        events = [Ignored() for _ in range(3 * BY_THE_SEQUENCE)]
        last = (await store.append(StreamId("Ledger", "b"), events)).position
        return (await store.append(StreamId("Ledger", "b"), [Ignored()])).position or last

    async with open_pool(elsewhere.dsn()) as kept:
        primary = clusters.primary()
        standby = clusters.standby(primary)
        async with open_pool(primary.dsn()) as pool:
            store = PostgreSQLEventStore(pool)
            await make_table(kept)
            await has_all(standby, await enter(store, *range(10)))
            standby.stop()
            manager = manager_of(store, kept)
            await manager.subscribe(Ledger(), QUICK)
            async with manager:
                last = await others(store)

                async def saved(last=last):
                    return (await state_of(kept)).checkpoint.position >= last

                await eventually(saved, timeout=PATIENCE)
        primary.stop("immediate")
        standby.start()
        standby.promote()
        async with open_pool(standby.dsn()) as pool:
            store = PostgreSQLEventStore(pool)
            async with pool.connection() as conn:
                await conn.execute("select eventsource.renew_epoch()")
            passed = (await state_of(kept)).checkpoint.position
            first = await enter(store, 100)
            last = await enter(store, *range(101, 200))
            assert first < passed < last
            manager = manager_of(store, kept)
            await manager.subscribe(Ledger(), QUICK)
            async with manager:
                await manager.wait_until(last, timeout=PATIENCE)

        assert await entries(kept) == numbers(range(10), range(100, 200))


async def test_a_subscription_that_ran_through_a_failover_looks_again_before_it_goes_on(clusters):
    """It is not restarted: its connections break, and another server answers at the same address."""
    tail = BY_THE_SEQUENCE + 10
    elsewhere = clusters.primary()
    primary = clusters.primary()
    standby = clusters.standby(primary)
    async with open_pool(elsewhere.dsn()) as kept, open_pool(primary.dsn()) as pool:
        store = PostgreSQLEventStore(pool)
        await make_table(kept)
        await has_all(standby, await enter(store, *range(10)))
        standby.stop()
        manager = manager_of(store, kept)
        await manager.subscribe(Ledger(), QUICK)
        async with manager:
            await manager.wait_until(await enter(store, *range(10, 10 + tail)), timeout=PATIENCE)
            primary.stop("immediate")
            standby.take_the_place_of(primary)
            standby.start()
            standby.promote()

            assert "the events end at 10" in await stopped(kept)
        async with open_pool(standby.dsn()) as its_pool:
            await enter(PostgreSQLEventStore(its_pool), *range(100, 160))
        assert await entries(kept) == list(range(10 + tail))
        assert Entered.__event_type__ == "TestEntered"


async def test_who_waits_on_a_standby_is_woken_by_what_is_published(clusters):
    """A standby refuses LISTEN, and to take a lease: it looks at what the primary's publisher writes."""
    primary = clusters.primary()
    standby = clusters.standby(primary)
    async with open_pool(primary.dsn()) as pool, open_pool(standby.dsn()) as its_pool:
        store, copy = PostgreSQLEventStore(pool), PostgreSQLEventStore(its_pool)
        manager = SubscriptionManager(copy, MemoryProjectionStore())
        heard = []

        class Hearing:
            async def handle(self, event):
                heard.append(event.amount)

        await manager.subscribe(Hearing(), SubscriptionConfig(poll=3600.0), name="heard on the standby")
        async with manager, HorizonPublisher(pool):
            for amount in range(3):
                last = await enter(store, amount)
                await manager.wait_until(last, timeout=PATIENCE)
                assert heard == list(range(amount + 1))
