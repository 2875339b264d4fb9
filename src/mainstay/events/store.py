"""The store of events: classes in front of an `EventLog`, which knows documents only."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mainstay.clock import Clock
from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.events.by_aggregate import ByAggregate
from mainstay.events.codec import UnknownPolicy, several
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.inline import Inline, InlineProjection
from mainstay.events.log import (
    Appended,
    Condition,
    EventLog,
    JoiningLog,
    NewEvent,
    Query,
    StreamAppend,
    StreamState,
)
from mainstay.events.memory import MemoryEventLog
from mainstay.events.reading import LoadedStream
from mainstay.events.registry import EventRegistry
from mainstay.events.scope import refuse_others, scoped, scoped_tenant
from mainstay.events.snapshot import MemorySnapshotStore, SnapshotStore
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.events.tracing import Appending, count_appended
from mainstay.metrics import is_observed
from mainstay.positions import note_position
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Append:
    """What is to be added to one stream; without events it only states what must be so (a guard).

    Attributes:
        stream: Which one.
        events: In order.
        expected: What the stream must be like; `ExpectedVersion.of` says what a number means.
    """

    stream: StreamId
    events: Sequence[DomainEvent] = ()
    expected: ExpectedVersion | int = field(default_factory=ExpectedVersion.any)


class EventStore(ByAggregate):
    """Appends events and reads them.

    What is promised is written in `mainstay.events.log`; a ``conn`` is a transaction of the caller's, of the kind that
    the log knows.

    Args:
        log: Where the events are.
        registry: Which class a type belongs to, and how old payloads become new ones; unless given, every class derived
            from `DomainEvent` is known.
        unknown: What reading does with an event whose type has no class: ``"error"``, or ``"skip"`` it.
        payload_limit: Bytes of JSON that one event may have.
        snapshots: Where repositories keep snapshots, unless they are told otherwise.
        inline: Projections that write in the transaction that appends; see `mainstay.events.inline`.

    Raises:
        ConfigurationError: No such policy, or an inline projection that is none or handles nothing.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        registry: EventRegistry | None = None,
        unknown: UnknownPolicy = "error",
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        snapshots: SnapshotStore | None = None,
        inline: Sequence[InlineProjection] = (),
    ) -> None:
        super().__init__(log, registry=registry, unknown=unknown, payload_limit=payload_limit)
        self.snapshots = snapshots
        self._inline = Inline(inline, self)

    @property
    def has_inline(self) -> bool:
        """Whether projections write in the transaction that appends."""
        return bool(self._inline)

    # -- appending -----------------------------------------------------------------------------------------------------

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction of the log's own, to be passed as ``conn``."""
        return self.log.transaction()

    async def append(
        self,
        stream: StreamId,
        events: Iterable[DomainEvent],
        *,
        expected: ExpectedVersion | int | None = None,
        conn: Any = None,
    ) -> Appended:
        """Add events to a stream, all or none.

        Events that say nothing of their stream, tenant, correlation or version are given those of the stream and of the
        command that is being handled.

        Args:
            stream: Which one.
            events: In order.
            expected: What the stream must be like; None is anything, `ExpectedVersion.of` says what a number means.
            conn: The caller's transaction.

        Returns:
            The stream's version and the position of its last event. The same events again at the same
            expected version give the first result, marked ``repeated``.

        Raises:
            OptimisticLockError: The stream is not as expected; nothing was written.
            ProjectionError: An inline projection raised; nothing was written.
            InvalidInputError: An event says that it belongs to another stream, or is none.
            TenantScopeError: The stream or an event is not of the tenant in whose scope this runs.
            InvalidPayloadError: An event cannot be written as JSON.
            EventError: As `EventLog.append` says.
        """
        (done,) = await self.append_all([Append(stream, several(events), ExpectedVersion.of(expected))], conn=conn)
        return done

    async def append_all(self, appends: Iterable[Append], *, conn: Any = None) -> list[Appended]:
        """Add events to several streams, all or none; an `Append` without events is a guard.

        Raises:
            EventError: As `append`; the first stream that is not as expected is named.
        """
        return await self._append([self.written(each) for each in appends], None, conn)

    async def hold(self, stream: StreamId, *, conn: Any) -> bool:
        """Let nobody else append to a stream until a transaction ends, once those are done who have begun to.

        A stream without events is held by nobody, and one in a log that cannot join others' transactions neither.

        Args:
            stream: Which.
            conn: The caller's transaction.

        Returns:
            False if somebody else has held it for too long: then the transaction can only be rolled back.
        """
        return not isinstance(self.log, JoiningLog) or await self.log.hold_stream(stream, conn=conn)

    async def hold_and_load(self, stream: StreamId, after: int, *, conn: Any) -> LoadedStream | None:
        """As `hold`, and what came after a version, in the same round trip if that can be.

        Args:
            stream: Which.
            after: The version.
            conn: The caller's transaction.

        Returns:
            None if somebody else has held it for too long: then the transaction can only be rolled back.

        Raises:
            StreamTombstonedError: As `load_stream` says, and CorruptEventError and UnknownEventTypeError.
        """
        if not isinstance(self.log, JoiningLog):
            return await self.load_stream(stream, after_version=after, conn=conn)
        recorded = await self.log.hold_and_read(scoped(stream), after, conn=conn)
        return None if recorded is None else self.loaded(recorded)

    def append_along(self, stream: StreamId, events: Iterable[DomainEvent], *, expected: ExpectedVersion) -> Any:
        """What `append` does in a caller's transaction, to go along in another's round trip; None if it cannot.

        When that transaction is committed, `appended_along` is to be called. Raises as `append` does.
        """
        if self._inline or not isinstance(self.log, JoiningLog):
            return None
        return self.log.append_along(self.written(Append(stream, several(events), expected)))

    def appended_along(self, along: Any) -> None:
        """What `append_along` gave is committed: whoever waits for events here may look."""
        if isinstance(self.log, JoiningLog):
            self.log.appended_along(along)

    async def append_if(
        self,
        events: Iterable[DomainEvent],
        *,
        fail_if: Query,
        after: int,
        stream: StreamId | None = None,
        conn: Any = None,
    ) -> list[Appended]:
        """Add events unless something has happened since a decision was prepared (a dynamic consistency boundary).

        Args:
            events: In order; each says its stream by ``aggregate_type`` and ``aggregate_id``, unless ``stream`` does.
            fail_if: What must not have happened; see `query`.
            after: The horizon's position, asked for before the events were read that led to the decision.
            stream: Of all of them.
            conn: The caller's transaction.

        Raises:
            AppendConditionError: Something fits the query; nothing was written.
            EventError: As `append`.
        """
        by_stream: dict[StreamId, list[DomainEvent]] = {}
        for event in several(events):
            by_stream.setdefault(scoped(stream or _own_stream(event)), []).append(event)
        appends = [self.written(Append(each, mine)) for each, mine in by_stream.items()]
        if not appends:
            raise InvalidInputError("append_if needs an event at least")
        return await self._append(appends, Condition(fail_if, after, scoped_tenant(None)), conn)

    async def _append(self, appends: Sequence[StreamAppend], condition: Condition | None, conn: Any) -> list[Appended]:
        if not is_observed():
            answers = await self._appended(appends, condition, conn)
        else:
            with Appending(appends) as seen:
                answers = await self._appended(seen.appends, condition, conn)
                seen.done(answers)
        for answer in answers:
            note_position(answer.position)
        return answers

    async def _appended(
        self, appends: Sequence[StreamAppend], condition: Condition | None, conn: Any
    ) -> list[Appended]:
        if not self._inline:
            return await self.log.append(appends, condition=condition, conn=conn)
        async with self.log.part(conn) as part:
            answers = await self.log.append(appends, condition=condition, conn=part.conn)
            await self._inline.project(appends, answers, part)
        return answers

    async def import_events(
        self,
        events: AsyncIterator[tuple[StreamId, DomainEvent]] | Iterable[tuple[StreamId, DomainEvent]],
        *,
        conn: Any = None,
    ) -> int:
        """Append very many events fast, in the order given, in one transaction; each stream goes on where it is.

        Returns:
            How many.

        Raises:
            ConfigurationError: The store has inline projections, which an import would pass by.
            EventError: As `EventLog.import_events` says.
        """
        if self._inline:
            message = (
                "an import would pass by the inline projections of this store: import through a store without them "
                "while nobody appends, and fill their tables then"
            )
            raise ConfigurationError(message)

        counted: Counter[tuple[str, str]] = Counter()

        async def written() -> AsyncIterator[tuple[StreamId, NewEvent]]:
            async for given, event in _each(events):
                stream = scoped(given)
                refuse_others([event])
                for document in self.codec.written([event], stream):
                    counted[stream.category, document.event_type] += 1
                    yield stream, document

        done = await self.log.import_events(written(), conn=conn)
        count_appended(counted)
        return done

    def written(self, append: Append) -> StreamAppend:
        """An append as the log takes it.

        Raises:
            InvalidInputError: As `append`.
            TenantScopeError: As `append`.
            InvalidPayloadError: As `append`.
        """
        expected = ExpectedVersion.of(append.expected)
        first = None if expected.version is None else expected.version + 1
        stream = scoped(append.stream)
        events = several(append.events)
        refuse_others(events)
        return StreamAppend(stream, self.codec.written(events, stream, first), expected, is_checked=True)

    # -- streams -------------------------------------------------------------------------------------------------------

    async def tombstone(self, stream: StreamId, *, reason: str, actor: str, conn: Any = None) -> StreamState:
        """Empty a stream for good, and forget its snapshot: it gives no events and takes none.

        Its events stay in the feed without their payloads, as `EventTombstone`.

        Raises:
            StreamNotFoundError: It was never written.
            TenantScopeError: It is not of the tenant in whose scope this runs.
        """
        stream = scoped(stream)
        if conn is None:
            async with self.log.transaction() as mine:
                return await self.tombstone(stream, reason=reason, actor=actor, conn=mine)
        done = await self.log.tombstone(stream, reason=reason, actor=actor, conn=conn)
        if self.snapshots is not None:
            await self.snapshots.delete(stream, conn=conn)
        return done

    async def archive(self, stream: StreamId, *, archived: bool = True, conn: Any = None) -> StreamState:
        """Close a stream to appends, or open it again.

        Raises:
            StreamNotFoundError: It was never written.
            StreamTombstonedError: It is.
            TenantScopeError: It is not of the tenant in whose scope this runs.
        """
        return await self.log.archive(scoped(stream), archived=archived, conn=conn)


