"""Read models are rebuilt without a line of the user's, on every engine."""

import asyncio
from decimal import Decimal

import pytest

from mainstay import (
    DomainEvent,
    InMemoryEventStore,
    PostgreSQLEventStore,
    ReadModel,
    ReadModelProjection,
    SQLiteEventStore,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
)
from mainstay.errors import SchemaOutdatedError

QUICK = SubscriptionConfig(poll=0.05, batch_size=10)


class Weighed(DomainEvent, aggregate_type="RebuiltScale", event_type="RebuiltWeighed"):
    grams: Decimal


class ScaleTotal(ReadModel):
    grams: Decimal = Decimal(0)
    times: int = 0


class ScaleTotals(ReadModelProjection[ScaleTotal]):
    name = "scales"

    @handles(Weighed)
    async def weighed(self, event, repo):
        total = await repo.get(event.aggregate_id) or ScaleTotal(id=event.aggregate_id)
        total.grams += event.grams
        total.times += 1
        await repo.save(total)


class ScaleTotalsTwice(ScaleTotals):
    name = "scales"
    version = 2

    @handles(Weighed)
    async def weighed(self, event, repo):
        await super().weighed(event.model_copy(update={"grams": event.grams * 2}), repo)


class Stock(ReadModel):
    __table_name__ = 'Stock "of" 100%'
    grams: Decimal
    times: int


class StockByUnit(ReadModel):
    """The same table in a form that cannot be had by adding columns."""

    __table_name__ = 'Stock "of" 100%'
    __indexes__ = ("unit",)
    grams: int
    unit: str


class Stocks(ReadModelProjection[Stock]):
    name = "stocks"

    @handles(Weighed)
    async def weighed(self, event, repo):
        await repo.save(Stock(id=event.aggregate_id, grams=event.grams, times=1))


class StocksByUnit(ReadModelProjection[StockByUnit]):
    name = "stocks"
    version = 2

    @handles(Weighed)
    async def weighed(self, event, repo):
        await repo.save(StockByUnit(id=event.aggregate_id, grams=int(event.grams), unit="g"))


class Contract:
    async def weigh(self, store, *grams, scale="a") -> int:
        done = None
        for each in grams:
            done = await store.append(StreamId("RebuiltScale", scale), [Weighed(grams=Decimal(each))])
        return done.position

    async def totals(self, manager):
        rows = await manager.read_models.of(ScaleTotal).find()
        return sorted((str(row.id), row.grams, row.times) for row in rows)

    async def test_a_read_model_is_rebuilt_while_others_append(self, store):
        manager = SubscriptionManager(store)
        await manager.subscribe(ScaleTotals(), QUICK)
        await self.weigh(store, *range(30))
        async with manager:
            await manager.wait_until(30)
            appending = asyncio.create_task(self.weigh(store, *range(40), scale="b"))
            kept = await manager.rebuild("scales", actor="ann", keep=True)
            again = await manager.rebuild("scales", actor="ann", config=SubscriptionConfig(poll=0.05, shards=2))
            await appending
            await manager.wait_until(70)

            assert await self.totals(manager) == [("a", Decimal(435), 30), ("b", Decimal(780), 40)]
        assert (kept.swapped, kept.is_same, again.swapped, again.is_same) == (True, True, True, True)
        assert [each.table for each in kept.tables] == [ScaleTotal.table_name()]

    async def test_new_code_is_built_beside_old_and_then_serves(self, store):
        old, new = (
            SubscriptionManager(store, self.checkpoints(store)),
            SubscriptionManager(store, self.checkpoints(store)),
        )
        await self.weigh(store, 1, 2, 3)
        await old.subscribe(ScaleTotals(), QUICK)
        async with old, new:
            await old.wait_until(3)
            await new.subscribe(ScaleTotalsTwice(), QUICK)
            refused = await new.rebuild("scales", actor="ann", accept=lambda found: found.is_same)
            assert await self.totals(old) == [("a", Decimal(6), 3)]
            done = await new.rebuild("scales", actor="ann")
            await new.wait_until(await self.weigh(store, 4))

            assert await self.totals(new) == [("a", Decimal(20), 4)]
        assert (refused.swapped, done.swapped, done.is_same) == (False, True, False)
        (table,) = done.tables
        assert (table.gone, table.come, table.serving, table.rebuilt) == (1, 1, 1, 1)

    async def test_a_table_takes_another_form_under_a_name_that_needs_quoting(self, store):
        old = SubscriptionManager(store, self.checkpoints(store))
        new = SubscriptionManager(store, self.checkpoints(store))
        await self.weigh(store, 1, 2, 3)
        await old.subscribe(Stocks(), QUICK)
        async with old:
            await old.wait_until(3)
            if not isinstance(store, InMemoryEventStore):
                with pytest.raises(SchemaOutdatedError, match="rebuild the projection"):
                    await new.read_models.create_table(StockByUnit)
            await new.subscribe(StocksByUnit(), QUICK)
            async with new:
                done = [await new.rebuild("stocks", actor="ann", keep=keep) for keep in (True, False, False)]
                await new.wait_until(await self.weigh(store, 4))

                (row,) = await new.read_models.of(StockByUnit).find()
                change = await new.read_models.create_table(StockByUnit)

        assert [each.swapped for each in done] == [True, True, True]
        assert (row.grams, row.unit) == (4, "g")
        assert (change.created, change.columns, change.indexes) == (False, (), 0)

    def checkpoints(self, store):
        return None


class TestInMemory(Contract):
    @pytest.fixture
    def store(self):
        return InMemoryEventStore()

    def checkpoints(self, store):
        self.made = getattr(self, "made", None) or SubscriptionManager(store)._store
        return self.made


class TestSQLite(Contract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with SQLiteEventStore(tmp_path / "events.sqlite") as store:
            yield store


class TestPostgreSQL(Contract):
    @pytest.fixture
    def store(self, pool):
        return PostgreSQLEventStore(pool)
