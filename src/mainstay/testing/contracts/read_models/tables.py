"""Tables: made, brought up to date, compared, swapped; and what is done in one transaction."""

# ruff: noqa: S101, D102 - asserts and expected values are what a contract is made of

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import (
    InvalidInputError,
    SchemaOutdatedError,
    StorageUnavailableError,
)
from mainstay.projections.read_model import ReadModel, table_of
from mainstay.projections.read_model_batch import BatchRows
from mainstay.projections.read_model_query import Filter
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.projections.read_model_store import TableChange
from mainstay.testing.contracts.read_models.base import LATER, NOON, Order, ReadModelStoreSuite, orders

CURRENT, NEW, OLD = table_of(Order), table_of(Order, "__new"), table_of(Order, "__old")


class OnPurposeError(Exception):
    """Ends a transaction."""


class Shade(Enum):
    """For a default."""

    DARK = "it's dark"


class Small(ReadModel):
    """As it was."""

    __table_name__ = "grows"
    name: str = ""


class Large(ReadModel):
    """As it became."""

    __table_name__ = "grows"
    __indexes__ = ("shade", "name")
    name: str = ""
    shade: Shade = Shade.DARK
    total: Decimal = Decimal("1.50")
    is_new: bool = False
    seen_at: datetime | None = None
    tags: tuple[str, ...] = ("100%",)
    weight: float = 2.5
    count: int = -1


class Demanding(ReadModel):
    """Has a field that old rows cannot fill."""

    __table_name__ = "grows"
    name: str = ""
    owner: str


class TableContract(ReadModelStoreSuite):
    """Tables, and what is done together."""

    async def test_a_table_is_made_once(self, store: Any) -> None:
        assert not await store.exists(CURRENT)
        assert await store.create(CURRENT) == TableChange(created=True, indexes=2)
        assert await store.create(CURRENT) == TableChange()
        assert await store.exists(CURRENT)
        assert await store.drop(CURRENT)
        assert not await store.drop(CURRENT)
        assert not await store.exists(CURRENT)

    async def test_columns_that_a_table_lacks_are_added_with_their_defaults(self, store: Any) -> None:
        small, large = table_of(Small), table_of(Large)
        await store.create(small)
        await ReadModelRepository[Small](small, store).save(Small(id="1", name="x"))

        change = await store.create(large)

        assert change.columns == ("shade", "total", "is_new", "seen_at", "tags", "weight", "count")
        repo = ReadModelRepository[Large](large, store)
        found = await repo.find()
        assert [model.model_dump(exclude={"created_at", "updated_at"}) for model in found] == [
            Large(id="1", name="x").model_dump(exclude={"created_at", "updated_at"})
        ]
        assert await self.ids(repo, Filter.eq("shade", Shade.DARK), Filter.eq("total", Decimal("1.5"))) == ["1"]
        assert await store.create(large) == TableChange()

    async def test_a_column_that_rows_have_no_value_for_needs_a_rebuild(self, store: Any) -> None:
        small, demanding = table_of(Small), table_of(Demanding)
        await store.create(small)
        await ReadModelRepository[Small](small, store).save(Small(id="1"))

        with pytest.raises(SchemaOutdatedError, match=r"no column 'owner'.*rebuild the projection"):
            await store.create(demanding)

        await ReadModelRepository[Small](small, store).truncate()
        await store.create(demanding)
        await ReadModelRepository[Demanding](demanding, store).save(Demanding(id="1", owner="ann"))

    async def test_what_is_done_in_a_transaction_is_done_together_or_not_at_all(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save(Order(id="0"))
        for error in (OnPurposeError, None):
            with suppress(OnPurposeError):
                async with store.transaction() as conn:
                    mine = ReadModelRepository[Order](CURRENT, store, conn=conn)
                    await mine.save(Order(id="1"))
                    await mine.delete("0")
                    assert await self.ids(mine) == ["1"]
                    assert await self.ids(repo) == ["0"]
                    if error is not None:
                        raise error
            assert await self.ids(repo) == (["0"] if error else ["1"])


class BatchContract(ReadModelStoreSuite):
    """The rows of a batch (`mainstay.projections.read_model_batch`) on a store."""

    async def test_a_batch_leaves_what_one_save_after_another_would_have_left(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save_many([Order(id="old", created_at=NOON), Order(id="gone")])

        async with store.transaction() as conn:
            rows = BatchRows(store, conn)
            mine = ReadModelRepository[Order](CURRENT, rows, clock=FrozenClock(LATER))
            for number in range(3):
                found = await mine.get("old")
                assert found is not None
                found.count += 1
                await mine.save(found)
                await mine.save(Order(id="new", count=number, created_at=NOON))
            assert await self.ids(mine, Filter.gt("count", 1)) == ["new", "old"]
            await mine.save(Order(id="passing"))
            await mine.delete("passing")
            await mine.delete("gone")
            await mine.soft_delete("new")
            assert await self.ids(repo) == ["gone", "old"]
            await rows.flush()

        old, new = await repo.get("old"), await repo.get_deleted("new")
        assert old is not None
        assert new is not None
        assert (old.count, old.version, old.created_at, old.updated_at) == (3, 4, NOON, LATER)
        assert (new.count, new.version, new.created_at, new.deleted_at) == (2, 4, NOON, LATER)
        assert await self.ids(repo) == ["old"]

    async def test_a_batch_that_is_not_flushed_leaves_nothing(self, store: Any) -> None:
        repo = await self.orders(store)
        async with store.transaction() as conn:
            await ReadModelRepository[Order](CURRENT, BatchRows(store, conn)).save(Order(id="1"))

        assert await repo.count() == 0

    async def test_a_batch_never_writes_over_what_somebody_else_wrote_meanwhile(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save_many([Order(id="1"), Order(id="2")])
        changes: list[Callable[[ReadModelRepository[Order]], Awaitable[Any]]] = [
            lambda mine: mine.save(Order(id="1", customer="mine")),
            lambda mine: mine.delete("1"),
            lambda mine: mine.save(Order(id="3", customer="mine")),
        ]
        for change in changes:
            rows = BatchRows(store, None)
            mine = ReadModelRepository[Order](CURRENT, rows)
            await mine.get_many(["1", "3"])
            await change(mine)
            await repo.save_many([Order(id="1", customer="theirs"), Order(id="3", customer="theirs")])

            with pytest.raises(StorageUnavailableError, match="changed by somebody else"):
                await rows.flush()
            assert await self.ids(repo, Filter.eq("customer", "theirs")) == ["1", "3"]
            await repo.delete("3")

    async def test_a_batch_reads_ahead_what_it_will_be_asked_for(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save_many(orders([{} for _ in range(10)]))
        asked: list[int] = []

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            async def fetch(self, table: Any, ids: Any, *, conn: Any = None) -> Any:
                asked.append(len(ids))
                return await store.fetch(table, ids, conn=conn)

        rows: Any = BatchRows(Counted(), None, ([str(n) for n in range(10)], ["x", "\x00", "y"]))
        mine = ReadModelRepository[Order](CURRENT, rows)
        for number in range(10):
            await mine.get(str(number))
        assert asked == [10]
        await mine.save(Order(id="y"))
        assert asked == [10, 2]
        await mine.get("elsewhere")
        assert asked == [10, 2, 1]

    async def test_a_batch_takes_no_other_transaction(self, store: Any) -> None:
        await self.orders(store)
        rows = BatchRows(store, None)

        with pytest.raises(InvalidInputError, match="one transaction"):
            await rows.fetch(CURRENT, ["1"], conn=object())