class InMemoryEventStore(EventStore):
    """A store in memory, with its snapshots: for tests that need no server. What it holds ends with the process.

    Args:
        clock: Where ``recorded_at`` comes from; the machine's unless given.
        registry: As `EventStore` says.
        unknown: As `EventStore` says.
        payload_limit: As `EventStore` says.
        inline: As `EventStore` says.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        registry: EventRegistry | None = None,
        unknown: UnknownPolicy = "error",
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        inline: Sequence[InlineProjection] = (),
    ) -> None:
        self._memory = MemoryEventLog(clock)
        super().__init__(
            self._memory,
            registry=registry,
            unknown=unknown,
            payload_limit=payload_limit,
            snapshots=MemorySnapshotStore(),
            inline=inline,
        )

    def recorded(self) -> list[EventEnvelope]:
        """All that is committed, in the order of the feed, at once: for assertions."""
        return [envelope for recorded in self._memory.recorded() for envelope in self.enveloped(recorded)]


def _own_stream(event: DomainEvent) -> StreamId:
    if not isinstance(event, DomainEvent):
        raise InvalidInputError(f"a store appends events, instances of DomainEvent, not {shown(event)}")
    if event.aggregate_id is None or not event.aggregate_type:
        raise InvalidInputError(
            f"{type(event).__name__} {event.event_id} does not say which stream it belongs to: give it "
            "aggregate_type and aggregate_id, or pass stream="
        )
    return StreamId(event.aggregate_type, event.aggregate_id, event.tenant_id)


async def _each(items: AsyncIterator[T] | Iterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterator):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
