"""Makers of things that tests need many of."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Generic, Self, TypeVar
from uuid import UUID, uuid4

from mainstay.clock import FrozenClock
from mainstay.errors import InvalidInputError, shown
from mainstay.events.event import DomainEvent
from mainstay.events.log import Appended
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId

EventT = TypeVar("EventT", bound=DomainEvent)


class OneEventBuilder(Generic[EventT]):
    """Makes an event, field by field; `build` may be called again, and gives another with an id of its own.

    ::

        OneEventBuilder(OrderPlaced).with_aggregate_id(order_id).with_fields(total=3).build()

    Args:
        kind: Its class.

    Raises:
        InvalidInputError: Not a class of events.
    """

    def __init__(self, kind: type[EventT]) -> None:
        if not isinstance(kind, type) or not issubclass(kind, DomainEvent):
            raise InvalidInputError(f"a class derived from DomainEvent is needed, not {shown(kind)}")
        self._kind = kind
        self._fields: dict[str, Any] = {"aggregate_id": uuid4(), "aggregate_version": 1}

    def with_field(self, name: str, value: Any) -> Self:
        """Give it a value for a field, of its own or of the envelope."""
        self._fields[name] = value
        return self

    def with_fields(self, **fields: Any) -> Self:
        """Give it values for fields."""
        self._fields.update(fields)
        return self

    def with_aggregate_id(self, aggregate_id: UUID | str) -> Self:
        """Say whose it is; drawn unless said."""
        return self.with_field("aggregate_id", aggregate_id)

    def with_version(self, version: int) -> Self:
        """Say where in its stream it stands; 1 unless said."""
        return self.with_field("aggregate_version", version)

    def with_event_id(self, event_id: UUID) -> Self:
        """Give it an id."""
        return self.with_field("event_id", event_id)

    def with_tenant_id(self, tenant_id: UUID | str) -> Self:
        """Say of which tenant's stream it is."""
        return self.with_field("tenant_id", tenant_id)

    def with_occurred_at(self, occurred_at: datetime) -> Self:
        """Say when it happened, with a time zone."""
        return self.with_field("occurred_at", occurred_at)

    def with_correlation_id(self, correlation_id: UUID) -> Self:
        """Say what it belongs to."""
        return self.with_field("correlation_id", correlation_id)

    def with_causation_id(self, causation_id: UUID) -> Self:
        """Say what led to it."""
        return self.with_field("causation_id", causation_id)

    def with_actor_id(self, actor_id: str) -> Self:
        """Say who did it."""
        return self.with_field("actor_id", actor_id)

    def with_metadata(self, metadata: dict[str, Any]) -> Self:
        """Give it this metadata and no other."""
        return self.with_field("metadata", metadata)

    def build(self) -> EventT:
        """The event.

        Raises:
            pydantic.ValidationError: The fields do not fit.
        """
        fields = dict(self._fields)
        for name in self._kind.__text_ids__:
            if fields.get(name) is not None:
                fields[name] = str(fields[name])
        return self._kind(**fields)


class EventBuilder:
    """Makes the history of a stream: versions that count up, one correlation, each event after the one before.

    ::

        history = EventBuilder("Order", order_id).add(OrderPlaced, total=3).add(OrderShipped)
        await history.append_to(store)

    Args:
        aggregate_type: Category of the stream.
        aggregate_id: Which one; drawn unless given.
        tenant_id: Whose.
        clock: When the first event happens; each `add` moves it by ``step``.
        step: Time between two events.
    """

    def __init__(
        self,
        aggregate_type: str,
        aggregate_id: UUID | str | None = None,
        *,
        tenant_id: UUID | str | None = None,
        clock: FrozenClock | None = None,
        step: timedelta = timedelta(seconds=1),
    ) -> None:
        self.stream = StreamId(aggregate_type, uuid4() if aggregate_id is None else aggregate_id, tenant_id)
        self.events: list[DomainEvent] = []
        self._clock = clock or FrozenClock()
        self._step = step
        self._correlation_id = uuid4()

    def add(self, kind: type[DomainEvent], /, **fields: Any) -> Self:
        """One more event.

        Args:
            kind: Its class.
            fields: Its own, and what of the envelope is to be otherwise.
        """
        before = self.events[-1] if self.events else None
        own = {name: str(value) for name, value in self._ids().items() if name in kind.__text_ids__}
        envelope: dict[str, Any] = {
            **self._ids(),
            **own,
            "aggregate_type": self.stream.category,
            "aggregate_version": len(self.events) + 1,
            "occurred_at": self._clock.now(),
            "correlation_id": self._correlation_id,
            "causation_id": None if before is None else before.event_id,
        }
        self.events.append(kind(**envelope | fields))
        self._clock.advance(self._step)
        return self

    def build(self) -> list[DomainEvent]:
        """The events; a copy."""
        return list(self.events)

    async def append_to(self, store: EventStore) -> Appended:
        """Append them to a stream that must not be there yet.

        Raises:
            OptimisticLockError: It is there.
        """
        return await store.append(self.stream, self.events, expected=0)

    def _ids(self) -> dict[str, UUID | str]:
        tenant_id = self.stream.tenant_id
        return {"aggregate_id": self.stream.id} | ({} if tenant_id is None else {"tenant_id": tenant_id})


async def store_history(store: EventStore, events: Iterable[DomainEvent]) -> Appended | None:
    """Append events in this order, each at the end of its stream, as history that a test begins with.

    An event that does not say its stream goes into one of its ``aggregate_type`` (its class's name, if it has none),
    the same for all such events. Each is given the next place there, whatever it says, and one that is there twice is
    another event the second time.

    Returns:
        What became of the last one; None if there is none.
    """
    done: Appended | None = None
    seen: set[UUID] = set()
    for event in events:
        stream = StreamId(
            event.aggregate_type or type(event).__name__,
            _NOBODY if event.aggregate_id is None else event.aggregate_id,
            event.tenant_id,
        )
        own = {"event_id": uuid4()} if event.event_id in seen else {}
        seen.add(event.event_id)
        done = await store.append(stream, [event.model_copy(update={"aggregate_version": 0, **own})])
    return done


_NOBODY = UUID("00000000-0000-4000-8000-000000000000")
