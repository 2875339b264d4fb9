"""Importing very many events."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from collections.abc import AsyncIterator

import pytest

from mainstay.errors import InvalidInputError
from mainstay.events.log import MOST_EVENTS, EventLog, NewEvent
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import (
    EventLogSuite,
    OnPurposeError,
    given,
    ids,
    new,
    plain,
    rolled_back,
    several,
    stream,
)


class ImportingContract(EventLogSuite):
    """Importing."""

    async def test_an_import_keeps_the_order_in_which_events_come(self, log: EventLog) -> None:
        old, first, second = await self.written(log, 3), stream(), StreamId("Order", "1", "a tenant")
        pairs = [(name, new("Placed", "a", payload={"n": n})) for n in range(20) for name in (first, old, second)]

        assert await log.import_events(given(pairs)) == 60
        feed = (await self.feed(log))[3:]

        assert [each.stream for each in feed] == [name for name, _ in pairs]
        assert [plain(each.event) for each in feed] == [plain(event) for _, event in pairs]
        assert [each.version for each in feed if each.stream == old] == list(range(4, 24))

    async def test_an_import_may_hold_more_than_an_append(self, log: EventLog) -> None:
        names = [stream() for _ in range(7)]
        pairs = [(names[n % 7], event) for n, event in enumerate(several(MOST_EVENTS + 100))]

        assert await log.import_events(given(pairs)) == MOST_EVENTS + 100
        assert ids(await self.feed(log)) == ids(event for _, event in pairs)

    async def test_an_import_of_nothing_is_nothing(self, log: EventLog) -> None:
        assert await log.import_events(given([])) == 0
        assert (await log.horizon()).position == 0

    async def test_an_import_that_fails_leaves_nothing(self, log: EventLog) -> None:
        old, fresh = await self.written(log), stream()

        async def ends_badly() -> AsyncIterator[tuple[StreamId, NewEvent]]:
            for _ in range(1_500):
                yield old, new()
                yield fresh, new()
            raise OnPurposeError

        with pytest.raises(OnPurposeError):
            await log.import_events(ends_badly())
        with pytest.raises(InvalidInputError):
            await log.import_events(given([(fresh, new()), (old, new(payload=b"[]"))]))

        assert len(await self.feed(log)) == 1
        assert await log.stream_state(fresh) is None
        assert (await self.appended(log, old)).version == 2

    async def test_an_import_belongs_to_the_callers_transaction(self, log: EventLog) -> None:
        name, gone = stream(), stream()
        async with log.transaction() as tx:
            await self.appended(log, name, 2, conn=tx)
            await log.import_events(given([(name, new()), (name, new())]), conn=tx)
            assert (await self.appended(log, name, 1, conn=tx)).version == 5
            assert await log.read_stream(name) == []
        async with rolled_back(log) as tx:
            await log.import_events(given([(gone, new())]), conn=tx)

        assert len(await log.read_stream(name)) == 5
        assert await log.stream_state(gone) is None

    async def test_nothing_in_an_import_is_taken_for_repeated(self, log: EventLog) -> None:
        name, event = stream(), new()
        await log.import_events(given([(name, event)]))
        await log.import_events(given([(name, event)]))

        assert ids(await log.read_stream(name)) == [event.event_id, event.event_id]
