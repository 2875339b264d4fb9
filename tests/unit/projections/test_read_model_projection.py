"""Projections that keep a read model, in memory."""

from contextlib import asynccontextmanager

import pytest

from mainstay.errors import ConfigurationError, InvalidInputError, ReadModelTableNotFoundError, StorageUnavailableError
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.read_model import ReadModel, table_of
from mainstay.projections.read_model_projection import ReadModelProjection
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.projections.store import ShardStatus
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from tests.support.waiting import eventually

ONCE = SubscriptionConfig(poll=0.05, retry_policy=RetryPolicy(max_attempts=1))


class Sold(DomainEvent, aggregate_type="RmShop", event_type="RmSold"):
    price: int
    tenant: str | None = None


class Moved(DomainEvent, aggregate_type="RmShop", event_type="RmMoved"):
    pass


class ShopTotal(ReadModel):
    sold: int = 0
    sales: int = 0


class ShopTotals(ReadModelProjection[ShopTotal]):
    refused = ()

    @handles(Sold)
    async def sold(self, event, repo):
        total = await repo.get(event.aggregate_id) or ShopTotal(id=event.aggregate_id)
        total.sold += event.price
        total.sales += 1
        await repo.save(total)
        if event.price in self.refused:
            raise ValueError(f"no {event.price} today")


@pytest.fixture
def store():
    return InMemoryEventStore()


@pytest.fixture
async def manager(store):
    manager = SubscriptionManager(store, MemoryProjectionStore())
    yield manager
    await manager.stop()


async def sell(store, *prices, shop="a") -> int:
    return (await store.append(StreamId("RmShop", shop), [Sold(price=price) for price in prices])).position


async def test_events_become_rows_that_can_be_asked_for(store, manager) -> None:
    await sell(store, 1, 2, 3)
    await sell(store, 10, shop="b")
    await manager.subscribe(ShopTotals())
    async with manager:
        await manager.wait_until(await sell(store, 4))

    totals = await manager.read_models.of(ShopTotal).find()

    assert [(each.id, each.sold, each.sales, each.version) for each in totals] == [("a", 10, 4, 4), ("b", 10, 1, 1)]


async def test_a_failing_event_leaves_nothing_of_its_own_and_keeps_what_was_before(store, manager) -> None:
    class Picky(ShopTotals):
        refused = (3,)

    await sell(store, 1, 2, 3, 4)
    await manager.subscribe(Picky(), ONCE)
    async with manager:

        async def stopped():
            return not await manager.is_healthy()

        await eventually(stopped)

    (total,) = await manager.read_models.of(ShopTotal).find()
    assert (total.sold, total.sales, total.version) == (3, 2, 2)


async def test_an_error_at_the_end_of_a_batch_is_blamed_on_the_event_that_caused_it(store, manager) -> None:
    class Late(ShopTotals):
        """Cannot write what it was told of the second event, and finds out at the end."""

        name = "late"
        on_error = "dead_letter"

        def key(self, envelope):
            return str(envelope.position)

        async def flushed(self, rows):
            entries = [entry for known in rows._tables.values() for entry in known.entries.values()]
            if any(entry.row and entry.row["sold"] == 2 for entry in entries):
                raise ValueError("no twos")

        def batch(self, conn, events):
            outer = super().batch

            @asynccontextmanager
            async def checked():
                async with outer(conn, events) as rows:
                    yield rows
                    await self.flushed(rows)

            return checked()

    for shop, price in [("a", 1), ("b", 2), ("c", 3)]:
        last = await sell(store, price, shop=shop)
    await manager.subscribe(Late(), ONCE)
    async with manager:
        await manager.wait_until(last)

    assert [each.id for each in await manager.read_models.of(ShopTotal).find()] == ["a", "c"]
    (letter,) = await manager._store.dead_letters("late")
    assert (letter.position, letter.error) == (2, "no twos")


async def test_rows_that_somebody_else_changed_meanwhile_make_the_batch_begin_again(store, manager) -> None:
    read_models = manager.read_models

    class Slow(ShopTotals):
        name = "slow"
        raced = False

        @handles(Moved)
        async def moved(self, event, repo):
            total = await repo.get("a")
            if not self.raced:
                self.raced = True
                await read_models.of(ShopTotal).save(ShopTotal(id="a", sold=100))
            total.sales += 1
            await repo.save(total)

    await sell(store, 1)
    await manager.subscribe(Slow(), ONCE)
    async with manager:
        await manager.wait_until(1)
        last = await store.append(StreamId("RmShop", "a"), [Moved()])
        await manager.wait_until(last.position)

    (total,) = await read_models.of(ShopTotal).find()
    assert (total.sold, total.sales, total.version) == (100, 1, 3)


