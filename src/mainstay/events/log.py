"""What the events room asks of a database: the protocol `EventLog`, and the words spoken over it.

A log knows JSON documents, not classes: `mainstay.events.store.EventStore` stands before it and turns events into
documents and back. One suite, `mainstay.testing.contracts.events`, holds every log to what is written here.

What a log promises
-------------------

*Atomic.* An append is there whole or not at all, over all its streams. With ``conn`` it becomes so when the caller's
transaction commits.

*Versioned.* The events of a stream have the versions 1, 2, 3, ... without a gap, in the order of their positions. Of
two appends that expect the same version of one stream, one is refused (`OptimisticLockError`), however they overlap.

*Ordered, and never skipping.* Every event has a position, a whole number that grows; positions may have gaps. Whoever
reads the feed from a position that a page returned meets each event with a higher position, once, in the order of
positions: nothing ever appears at or below a position that was given out. So a reader may keep a single number.
What is committed but not yet safe to give out (somebody with a lower position may still commit) is not returned;
the highest position that is safe is the *horizon*.

*Causal.* Who appends after having seen an event gets a higher position than that event has.

*Immutable.* Nothing changes an event; `tombstone` and `archive` say what may be done to a stream as a whole.

*Idempotent.* An append whose event ids are already in its stream, exactly there where it would have put them, returns
what the first one returned, marked `Appended.repeated`, and writes nothing. With an exact expectation "there" is right
after the expected version; otherwise it is the end of the stream as it is now, so a repetition is recognized
until somebody else has appended. In an append over several streams, all are repeated or none.
An id that is in its stream elsewhere is not searched for. A repetition is recognized before anything else is looked
at: expectations, guards, a condition, and whether a stream was archived or tombstoned meanwhile. Where some of the ids
stand there, or all in another order, it is no repetition, and refused (`DuplicateEventError`).

Refused is for one reason: that of the first append, in the order given, that has one. Of one append, tombstoned goes
before archived, then come duplicates and the expectation; the condition is looked at last. A guard appends nothing, so
it may look at a stream that is closed.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from mainstay.events.stream import ExpectedVersion, StreamId

MOST_EVENTS = 10_000
"""Events that one append may hold, over all its streams; imports have no limit."""

MOST_TAGS = 100
"""Tags that one event may have."""

PAGE = 1_000
"""Events that a page holds if nobody says otherwise."""


@dataclass(slots=True, unsafe_hash=True)
class NewEvent:
    """An event as it is handed to the log. Nobody changes one; not frozen, as that takes five times as long to make.

    Attributes:
        event_id: Drawn by the writer; what makes an append repeatable.
        event_type: What happened, as the registry names it.
        payload: The event's own fields: a JSON object.
        event_version: Of the payload's form; upcasters go by it.
        occurred_at: When it happened, by the writer's clock, with a time zone.
        correlation_id: What it belongs to.
        causation_id: The command or event that led to it.
        actor_id: Who did it.
        metadata: What the application adds: a JSON object; None for none.
        tags: What `Query` may ask for; no duplicates.
    """

    event_id: UUID
    event_type: str
    payload: bytes
    occurred_at: datetime
    event_version: int = 1
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    actor_id: str | None = None
    metadata: bytes | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamAppend:
    """What is to be added to one stream; without events it only states what must be so (a guard).

    Attributes:
        stream: Which one.
        events: In order.
        expected: What the stream must be like.
        is_checked: Whether each event is known to be one that can be kept, as those that a store writes are.
    """

    stream: StreamId
    events: tuple[NewEvent, ...]
    expected: ExpectedVersion = field(default_factory=ExpectedVersion.any)
    is_checked: bool = field(default=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one `StreamAppend`.

    Attributes:
        stream: Which one.
        version: Of its last event now; of a guard, the version found; of a repetition, that of its last event.
        position: Of the last event written; None for a guard.
        repeated: The events were there already.
    """

    stream: StreamId
    version: int
    position: int | None
    repeated: bool = False


@dataclass(slots=True, unsafe_hash=True)
class RecordedEvent:
    """An event as the log keeps it: what was handed over, and where it came to stand. Not frozen, as `NewEvent`.

    Attributes:
        position: In the feed.
        stream: Whose it is.
        version: In the stream.
        recorded_at: When it was appended, by the log's clock: the start of its transaction.
        event: What was handed over; the document may be written differently (spaces, the order of keys).
        tombstoned: Its stream is, so payload (now ``{}``), metadata and tags are gone.
    """

    position: int
    stream: StreamId
    version: int
    recorded_at: datetime
    event: NewEvent
    tombstoned: bool = False


