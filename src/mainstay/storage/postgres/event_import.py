"""Importing events: very many, by COPY, in one transaction.

Part by part, a function locks and lengthens the streams and draws positions, and what it answered is copied in. The
positions of a part may have gaps between them, which others drew, and keep the order of the events. Memory is needed
for one part only.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from mainstay.errors import InvalidInputError
from mainstay.events import checks
from mainstay.events.log import NewEvent
from mainstay.events.stream import StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.callers import settled
from mainstay.storage.postgres.database import Connection, sealed, translate_errors
from mainstay.storage.postgres.event_rows import array_of, copied_fields, names_of, plain_array_of

PART = 10_000
"""Events that are copied at once."""

Part = list[tuple[StreamId, NewEvent]]


async def import_into(conn: Any, events: AsyncIterator[tuple[StreamId, NewEvent]]) -> int:
    """Append events in a transaction that somebody else ends; how many.

    Args:
        conn: A ``psycopg.AsyncConnection`` in a transaction.
        events: In order.

    Raises:
        InvalidInputError: Another kind of connection, or an event that cannot be kept.
        StreamTombstonedError: A stream is.
        StreamArchivedError: A stream is.
        StorageError: The database refused it.
    """
    there = settled(conn)
    if not isinstance(there, psycopg.AsyncConnection):
        raise InvalidInputError(f"an import needs a psycopg.AsyncConnection, not {type(there).__name__}")
    if there.autocommit and there.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        raise InvalidInputError("conn has no transaction to join: use `async with conn.transaction():`")
    count = 0
    part: Part = []
    async for stream, event in events:
        checks.check_stream(stream)
        checks.check_event(event)
        part.append((stream, event))
        if len(part) == PART:
            await _copy(there, part)
            count += len(part)
            part = []
    if part:
        await _copy(there, part)
    return count + len(part)


@asynccontextmanager
async def _theirs(conn: Connection) -> AsyncIterator[Connection]:
    with translate_errors():
        yield conn


async def _copy(conn: Connection, part: Part) -> None:
    sql = queries.load("events")
    lengths = Counter(stream for stream, _ in part)
    kinds = list(dict.fromkeys((stream.category, event.event_type) for stream, event in part))
    tags = sorted(set(chain.from_iterable(event.tags for _, event in part)))
    asked = {
        **names_of(list(lengths)),
        "counts": plain_array_of(lengths.values()),
        "kind_categories": array_of(category for category, _ in kinds),
        "types": array_of(event_type for _, event_type in kinds),
        "tags": array_of([array_of(tags)]) if tags else None,
    }
    async with sealed(_theirs(conn)), psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(sql["now"])
        ((now,),) = await cursor.fetchall()
        await cursor.execute(sql["prepare_import"], asked)
        ((numbers, befores, kind_numbers, positions),) = await cursor.fetchall()
        places = dict(zip(lengths, numbers, strict=True))
        versions = dict(zip(lengths, befores, strict=True))
        number_of_kind = dict(zip(kinds, kind_numbers, strict=True))
        async with cursor.copy(sql["copy_events"]) as copy:
            for position, (stream, event) in zip(positions, part, strict=True):
                versions[stream] += 1
                kind = number_of_kind[stream.category, event.event_type]
                place = (position, places[stream], versions[stream], kind)
                await copy.write_row((*place, now, *copied_fields(event)))
        if tags:
            async with cursor.copy(sql["copy_tags"]) as copy:
                for position, (_, event) in zip(positions, part, strict=True):
                    for tag in event.tags:
                        await copy.write_row((tag, position))
