"""The log in memory: the plainest reading of `EventLog`, for tests that need no server, and to compare others with.

Transactions run side by side, as they do on a server. A transaction works on copies of the streams that it touches and
owns those streams until it ends; another that wants one of them waits. Positions are given out when events are
appended, so a transaction that is still open may hold a low position while a later one has committed a higher one:
the horizon stops before the lowest position that any open transaction holds. A condition waits for open transactions
that have appended what it must not find, because they may still roll back.

How it fails. Two transactions that wait for each other would wait for ever; the one that would close the circle gets a
`StorageError` instead. Nothing survives the process. One event loop only.
"""

import asyncio
from bisect import bisect_right, insort
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from mainstay.clock import Clock, SystemClock
from mainstay.errors import (
    AppendConditionError,
    ConfigurationError,
    StorageError,
    StreamNotFoundError,
    StreamTombstonedError,
)
from mainstay.events import checks
from mainstay.events.decisions import Standing, fits, forbids, refuse_closed, refuse_unexpected, repeated, window
from mainstay.events.log import (
    EVERYTHING,
    PAGE,
    Appended,
    Condition,
    FeedFilter,
    FeedPage,
    Horizon,
    NewEvent,
    Part,
    RecordedEvent,
    StreamAppend,
    StreamState,
)
from mainstay.events.stream import StreamId
from mainstay.tenancy import checked_tenant


@dataclass(slots=True)
class _Stream:
    """A stream: what is known of it, and its events."""

    state: StreamState
    events: list[RecordedEvent]


@dataclass(slots=True, eq=False)
class _Transaction:
    """Copies of the streams that it owns, and what it has appended."""

    began: datetime
    streams: dict[StreamId, _Stream] = field(default_factory=dict)
    positions: list[int] = field(default_factory=list)
    waits_for: "_Transaction | None" = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def appended(self) -> Iterator[RecordedEvent]:
        """What it has appended, and nobody else can see yet."""
        mine = set(self.positions)
        return (event for stream in self.streams.values() for event in stream.events if event.position in mine)


