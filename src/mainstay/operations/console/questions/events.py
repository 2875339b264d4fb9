"""The feed of events, and each event by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import Field
from pydantic_core import from_json

from mainstay.deciding.store import stream_name
from mainstay.events.log import FeedFilter, RecordedEvent
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Nothing, operation

LARGEST: Final = 2**63 - 1
"""Position, and the largest whole number that JSON is written with here by itself."""


@dataclass(frozen=True, slots=True)
class EventShown:
    """An event, without what is personal.

    Args:
        position: In the feed.
        category: Of its stream; ``stream_id`` and ``tenant_id`` are the rest of that stream's name.
        version: In the stream.
        caused_by: The domain of the command that caused it; None if it was no command, or it is not there any more.
        payload: ``{}`` if the stream is tombstoned.
    """

    position: int
    category: str
    stream_id: str
    tenant_id: str | None
    version: int
    event_id: UUID
    event_type: str
    event_version: int
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: UUID | None
    causation_id: UUID | None
    caused_by: str | None
    actor_id: str | None
    tags: list[str]
    tombstoned: bool
    payload: Any
    metadata: Any


async def shown(desk: Desk, events: Sequence[RecordedEvent]) -> list[EventShown]:
    """Events as they may be seen, each with the command that caused it."""
    homes = await desk.operator.events.causes(events)
    return [_shown(desk, each, homes) for each in events]


def _shown(desk: Desk, recorded: RecordedEvent, homes: dict[UUID, str]) -> EventShown:
    event = recorded.event

    def masked(document: bytes | None) -> Any:
        if document is None:
            return None
        return writable(desk.masking.masked_event(from_json(document), event.event_type))

    return EventShown(
        recorded.position,
        *stream_name(recorded.stream),
        recorded.version,
        event.event_id,
        event.event_type,
        event.event_version,
        event.occurred_at,
        recorded.recorded_at,
        event.correlation_id,
        event.causation_id,
        None if event.causation_id is None else homes.get(event.causation_id),
        event.actor_id,
        list(event.tags),
        recorded.tombstoned,
        masked(event.payload),
        masked(event.metadata),
    )


def writable(value: Any) -> Any:
    """A JSON value that can be written as JSON again: with whole numbers of any size."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return orjson.Fragment(str(value))
    if isinstance(value, dict):
        return {name: writable(each) for name, each in value.items()}
    return [writable(each) for each in value] if isinstance(value, list) else value


class FeedAsked(Asked):
    """Which part of the feed, and which events of it; all conditions must hold."""

    category: str | None = None
    event_type: str | None = None
    tenant_id: str | None = None
    before: int | None = Field(
        None, ge=1, le=LARGEST, description="Only lower positions; ``older`` of the page before."
    )
    after: int | None = Field(
        None, ge=0, le=LARGEST, description="Only higher positions; ``newer`` of the page before."
    )
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class FeedShown:
    """A part of the feed, the newest event first.

    Args:
        events: Those that are wanted.
        older: ``before`` of the page with older ones; None if there are none.
        newer: ``after`` of the page with newer ones; None if there are none.
        horizon: The position up to which the feed can be read now.
    """

    events: list[EventShown]
    older: int | None
    newer: int | None
    horizon: int


@operation("GET", "/events", FeedAsked, FeedShown)
async def list_events(desk: Desk, asked: FeedAsked, _user: User) -> FeedShown:
    """Events of all streams in their one order, the newest first; from a position on, or the newest of all."""
    wanted = FeedFilter(
        None if asked.event_type is None else frozenset([asked.event_type]),
        None if asked.category is None else frozenset([asked.category]),
        asked.tenant_id,
    )
    found = await desk.operator.events.window(wanted, before=asked.before, after=asked.after, limit=asked.limit)
    return FeedShown(await shown(desk, found.events), found.older, found.newer, found.horizon)


@dataclass(frozen=True, slots=True)
class KindOfEvent:
    """A type of events that streams of a category have, or had."""

    category: str
    event_type: str


@operation("GET", "/event-types", Nothing, list[KindOfEvent])
async def list_event_types(desk: Desk, _asked: Nothing, _user: User) -> list[KindOfEvent]:
    """The types of events that there are, by category; a thousand at most."""
    return [KindOfEvent(*each) for each in await desk.operator.events.kinds()]


class OneEvent(Asked):
    """Which event, by its position in the feed."""

    position: int = Field(ge=1, le=LARGEST)


class EventById(Asked):
    """Which event, by its id."""

    event_id: UUID


@operation("GET", "/events/{position}", OneEvent, EventShown)
async def show_event(desk: Desk, asked: OneEvent, _user: User) -> EventShown:
    """The event at a position of the feed."""
    (found,) = await shown(desk, [await desk.operator.events.at(asked.position)])
    return found


@operation("GET", "/events/id/{event_id}", EventById, EventShown)
async def show_event_by_id(desk: Desk, asked: EventById, _user: User) -> EventShown:
    """The event with an id; of several, in different streams, the first."""
    (found,) = await shown(desk, [await desk.operator.events.known_as(asked.event_id)])
    return found
