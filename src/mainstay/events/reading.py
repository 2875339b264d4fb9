"""Reading events: typed, in pages, each event named that cannot be read."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from mainstay.collecting import collecting_later
from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.events.codec import EventCodec, UnknownPolicy
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.log import (
    PAGE,
    EventLog,
    FeedFilter,
    FeedPage,
    Horizon,
    JoiningLog,
    Query,
    QueryItem,
    RecordedEvent,
    StreamState,
)
from mainstay.events.options import ReadOptions, stream_named
from mainstay.events.registry import EventRegistry
from mainstay.events.scope import scoped, scoped_filter, scoped_tenant
from mainstay.events.stream import StreamId
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT
from mainstay.tenancy import current_tenant

EventType = type[DomainEvent] | str
"""A class of events, or the name under which its events are stored."""
_LOADED = 5 * PAGE
"""Events that are fetched at once to be loaded together: they are all held anyway."""


class EventPage(NamedTuple):
    """Part of the feed, as `FeedPage` has it, with events of classes.

    Attributes:
        events: In the order of positions.
        position: Where to go on: everything wanted up to here has been returned.
        horizon: The horizon that the page was read under.
    """

    events: list[EventEnvelope]
    position: int
    horizon: int


class Tail(NamedTuple):
    """The end of a stream, as it was read.

    Attributes:
        after: A version.
        events: All that came after it.
    """

    after: int
    events: Sequence[RecordedEvent]


class LoadedStream(NamedTuple):
    """A stream's events, without their envelopes.

    Attributes:
        events: In order.
        first: What the log has of the first one; None if there is none.
        last: What the log has of the last one, whatever upcasters made of it.
    """

    events: list[DomainEvent]
    first: RecordedEvent | None
    last: RecordedEvent | None


class EventReader:
    """The half of `EventStore` that reads, and its options.

    Args:
        log: Where the events are.
        registry: As `EventStore` says.
        unknown: As `EventStore` says.
        payload_limit: As `EventStore` says.

    Raises:
        ConfigurationError: No such policy.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        registry: EventRegistry | None = None,
        unknown: UnknownPolicy = "error",
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
    ) -> None:
        if unknown not in {"error", "skip"}:
            raise ConfigurationError(f"unknown must be 'error' or 'skip', not {shown(unknown)}")
        self.log = log
        self.registry = EventRegistry() if registry is None else registry
        self.codec = EventCodec(self.registry, unknown, payload_limit)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_stream(
        self,
        stream: StreamId | str,
        options: ReadOptions | None = None,
        *,
        after_version: int = 0,
        up_to_version: int | None = None,
        up_to_time: datetime | None = None,
        limit: int | None = None,
        backwards: bool = False,
        page: int = PAGE,
        conn: Any = None,
    ) -> AsyncIterator[EventEnvelope]:
        """The events of a stream, by version, a page at a time.

        Args:
            stream: Which one; one that was never written is empty. ``"id:category"`` names one of no tenant.
            options: What of it, as one value, instead of the arguments up to ``backwards``.
            after_version: Only later versions; with ``backwards`` too.
            up_to_version: Not later than this.
            up_to_time: Only what was recorded then or before.
            limit: So many stored events at most.
            backwards: The latest first.
            page: Events that are fetched at once.
            conn: The caller's transaction, which sees what it has appended.

        Raises:
            CorruptEventError: An event cannot be read; it is named.
            UnknownEventTypeError: An event's type has no class; it is named.
            StreamTombstonedError: The stream is.
            TenantScopeError: It is not of the tenant in whose scope this is called; raised at the call.
        """
        named = scoped(stream_named(stream))
        if options is not None:
            return options.narrowed(self.read_stream(named, conn=conn, **options.of_stream()))
        return self._read_pages(
            self._pages(
                named, after_version, up_to_version, up_to_time, limit, backwards=backwards, page=page, conn=conn
            )
        )

    async def _read_pages(self, pages: AsyncIterator[list[RecordedEvent]]) -> AsyncIterator[EventEnvelope]:
        async for recorded in pages:
            for each in recorded:
                for event in self.codec.read(each):
                    yield EventEnvelope(event, each.position, each.stream, each.version, each.recorded_at)

    async def load_stream(
        self,
        stream: StreamId,
        *,
        after_version: int = 0,
        up_to_version: int | None = None,
        up_to_time: datetime | None = None,
        conn: Any = None,
    ) -> LoadedStream:
        """As `read_stream`, all at once: what an aggregate is made of."""
        events: list[DomainEvent] = []
        first: RecordedEvent | None = None
        last: RecordedEvent | None = None
        read = self.codec.read
        pages = self._pages(scoped(stream), after_version, up_to_version, up_to_time, None, page=_LOADED, conn=conn)
        async for recorded in pages:
            first, last = first or recorded[0], recorded[-1]
            with collecting_later():
                for each in recorded:
                    events += read(each)
        return LoadedStream(events, first, last)

    async def load_streams(
        self,
        after: Sequence[tuple[StreamId, int]],
        *,
        conn: Any = None,
        read: Mapping[StreamId, Tail] | None = None,
    ) -> list[LoadedStream]:
        """As `load_stream`, of several streams by one question.

        Args:
            after: Streams, each once, and the version after which to read.
            conn: The caller's transaction, which sees what it has appended.
            read: What was read before of some of them, in the same transaction.

        Raises:
            StreamTombstonedError: One of them is.
        """
        asked = [(scoped(stream), version) for stream, version in after]
        found = {
            stream: [each for each in tail.events if each.version > version]
            for stream, version in asked
            if (tail := (read or {}).get(stream)) is not None and tail.after <= version
        }
        if missing := [(stream, version) for stream, version in asked if stream not in found]:
            found |= await self.log.read_streams(missing, conn=conn)
        return [self.loaded(found[stream]) for stream, _ in asked]

    def loaded(self, recorded: Sequence[RecordedEvent]) -> LoadedStream:
        """As `load_stream`, of what the log has.

        Raises:
            CorruptEventError: As `read_stream` says, and UnknownEventTypeError.
        """
        if not recorded:
            return LoadedStream([], None, None)
        read = self.codec.read
        with collecting_later():
            events = [event for each in recorded for event in read(each)]
        return LoadedStream(events, recorded[0], recorded[-1])

    def read_along(self, stream: StreamId) -> Any:
        """What `load_stream` asks, to go along in another's round trip; None if this log has no such thing."""
        log = self.log
        return log.read_along(scoped(stream), _LOADED) if isinstance(log, JoiningLog) else None

    def loaded_along(self, stream: StreamId, along: Any) -> LoadedStream | None:
        """As `load_stream`, of what `read_along` gave; None if it was not asked, or not all of the stream is there.

        Raises:
            CorruptEventError: As `read_stream` says, and StreamTombstonedError and UnknownEventTypeError.
        """
        recorded = self.log.found_along(stream, along) if isinstance(self.log, JoiningLog) else None
        if recorded is None or len(recorded) == _LOADED:
            return None
        return self.loaded(recorded)

    def read_all(
        self,
        options: ReadOptions | None = None,
        *,
        after: int = 0,
        limit: int | None = None,
        types: Iterable[EventType] | None = None,
        categories: Iterable[str] | None = None,
        tenant_id: UUID | str | None = None,
        query: Query | None = None,
        archived: bool = True,
        page: int = PAGE,
    ) -> AsyncIterator[EventEnvelope]:
        """The events of all streams, in their one order, up to the horizon, a page at a time.

        Args:
            options: Which events, as one value, instead of ``after``, ``limit`` and ``tenant_id``.
            after: A position; 0 is the beginning.
            limit: So many stored events at most.
            types: Of one of these types.
            categories: Of a stream of one of these categories.
            tenant_id: Of this tenant.
            query: Whose types and tags fit.
            archived: With those of archived streams.
            page: Events that are fetched at once.

        Raises:
            CorruptEventError: An event cannot be read; it is named.
            UnknownEventTypeError: An event's type has no class; it is named.
            TenantScopeError: Not of the tenant in whose scope this is called; raised at the call.
        """
        if options is not None:
            return options.narrowed(
                self.read_all(
                    types=types, categories=categories, query=query, archived=archived, page=page, **options.of_feed()
                )
            )
        wanted = self.filter(types=types, categories=categories, tenant_id=tenant_id, query=query)
        return self._read_feed(self._feed_pages(after, limit, scoped_filter(wanted), archived=archived, page=page))

    async def _read_feed(self, found_pages: AsyncGenerator[list[RecordedEvent]]) -> AsyncIterator[EventEnvelope]:
        read = self.codec.read
        async with aclosing(found_pages) as pages:
            async for found in pages:
                for each in found:
                    for event in read(each):
                        yield EventEnvelope(event, each.position, each.stream, each.version, each.recorded_at)

    def read_category(
        self,
        category: str,
        *,
        after: int = 0,
        limit: int | None = None,
        tenant_id: UUID | str | None = None,
    ) -> AsyncIterator[EventEnvelope]:
        """The events of all streams of a category; as `read_all`."""
        return self.read_all(after=after, limit=limit, categories=[category], tenant_id=tenant_id)

    async def read_page(
        self, *, after: int = 0, limit: int = PAGE, wanted: FeedFilter | None = None, archived: bool = True
    ) -> EventPage:
        """One page of the feed, for those who keep a position; as `read_all`.

        Args:
            after: A position; 0 is the beginning.
            limit: Stored events in the page.
            wanted: What `filter` gave.
            archived: With those of archived streams.
        """
        asked = scoped_filter(FeedFilter() if wanted is None else wanted)
        found = await self.log.read_feed(after=after, limit=limit, wanted=asked, archived=archived)
        events = [envelope for recorded in found.events for envelope in self.enveloped(recorded)]
        return EventPage(events, found.position, found.horizon)

    def filter(
        self,
        *,
        types: Iterable[EventType] | None = None,
        categories: Iterable[str] | None = None,
        tenant_id: UUID | str | None = None,
        query: Query | None = None,
    ) -> FeedFilter:
        """What `read_page` is to give; types are those that are read, under whatever name they are stored.

        Raises:
            InvalidInputError: One category instead of several.
        """
        if isinstance(categories, str | bytes):
            raise InvalidInputError(
                f"categories are given as a list, one alone, too: ['Order'], not {shown(categories)}"
            )
        return FeedFilter(
            None if types is None else self.registry.stored_types(types),
            None if categories is None else frozenset(categories),
            tenant_id,
            query,
        )

    def query(self, *types: EventType, tags: Iterable[str] = ()) -> Query:
        """Events of one of these types (all, if none is named) that have every one of these tags."""
        return Query((QueryItem(self.registry.stored_types(types), frozenset(tags)),))

    def enveloped(self, recorded: RecordedEvent) -> list[EventEnvelope]:
        """What is there instead of a stored event, with where it stands: as a rule one; see `EventCodec.read`.

        Raises:
            CorruptEventError: It cannot be read.
            UnknownEventTypeError: Its type has no class, and none is skipped.
        """
        return [
            EventEnvelope(event, recorded.position, recorded.stream, recorded.version, recorded.recorded_at)
            for event in self.codec.read(recorded)
        ]

    async def _feed_pages(
        self, after: int, limit: int | None, wanted: FeedFilter, *, archived: bool, page: int
    ) -> AsyncGenerator[list[RecordedEvent]]:
        """The feed as the log has it. From the second page on, the next one is on its way while one is used."""
        left, is_first = limit, True
        coming: asyncio.Task[FeedPage] | None = None

        def asking() -> Coroutine[Any, Any, FeedPage]:
            asked = page if left is None else min(page, left)
            return self.log.read_feed(after=after, limit=asked, wanted=wanted, archived=archived)

        try:
            while left is None or left > 0:
                found = await (coming or asking())
                coming = None
                is_last = found.position >= found.horizon or found.position <= after
                after, left = found.position, None if left is None else left - len(found.events)
                if not is_first and not is_last and left != 0:
                    coming = asyncio.create_task(asking())
                    await asyncio.sleep(0)  # it asks
                yield found.events
                if is_last:
                    return
                is_first = False
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _pages(
        self,
        stream: StreamId,
        after: int,
        up_to: int | None,
        up_to_time: datetime | None,
        limit: int | None,
        *,
        backwards: bool = False,
        page: int = PAGE,
        conn: Any = None,
    ) -> AsyncIterator[list[RecordedEvent]]:
        """A stream's events as the log has them, never an empty page."""
        left = limit
        while left is None or left > 0:
            asked = page if left is None else min(page, left)
            found = await self.log.read_stream(
                stream,
                after_version=after,
                up_to_version=up_to,
                up_to_time=up_to_time,
                limit=asked,
                backwards=backwards,
                conn=conn,
            )
            if found:
                yield found
            if len(found) < asked:
                return
            left = None if left is None else left - len(found)
            if backwards:
                up_to = found[-1].version - 1
            else:
                after = found[-1].version

    # -- streams and the feed ------------------------------------------------------------------------------------------

    async def event_at(self, position: int) -> list[EventEnvelope]:
        """What stands at a position that the feed gave out: one event as a rule.

        None if there is none, or it is not of the tenant in whose scope this is called.
        """
        recorded = await self.log.event_at(position)
        if recorded is None or current_tenant() not in (None, recorded.stream.tenant_id):
            return []
        return self.enveloped(recorded)

    async def stream_version(self, stream: StreamId, *, conn: Any = None) -> int:
        """The number of a stream's events; 0 if it was never written."""
        state = await self.log.stream_state(scoped(stream), conn=conn)
        return 0 if state is None else state.version

    async def stream_state(self, stream: StreamId, *, conn: Any = None) -> StreamState | None:
        """What is known of a stream; None if it was never written."""
        return await self.log.stream_state(scoped(stream), conn=conn)

    def streams(
        self, *, category: str | None = None, tenant_id: UUID | str | None = None, prefix: str = "", page: int = PAGE
    ) -> AsyncIterator[StreamState]:
        """Streams, in the order of category, tenant and id, a page at a time.

        Args:
            category: Only these.
            tenant_id: Only this tenant's.
            prefix: Only those whose ids, as texts, begin so.
            page: Streams that are fetched at once.
        """
        tenant = scoped_tenant(tenant_id)
        return self._list_streams({"category": category, "tenant_id": tenant, "prefix": prefix, "limit": page})

    async def _list_streams(self, asked: dict[str, Any]) -> AsyncIterator[StreamState]:
        after: StreamId | None = None
        while found := await self.log.streams(**asked, after=after):
            for state in found:
                yield state
            after = found[-1].stream

    async def horizon(self) -> Horizon:
        """How far the feed can be read now."""
        return await self.log.horizon()

    async def wait(self, position: int, *, timeout: float) -> int:
        """Wait until the feed can be read beyond a position, or the time (seconds) is over; gives the horizon."""
        return await self.log.wait_beyond(position, timeout=timeout)

    def watching(self) -> AbstractAsyncContextManager[None]:
        """For the length of the block, whoever waits in this process is woken as soon as can be; see `EventLog`."""
        return self.log.watching()