class MemoryEventLog:
    """Events in memory.

    Args:
        clock: Where `RecordedEvent.recorded_at` comes from; the machine's unless given.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._epoch = uuid4()
        self._streams: dict[StreamId, _Stream] = {}
        self._feed: list[tuple[int, StreamId, int]] = []
        self._last = 0
        self._open: list[_Transaction] = []
        self._grown = asyncio.Event()

    # -- transactions -------------------------------------------------------------------------------------------------
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction of our own, to be passed as ``conn``."""
        return self._begun()

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[_Transaction]:
        mine = _Transaction(self._clock.now())
        self._open.append(mine)
        try:
            yield mine
            self._commit(mine)
        finally:
            self._open.remove(mine)
            mine.ended.set()
            self._grown.set()
            self._grown = asyncio.Event()

    @asynccontextmanager
    async def _within(self, conn: Any) -> AsyncIterator[_Transaction]:
        if conn is None:
            async with self._begun() as mine:
                yield mine
        else:
            yield self._checked(conn)

    @asynccontextmanager
    async def part(self, conn: Any = None) -> AsyncIterator[Part]:
        """A part of the caller's transaction, or a transaction of our own."""
        async with self._within(conn) as mine:
            if conn is None:
                yield Part(mine, None)
                return
            streams = {name: _Stream(each.state, list(each.events)) for name, each in mine.streams.items()}
            positions = list(mine.positions)
            try:
                yield Part(mine, None)
            except BaseException:
                mine.streams, mine.positions = streams, positions
                raise

    def _checked(self, conn: Any) -> _Transaction:
        if not any(conn is each for each in self._open):
            raise ConfigurationError("conn must be an open transaction of this log, from its transaction()")
        return conn  # type: ignore[no-any-return]  # it was found among ours

    def _commit(self, mine: _Transaction) -> None:
        self._streams.update(mine.streams)
        for event in mine.appended():
            insort(self._feed, (event.position, event.stream, event.version), key=_position)

    async def _own(self, mine: _Transaction, streams: Iterable[StreamId], condition: Condition | None = None) -> None:
        """Wait until no other transaction owns one of the streams, or may have appended what a condition forbids."""

        def blocks(other: _Transaction) -> bool:
            return not other.streams.keys().isdisjoint(wanted) or (
                condition is not None and any(forbids(condition, event) for event in other.appended())
            )

        wanted = set(streams)
        while blocker := next((other for other in self._open if other is not mine and blocks(other)), None):
            follower: _Transaction | None = blocker
            while follower is not None:
                if follower is mine:
                    raise StorageError("two transactions wait for each other (a deadlock); this one is to be retried")
                follower = follower.waits_for
            mine.waits_for = blocker
            try:
                await blocker.ended.wait()
            finally:
                mine.waits_for = None

    def is_held(self, stream: StreamId, *, but: Any = None) -> bool:
        """Whether an open transaction, but this one, owns a stream: who appends to it would wait."""
        return any(stream in each.streams for each in self._open if each is not but)

    async def hold(self, streams: Sequence[StreamId], *, conn: Any) -> None:
        """Own streams until a transaction ends; waits for those who do. What was never written is nobody's."""
        mine = self._checked(conn)
        await self._own(mine, streams)
        for each in streams:
            if self._found(each, mine) is not None:
                self._opened(each, mine)

    def _found(self, stream: StreamId, mine: _Transaction | None) -> _Stream | None:
        return (mine.streams.get(stream) if mine else None) or self._streams.get(stream)

    def _opened(self, stream: StreamId, mine: _Transaction) -> _Stream:
        """The transaction's copy of a stream."""
        if stream not in mine.streams:
            found = self._streams.get(stream) or _Stream(StreamState(stream, 0, mine.began), [])
            mine.streams[stream] = _Stream(found.state, list(found.events))
        return mine.streams[stream]

    # -- appending ----------------------------------------------------------------------------------------------------
    async def append(
        self, appends: Sequence[StreamAppend], *, condition: Condition | None = None, conn: Any = None
    ) -> list[Appended]:
        """Add events to streams, all or nothing."""
        checks.check_appends(appends)
        checks.check_condition(condition)
        async with self._within(conn) as mine:
            await self._own(mine, (append.stream for append in appends), condition)
            standings = [self._standing(append, mine) for append in appends]
            if answers := repeated(standings):
                return answers
            for standing in standings:
                if standing.append.events:
                    refuse_closed(standing.append.stream, standing.state)
                refuse_unexpected(standing)
            if condition is not None:
                self._refuse_forbidden(condition, mine)
            return [self._written(append, mine) for append in appends]

    def _standing(self, append: StreamAppend, mine: _Transaction) -> Standing:
        found = self._found(append.stream, mine)
        state, events = (found.state, found.events) if found else (None, [])
        first, last = window(append, len(events))
        there = {event.version: event for event in events[max(0, first - 1) : last]}
        places = {version: (event.event.event_id, event.position) for version, event in there.items()}
        return Standing(append, state, places)

    def _refuse_forbidden(self, condition: Condition, mine: _Transaction) -> None:
        committed = (
            self._at(entry) for entry in self._feed[bisect_right(self._feed, condition.after, key=_position) :]
        )
        for event in (*committed, *mine.appended()):
            if forbids(condition, event):
                raise AppendConditionError(event.position)

    def _written(self, append: StreamAppend, mine: _Transaction) -> Appended:
        if not append.events:
            found = self._found(append.stream, mine)
            return Appended(append.stream, len(found.events) if found else 0, None)
        for event in append.events:
            self._write(append.stream, event, mine)
        return Appended(append.stream, len(self._opened(append.stream, mine).events), self._last)

    def _write(self, name: StreamId, event: NewEvent, mine: _Transaction) -> None:
        stream = self._opened(name, mine)
        self._last += 1
        version = len(stream.events) + 1
        stream.events.append(RecordedEvent(self._last, name, version, mine.began, event))
        stream.state = replace(stream.state, version=version)
        mine.positions.append(self._last)

    async def import_events(self, events: AsyncIterator[tuple[StreamId, NewEvent]], *, conn: Any = None) -> int:
        """Append very many events, in the order given, in one transaction."""
        given = []
        async for stream, event in events:
            checks.check_stream(stream)
            checks.check_event(event)
            given.append((stream, event))
        async with self._within(conn) as mine:
            names = dict.fromkeys(stream for stream, _ in given)
            await self._own(mine, names)
            for name in names:
                found = self._found(name, mine)
                refuse_closed(name, found.state if found else None)
            for stream, event in given:
                self._write(stream, event, mine)
        return len(given)

    # -- reading a stream ---------------------------------------------------------------------------------------------
    async def read_stream(
        self,
        stream: StreamId,
        *,
        after_version: int = 0,
        up_to_version: int | None = None,
        up_to_time: datetime | None = None,
        limit: int = PAGE,
        backwards: bool = False,
        conn: Any = None,
    ) -> list[RecordedEvent]:
        """One page of a stream's events, by version."""
        checks.check_stream(stream)
        checks.check_window(after_version, up_to_version, up_to_time, limit)
        events = [
            event
            for event in self._events(stream, conn)[after_version:up_to_version]
            if up_to_time is None or event.recorded_at <= up_to_time
        ]
        return (events[::-1] if backwards else events)[:limit]

    async def read_streams(
        self, after: Sequence[tuple[StreamId, int]], *, conn: Any = None
    ) -> dict[StreamId, list[RecordedEvent]]:
        """All events after a version, of several streams."""
        for stream, version in after:
            checks.check_stream(stream)
            checks.check_window(version, None, None, 1)
        return {stream: self._events(stream, conn)[version:] for stream, version in after}

    def _events(self, stream: StreamId, conn: Any) -> list[RecordedEvent]:
        found = self._found(stream, self._checked(conn) if conn is not None else None)
        if found and found.state.tombstoned:
            raise StreamTombstonedError(stream)
        return found.events if found else []

    # -- reading the feed ---------------------------------------------------------------------------------------------
    async def read_feed(
        self, *, after: int = 0, limit: int = PAGE, wanted: FeedFilter = EVERYTHING, archived: bool = True
    ) -> FeedPage:
        """One page of the feed, up to the horizon."""
        checks.check_position(after)
        checks.check_limit(limit)
        checks.check_filter(wanted)
        horizon, events = self._horizon(), []
        for entry in self._feed[bisect_right(self._feed, after, key=_position) :]:
            if entry[0] > horizon:
                break
            event = self._at(entry)
            if fits(wanted, event) and (archived or not self._streams[event.stream].state.archived):
                events.append(event)
                if len(events) == limit:
                    return FeedPage(events, event.position, horizon)
        return FeedPage(events, max(after, horizon), horizon)

    def _at(self, entry: tuple[int, StreamId, int]) -> RecordedEvent:
        _, stream, version = entry
        return self._streams[stream].events[version - 1]

    def _horizon(self) -> int:
        return min((each.positions[0] - 1 for each in self._open if each.positions), default=self._last)

    async def horizon(self) -> Horizon:
        """How far the feed can be read now."""
        return Horizon(self._epoch, self._horizon())

    def recorded(self) -> list[RecordedEvent]:
        """All that is committed, in the order of the feed, at once: for assertions."""
        return [self._at(entry) for entry in self._feed]

    async def event_at(self, position: int) -> RecordedEvent | None:
        """The event at a position, if one is there and the horizon is not below."""
        checks.check_position(position)
        place = bisect_right(self._feed, position - 1, key=_position)
        if position > self._horizon() or place == len(self._feed) or self._feed[place][0] != position:
            return None
        return self._at(self._feed[place])

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[RecordedEvent]:
        """The committed events of these conversations, in order."""
        checks.check_limit(limit)
        wanted = set(correlation_ids)
        found = [each for each in self.recorded() if (each.event.correlation_id or each.event.event_id) in wanted]
        return found[:limit]

    async def event_known_as(self, event_id: UUID) -> RecordedEvent | None:
        """The committed event with an id."""
        return next((each for each in self.recorded() if each.event.event_id == event_id), None)

    async def wait_beyond(self, position: int, *, timeout: float) -> int:
        """Wait until the horizon lies beyond a position, or the time (seconds) is over; gives the horizon."""
        checks.check_position(position)
        try:
            async with asyncio.timeout(timeout):
                while self._horizon() <= position:
                    await self._grown.wait()
        except TimeoutError:
            pass
        return self._horizon()

    async def held_back(self) -> float:
        """For how many seconds the oldest open transaction that has appended holds the feed back."""
        began = min((each.began for each in self._open if each.positions), default=None)
        return 0.0 if began is None else max(0.0, (self._clock.now() - began).total_seconds())

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Whoever waits is woken in any case."""
        return nullcontext()

    # -- streams ------------------------------------------------------------------------------------------------------
    async def stream_state(self, stream: StreamId, *, conn: Any = None) -> StreamState | None:
        """What is known of a stream; None if it was never written."""
        checks.check_stream(stream)
        found = self._found(stream, self._checked(conn) if conn is not None else None)
        return found.state if found else None

    async def streams(
        self,
        *,
        category: str | None = None,
        tenant_id: UUID | str | None = None,
        prefix: str = "",
        after: StreamId | None = None,
        limit: int = PAGE,
    ) -> list[StreamState]:
        """Streams in the order of category, tenant and id, a page at a time."""
        checks.check_listing(category, prefix, limit)
        if after is not None:
            checks.check_stream(after)
        tenant = checked_tenant(tenant_id)
        names = sorted(
            (
                name
                for name in self._streams
                if category in (None, name.category) and tenant in (None, name.tenant_id)
                if str(name.id).startswith(prefix)
                if after is None or _order(name) > _order(after)
            ),
            key=_order,
        )
        return [self._streams[name].state for name in names[:limit]]

    async def tombstone(self, stream: StreamId, *, reason: str, actor: str, conn: Any = None) -> StreamState:
        """Empty a stream for good."""
        checks.check_account(reason, actor)

        def end(mine: _Stream) -> None:
            if not mine.state.tombstoned:
                mine.state = replace(mine.state, tombstoned=True, reason=reason, actor=actor)
                mine.events = [_emptied(event) for event in mine.events]

        return await self._change(stream, conn, end)

    async def archive(self, stream: StreamId, *, archived: bool = True, conn: Any = None) -> StreamState:
        """Close a stream to appends, or open it again."""

        def close(mine: _Stream) -> None:
            if mine.state.tombstoned:
                raise StreamTombstonedError(stream)
            mine.state = replace(mine.state, archived=archived)

        return await self._change(stream, conn, close)

    async def _change(self, stream: StreamId, conn: Any, change: Callable[[_Stream], None]) -> StreamState:
        checks.check_stream(stream)
        async with self._within(conn) as mine:
            await self._own(mine, [stream])
            if self._found(stream, mine) is None:
                raise StreamNotFoundError(stream)
            changed = self._opened(stream, mine)
            change(changed)
            return changed.state


def _position(entry: tuple[int, StreamId, int]) -> int:
    return entry[0]


def _order(stream: StreamId) -> tuple[str, str, str]:
    """No tenant is the empty text, which goes before all that tenants can be."""
    return stream.category, "" if stream.tenant_id is None else str(stream.tenant_id), str(stream.id)


def _emptied(event: RecordedEvent) -> RecordedEvent:
    return replace(event, event=replace(event.event, payload=b"{}", metadata=None, tags=()), tombstoned=True)