async def test_a_transaction_in_memory_that_was_overtaken_is_refused() -> None:
    store = MemoryProjectionStore().read_models
    await store.create(table_of(ShopTotal))
    outside = ReadModelRepository[ShopTotal](table_of(ShopTotal), store)

    async def overtaken():
        async with store.transaction() as conn:
            await ReadModelRepository[ShopTotal](table_of(ShopTotal), store, conn=conn).save(ShopTotal(id="a"))
            await outside.save(ShopTotal(id="a", sold=5))

    with pytest.raises(StorageUnavailableError, match="changed by somebody else"):
        await overtaken()

    assert [each.sold for each in await outside.find()] == [5]


async def test_transactions_in_memory_that_make_two_tables_leave_both() -> None:
    store = MemoryProjectionStore().read_models
    async with store.transaction() as conn:
        await store.create(table_of(ShopTotal), conn=conn)
        await store.create(table_of(ShopTotal, "__new"))
        assert not await store.exists(table_of(ShopTotal))

    assert set(store.tables) == {"shop_totals", "shop_totals__new"}


async def test_tables_in_memory_are_those_of_read_models_only() -> None:
    kept = MemoryProjectionStore()
    await kept.read_models.create(table_of(ShopTotal))
    async with kept.read_models.transaction() as conn:
        tables = kept.tables(conn)
        with pytest.raises(ConfigurationError, match="no tables in memory but those of read models"):
            await tables.create_like("shop_totals", "other")
        with pytest.raises(ReadModelTableNotFoundError):
            await tables.compare("shop_totals", "other", sample=1)
        await tables.drop(["shop_totals", "other"])

    assert set(kept.read_models.tables) == set()


async def test_dead_letters_are_replayed_into_the_rows(store, manager) -> None:
    projection = ShopTotals()
    projection.on_error, projection.refused = "dead_letter", (3,)
    await sell(store, 1, 3, 5)
    await manager.subscribe(projection, ONCE)
    async with manager:
        await manager.wait_until(3)
        projection.refused = ()
        replayed = await manager.replay("ShopTotals", actor="ann")

    assert replayed.handled == 2
    assert [each.sold for each in await manager.read_models.of(ShopTotal).find()] == [9]


async def test_rows_belong_to_the_events_tenant(store, manager) -> None:
    class TenantTotal(ReadModel):
        tenant_id: str | None = None
        sold: int = 0

    class TenantTotals(ReadModelProjection[TenantTotal]):
        on_error = "dead_letter"

        @handles(Sold)
        async def sold(self, event, repo):
            total = await repo.get(event.aggregate_id) or TenantTotal(id=str(event.aggregate_id))
            total.sold += event.price
            await repo.save(total)

    for tenant in ("ann", "bob"):
        last = await store.append(StreamId("RmShop", f"of {tenant}", tenant), [Sold(price=1)])
    taken = await store.append(StreamId("RmShop", "of ann", "bob"), [Sold(price=2)])
    await manager.subscribe(TenantTotals(), ONCE)
    async with manager:
        await manager.wait_until(taken.position)

    found = await manager.read_models.of(TenantTotal).find()
    assert [(each.id, each.tenant_id, each.sold) for each in found] == [("of ann", "ann", 1), ("of bob", "bob", 1)]
    assert last.position == 2
    (letter,) = await manager._store.dead_letters("TenantTotals")
    assert letter.error_type == "TenantMismatchError"


def test_a_projection_without_a_model_is_refused_when_it_is_defined() -> None:
    with pytest.raises(ConfigurationError, match="keeps no model"):

        class Modelless(ReadModelProjection):
            @handles(Sold)
            async def sold(self, event, repo): ...


async def test_a_projection_that_is_not_subscribed_says_so(store) -> None:
    await sell(store, 1)
    (envelope,) = [each async for each in store.read_all()]
    with pytest.raises(ConfigurationError, match="has no table: subscribe it"):
        async with ShopTotals().batch(None, []):
            pytest.fail("the batch began")
    with pytest.raises(ConfigurationError, match="in a batch"):
        await ShopTotals().handle(envelope, None)


async def test_a_generation_has_a_table_of_its_own(store, manager) -> None:
    class Beside(ShopTotals):
        name = "beside"

    await manager.subscribe(Beside(generation="__new"))
    async with manager:
        await manager.wait_until(await sell(store, 1))

    assert set(manager._store.read_models.tables) == {"shop_totals__new"}


async def test_a_states_shard_is_active(store, manager) -> None:
    await manager.subscribe(ShopTotals())

    assert [each.status for each in await manager._store.states()] == [ShardStatus.ACTIVE]


async def test_ids_that_are_none_are_refused(store, manager) -> None:
    await manager.subscribe(ShopTotals())
    repo = manager.read_models.of(ShopTotal)

    for call in (repo.get(""), repo.get(None), repo.get_many("ab"), repo.delete(17), repo.exists("a\x00")):
        with pytest.raises(InvalidInputError):
            await call
