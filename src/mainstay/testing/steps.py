"""Given, when, then as functions over a harness, for tests that are written in steps.

For tests of one aggregate `mainstay.testing.scenario` is shorter; for those of one projection,
`mainstay.testing.projecting`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from mainstay.events.aggregate import AggregateRoot
from mainstay.events.decider import DeciderAggregate
from mainstay.events.event import DomainEvent
from mainstay.testing.harness import InMemoryTestHarness

AggregateT = TypeVar("AggregateT", bound=AggregateRoot[Any])
EventT = TypeVar("EventT", bound=DomainEvent)


async def given_events(harness: InMemoryTestHarness, events: Iterable[DomainEvent]) -> None:
    """These things have happened before; they do not count as published."""
    await harness.given(*events)


def when_command(aggregate: AggregateT, command: Callable[[AggregateT], Any] | Any) -> list[DomainEvent]:
    """Carry a command out.

    Args:
        aggregate: Whose.
        command: For a `DeciderAggregate` what ``decide`` takes; for others a function of the aggregate.

    Returns:
        The events that it raised; they are not stored yet.
    """
    before = len(aggregate.uncommitted_events)
    if isinstance(aggregate, DeciderAggregate):
        aggregate.execute(command)
    else:
        command(aggregate)
    return aggregate.uncommitted_events[before:]


def then_event_published(harness: InMemoryTestHarness, kind: type[EventT], **fields: Any) -> EventT:
    """An event of this class, with these fields, was published; gives the first.

    Raises:
        AssertionError: None was.
    """
    return harness.published.assert_event_with_fields(kind, **fields)


def then_no_events_published(harness: InMemoryTestHarness, kind: type[DomainEvent] | None = None) -> None:
    """No event was published, or none of this class.

    Raises:
        AssertionError: One was.
    """
    if kind is None:
        harness.published.assert_no_events_published()
    else:
        harness.published.assert_no_event_published(kind)


def then_event_sequence(harness: InMemoryTestHarness, kinds: Sequence[type[DomainEvent]]) -> list[DomainEvent]:
    """Events of exactly these classes were published, in this order.

    Raises:
        AssertionError: Others were.
    """
    return harness.published.assert_event_sequence(kinds)


def then_event_count(harness: InMemoryTestHarness, count: int) -> None:
    """So many events were published.

    Raises:
        AssertionError: More were, or fewer.
    """
    harness.published.assert_event_count(count)
