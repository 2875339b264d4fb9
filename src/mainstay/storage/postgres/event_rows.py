"""Events as PostgreSQL takes and gives them.

An append sends its events as arrays, written here as PostgreSQL's text form of them: most appends are small, and the
driver's own way with lists looks at each of them several times.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import UUID

import orjson
from psycopg.pq.abc import PGresult

from mainstay.collecting import collecting_later
from mainstay.events.log import (
    Condition,
    FeedFilter,
    FeedPage,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    StreamState,
)
from mainstay.events.stream import ExpectedVersion, StreamId

ANY_VERSION = -1
STREAM_EXISTS = -2
Row = Sequence[Any]
T = TypeVar("T")


_BETWEEN = "\0"
"""What no text that PostgreSQL can hold has in it."""


def array_of(texts: Iterable[str | None]) -> str:
    """An array of texts."""
    given = list(texts)
    if given and None not in given:  # all of them are quoted at once
        joined = _BETWEEN.join(cast("list[str]", given))
        if joined.count(_BETWEEN) == len(given) - 1:
            return "{" + _quoted(joined).replace(_BETWEEN, '","') + "}"
    return "{" + ",".join("null" if text is None else _quoted(text) for text in given) + "}"


def _array_of_documents(documents: Sequence[bytes]) -> str:
    """An array of JSON documents, which have no NUL: all of them are quoted at once."""
    if not documents:
        return "{}"
    joined = b"\0".join(documents).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return '{"' + joined.replace(b"\0", b'","').decode() + '"}'


def _array_of_times(times: Sequence[datetime]) -> str:
    """An array of times; where offsets may have seconds, which orjson drops, each is written by itself."""
    if {time.tzinfo for time in times} == {UTC}:
        return "{" + orjson.dumps(times)[1:-1].decode() + "}"
    return array_of(time.isoformat() for time in times)


def plain_array_of(values: Iterable[UUID | int | None]) -> str:
    """An array of what needs no quotes."""
    return "{" + orjson.dumps(list(values), default=str)[1:-1].decode() + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def names_of(streams: Sequence[StreamId]) -> dict[str, str]:
    """The names of streams, as three arrays."""
    return {
        "categories": array_of(stream.category for stream in streams),
        "tenants": array_of(tenant_text(stream.tenant_id) for stream in streams),
        "ids": array_of(str(stream.id) for stream in streams),
    }


def name_of(stream: StreamId) -> dict[str, str]:
    """The name of one stream."""
    return {"category": stream.category, "tenant": tenant_text(stream.tenant_id), "id": str(stream.id)}


def tenant_text(tenant_id: UUID | str | None) -> str:
    """A tenant as it is kept: none is empty."""
    return "" if tenant_id is None else str(tenant_id)


def append_parameters(appends: Sequence[StreamAppend], condition: Condition | None) -> dict[str, Any]:
    """What eventsource.append takes."""
    events = [event for append in appends for event in append.events]
    types = [event.event_type for event in events]
    return {
        **names_of([append.stream for append in appends]),
        "expected": plain_array_of(_expected(append.expected) for append in appends),
        "counts": plain_array_of(len(append.events) for append in appends),
        "types": array_of(_once(types)),
        **_columns(events),
        "event_versions": plain_array_of(_once([event.event_version for event in events])),
        "items": None if condition is None else items_of(condition.fail_if),
        "after": 0 if condition is None else condition.after,
        "tenant": None if condition is None or condition.tenant_id is None else str(condition.tenant_id),
    }


def group_events(events: Sequence[tuple[int, int, str, NewEvent]]) -> dict[str, Any]:
    """What commandbus.commit_group takes of events, each with the place of its stream, its version and its category."""
    kinds: dict[tuple[str, str], int] = {}
    numbers = [kinds.setdefault((category, event.event_type), len(kinds) + 1) for _, _, category, event in events]
    return {
        "places": plain_array_of(place for place, *_ in events),
        "versions": plain_array_of(version for _, version, *_ in events),
        "kind_categories": array_of(category for category, _ in kinds),
        "kind_types": array_of(event_type for _, event_type in kinds),
        "kinds": plain_array_of(numbers),
        **_columns([event for *_, event in events]),
        "event_versions": plain_array_of(event.event_version for *_, event in events),
    }


def _columns(events: Sequence[NewEvent]) -> dict[str, Any]:
    """What events have besides their types and the forms of their payloads, an array for each."""
    tagged = any(event.tags for event in events)
    return {
        "event_ids": plain_array_of(event.event_id for event in events),
        "payloads": _array_of_documents([event.payload for event in events]),
        "occurred_at": _array_of_times([event.occurred_at for event in events]),
        "correlation_ids": _if_any(plain_array_of, [event.correlation_id for event in events]),
        "causation_ids": _if_any(plain_array_of, [event.causation_id for event in events]),
        "actor_ids": _if_any(array_of, [event.actor_id for event in events]),
        "metadata": _if_any(
            array_of, [None if event.metadata is None else event.metadata.decode() for event in events]
        ),
        "tags": array_of(array_of(event.tags) if event.tags else None for event in events) if tagged else None,
    }


def _once(values: Sequence[T]) -> Sequence[T]:
    """One for all, where all are the same."""
    return values[:1] if values and values.count(values[0]) == len(values) else values


def _if_any(written: Callable[[Iterable[T | None]], str], values: Sequence[T | None]) -> str | None:
    """An array of values; None if there is none but nulls, which costs less to read."""
    return None if values.count(None) == len(values) else written(values)


def current_parameters(appends: Sequence[StreamAppend]) -> dict[str, str | None]:
    """What eventsource.append_current takes, of appends to one stream each that expect a version."""
    return {
        **names_of([append.stream for append in appends]),
        "expected": plain_array_of(_expected(append.expected) for append in appends),
        "counts": plain_array_of(len(append.events) for append in appends),
        **group_events(
            [
                (place, version, append.stream.category, event)
                for place, append in enumerate(appends, 1)
                for version, event in enumerate(append.events, _expected(append.expected) + 1)
            ]
        ),
    }


def current_from(result: PGresult, appends: Sequence[StreamAppend]) -> list[Row | None]:
    """As `appended_from`, of each append that append_current has written; None of the others."""
    fates, positions = ((result.get_value(0, column) or b"{}")[1:-1].split(b",") for column in range(2))
    written: list[Row | None] = []
    last = -1
    for append, fate in zip(appends, fates, strict=True):
        last += len(append.events)
        version = _expected(append.expected) + len(append.events)
        written.append((version, int(positions[last]), False) if fate == b"CURRENT" else None)
    return written


APPENDS = ("append_one", "append")
"""Queries that append to one stream."""


def append_question(append: StreamAppend) -> tuple[str, dict[str, str | None]]:
    """Which of `APPENDS` an append asks, and its parameters."""
    if len(append.events) == 1:
        return "append_one", _append_one_parameters(append)
    return "append", append_parameters([append], None)


def _append_one_parameters(append: StreamAppend) -> dict[str, str | None]:
    (event,), stream = append.events, append.stream
    return {
        "category": stream.category,
        "tenant": "" if stream.tenant_id is None else str(stream.tenant_id),
        "id": str(stream.id),
        "expected": str(_expected(append.expected)),
        "event_id": str(event.event_id),
        "type": event.event_type,
        "payload": event.payload.decode(),
        "occurred_at": event.occurred_at.isoformat(),
        "event_version": str(event.event_version),
        "correlation_id": None if event.correlation_id is None else str(event.correlation_id),
        "causation_id": None if event.causation_id is None else str(event.causation_id),
        "actor_id": event.actor_id,
        "metadata": None if event.metadata is None else event.metadata.decode(),
        "tags": array_of(event.tags) if event.tags else None,
    }


def appended_from(result: PGresult) -> Row:
    """Version, position and whether it was there already, as append_one answered."""
    version, position, repeated = (result.get_value(0, column) or b"" for column in range(3))
    return int(version), int(position), repeated == b"t"


def feed_parameters(after: int, limit: int, wanted: FeedFilter, *, archived: bool) -> dict[str, Any]:
    """What eventsource.read_feed takes."""
    return {
        "after": after,
        "limit": limit,
        "types": None if wanted.types is None else array_of(wanted.types),
        "categories": None if wanted.categories is None else array_of(wanted.categories),
        "tenant": None if wanted.tenant_id is None else str(wanted.tenant_id),
        "items": None if wanted.query is None else items_of(wanted.query),
        "archived": archived,
    }


def items_of(query: Query) -> str:
    """The items of a query; without any it is asked for all events, which is an item without types and tags."""
    items = [{"types": sorted(item.types), "tags": sorted(item.tags)} for item in query.items]
    return orjson.dumps(items or [{"types": [], "tags": []}]).decode()


def _expected(expected: ExpectedVersion) -> int:
    if expected.version is not None:
        return expected.version
    return STREAM_EXISTS if expected.exists else ANY_VERSION


def recorded_from(row: Row, stream: StreamId) -> RecordedEvent:
    """An event of a stream, of a row that begins with it."""
    (position, version, recorded_at, event_id, event_type, payload, occurred_at, event_version, correlation_id,
     causation_id, actor_id, metadata, tags, *_) = row  # fmt: skip
    event = NewEvent(
        event_id,
        event_type,
        b"{}" if payload is None else payload.encode(),
        occurred_at,
        event_version,
        correlation_id,
        causation_id,
        actor_id,
        None if metadata is None else metadata.encode(),
        () if tags is None else tuple(tags),
    )
    return RecordedEvent(position, stream, version, recorded_at, event, payload is None)


class EventRows:
    """Makes events of rows that end with what names their streams; those that come again are named by one object."""

    def __init__(self) -> None:
        self._streams: dict[Row, StreamId] = {}

    def event(self, row: Row) -> RecordedEvent:
        """One event."""
        name = row[-3:]
        stream = self._streams.get(name)
        if stream is None:
            category, stream_id, tenant_id = name
            stream = self._streams[name] = StreamId(category, stream_id, tenant_id or None)
        return recorded_from(row, stream)

    def page(self, after: int, limit: int, rows: Sequence[Row]) -> FeedPage:
        """A page of the feed."""
        horizon = rows[0][0]
        with collecting_later():
            events = [self.event(row) for row in rows[1:]]
        if len(events) == limit:
            return FeedPage(events, events[-1].position, horizon)
        return FeedPage(events, max(after, horizon), horizon)


def state_from(row: Row) -> StreamState:
    """What is known of a stream."""
    category, stream_id, tenant_id, version, created_at, archived_at, tombstoned_at, tombstone = row
    told = json.loads(tombstone) if tombstone else {}
    return StreamState(
        StreamId(category, stream_id, tenant_id or None),
        version,
        created_at,
        archived=archived_at is not None,
        tombstoned=tombstoned_at is not None,
        reason=told.get("reason"),
        actor=told.get("actor"),
    )


def copied_fields(event: NewEvent) -> tuple[Any, ...]:
    """What was handed over of an event, as the columns of COPY."""
    return (
        event.event_version,
        event.event_id,
        event.occurred_at,
        event.correlation_id,
        event.causation_id,
        event.actor_id,
        event.payload.decode(),
        None if event.metadata is None else event.metadata.decode(),
        list(event.tags) if event.tags else None,
    )
