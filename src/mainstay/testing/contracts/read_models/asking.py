"""Rows that are asked for."""

# ruff: noqa: S101, D102, PLR2004 - asserts and expected values are what a contract is made of

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from mainstay.errors import InvalidCursorError, InvalidInputError
from mainstay.projections.read_model_query import Filter, ReadModelQuery
from mainstay.testing.contracts.read_models.base import NOON, Order, Rank, ReadModelStoreSuite, Status, orders

TEXTS = ["", "A", "Z", "a", "b", "zz", "Ä", "é", "日", "🎉", "\uffff", "a b", "a-b", "_", "%"]
DECIMALS = [
    Decimal(text)
    for text in ("-1E+30", "-12.5", "-12.49", "-1", "-0.001", "0", "0.00010", "0.001", "1", "1.5", "2", "10", "1E+30")
]


class AskingContract(ReadModelStoreSuite):
    """Filters, order and pages are the same everywhere."""

    async def filled(self, store: Any, rows: list[dict[str, Any]]) -> Any:
        repo = await self.orders(store)
        await repo.save_many(orders(rows))
        return repo

    @pytest.mark.parametrize(
        ("given", "found"),
        [
            (Filter.eq("count", 2), "2"),
            (Filter("count", "eq", 2), "2"),
            (Filter.ne("count", 2), "0134"),
            (Filter.gt("count", 2), "34"),
            (Filter.gte("count", 2), "234"),
            (Filter.lt("count", 2), "01"),
            (Filter.lte("count", 2), "012"),
            (Filter.in_("count", [1, 3, 99]), "13"),
            (Filter.in_("count", []), ""),
            (Filter.not_in("count", [1, 3]), "024"),
            (Filter.not_in("count", []), "01234"),
            (Filter.eq("note", None), "34"),
            (Filter.is_null("note"), "34"),
            (Filter.is_not_null("note"), "012"),
            (Filter.ne("note", None), "012"),
            (Filter.ne("note", "n1"), "0234"),
            (Filter.not_in("note", ["n1"]), "0234"),
            (Filter.in_("note", ["n1", "n2"]), "12"),
            (Filter.gt("note", "n0"), "12"),
            (Filter.lte("note", "n1"), "01"),
            (Filter.eq("status", Status.PAID), "13"),
            (Filter.eq("status", "paid"), "13"),
            (Filter.in_("rank", [Rank.HIGH]), "4"),
            (Filter.gt("rank", Rank.LOW), "4"),
            (Filter.eq("is_gift", True), "0"),  # noqa: FBT003 - a value to compare with
            (Filter.ne("is_gift", True), "1234"),  # noqa: FBT003 - as above
            (Filter.gt("placed_at", NOON + timedelta(hours=1)), "34"),
            (Filter.lte("due", date(2026, 1, 2)), "01"),
            (Filter.eq("invoice", UUID(int=3)), "3"),
            (Filter.lt("invoice", str(UUID(int=2))), "01"),
            (Filter.in_("weight", [0.1 + 0.2, 2.0]), "2"),
            (Filter.in_("weight", []), ""),
            (Filter.not_in("weight", []), "01234"),
            (Filter.any_of(Filter.in_("weight", []), Filter.in_("total", []), Filter.eq("count", 1)), "1"),
            (Filter.not_in("total", []), "01234"),
            (Filter.gt("weight", 2), "34"),
            (Filter.in_("total", [Decimal("1.50"), 4]), "14"),
            (Filter.eq("total", Decimal("1.50")), "1"),
            (Filter.not_in("total", [Decimal("1.5")]), "0234"),
            (Filter.eq("customer", "' or 1=1 --"), ""),
            (Filter.gte("id", "3"), "34"),
            (Filter.any_of(Filter.eq("count", 0), Filter.is_null("note"), Filter.eq("count", 99)), "034"),
            (Filter.is_null("extra"), "01234"),
        ],
    )
    async def test_a_filter_finds_what_it_says(self, store: Any, given: Any, found: str) -> None:
        repo = await self.filled(
            store,
            [
                {
                    "count": n,
                    "note": f"n{n}" if n < 3 else None,
                    "status": Status.PAID if n % 2 else Status.OPEN,
                    "rank": {0: Rank.LOW, 4: Rank.HIGH}.get(n),
                    "is_gift": n == 0,
                    "placed_at": NOON + timedelta(hours=1 if n == 2 else n),
                    "due": date(2026, 1, 1 + n),
                    "invoice": UUID(int=n),
                    "weight": float(n),
                    "total": Decimal(n) * Decimal("1.5") if n == 1 else Decimal(n),
                }
                for n in range(5)
            ],
        )

        assert "".join(await self.ids(repo, given)) == found

    async def test_filters_hold_together(self, store: Any) -> None:
        repo = await self.filled(store, [{"count": n, "customer": "ab"[n % 2]} for n in range(10)])
        either = Filter.any_of(Filter.eq("count", 3), Filter.gt("count", 6))

        assert await self.ids(repo, either, Filter.eq("customer", "b")) == ["3", "7", "9"]

    async def test_texts_are_ordered_by_code_point(self, store: Any) -> None:
        repo = await self.filled(store, [{"customer": text} for text in TEXTS])

        found = [model.customer for model in await repo.find(ReadModelQuery(order_by="customer"))]

        assert found == sorted(TEXTS)
        assert len(await self.ids(repo, Filter.gt("customer", "a"))) == sum(text > "a" for text in TEXTS)

    async def test_decimals_are_ordered_by_value(self, store: Any) -> None:
        repo = await self.filled(store, [{"total": number} for number in reversed(DECIMALS)])

        found = [model.total for model in await repo.find(ReadModelQuery(order_by="total"))]

        assert found == DECIMALS
        for number in DECIMALS:
            assert len(await self.ids(repo, Filter.lt("total", number))) == DECIMALS.index(number)

    async def test_none_is_the_smallest(self, store: Any) -> None:
        repo = await self.filled(store, [{"note": note} for note in ("b", None, "a", None)])

        assert await self.ids(repo, order_by="note") == ["1", "3", "2", "0"]
        assert await self.ids(repo, order_by="-note") == ["0", "2", "3", "1"]
        assert await self.ids(repo, order_by="note", order_direction="desc") == ["0", "2", "3", "1"]

    async def test_several_fields_order_with_the_id_behind_them(self, store: Any) -> None:
        repo = await self.filled(store, [{"count": n // 3, "customer": "ba"[n % 2]} for n in range(6)])

        assert await self.ids(repo, order_by=("-count", "customer")) == ["3", "5", "4", "1", "0", "2"]
        assert await self.ids(repo, order_by=("-count", "customer", "-id")) == ["5", "3", "4", "1", "2", "0"]
        assert await self.ids(repo) == ["0", "1", "2", "3", "4", "5"]

    async def test_limit_and_offset_cut_the_order(self, store: Any) -> None:
        repo = await self.filled(store, [{"count": n} for n in range(6)])

        assert await self.ids(repo, order_by="-count", limit=2) == ["5", "4"]
        assert await self.ids(repo, limit=2, offset=3) == ["3", "4"]
        assert await self.ids(repo, offset=5) == ["5"]

    @pytest.mark.parametrize(
        "order_by", ["note", "-note", ("count", "-note"), ("-note", "total"), ("-count", "-id"), None, "placed_at"]
    )
    async def test_pages_give_every_row_once_and_in_order(self, store: Any, order_by: Any) -> None:
        rows = [
            {
                "count": n % 3,
                "note": [None, "a", "b", "ä"][n % 4],
                "total": Decimal(n % 5) / 4,
                "placed_at": None if n % 3 else NOON + timedelta(microseconds=n),
            }
            for n in range(23)
        ]
        repo = await self.filled(store, rows)
        everything = await self.ids(repo, order_by=order_by)

        for limit in (1, 4, 23):
            pages = await self.pages(repo, order_by=order_by, limit=limit)
            assert [each for page in pages for each in page] == everything
            assert all(len(page) <= limit for page in pages)
            assert len(pages) == -(-23 // limit)

    async def test_a_page_goes_on_where_it_was_though_rows_come_and_go(self, store: Any) -> None:
        repo = await self.filled(store, [{"count": n * 10} for n in range(6)])
        query = ReadModelQuery(order_by="count", limit=2)
        first = await repo.find_page(query)
        await repo.save(Order(id="new before", count=5))
        await repo.save(Order(id="new behind", count=25))
        await repo.delete("1")
        await repo.delete("2")

        second = await repo.find_page(ReadModelQuery(order_by="count", limit=2, after=first.cursor))

        assert [model.id for model in first.items] == ["0", "1"]
        assert [model.id for model in second.items] == ["new behind", "3"]

    async def test_a_cursor_of_another_query_is_refused(self, store: Any) -> None:
        repo = await self.filled(store, [{"count": n} for n in range(6)])
        cursor = (await repo.find_page(ReadModelQuery(order_by="count", limit=2))).cursor
        assert cursor is not None
        others: list[dict[str, Any]] = [
            {"order_by": "-count"},
            {"order_by": ("count", "-id")},
            {"order_by": "count", "filters": [Filter.gt("count", 1)]},
            {"order_by": "count", "include_deleted": True},
            {},
        ]
        for options in others:
            with pytest.raises(InvalidCursorError):
                await repo.find(ReadModelQuery(after=cursor, limit=2, **options))
        wrong: Any
        for wrong in ("", "x", cursor[:-2], cursor + "AA", "A" + cursor[1:], cursor * 2, "ä", 17, "x" * 200_000, b"a"):
            with pytest.raises(InvalidCursorError):
                await repo.find(ReadModelQuery(order_by="count", after=wrong, limit=2))

    @pytest.mark.parametrize(
        "query",
        [
            ReadModelQuery(filters=[Filter.eq("nobody", 1)]),
            ReadModelQuery(filters=[Filter.eq('"; drop table x; --', 1)]),
            ReadModelQuery(filters=[Filter("count", "like", 1)]),
            ReadModelQuery(filters=[Filter("count", None, 1)]),  # type: ignore[arg-type]  # that is what is wrong
            ReadModelQuery(filters=[Filter.eq("count", "1")]),
            ReadModelQuery(filters=[Filter.eq("customer", "a\x00")]),
            ReadModelQuery(filters=[Filter.gt("weight", float("nan"))]),
            ReadModelQuery(filters=[Filter.gt("note", None)]),
            ReadModelQuery(filters=[Filter.in_("note", ["a", None])]),
            ReadModelQuery(filters=[Filter.in_("note", "abc")]),
            ReadModelQuery(filters=[Filter.in_("count", range(10_001))]),
            ReadModelQuery(filters=[Filter.eq("extra", {})]),
            ReadModelQuery(filters=[Filter.any_of()]),
            ReadModelQuery(filters=["count"]),  # type: ignore[list-item]  # that is what is wrong with it
            ReadModelQuery(filters=[Filter.eq("count", 1)] * 101),
            ReadModelQuery(order_by="nobody"),
            ReadModelQuery(order_by="count desc; drop table x"),
            ReadModelQuery(order_by="lines"),
            ReadModelQuery(order_by=17),  # type: ignore[arg-type]  # that is what is wrong with it
            ReadModelQuery(order_direction="down"),  # type: ignore[arg-type]  # as above
            ReadModelQuery(limit=0),
            ReadModelQuery(limit=2**31),
            ReadModelQuery(limit=True),
            ReadModelQuery(offset=-1),
            ReadModelQuery(tenant_id="ann"),
            "select",
        ],
    )
    async def test_a_query_that_makes_no_sense_is_refused(self, store: Any, query: Any) -> None:
        repo = await self.orders(store)

        with pytest.raises(InvalidInputError):
            await repo.find(query)

    async def test_many_values_are_one_condition(self, store: Any) -> None:
        repo = await self.filled(store, [{"count": n, "weight": n / 10} for n in range(20)])

        assert len(await self.ids(repo, Filter.in_("count", range(10_000)))) == 20
        assert len(await self.ids(repo, Filter.in_("weight", [n / 10 for n in range(5_000)]))) == 20
