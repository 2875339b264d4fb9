"""The ends of a stream: the archive, from which it can come back, and the tombstone."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from dataclasses import replace
from uuid import uuid4

import pytest

from mainstay.errors import (
    MainstayError,
    OptimisticLockError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
)
from mainstay.events.log import EventLog, StreamAppend, StreamState
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import (
    EventLogSuite,
    any_version,
    exact,
    given,
    new,
    no_stream,
    rolled_back,
    stream,
)


class EndingContract(EventLogSuite):
    """Archiving and tombstones."""

    async def tombstoned(self, log: EventLog, name: StreamId, **changes: str) -> StreamState:
        """Tombstone a stream for the usual reason."""
        return await log.tombstone(name, **{"reason": "the customer asked for it", "actor": "ada"} | changes)

    async def is_closed(self, log: EventLog, name: StreamId, error: type[MainstayError]) -> None:
        """See that a stream takes no events, by no way, whatever is expected."""
        before = await self.feed(log)
        for expected in (any_version, exact(1), exact(7), no_stream):
            with pytest.raises(error) as caught:
                await self.appended(log, name, 1, expected)
            assert getattr(caught.value, "stream", None) == name
        with pytest.raises(error):
            await log.append([StreamAppend(stream(), (new(),)), StreamAppend(name, (new(),))])
        with pytest.raises(error):
            await log.import_events(given([(stream(), new()), (name, new())]))
        assert await self.feed(log) == before

    # -- tombstones ---------------------------------------------------------------------------------------------------
    async def test_a_tombstone_leaves_no_more_than_that_there_was_something(self, log: EventLog) -> None:
        name, other = stream(), await self.written(log, 2)
        full = new(
            "Placed",
            "a",
            "b",
            metadata={"ip": "10.0.0.1"},
            correlation_id=uuid4(),
            causation_id=uuid4(),
            actor_id="bob",
            event_version=3,
        )
        await self.appended(log, name, [full, new("Paid", "c")])
        before = await self.feed(log)
        state = await self.tombstoned(log, name)
        after = await self.feed(log)

        assert (state.stream, state.version, state.tombstoned) == (name, 2, True)
        assert (state.reason, state.actor) == ("the customer asked for it", "ada")
        assert await log.stream_state(name) == state
        assert after == [
            each
            if each.stream == other
            else replace(each, event=replace(each.event, payload=b"{}", metadata=None, tags=()), tombstoned=True)
            for each in before
        ]
        assert await log.event_at(after[-1].position) == after[-1]

    async def test_a_tombstone_gives_no_events(self, log: EventLog) -> None:
        name, other = await self.written(log, 2), await self.written(log, 2)
        await self.tombstoned(log, name)

        with pytest.raises(StreamTombstonedError) as caught:
            await log.read_stream(name)
        assert caught.value.stream == name
        with pytest.raises(StreamTombstonedError):
            await log.read_stream(name, after_version=2, backwards=True)
        with pytest.raises(StreamTombstonedError) as caught:
            await log.read_streams([(other, 0), (name, 2)])
        assert caught.value.stream == name
        assert len(await log.read_stream(other)) == 2

    async def test_a_tombstone_takes_no_events(self, log: EventLog) -> None:
        name = await self.written(log)
        await self.tombstoned(log, name)

        await self.is_closed(log, name, StreamTombstonedError)

    async def test_a_tombstone_stays_as_it_was_made(self, log: EventLog) -> None:
        name = await self.written(log)
        first = await self.tombstoned(log, name)

        assert await self.tombstoned(log, name, reason="another", actor="bob") == first
        for archived in (True, False):
            with pytest.raises(StreamTombstonedError):
                await log.archive(name, archived=archived)
        assert await log.stream_state(name) == first

    async def test_an_archived_stream_can_get_a_tombstone(self, log: EventLog) -> None:
        name = await self.written(log)
        await log.archive(name)
        state = await self.tombstoned(log, name)

        assert state.tombstoned
        await self.is_closed(log, name, StreamTombstonedError)

    async def test_a_tombstone_is_set_when_its_transaction_commits(self, log: EventLog) -> None:
        name = stream()
        async with log.transaction() as tx:
            await self.appended(log, name, 2, conn=tx)
            await log.tombstone(name, reason="a test", actor="ada", conn=tx)
            with pytest.raises(StreamTombstonedError):
                await log.read_stream(name, conn=tx)
        kept = await self.written(log)
        async with rolled_back(log) as tx:
            await log.tombstone(kept, reason="a test", actor="ada", conn=tx)
            assert len(await log.read_stream(kept)) == 1

        assert [each.tombstoned for each in await self.feed(log)] == [True, True, False]
        assert len(await log.read_stream(kept)) == 1

    # -- the archive --------------------------------------------------------------------------------------------------
    async def test_an_archived_stream_gives_events_and_takes_none(self, log: EventLog) -> None:
        name = await self.written(log, 2)
        events = await log.read_stream(name)
        state = await log.archive(name)

        assert (state.archived, state.tombstoned, state.version) == (True, False, 2)
        assert await log.stream_state(name) == state
        assert await log.archive(name) == state
        assert await log.read_stream(name) == events
        await self.is_closed(log, name, StreamArchivedError)

    async def test_an_archived_stream_can_be_opened_again(self, log: EventLog) -> None:
        name = await self.written(log, 2)
        await log.archive(name)
        state = await log.archive(name, archived=False)

        assert not state.archived
        assert await log.archive(name, archived=False) == state
        assert (await self.appended(log, name, 1, exact(2))).version == 3

    async def test_a_guard_may_look_at_a_closed_stream(self, log: EventLog) -> None:
        name = await self.written(log, 2)
        for close in (log.archive(name), self.tombstoned(log, name)):
            await close
            answer, _ = await log.append([StreamAppend(name, (), exact(2)), StreamAppend(stream(), (new(),))])
            assert answer.version == 2
            with pytest.raises(OptimisticLockError):
                await log.append([StreamAppend(name, (), exact(1)), StreamAppend(stream(), (new(),))])

    async def test_a_stream_that_was_never_written_has_no_end(self, log: EventLog) -> None:
        name = stream()
        for asked in (self.tombstoned(log, name), log.archive(name), log.archive(name, archived=False)):
            with pytest.raises(StreamNotFoundError) as caught:
                await asked
            assert caught.value.stream == name
        assert await log.stream_state(name) is None

    async def test_of_one_append_the_closed_stream_is_named_before_a_later_conflict(self, log: EventLog) -> None:
        closed, moved = await self.written(log), await self.written(log, 2)
        await log.archive(closed)
        first, second = StreamAppend(closed, (new(),)), StreamAppend(moved, (new(),), exact(1))

        with pytest.raises(StreamArchivedError):
            await log.append([first, second])
        with pytest.raises(OptimisticLockError):
            await log.append([second, first])
