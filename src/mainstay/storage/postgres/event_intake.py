"""Importing events that come from another log: what is there already is left alone, and nothing lands elsewhere.

An event that says its version stands there in its stream, behind all those before it, or the import is refused. So the
same events imported again change nothing, and an import that was interrupted goes on where it was.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row

from mainstay.errors import EventError
from mainstay.events.log import NewEvent
from mainstay.events.stream import StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Connection
from mainstay.storage.postgres.event_import import import_into
from mainstay.storage.postgres.event_rows import names_of, plain_array_of


@dataclass(frozen=True, slots=True)
class PlacedEvent:
    """An event from elsewhere.

    Attributes:
        stream: Whose it is.
        version: Its version there; None if it may stand at the end of the stream, unless its id is in it.
        event: The event.
    """

    stream: StreamId
    version: int | None
    event: NewEvent


class MisplacedEventError(EventError):
    """An event cannot stand where it stood.

    Args:
        index: Which, of those that were to be imported.
        reason: Why not.
    """

    def __init__(self, index: int, reason: str) -> None:
        self.index = index
        super().__init__(reason)


async def import_missing(conn: Connection, events: Sequence[PlacedEvent]) -> int:
    """Append those events that are not there yet, in the order given; how many they were.

    Args:
        conn: In a transaction, which somebody else ends; until then nobody appends to these streams.
        events: In order.

    Raises:
        MisplacedEventError: Another event stands in its place, or those before it are missing.
        StreamTombstonedError: A stream is.
        StreamArchivedError: A stream is.
        StorageError: The database refused it.
    """
    missing = _missing(events, await _found(conn, events))

    async def each() -> AsyncIterator[tuple[StreamId, NewEvent]]:
        for placed in missing:
            yield placed.stream, placed.event

    return await import_into(conn, each()) if missing else 0


async def _found(conn: Connection, events: Sequence[PlacedEvent]) -> list[tuple[int, UUID | None]]:
    """Of each event the version of its stream, and the id of what stands in its place."""
    places = {stream: place for place, stream in enumerate(dict.fromkeys(each.stream for each in events), 1)}
    asked = {
        **names_of(list(places)),
        "places": plain_array_of(places[each.stream] for each in events),
        "versions": plain_array_of(each.version for each in events),
        "event_ids": plain_array_of(each.event.event_id for each in events),
    }
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(queries.load("events")["compare_import"], asked)
        return await cursor.fetchall()


def _missing(events: Sequence[PlacedEvent], found: Sequence[tuple[int, UUID | None]]) -> list[PlacedEvent]:
    """The events that are to be appended."""
    lengths: dict[StreamId, int] = {}
    ours: dict[tuple[StreamId, int], UUID] = {}
    without_version: set[tuple[StreamId, UUID]] = set()
    missing = []
    for index, (placed, (before, there)) in enumerate(zip(events, found, strict=True)):
        stream, version, event_id = placed.stream, placed.version, placed.event.event_id
        length = lengths.setdefault(stream, before)
        if version is None:
            known = there is not None or (stream, event_id) in without_version
            without_version.add((stream, event_id))
        elif version <= length:
            standing = there or ours.get((stream, version))
            if standing != event_id:
                reason = f"{stream} has another event at version {version}: {standing}, not {event_id}"
                raise MisplacedEventError(index, reason)
            known = True
        elif version > length + 1:
            reason = f"{stream} has {length} events: those from version {length + 1} to {version - 1} must come before"
            raise MisplacedEventError(index, reason)
        else:
            known = False
        if not known:
            missing.append(placed)
            lengths[stream] = length + 1
            ours[stream, length + 1] = event_id
    return missing
