"""Rows that are written one by one."""

# ruff: noqa: S101, D102, PLR2004 - asserts and expected values are what a contract is made of

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field

from mainstay.errors import (
    InvalidInputError,
    ReadModelConflictError,
    ReadModelCorruptError,
    ReadModelTableNotFoundError,
    TenantMismatchError,
)
from mainstay.projections.read_model import ReadModel, table_of
from mainstay.projections.read_model_batch import BatchRows
from mainstay.projections.read_model_query import Filter, ReadModelQuery
from mainstay.projections.read_model_repository import ReadModelRepository
from mainstay.testing.contracts.read_models.base import (
    HOSTILE,
    LATER,
    NOON,
    Hostile,
    Line,
    Order,
    Rank,
    ReadModelStoreSuite,
    Status,
    Ticket,
    orders,
)

FULL: dict[str, Any] = {
    "customer": "Ann 'the\" O\u2019Hara \\ %s :x {y} 日本 🎉",
    "total": Decimal("123456789012345678901234567890.12345678901234567890"),
    "count": -(2**63),
    "weight": 0.1 + 0.2,
    "is_gift": True,
    "status": Status.PAID,
    "rank": Rank.HIGH,
    "channel": "shop",
    "placed_at": datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-5))),
    "due": date(1, 1, 1),
    "invoice": uuid4(),
    "note": "",
    "lines": [Line(sku="a", price=Decimal("0.10")), Line(sku="b", price=Decimal("1E+3"))],
    "extra": {"é": [1, 2.5, None, {"x": True}], "": "'"},
}


