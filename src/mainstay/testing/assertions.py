"""What is to be true of a list of events."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from mainstay.events.event import DomainEvent
from mainstay.testing.scenario import listed

EventT = TypeVar("EventT", bound=DomainEvent)


class EventAssertions:
    """Asserts about events; what holds gives the events that it holds of.

    Args:
        events: In order.
    """

    def __init__(self, events: Sequence[DomainEvent]) -> None:
        self.events = list(events)

    def get_events_of_type(self, kind: type[EventT]) -> list[EventT]:
        """The events of a class, or derived from it."""
        return [event for event in self.events if isinstance(event, kind)]

    def assert_event_published(self, kind: type[EventT]) -> EventT:
        """There is an event of this class; gives the first.

        Raises:
            AssertionError: There is none.
        """
        return self._first(self.get_events_of_type(kind), kind.__name__)

    def assert_event_with_fields(self, kind: type[EventT], **fields: Any) -> EventT:
        """There is an event of this class with these fields; gives the first.

        Raises:
            AssertionError: There is none.
        """
        fit = [event for event in self.get_events_of_type(kind) if _has(event, fields)]
        return self._first(fit, f"{kind.__name__} with {fields}")

    def assert_event_for_aggregate(self, kind: type[EventT], aggregate_id: UUID | str) -> EventT:
        """There is an event of this class, of this aggregate; gives the first.

        Raises:
            AssertionError: There is none.
        """
        return self.assert_event_with_fields(kind, aggregate_id=aggregate_id)

    def assert_no_event_published(self, kind: type[DomainEvent]) -> None:
        """There is no event of this class.

        Raises:
            AssertionError: There is.
        """
        if self.get_events_of_type(kind):
            raise AssertionError(f"expected no {kind.__name__}, but there are\n{listed(self.events)}")

    def assert_no_events_published(self) -> None:
        """There are no events.

        Raises:
            AssertionError: There are.
        """
        self.assert_event_count(0)

    def assert_event_count(self, count: int) -> None:
        """There are so many events.

        Raises:
            AssertionError: There are more, or fewer.
        """
        if len(self.events) != count:
            raise AssertionError(f"expected {count} events, but there are {len(self.events)}:\n{listed(self.events)}")

    def assert_event_sequence(self, kinds: Sequence[type[DomainEvent]]) -> list[DomainEvent]:
        """The events are of these classes, in this order, and there are no others.

        Raises:
            AssertionError: They are not.
        """
        if [type(event) for event in self.events] != list(kinds):
            raise AssertionError(f"expected\n{listed(kinds)}\nbut there are\n{listed(self.events)}")
        return list(self.events)

    def _first(self, found: list[EventT], wanted: str) -> EventT:
        if not found:
            raise AssertionError(f"expected {wanted}, but there are\n{listed(self.events)}")
        return found[0]


def _has(event: DomainEvent, fields: dict[str, Any]) -> bool:
    return all(hasattr(event, name) and getattr(event, name) == value for name, value in fields.items())
