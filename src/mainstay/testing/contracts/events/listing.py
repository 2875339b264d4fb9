"""Listing streams."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from uuid import UUID

from mainstay.events.log import EventLog
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import EventLogSuite, rolled_back, stream

TENANT = UUID("2f0e6a52-0000-4000-8000-000000000001")

#: In the order of code points, which is not that of a dictionary.
IN_ORDER = [
    StreamId("Cart", "1"),
    StreamId("Order", "1"),
    StreamId("Order", "10"),
    StreamId("Order", "2"),
    StreamId("Order", UUID("2f0e6a52-0000-4000-8000-000000000009")),
    StreamId("Order", "B"),
    StreamId("Order", "a"),
    StreamId("Order", "~"),
    StreamId("Order", "Ä"),
    StreamId("Order", "\uffe6"),
    StreamId("Order", "\U0001f40d"),
    StreamId("Order", "1", TENANT),
    StreamId("Order", "2", TENANT),
    StreamId("Order", "0", "a tenant"),
    StreamId("order", "1"),
    StreamId("order", "1", "a tenant"),
]


class ListingContract(EventLogSuite):
    """Listing streams."""

    async def filled(self, log: EventLog) -> None:
        """All of them, the last first, with as many events as their number."""
        for number, name in reversed(list(enumerate(IN_ORDER, 1))):
            await self.appended(log, name, number)

    async def test_streams_are_listed_in_the_order_of_category_tenant_and_id(self, log: EventLog) -> None:
        await self.filled(log)
        found = await log.streams()

        assert [state.stream for state in found] == IN_ORDER
        assert [state.version for state in found] == list(range(1, len(IN_ORDER) + 1))
        for state in found:
            assert await log.stream_state(state.stream) == state

    async def test_streams_are_listed_page_by_page(self, log: EventLog) -> None:
        await self.filled(log)
        for limit in (1, 3, len(IN_ORDER)):
            assert [state.stream for state in await self.known(log, limit=limit)] == IN_ORDER
        for place, name in enumerate(IN_ORDER):
            assert [state.stream for state in await log.streams(after=name, limit=2)] == IN_ORDER[place + 1 : place + 3]

    async def test_only_the_streams_of_a_category_or_a_tenant_are_listed(self, log: EventLog) -> None:
        await self.filled(log)

        async def found(**asked: object) -> list[StreamId]:
            return [state.stream for state in await self.known(log, limit=2, **asked)]

        assert await found(category="Cart") == IN_ORDER[:1]
        assert await found(category="Order") == IN_ORDER[1:14]
        assert await found(category="nothing") == []
        assert await found(tenant_id=TENANT) == await found(tenant_id=str(TENANT)) == IN_ORDER[11:13]
        assert await found(tenant_id="a tenant") == [IN_ORDER[13], IN_ORDER[15]]
        assert await found(category="order", tenant_id="a tenant") == [IN_ORDER[15]]

    async def test_only_the_streams_whose_ids_begin_so_are_listed(self, log: EventLog) -> None:
        await self.filled(log)

        async def found(prefix: str, **asked: object) -> list[StreamId]:
            return [state.stream for state in await self.known(log, limit=2, prefix=prefix, **asked)]

        assert await found("2") == [IN_ORDER[3], IN_ORDER[4], IN_ORDER[12]]
        assert await found("1", category="Order") == [*IN_ORDER[1:3], IN_ORDER[11]]
        assert await found("1", tenant_id=TENANT) == [IN_ORDER[11]]
        assert await found("2f0e6a52-") == [IN_ORDER[4]]
        assert await found("\U0001f40d") == [IN_ORDER[10]]
        assert await found("%") == await found("_") == await found("21") == []

    async def test_the_place_of_a_stream_that_is_none_is_a_place_too(self, log: EventLog) -> None:
        await self.filled(log)

        assert [state.stream for state in await log.streams(after=StreamId("Order", "11"), limit=1)] == [IN_ORDER[3]]

    async def test_streams_of_open_transactions_are_not_listed(self, log: EventLog) -> None:
        async with rolled_back(log) as tx:
            await self.appended(log, stream(), 1, conn=tx)
            assert await log.streams() == []

        assert await log.streams() == []

    async def test_closed_streams_are_listed_as_what_they_are(self, log: EventLog) -> None:
        archived, gone = await self.written(log, category="A"), await self.written(log, category="B")
        states = [await log.archive(archived), await log.tombstone(gone, reason="a test", actor="ada")]

        assert await log.streams() == states
