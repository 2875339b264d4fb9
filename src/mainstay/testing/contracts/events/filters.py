"""Reading a part of the feed."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from uuid import UUID

import pytest

from mainstay.events.log import EventLog, FeedFilter, Query, RecordedEvent
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import EventLogSuite, new, positions, stream
from mainstay.testing.contracts.events.conditions import asked

TENANT = UUID(int=9)


def only(types: str | None = None, categories: str | None = None, **more: object) -> FeedFilter:
    """A filter whose sets are written with spaces."""
    return FeedFilter(
        types=None if types is None else frozenset(types.split()),
        categories=None if categories is None else frozenset(categories.split()),
        **more,  # type: ignore[arg-type]  # tenant_id and query
    )


#: A filter, and what it lets through of `written_for_filters`: the numbers of the events.
FILTERS: list[tuple[FeedFilter, list[int]]] = [
    (FeedFilter(), [1, 2, 3, 4, 5, 6]),
    (only(types="Placed"), [1, 3, 5]),
    (only(types="Paid Sent"), [2, 4, 6]),
    (only(types="placed"), []),
    (only(types=""), []),
    (only(categories="Order"), [1, 2, 5, 6]),
    (only(categories="Order Cart"), [1, 2, 3, 4, 5, 6]),
    (only(categories=""), []),
    (only(tenant_id=TENANT), [5, 6]),
    (only(tenant_id=str(TENANT)), [5, 6]),
    (only(tenant_id="other"), []),
    (only("Placed", "Order"), [1, 5]),
    (only("Placed", "Order", tenant_id=TENANT), [5]),
    (only(query=Query((asked(tags="a"),))), [1, 2, 4]),
    (only(query=Query((asked(tags="a b"),))), [2, 4]),
    (only(query=Query((asked("Paid", "a"),))), [2]),
    (only(query=Query((asked("Paid Placed"),))), [1, 2, 3, 5]),
    (only(query=Query((asked("Placed", "a"), asked(tags="c"), asked("Sent")))), [1, 4, 5, 6]),
    (only(query=Query()), [1, 2, 3, 4, 5, 6]),
    (only("Placed", query=Query((asked(tags="a"),))), [1]),
    (only(categories="Cart", query=Query((asked(tags="a"),))), [4]),
    (only(tenant_id=TENANT, query=Query((asked(tags="c"),))), [5]),
]


class FilterContract(EventLogSuite):
    """Reading a part of the feed."""

    async def written_for_filters(self, log: EventLog) -> list[RecordedEvent]:
        """Six events in three streams."""
        order, cart, tenants = stream(), stream("Cart"), StreamId("Order", "x", TENANT)
        for name, event in (
            (order, new("Placed", "a")),
            (order, new("Paid", "a", "b")),
            (cart, new("Placed")),
            (cart, new("Sent", "b", "c", "a")),
            (tenants, new("Placed", "c")),
            (tenants, new("Sent")),
        ):
            await self.appended(log, name, [event])
        return await self.feed(log)

    @pytest.mark.parametrize(("wanted", "numbers"), FILTERS)
    async def test_a_filter_lets_through_what_fits_all_that_it_says(
        self, log: EventLog, wanted: FeedFilter, numbers: list[int]
    ) -> None:
        everything = await self.written_for_filters(log)
        expected = [everything[number - 1] for number in numbers]

        for limit in (1, 2, 100):
            assert await self.feed(log, wanted=wanted, limit=limit) == expected
        for after in positions(everything):
            found = await self.feed(log, wanted=wanted, after=after, limit=2)
            assert found == [each for each in expected if each.position > after]

    async def test_a_filter_that_finds_nothing_brings_its_reader_to_the_horizon(self, log: EventLog) -> None:
        await self.written_for_filters(log)
        page = await log.read_feed(wanted=only(types="Never"), limit=1)

        assert page.events == []
        assert page.position == page.horizon == (await log.horizon()).position

    async def test_a_filter_sees_what_is_written_after_it_found_nothing(self, log: EventLog) -> None:
        await self.written_for_filters(log)
        wanted = only(types="Late")
        position = (await log.read_feed(wanted=wanted)).position
        await self.appended(log, stream(), [new("Late"), new("Other"), new("Late")])
        page = await log.read_feed(after=position, wanted=wanted)

        assert [each.version for each in page.events] == [1, 3]

    async def test_archived_streams_can_be_left_out(self, log: EventLog) -> None:
        first, second = await self.written(log, 2), await self.written(log, 2)
        whole = await self.feed(log)
        await log.archive(first)

        for limit in (1, 3, 100):
            assert await self.feed(log, limit=limit) == whole
            assert await self.feed(log, limit=limit, archived=False) == [e for e in whole if e.stream == second]
        await log.archive(first, archived=False)
        assert await self.feed(log, archived=False) == whole
