"""What operators ask about events, and do with files of them. All is shown as it is stored: no class is needed."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mainstay.errors import EventError, InvalidInputError, StreamNotFoundError
from mainstay.events.log import FeedFilter, FeedPage, RecordedEvent, StreamState
from mainstay.events.stream import StreamId
from mainstay.operations.event_lines import EventLine, RefusedEventLineError
from mainstay.storage.postgres.event_intake import MisplacedEventError, import_missing
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.feed_questions import LOOKED_AT, EventNumbers, FeedQuestions
from mainstay.storage.postgres.operations import OperationsStore

_PAGE = 1_000
_MOST_KINDS = 1_000


@dataclass(frozen=True, slots=True)
class FeedWindow:
    """A part of the feed that somebody looks at.

    Attributes:
        events: The newest first.
        older: Those before this position come next; None if there are none.
        newer: Those after this position stand above; None if there are none.
        horizon: How far the feed can be read.
    """

    events: list[RecordedEvent]
    older: int | None
    newer: int | None
    horizon: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a chunk of events.

    Attributes:
        imported: Were appended.
        known: Were there already.
        tombstoned: Were left out: nothing was left of them where they come from.
    """

    imported: int
    known: int
    tombstoned: int


class NoSuchEventError(EventError):
    """What a person named is not there.

    Args:
        what: How it was named.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no event {what}")


class Events:
    """The part of the operator that is about events.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Any) -> None:
        self.log = PostgresEventLog(pool)
        self._questions = FeedQuestions(pool)
        self._commands = OperationsStore(pool)

    async def numbers(self) -> EventNumbers:
        """How many events there are."""
        return await self._questions.numbers()

    # -- streams ------------------------------------------------------------------------------------------------------
    async def streams(
        self,
        *,
        category: str | None = None,
        tenant_id: UUID | str | None = None,
        prefix: str = "",
        after: StreamId | None = None,
        limit: int = 50,
    ) -> list[StreamState]:
        """A page of streams; as `EventLog.streams`."""
        return await self.log.streams(category=category, tenant_id=tenant_id, prefix=prefix, after=after, limit=limit)

    async def stream(self, name: str, tenant_id: UUID | str | None = None) -> StreamState:
        """The stream that a person names.

        Args:
            name: ``Category/id``, or ``Category/id@tenant``.
            tenant_id: Whose; then the name has no tenant.

        Raises:
            StreamNotFoundError: There is none.
            InvalidInputError: It names none, or several.
        """
        found = [state for each in _readings(name, tenant_id) if (state := await self.log.stream_state(each))]
        if not found:
            raise StreamNotFoundError(name)
        if len(found) > 1:
            raise InvalidInputError(f"{name} may be any of {len(found)} streams: give the tenant by itself")
        return found[0]

    async def stream_events(
        self, stream: StreamId, *, after: int = 0, up_to: int | None = None, limit: int = 50
    ) -> list[RecordedEvent]:
        """The last events of a stream, in order.

        Args:
            stream: Which one.
            after: Only later versions.
            up_to: Not later than this version.
            limit: So many at most.

        Raises:
            StreamTombstonedError: The stream is.
        """
        found = await self.log.read_stream(
            stream, after_version=after, up_to_version=up_to, limit=limit, backwards=True
        )
        return found[::-1]

    # -- events -------------------------------------------------------------------------------------------------------
    async def at(self, position: int) -> RecordedEvent:
        """The event at a position of the feed.

        Raises:
            NoSuchEventError: There is none, or none that can be given out yet.
        """
        found = await self.log.event_at(position)
        if found is None:
            raise NoSuchEventError(f"at position {position:,}")
        return found

    async def by_id(self, event_id: UUID, stream: StreamId | None = None) -> RecordedEvent:
        """The event with an id; without a stream all events are looked at, as no index has their ids.

        Raises:
            NoSuchEventError: There is none.
            InvalidInputError: There are several.
        """
        found = await self._questions.find_event(event_id, stream)
        if not found:
            raise NoSuchEventError(f"{event_id}" if stream is None else f"{event_id} in {stream}")
        if len(found) > 1:
            places = " and ".join(f"{position:,}" for position in found)
            raise InvalidInputError(
                f"several events have the id {event_id}, at the positions {places}: name a position"
            )
        return await self.at(found[0])

    async def known_as(self, event_id: UUID) -> RecordedEvent:
        """The event with an id, as `EventLog.event_known_as` finds it: quickly, and of several the first.

        Raises:
            NoSuchEventError: There is none.
        """
        found = await self.log.event_known_as(event_id)
        if found is None:
            raise NoSuchEventError(f"{event_id}")
        return found

    async def causes(self, events: Sequence[RecordedEvent]) -> dict[UUID, str]:
        """The domains of the commands that caused events, by their ids; those that two domains have are left out."""
        ids = {each.event.causation_id for each in events}.difference([None])
        found = await self._commands.find_commands(list(filter(None, ids)), None) if ids else []
        homes = {command_id: domain for domain, command_id in found}
        return homes if len(homes) == len(found) else {each: homes[each] for each in _once(each for _, each in found)}

    async def kinds(self) -> list[tuple[str, str]]:
        """Categories and the types of their events, sorted, a thousand at most."""
        return await self._questions.kinds(_MOST_KINDS)

    # -- the feed -----------------------------------------------------------------------------------------------------
    async def place(
        self, wanted: FeedFilter, *, last: int | None = None, since: datetime | None = None, after: int | None = None
    ) -> int:
        """Where a reader of the feed begins.

        Args:
            wanted: Which events it reads.
            last: Before the last so many of them.
            since: Before all that were recorded since.
            after: At this position.
        """
        if after is not None:
            return after
        if since is not None:
            return await self._questions.place_in_time(since)
        return await self._questions.place_before_last(last or 0, wanted)

    async def page(self, after: int, wanted: FeedFilter, *, limit: int = _PAGE) -> FeedPage:
        """A page of the feed."""
        return await self.log.read_feed(after=after, limit=limit, wanted=wanted)

    async def window(
        self, wanted: FeedFilter, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> FeedWindow:
        """A part of the feed, the newest first: its end, or from a position on in either direction.

        Args:
            wanted: Which events.
            before: Only lower positions.
            after: Only higher positions: those that come next.
            limit: So many at most. Of a tenant there may be fewer, and more further down.

        Raises:
            InvalidInputError: Both directions at once.
        """
        if after is None:
            return await self._before(wanted, before, limit)
        if before is not None:
            raise InvalidInputError("give one of before and after: a page is older than a position, or newer")
        if wanted.tenant_id is not None:
            return await self._after(wanted, after, limit)
        page = await self.log.read_feed(after=after, limit=limit + 1, wanted=wanted)
        found = page.events[:limit][::-1]
        lowest = found[-1].position if found else after + 1
        newer = found[0].position if len(page.events) > limit else None
        return FeedWindow(found, lowest if after else None, newer, page.horizon)

    async def _before(self, wanted: FeedFilter, before: int | None, limit: int) -> FeedWindow:
        horizon = (await self.log.horizon()).position
        end = horizon if before is None else min(before - 1, horizon)
        positions = await self._questions.last_positions(limit + 1, wanted, end)
        found = await self.log.events_at(positions[:limit])
        looked_to = 0 if wanted.tenant_id is None else max(end - LOOKED_AT, 0)
        older = looked_to + 1 if looked_to else None
        if len(positions) > limit:
            older = positions[limit - 1]
        newer = (positions[0] if positions else end) if before is not None and end < horizon else None
        return FeedWindow(found, older, newer, horizon)

    async def _after(self, wanted: FeedFilter, after: int, limit: int) -> FeedWindow:
        """Of a tenant: the feed itself would be read until enough is found, however far that is."""
        horizon = (await self.log.horizon()).position
        end = min(after + LOOKED_AT, horizon)
        positions = [each for each in await self._questions.last_positions(LOOKED_AT, wanted, end) if each > after]
        found = await self.log.events_at(positions[-limit:])
        newer = end if end < horizon else None
        if len(positions) > limit:
            newer = positions[-limit]
        return FeedWindow(found, (positions[-1] if positions else after + 1) if after else None, newer, horizon)

    # -- files --------------------------------------------------------------------------------------------------------
    async def exported(self, wanted: FeedFilter, *, after: int, up_to: int) -> AsyncIterator[list[RecordedEvent]]:
        """The events of the feed after a position and up to another, page by page.

        Args:
            wanted: Which events.
            after: A position.
            up_to: A position that is not beyond the horizon.
        """
        while after < up_to:
            page = await self.page(after, wanted)
            yield [each for each in page.events if each.position <= up_to]
            if page.position <= after:
                return
            after = page.position

    async def exported_stream(self, stream: StreamId, *, after: int, up_to: int) -> AsyncIterator[list[RecordedEvent]]:
        """The events of a stream after a position and up to another, page by page.

        Raises:
            StreamTombstonedError: The stream is.
        """
        version = 0
        while page := await self.log.read_stream(stream, after_version=version, limit=_PAGE):
            yield [each for each in page if after < each.position <= up_to]
            version = page[-1].version

    async def import_lines(self, lines: Sequence[EventLine], source: str) -> Imported:
        """Append the events of a file that are not there yet, in one transaction.

        Args:
            lines: In order.
            source: Name of the file, for errors.

        Raises:
            RefusedEventLineError: A line's event cannot stand where it stood; nothing was written.
            StorageError: The database refused it; nothing was written.
        """
        here = [(line.number, line.placed) for line in lines if line.placed is not None]
        placed = [each for _, each in here]
        try:
            async with self.log.transaction() as conn:
                count = await import_missing(conn, placed)
        except MisplacedEventError as error:
            raise RefusedEventLineError(source, here[error.index][0], str(error)) from error
        except EventError as error:
            named = str(getattr(error, "stream", ""))
            for number, each in here:
                if str(each.stream) == named:
                    raise RefusedEventLineError(source, number, str(error)) from error
            raise
        return Imported(count, len(placed) - count, len(lines) - len(placed))


def _once(ids: Iterable[UUID]) -> list[UUID]:
    """Those that are there once."""
    return [each for each, count in Counter(ids).items() if count == 1]


def _readings(name: str, tenant_id: UUID | str | None) -> list[StreamId]:
    """What a person may mean by the name of a stream: categories, ids and tenants may have slashes and at signs."""
    found = []
    for slash in (place for place, sign in enumerate(name) if sign == "/"):
        category, rest = name[:slash], name[slash + 1 :]
        if not category.strip() or not rest.strip():
            continue
        found.append(StreamId(category, rest, tenant_id))
        if tenant_id is None:
            ends = [place for place, sign in enumerate(rest) if sign == "@"]
            parts = [(rest[:end], rest[end + 1 :]) for end in ends]
            found += [StreamId(category, own, tenant) for own, tenant in parts if own.strip() and tenant.strip()]
    if not found:
        raise InvalidInputError(f"a stream is named by its category and its id, such as Order/17, not {name!r}")
    return found
