"""Rows of the tables of events, and what they stand for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any
from uuid import UUID

import orjson

from mainstay.errors import StreamTombstonedError
from mainstay.events.log import NewEvent, RecordedEvent, StreamState
from mainstay.events.stream import StreamId

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Known:
    """A stream as an append finds it: its row's number, given out already if there is none yet, and its state."""

    number: int
    state: StreamState | None

    @property
    def version(self) -> int:
        """That of the stream now."""
        return self.state.version if self.state else 0


def as_json(values: Iterable[Any]) -> str:
    """A JSON array, for a statement that asks for several things at once."""
    return orjson.dumps(list(values)).decode()


def parts_of(stream: StreamId) -> tuple[str, str, str]:
    """What the table has of a stream's name; no tenant is the empty text."""
    return stream.category, "" if stream.tenant_id is None else str(stream.tenant_id), str(stream.id)


@lru_cache(maxsize=4096)  # events that follow each other are often of the same few streams
def stream_of(category: str, tenant_id: str, name: str) -> StreamId:
    """A stream's name."""
    return StreamId(category, name, tenant_id or None)


def state_of(stream: StreamId, row: Sequence[Any]) -> StreamState:
    """What is known of a stream."""
    version, created_at, archived, tombstoned, reason, actor = row
    return StreamState(stream, version, time_of(created_at), bool(archived), bool(tombstoned), reason, actor)


def micros_of(time: datetime) -> int:
    """A time as microseconds since 1970."""
    return (time - EPOCH) // _MICROSECOND


def time_of(micros: int) -> datetime:
    """The time, in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def row_of(position: int, stream: Known, now: int, event: NewEvent) -> tuple[Any, ...]:
    """An event as its row, with the stream's version as its own."""
    return (
        position,
        stream.number,
        stream.version,
        now,
        event.event_id.bytes,
        event.event_type,
        event.event_version,
        micros_of(event.occurred_at),
        event.payload.decode(),
        event.correlation_id and event.correlation_id.bytes,
        event.causation_id and event.causation_id.bytes,
        event.actor_id,
        event.metadata and event.metadata.decode(),
        as_json(event.tags) if event.tags else None,
    )


def events_of(rows: Iterable[Sequence[Any]]) -> Iterator[RecordedEvent]:
    """The events of streams; a row without a position only says that there is a stream."""
    for row in rows:
        if row[6]:
            raise StreamTombstonedError(stream_of(*row[1:4]))
        if row[0] is not None:
            yield event_of(row)


def event_of(row: Sequence[Any]) -> RecordedEvent:
    """An event as it is read; further columns do not matter."""
    position, category, tenant_id, name, version, recorded_at, tombstoned = row[:7]
    event_id, event_type, event_version = row[7:10]
    occurred_at, payload, correlation_id, causation_id, actor_id, metadata, tags = islice(row, 10, 17)
    return RecordedEvent(
        position,
        stream_of(category, tenant_id, name),
        version,
        time_of(recorded_at),
        NewEvent(
            event_id=UUID(bytes=event_id),
            event_type=event_type,
            payload=payload.encode(),
            occurred_at=time_of(occurred_at),
            event_version=event_version,
            correlation_id=correlation_id and UUID(bytes=correlation_id),
            causation_id=causation_id and UUID(bytes=causation_id),
            actor_id=actor_id,
            metadata=metadata and metadata.encode(),
            tags=tuple(orjson.loads(tags)) if tags else (),
        ),
        bool(tombstoned),
    )
