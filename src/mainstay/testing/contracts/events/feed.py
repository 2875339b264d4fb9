"""The feed: one order over all streams, of which nobody misses anything."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from typing import Any

import pytest

from mainstay.events.log import PAGE, EventLog
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import (
    PATIENCE,
    EventLogSuite,
    exact,
    ids,
    positions,
    rolled_back,
    stream,
)


class FeedContract(EventLogSuite):
    """Reading the feed while others append."""

    async def test_an_empty_log_has_an_empty_feed(self, log: EventLog) -> None:
        page = await log.read_feed()

        assert (page.events, page.position, page.horizon) == ([], 0, 0)
        assert (await log.horizon()).position == 0
        assert await log.event_at(0) is None
        assert await log.event_at(1) is None

    async def test_the_feed_is_read_page_by_page(self, log: EventLog) -> None:
        for _ in range(5):
            await self.written(log, 3)
        whole = await self.feed(log)

        assert len(whole) == 15
        for limit in (1, 2, 7, 15, 16):
            assert await self.feed(log, limit=limit) == whole
        for each in whole:
            assert await self.feed(log, after=each.position, limit=4) == [
                e for e in whole if e.position > each.position
            ]

    async def test_a_page_has_a_usual_size(self, log: EventLog) -> None:
        await self.written(log, PAGE + 5)
        page = await log.read_feed()

        assert len(page.events) == PAGE
        assert page.position == page.events[-1].position
        assert len((await log.read_feed(after=page.position)).events) == 5

    async def test_beyond_the_horizon_nothing_is_found_and_nobody_is_sent_back(self, log: EventLog) -> None:
        await self.written(log, 2)
        horizon = (await log.horizon()).position
        page = await log.read_feed(after=horizon + 1_000)

        assert (page.events, page.position, page.horizon) == ([], horizon + 1_000, horizon)

    async def test_the_horizon_is_the_last_event_when_nothing_is_open(self, log: EventLog) -> None:
        first = await log.horizon()
        answer = await self.appended(log, stream(), 3)
        second = await log.horizon()

        assert second.position == answer.position
        assert first.epoch == second.epoch

    async def test_an_event_is_found_by_its_position(self, log: EventLog) -> None:
        await self.written(log, 3)
        for each in await self.feed(log):
            assert await log.event_at(each.position) == each
        horizon = (await log.horizon()).position
        assert await log.event_at(horizon + 1) is None

    async def test_what_an_open_transaction_has_appended_is_not_in_the_feed(self, log: EventLog) -> None:
        async with log.transaction() as tx:
            answer = await self.appended(log, stream(), 2, conn=tx)
            assert answer.position is not None
            page = await log.read_feed()
            at = await log.event_at(answer.position)

        assert (page.events, at) == ([], None)
        assert page.position < answer.position - 1
        assert len((await log.read_feed(after=page.position)).events) == 2

    @pytest.mark.parametrize("commits", [True, False])
    async def test_nothing_is_skipped_behind_an_open_transaction(self, log: EventLog, *, commits: bool) -> None:
        name, other = await self.written(log), await self.written(log)
        async with log.transaction() if commits else rolled_back(log) as tx:
            await self.appended(log, name, 2, conn=tx)
            later = await self.beside(self.appended(log, other, 2))
            first = await log.read_feed()
            await self.appended(log, name, 1, conn=tx)
            second = await log.read_feed(after=first.position, limit=1)
            between = [*first.events, *second.events]
            assert not [each for each in between if each.stream == name and each.version > 1]
        async with asyncio.timeout(PATIENCE):
            await later
        rest = await self.feed(log, after=second.position)

        assert [*first.events, *second.events, *rest] == await self.feed(log)
        assert len(between) + len(rest) == (7 if commits else 4)

    async def test_the_horizon_never_goes_back(self, log: EventLog) -> None:
        seen = []
        for _ in range(3):
            async with log.transaction() as tx:
                await self.appended(log, stream(), 1, conn=tx)
                seen.append((await log.horizon()).position)
                later = await self.beside(self.written(log))
                seen.append((await log.horizon()).position)
            seen.append((await log.horizon()).position)
            async with asyncio.timeout(PATIENCE):
                await later

        assert seen == sorted(seen)

    async def test_a_transaction_that_has_not_appended_holds_nobody_back(self, log: EventLog) -> None:
        if not self.side_by_side:
            pytest.skip("another writer waits for an open transaction here")
        name = await self.written(log)
        async with log.transaction() as tx:
            await log.read_stream(name, conn=tx)
            answer = await self.appended(log, stream())
            page = await log.read_feed()

        assert page.horizon == answer.position
        assert len(page.events) == 2

    async def test_who_appends_after_having_seen_an_event_gets_a_higher_position(self, log: EventLog) -> None:
        mine = await self.written(log)
        async with log.transaction() as tx:
            early = await self.appended(log, mine, 1, conn=tx)
            later = await self.beside(self.appended(log, stream()))
            last = await self.appended(log, mine, 1, conn=tx)
        async with asyncio.timeout(PATIENCE):
            other = await later
        follower = await self.appended(log, stream())

        assert early.position is not None
        assert last.position is not None
        assert other.position is not None
        assert follower.position is not None
        assert early.position < min(last.position, other.position)
        assert max(last.position, other.position) < follower.position
        if self.side_by_side:
            assert other.position < last.position

    async def test_a_stream_is_in_the_feed_in_the_order_of_its_versions(self, log: EventLog) -> None:
        name = await self.written(log)
        async with log.transaction() as early:
            # On PostgreSQL a number for the transaction itself is drawn here, and others append before it does.
            await self.appended(log, await self.written_in(log, early), 1, conn=early)
            later = await self.beside(self.appended(log, name, 2, exact(1)))
            if self.side_by_side:
                await self.appended(log, name, 2, exact(3), early)
        async with asyncio.timeout(PATIENCE):
            await later
        found = [each for each in await self.feed(log) if each.stream == name]

        assert [each.version for each in found] == list(range(1, len(found) + 1))
        assert positions(found) == sorted(positions(found))

    async def written_in(self, log: EventLog, conn: Any) -> StreamId:
        """A new stream, begun in a transaction."""
        name = stream()
        await self.appended(log, name, 1, conn=conn)
        return name

    async def test_who_has_appended_and_not_committed_is_seen_to_hold_the_feed_back(self, log: EventLog) -> None:
        async with log.transaction() as tx:
            assert await log.held_back() == 0
            await self.appended(log, stream(), conn=tx)
            self.pass_time(log)
            if self.side_by_side:
                assert await log.held_back() > 0
        assert await log.held_back() == 0

    # -- waiting ------------------------------------------------------------------------------------------------------
    async def test_who_waits_is_told_how_far_the_feed_goes(self, log: EventLog) -> None:
        answer = await self.appended(log, stream(), 2)
        assert answer.position is not None

        assert await log.wait_beyond(0, timeout=PATIENCE) == answer.position
        assert await log.wait_beyond(answer.position - 1, timeout=PATIENCE) == answer.position
        assert await log.wait_beyond(answer.position, timeout=0) == answer.position

    async def test_who_waits_wakes_when_something_is_committed(self, log: EventLog) -> None:
        before = (await log.horizon()).position
        async with asyncio.timeout(PATIENCE):
            waiting = asyncio.create_task(log.wait_beyond(before, timeout=PATIENCE))
            async with log.transaction() as tx:
                answer = await self.appended(log, stream(), conn=tx)
                await self.let_others(log)
                assert not waiting.done()
            assert await waiting == answer.position

    async def test_who_watches_is_woken_too_and_so_is_everybody_else(self, log: EventLog) -> None:
        async with log.watching(), asyncio.timeout(PATIENCE):
            async with log.watching():
                pass
            for _ in range(3):
                before = (await log.horizon()).position
                waiting = [asyncio.create_task(log.wait_beyond(before, timeout=PATIENCE)) for _ in range(3)]
                await self.let_others(log)
                answer = await self.appended(log, stream())
                assert await asyncio.gather(*waiting) == [answer.position] * 3
                assert await log.wait_beyond(before, timeout=0) == answer.position

    async def test_whose_time_is_over_has_looked(self, log: EventLog) -> None:
        async with log.watching():
            answer = await self.appended(log, stream())
            assert answer.position is not None
            assert await log.wait_beyond(answer.position, timeout=0) == answer.position
            assert await log.wait_beyond(answer.position, timeout=0.01) == answer.position

    async def test_what_was_committed_before_is_read_after(self, log: EventLog) -> None:
        names = [stream() for _ in range(5)]
        seen = 0
        for name in names:
            await self.appended(log, name)
            page = await log.read_feed(after=seen)
            assert [each.stream for each in page.events] == [name]
            seen = page.position

        assert len(set(ids(await self.feed(log)))) == 5
