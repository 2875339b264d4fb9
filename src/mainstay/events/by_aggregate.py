"""A store's calls by an aggregate's id and type, for those who do not speak of streams.

They do what `EventStore.append` and the readers do, with whole lists, and versions as numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from mainstay.errors import InvalidInputError, shown
from mainstay.events.event import DomainEvent
from mainstay.events.log import Appended
from mainstay.events.reading import EventReader
from mainstay.events.stream import ExpectedVersion, StreamId


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of an append.

    Attributes:
        success: Always true: what fails raises.
        new_version: Of the stream.
        global_position: Of the last event in the feed; 0 without events.
        conflict: Always false: a conflict is an `OptimisticLockError`.
    """

    success: bool
    new_version: int
    global_position: int = 0
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class EventStream:
    """The events of an aggregate.

    Attributes:
        aggregate_id: Whose.
        aggregate_type: Its category.
        events: In order.
        version: Of the stream when it was read, whichever of its events were wanted.
    """

    aggregate_id: UUID | str
    aggregate_type: str
    events: list[DomainEvent]
    version: int

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.events

    @property
    def latest_event(self) -> DomainEvent | None:
        """The last one, if there is one."""
        return self.events[-1] if self.events else None


class _Appends(Protocol):
    async def append(
        self, stream: StreamId, events: Iterable[DomainEvent], *, expected: ExpectedVersion, conn: Any
    ) -> Appended: ...


class ByAggregate(EventReader):
    """The calls; `EventStore` has them."""

    async def append_events(
        self: _Appends,
        aggregate_id: UUID | str,
        aggregate_type: str,
        events: Iterable[DomainEvent],
        expected_version: ExpectedVersion | int = ExpectedVersion.ANY,
        *,
        conn: Any = None,
    ) -> AppendResult:
        """Add events to the stream of an aggregate, all or none; its tenant is that of the events.

        Args:
            aggregate_id: Whose stream.
            aggregate_type: Its category.
            events: In order.
            expected_version: What the stream must be like, as `ExpectedVersion.of` takes it.
            conn: The caller's transaction.

        Raises:
            OptimisticLockError: The stream is not as expected; nothing was written.
            EventError: As `EventStore.append`.
        """
        given = list(events)
        tenant_id = next((event.tenant_id for event in given if isinstance(event, DomainEvent)), None)
        stream = StreamId(aggregate_type, aggregate_id, tenant_id)
        done = await self.append(stream, given, expected=ExpectedVersion.of(expected_version), conn=conn)
        return AppendResult(success=True, new_version=done.version, global_position=done.position or 0)

    async def get_events(
        self,
        aggregate_id: UUID | str,
        aggregate_type: str | None = None,
        from_version: int = 0,
        from_timestamp: datetime | None = None,
        to_timestamp: datetime | None = None,
        *,
        tenant_id: UUID | str | None = None,
        conn: Any = None,
    ) -> EventStream:
        """The events of an aggregate, all at once.

        Args:
            aggregate_id: Whose; one that was never written has none.
            aggregate_type: Its category.
            from_version: Only later ones.
            from_timestamp: Only what happened (``occurred_at``) then or later.
            to_timestamp: Only what happened then or before.
            tenant_id: Whose.
            conn: The caller's transaction, which sees what it has appended.

        Raises:
            InvalidInputError: No type is given: an id names a stream only together with its category.
            EventError: As `EventReader.read_stream`.
        """
        if aggregate_type is None:
            raise InvalidInputError(f"say of which type {shown(aggregate_id)} is: get_events(aggregate_id, 'Order')")
        stream = StreamId(aggregate_type, aggregate_id, tenant_id)
        found = await self.load_stream(stream, after_version=from_version, conn=conn)
        events = [event for event in found.events if _within(event, from_timestamp, to_timestamp)]
        return EventStream(stream.id, aggregate_type, events, found.last.version if found.last else from_version)

    async def get_events_by_type(
        self,
        aggregate_type: str,
        tenant_id: UUID | str | None = None,
        from_timestamp: datetime | float | None = None,
    ) -> list[DomainEvent]:
        """The events of all aggregates of a type, in the order of the feed, all at once.

        Args:
            aggregate_type: Category of their streams.
            tenant_id: Only this tenant's.
            from_timestamp: Only what happened then or later; a number is seconds since 1970.
        """
        start = from_timestamp
        if isinstance(start, int | float):
            start = datetime.fromtimestamp(start, UTC)
        found = self.read_category(aggregate_type, tenant_id=tenant_id)
        return [envelope.event async for envelope in found if _within(envelope.event, start, None)]

    async def get_stream_version(
        self, aggregate_id: UUID | str, aggregate_type: str, *, tenant_id: UUID | str | None = None, conn: Any = None
    ) -> int:
        """The number of an aggregate's events; 0 if it was never written."""
        return await self.stream_version(StreamId(aggregate_type, aggregate_id, tenant_id), conn=conn)

    async def get_global_position(self) -> int:
        """The highest position that the feed can be read up to now."""
        return (await self.horizon()).position


def _within(event: DomainEvent, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or event.occurred_at >= start) and (end is None or event.occurred_at <= end)
