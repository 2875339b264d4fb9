"""What becomes of an append, given what was found, and which events fit a filter: for what decides in Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from mainstay.errors import DuplicateEventError, OptimisticLockError, StreamArchivedError, StreamTombstonedError
from mainstay.events.log import (
    Appended,
    Condition,
    FeedFilter,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    StreamState,
)
from mainstay.events.stream import StreamId
from mainstay.tenancy import checked_tenant


@dataclass(frozen=True, slots=True)
class Standing:
    """An append, and what was found of its stream.

    Attributes:
        append: What is asked for.
        state: None if the stream was never written.
        there: By version, id and position of the events in its `window`.
    """

    append: StreamAppend
    state: StreamState | None
    there: Mapping[int, tuple[UUID, int]]

    @property
    def version(self) -> int:
        """That of the stream now."""
        return self.state.version if self.state else 0


def window(append: StreamAppend, version: int) -> tuple[int, int]:
    """Where in a stream of this version the events of an append stand if they were appended before: first and last.

    Right after an exact expectation, else at the end. The first may be below 1, the last beyond the end.
    """
    expected = append.expected.version
    last = version if expected is None else expected + len(append.events)
    return last - len(append.events) + 1, last


def repeated(standings: Sequence[Standing]) -> list[Appended] | None:
    """What the first one returned, if all appends with events were made before; None if this is no repetition."""
    answers = [_first_answer(standing) for standing in standings]
    if all(answers) and any(standing.append.events for standing in standings):
        return [answer for answer in answers if answer]
    return None


def _first_answer(standing: Standing) -> Appended | None:
    append = standing.append
    if not append.events:
        return Appended(append.stream, standing.version, None)
    first, last = window(append, standing.version)
    found = [standing.there.get(version) for version in range(first, last + 1)]
    if [place and place[0] for place in found] != [event.event_id for event in append.events]:
        return None
    return Appended(append.stream, last, standing.there[last][1], repeated=True)


def refuse_closed(stream: StreamId, state: StreamState | None) -> None:
    """Refuse to append to a stream that takes no more events.

    Raises:
        StreamTombstonedError: It is.
        StreamArchivedError: It is.
    """
    if state and state.tombstoned:
        raise StreamTombstonedError(stream)
    if state and state.archived:
        raise StreamArchivedError(stream)


def refuse_unexpected(standing: Standing) -> None:
    """Refuse an append of which a part was made before, or whose stream is not as expected.

    Raises:
        DuplicateEventError: Some of its events are where they would be written.
        OptimisticLockError: The stream is not as expected.
    """
    append = standing.append
    there = {event_id for event_id, _ in standing.there.values()}
    if known := [event.event_id for event in append.events if event.event_id in there]:
        raise DuplicateEventError(append.stream, known)
    if not append.expected.allows(standing.version):
        raise OptimisticLockError(append.stream, append.expected, standing.version)


def forbids(condition: Condition, event: RecordedEvent) -> bool:
    """Whether an append under this condition fails because of this event."""
    return (
        event.position > condition.after
        and checked_tenant(condition.tenant_id) in (None, event.stream.tenant_id)
        and _meets(condition.fail_if, event.event)
    )


def fits(wanted: FeedFilter, event: RecordedEvent) -> bool:
    """Whether an event is one of those wanted."""
    return (
        (wanted.types is None or event.event.event_type in wanted.types)
        and (wanted.categories is None or event.stream.category in wanted.categories)
        and checked_tenant(wanted.tenant_id) in (None, event.stream.tenant_id)
        and (wanted.query is None or _meets(wanted.query, event.event))
    )


def _meets(query: Query, event: NewEvent) -> bool:
    return not query.items or any(
        (not item.types or event.event_type in item.types) and item.tags.issubset(event.tags) for item in query.items
    )
