"""Makers of things that tests need many of."""

from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from mainstay.clock import FrozenClock
from mainstay.events.event import DomainEvent
from mainstay.events.log import Appended
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId


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