class SavingContract(ReadModelStoreSuite):
    """What is saved is what is read."""

    async def test_every_type_comes_back_as_it_was(self, store: Any) -> None:
        repo = await self.orders(store)
        full = Order(id=uuid4(), **FULL)
        await repo.save(full)
        empty = await repo.save(Order(id="empty"))

        found = await repo.get(full.id)

        assert found == full
        assert found is not None
        assert str(found.total) == str(FULL["total"])
        assert isinstance(found.id, UUID)
        assert await repo.get("empty") == empty

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("placed_at", datetime.max.replace(tzinfo=UTC)),
            ("placed_at", datetime.min.replace(tzinfo=UTC)),
            ("due", date.max),
            ("total", Decimal("-0.000")),
            ("total", Decimal("9" * 1000)),
            ("total", Decimal("1e-1000")),
            ("count", 2**63 - 1),
            ("weight", 1.7976931348623157e308),
            ("weight", 5e-324),
            ("weight", -0.0),
            ("note", "x" * 100_000),
            ("note", "\u202e\x01\ufffe\u2028"),
            ("extra", {}),
            ("lines", [Line(sku="x" * 1000, price=Decimal(1))] * 100),
        ],
    )
    async def test_the_ends_of_what_a_type_can_be(self, store: Any, field: str, value: Any) -> None:
        repo = await self.orders(store)
        await repo.save(Order.model_validate({"id": "1", field: value}))

        found = await repo.get("1")

        assert getattr(found, field) == value

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("customer", None),
            ("customer", 17),
            ("customer", "a\x00b"),
            ("customer", "\ud800"),
            ("customer", "x" * 16_777_217),
            ("count", "many"),
            ("count", True),
            ("count", 2**63),
            ("count", 1.5),
            ("weight", float("nan")),
            ("weight", float("inf")),
            ("weight", 10**400),
            ("total", Decimal("NaN")),
            ("total", Decimal("Infinity")),
            ("total", 0.1),
            ("total", Decimal("1e1001")),
            ("is_gift", 1),
            ("status", "gone"),
            ("placed_at", datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is wrong with it
            ("placed_at", "2026-01-01"),
            ("due", NOON),
            ("invoice", "17"),
            ("extra", {"a": float("nan")}),
            ("extra", {"a": "\x00"}),
            ("extra", {"a": object()}),
            ("lines", ["x"]),
            ("id", ""),
            ("id", "a\x00"),
            ("id", "x" * 201),
            ("id", 17),
            ("version", -(2**64)),
        ],
    )
    async def test_what_a_database_cannot_give_back_is_refused(self, store: Any, field: str, value: Any) -> None:
        repo = await self.orders(store)
        model = Order(id="1")
        setattr(model, field, value)

        with pytest.raises(InvalidInputError, match=field):
            await repo.save(model)

        assert await repo.count(ReadModelQuery(include_deleted=True)) == 0

    async def test_a_save_writes_over_what_is_there_and_raises_the_version(self, store: Any) -> None:
        repo = await self.orders(store)
        first = await repo.save(Order(id="1", customer="ann", created_at=NOON))
        again = await repo.save(Order(id="1", customer="bob", created_at=LATER, version=17))

        assert (first.version, again.version, again.created_at, again.updated_at) == (1, 2, NOON, NOON)
        assert await repo.get("1") == again

    async def test_a_model_that_was_read_can_be_changed_and_saved(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save(Order(id="1"))
        found = await repo.get("1")
        assert found is not None
        found.total += 5
        await repo.save(found)

        assert found == await repo.get("1")
        assert (found.total, found.version) == (Decimal(5), 2)

    async def test_many_are_saved_at_once(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save(Order(id="7", customer="old"))
        many = orders([{"customer": f"c{number}", "extra": {"n": number}} for number in range(1000)])
        await repo.save_many(many)
        await repo.save_many([])

        assert await repo.count() == 1000
        assert [model.version for model in many[:9]] == [1, 1, 1, 1, 1, 1, 1, 2, 1]
        assert await repo.get_many(["999", "7", "nobody", "0", "7"]) == [many[999], many[7], many[0]]

    async def test_one_bad_row_of_many_leaves_none(self, store: Any) -> None:
        repo = await self.orders(store)
        bad = Order(id="2")
        bad.weight = float("nan")

        with pytest.raises(InvalidInputError, match=r"Order\.weight"):
            await repo.save_many([Order(id="1"), bad])
        with pytest.raises(InvalidInputError, match="two rows of one id"):
            await repo.save_many([Order(id="1"), Order(id="1")])
        with pytest.raises(InvalidInputError, match="a Order is needed"):
            await repo.save_many([Order(id="1"), Ticket(id=uuid4())])  # type: ignore[list-item]  # that is the point

        assert await repo.count() == 0

    async def test_a_save_that_checks_is_refused_if_somebody_else_has_saved(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save(Order(id="1", created_at=NOON))
        mine, theirs = await repo.get("1"), await repo.get("1")
        assert mine is not None
        assert theirs is not None
        theirs.customer = "bob"
        await repo.save_with_version_check(theirs)

        with pytest.raises(ReadModelConflictError) as caught:
            await repo.save_with_version_check(mine)

        assert (caught.value.expected, caught.value.actual, caught.value.id) == (1, 2, "1")
        assert await repo.get("1") == theirs
        assert (theirs.version, theirs.created_at) == (2, NOON)

    async def test_version_0_means_that_there_is_no_row(self, store: Any) -> None:
        repo = await self.orders(store)
        made = await repo.save_with_version_check(Order(id="1", version=0))
        assert made.version == 1

        with pytest.raises(ReadModelConflictError, match="has version 1 of '1'; expected was no row"):
            await repo.save_with_version_check(Order(id="1", version=0))
        with pytest.raises(ReadModelConflictError, match="has no row of '2'; expected was version 1"):
            await repo.save_with_version_check(Order(id="2"))

    async def test_a_row_is_deleted_for_good(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save(Order(id="1"))

        assert await repo.delete("1")
        assert not await repo.delete("1")
        assert await repo.get("1") is None
        assert (await repo.save(Order(id="1"))).version == 1

    async def test_a_row_that_is_laid_aside_is_seen_only_if_asked_for(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save_many([Order(id="1"), Order(id="2")])

        assert await repo.soft_delete("1")
        assert not await repo.soft_delete("1")
        assert await repo.get("1") is None
        assert not await repo.exists("1")
        assert await repo.get_many(["1", "2"]) == [await repo.get("2")]
        assert await self.ids(repo) == ["2"]
        assert await self.ids(repo, include_deleted=True) == ["1", "2"]
        assert [model.id for model in await repo.find_deleted()] == ["1"]
        gone = await repo.get_deleted("1")
        assert gone is not None
        assert (gone.deleted_at, gone.version) == (NOON, 2)

        assert await repo.restore("1")
        assert not await repo.restore("1")
        assert await repo.get_deleted("1") is None
        back = await repo.get("1")
        assert back is not None
        assert (back.deleted_at, back.version) == (None, 3)

    async def test_truncate_deletes_everything(self, store: Any) -> None:
        repo = await self.orders(store)
        await repo.save_many([Order(id="1"), Order(id="2", deleted_at=NOON)])

        assert await repo.truncate() == 2
        assert await repo.truncate() == 0

    async def test_tenants_neither_see_nor_change_each_others_rows(self, store: Any) -> None:
        everyone = await self.tickets(store)
        ann, bob = everyone.for_tenant("ann"), everyone.for_tenant(UUID(int=5))
        hers, his = uuid4(), uuid4()
        await ann.save(Ticket(id=hers, select="hers"))
        await bob.save_many([Ticket(id=his, select="his")])

        assert await ann.get(his) is None
        assert await self.ids(ann) == [hers]
        assert await ann.get_many([hers, his]) == [await everyone.get(hers)]
        assert not await ann.delete(his)
        assert not await ann.soft_delete(his)
        for steal in (ann.save, ann.save_with_version_check):
            with pytest.raises(TenantMismatchError):
                await steal(Ticket(id=his, select="hers now"))
        with pytest.raises(TenantMismatchError):
            await ann.save_many([Ticket(id=uuid4()), Ticket(id=his)])
        with pytest.raises(TenantMismatchError):
            await ann.save(Ticket(id=uuid4(), tenant_id="bob"))
        with pytest.raises(InvalidInputError, match="cannot be seen from here"):
            await ann.find(ReadModelQuery(tenant_id="bob"))
        assert sorted(await self.ids(everyone)) == sorted([hers, his])
        assert await self.ids(everyone, tenant_id=UUID(int=5)) == [his]
        stored = await bob.get(his)
        assert stored is not None
        assert (stored.select, stored.tenant_id, stored.version) == ("his", UUID(int=5), 1)
        assert await ann.truncate() == 1
        assert await self.ids(everyone) == [his]

    async def test_fields_may_have_any_name(self, store: Any) -> None:
        table = table_of(Hostile)
        await store.create(table)
        await store.create(table)
        repo = ReadModelRepository[Any](table, store)
        row = Hostile(id="1", **{name: place for place, name in enumerate(HOSTILE)})
        await repo.save_many([row, Hostile(id="2")])
        await repo.save_with_version_check(row)
        await repo.soft_delete("1")
        await repo.restore("1")

        assert [getattr(await repo.get("1"), name) for name in HOSTILE] == list(range(len(HOSTILE)))
        for place, name in enumerate(HOSTILE):
            filters = [Filter.in_(name, [place]), Filter.gte(name, place)]
            assert await self.ids(repo, *filters, order_by=(f"-{name}", "created_at")) == ["1"]
            assert await self.pages(repo, order_by=name, limit=1) == [["2"], ["1"]]
        async with store.transaction() as conn:
            rows = BatchRows(store, conn)
            await ReadModelRepository[Any](table, rows).delete("1")
            await rows.flush()
        assert await repo.delete("2")
        assert await repo.count() == 0

    async def test_ids_have_the_type_that_the_model_says(self, store: Any) -> None:
        class Texts(ReadModel):
            id: str

        class Uuids(ReadModel):
            id: UUID

        one = uuid4()
        for kind, written in ((Texts, str(one)), (Uuids, one)):
            await store.create(table_of(kind))
            repo = ReadModelRepository[Any](table_of(kind), store)
            await repo.save(kind(id=written))
            for asked in (one, str(one)):
                model = await repo.get(asked)
                assert model is not None
                assert model.id == written
            assert await self.ids(repo, Filter.eq("id", written)) == [written]
        with pytest.raises(InvalidInputError, match="id must be a UUID"):
            await ReadModelRepository[Any](table_of(Uuids), store).get("17")

    async def test_a_table_that_is_missing_is_named(self, store: Any) -> None:
        repo: ReadModelRepository[Order] = ReadModelRepository(table_of(Order), store)

        for call in (repo.get("1"), repo.save(Order(id="1")), repo.find(), repo.count(), repo.delete("1")):
            with pytest.raises(ReadModelTableNotFoundError, match="100% tests"):
                await call

    async def test_a_row_that_does_not_fit_its_model_is_an_error(self, store: Any) -> None:
        class Loose(ReadModel):
            __table_name__ = "strictness"
            note: str = ""

        class Stricter(ReadModel):
            __table_name__ = "strictness"
            note: str = Field(default="", max_length=3)

        await store.create(table_of(Loose))
        await ReadModelRepository[Loose](table_of(Loose), store).save(Loose(id="1", note="too long"))

        with pytest.raises(ReadModelCorruptError, match="row '1' of strictness does not fit"):
            await ReadModelRepository[Stricter](table_of(Stricter), store).get("1")