@dataclass(frozen=True, slots=True)
class QueryItem:
    """Events of one of these types (all, if none is named) that have every one of these tags."""

    types: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Query:
    """Events that fit one of the items at least; without items, all events.

    The query of dynamic consistency boundaries: https://dcb.events/specification/
    """

    items: tuple[QueryItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """An append fails if an event fits the query and has a position after this one.

    Attributes:
        fail_if: What must not have happened.
        after: A position; the horizon that was asked for *before* the events were read that led to the decision.
        tenant_id: Only events of this tenant's streams count; of all, if None.
    """

    fail_if: Query
    after: int
    tenant_id: UUID | str | None = None


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """Which events of the feed are wanted: those that fit everything that is said.

    Attributes:
        types: One of these types; an empty set fits nothing.
        categories: Of a stream of one of these categories; an empty set fits nothing.
        tenant_id: Of this tenant.
        query: Whose types and tags fit.
    """

    types: frozenset[str] | None = None
    categories: frozenset[str] | None = None
    tenant_id: UUID | str | None = None
    query: Query | None = None


EVERYTHING = FeedFilter()


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Part of the feed.

    Attributes:
        events: In the order of positions.
        position: Where to go on: everything wanted up to here has been returned. With a filter it may lie far behind
            the last event; it is the horizon when the page is not full. Never below what was asked for.
        horizon: The horizon that the page was read under.
    """

    events: list[RecordedEvent]
    position: int
    horizon: int


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far the feed can be read now.

    Attributes:
        epoch: Which history the positions belong to: drawn when the log is made, and again when somebody states that
            a restore or a failover may have given positions out twice.
        position: The highest position that is safe; 0 when there is none.
    """

    epoch: UUID
    position: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream.

    Attributes:
        stream: Which one.
        version: The number of its events.
        created_at: When its first event was appended.
        archived: It takes no more events, and the feed can leave it out.
        tombstoned: It takes no more events ever, and gives none; its events stay in the feed as tombstones without
            payload.
        reason: Why it was tombstoned.
        actor: Who did that.
    """

    stream: StreamId
    version: int
    created_at: datetime
    archived: bool = False
    tombstoned: bool = False
    reason: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a transaction.

    Attributes:
        conn: To be passed to the log as ``conn``.
        through: What statements of the user's own go through, of the kind that the engine's driver has: psycopg's
            ``AsyncConnection``, aiosqlite's ``Connection``, None in memory.
    """

    conn: Any
    through: Any


class JoiningLog(ABC):
    """What a log can besides whose statements can go along in the round trips of others.

    What these give is for the store of the others, which knows what to do with it, and keeps the answer in it.
    """

    @abstractmethod
    async def hold_stream(self, stream: StreamId, *, conn: Any) -> bool:
        """Let nobody else append to a stream until a transaction ends, once those are done who have begun to.

        Returns:
            False if somebody else has held it for too long: then the transaction can only be rolled back.
        """

    @abstractmethod
    async def hold_and_read(self, stream: StreamId, after: int, *, conn: Any) -> list[RecordedEvent] | None:
        """As `hold_stream`, and what came after a version; None if somebody else has held it for too long.

        Raises:
            StreamTombstonedError: The stream is.
        """

    @abstractmethod
    def read_along(self, stream: StreamId, limit: int) -> Any:
        """What `EventLog.read_stream` asks of all of a stream."""

    @abstractmethod
    def found_along(self, stream: StreamId, along: Any) -> list[RecordedEvent] | None:
        """What `read_along` found; None if it was not asked.

        Raises:
            StreamTombstonedError: The stream is.
        """

    @abstractmethod
    def append_along(self, append: StreamAppend) -> Any:
        """What `EventLog.append` does in a caller's transaction; it raises as that does."""

    @abstractmethod
    def appended_along(self, along: Any) -> None:
        """What `append_along` gave is committed."""


class EventLog(Protocol):
    """The log itself. A `conn` is the caller's transaction, of the kind that the engine knows; None is one of our own.

    Every method may raise `StorageError`, and `InvalidInputError` for what `mainstay.events.checks` refuses; none
    leaves anything half-written.
    """

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction of our own, to be passed as ``conn``."""
        ...

    def part(self, conn: Any = None) -> AbstractAsyncContextManager[Part]:
        """A part of the caller's transaction, or a transaction of our own.

        If the block raises, what was done in it is undone, and the caller's transaction can go on as if it was not.

        Args:
            conn: The caller's, in which users' own statements can be awaited; None for one of our own.

        Raises:
            InvalidInputError: A connection that blocks.
        """
        ...

    async def append(
        self, appends: Sequence[StreamAppend], *, condition: Condition | None = None, conn: Any = None
    ) -> list[Appended]:
        """Add events to streams, all or nothing. Each stream is named once at most.

        Positions follow the order of ``appends``, and of the events in each. A condition meets what the caller's
        transaction has appended, but not what this call appends.

        Raises:
            OptimisticLockError: A stream is not as expected; of several, the first in order is named.
            DuplicateEventError: Some of the events, but not all, are where they would be written; it names them.
            StreamTombstonedError: A stream is.
            StreamArchivedError: A stream is.
            AppendConditionError: An event fits the condition; it names the position.
        """
        ...

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
        """One page of a stream's events, by version.

        Args:
            stream: Which one; one that was never written is empty.
            after_version: Only later versions; with ``backwards`` too.
            up_to_version: Not later than this.
            up_to_time: Only what was recorded then or before.
            limit: Events in the page.
            backwards: The latest first.
            conn: The caller's transaction, which sees what it has appended.

        Raises:
            StreamTombstonedError: The stream is.
        """
        ...

    async def read_streams(
        self, after: Sequence[tuple[StreamId, int]], *, conn: Any = None
    ) -> dict[StreamId, list[RecordedEvent]]:
        """All events after a version, of several streams in one question; each that was asked for is in the answer.

        Raises:
            StreamTombstonedError: One is.
        """
        ...

    async def read_feed(
        self, *, after: int = 0, limit: int = PAGE, wanted: FeedFilter = EVERYTHING, archived: bool = True
    ) -> FeedPage:
        """One page of the feed, up to the horizon.

        Args:
            after: A position; 0 is the beginning.
            limit: Events in the page.
            wanted: Which events.
            archived: With those of archived streams.
        """
        ...

    async def horizon(self) -> Horizon:
        """How far the feed can be read now."""
        ...

    async def event_at(self, position: int) -> RecordedEvent | None:
        """The event at a position, if one is there; what a checkpoint is verified with.

        Whoever asks was given the position by the feed. A horizon that is asked for now may lie below it: of two that
        are found one after the other, the second may be the lower one, and both are safe.
        """
        ...

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[RecordedEvent]:
        """The committed events of these conversations, in the order of their positions, at most so many.

        An event that names no correlation is a conversation of its own, called by its id. For people who ask now and
        then: it may take as long as a look through the whole log where an engine has nothing that finds them.
        """
        ...

    async def event_known_as(self, event_id: UUID) -> RecordedEvent | None:
        """The committed event with an id; of several, in different streams, the first. Quick as `conversation`."""
        ...

    async def stream_state(self, stream: StreamId, *, conn: Any = None) -> StreamState | None:
        """What is known of a stream; None if it was never written."""
        ...

    async def streams(
        self,
        *,
        category: str | None = None,
        tenant_id: UUID | str | None = None,
        prefix: str = "",
        after: StreamId | None = None,
        limit: int = PAGE,
    ) -> list[StreamState]:
        """Streams in the order of category, tenant (none first) and id as texts, by code points; a page at a time.

        Args:
            category: Only these.
            tenant_id: Only this tenant's.
            prefix: Only those whose ids, as texts, begin so.
            after: The last one of the page before.
            limit: Streams in the page.
        """
        ...

    async def tombstone(self, stream: StreamId, *, reason: str, actor: str, conn: Any = None) -> StreamState:
        """Empty a stream for good: payloads, metadata and tags are gone; ids, types, versions and positions stay.

        Doing it again changes nothing: the first reason stands.

        Raises:
            StreamNotFoundError: It was never written.
        """
        ...

    async def archive(self, stream: StreamId, *, archived: bool = True, conn: Any = None) -> StreamState:
        """Close a stream to appends, or open it again.

        Raises:
            StreamNotFoundError: It was never written.
            StreamTombstonedError: It is.
        """
        ...

    async def import_events(self, events: AsyncIterator[tuple[StreamId, NewEvent]], *, conn: Any = None) -> int:
        """Append very many events fast, in the order given, in one transaction; each stream goes on where it is.

        Nothing is recognized as repeated.

        Returns:
            How many.

        Raises:
            StreamTombstonedError: A stream is.
            StreamArchivedError: A stream is.
        """
        ...

    async def wait_beyond(self, position: int, *, timeout: float) -> int:
        """Wait until the horizon lies beyond a position, or the time (seconds) is over; gives the horizon.

        What wakes it is a hint; looking now and then is what it relies on.
        """
        ...

    async def held_back(self) -> float:
        """For how many seconds the oldest open transaction that has appended holds the feed back; 0 without any."""
        ...

    def watching(self) -> AbstractAsyncContextManager[None]:
        """For the length of the block, whoever waits in this process is woken as soon as can be.

        It costs what the engine needs for that (on PostgreSQL a connection that listens), whoever waits and however
        many; without it they look more seldom. Blocks may overlap.
        """
        ...
