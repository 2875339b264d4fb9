"""A process that appends to one stream: ``python -m tests.support.event_writer LOG STREAM COUNT [WRITERS]``.

LOG is a SQLite file, or says how to connect to a PostgreSQL database. The process says ``ready``, and after each append
that was acknowledged the id of its event. Each of its writers expects the version that it has read, so of two one must
read again.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

from mainstay.errors import OptimisticLockError
from mainstay.events.log import EventLog, NewEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.sqlite.events import SQLiteEventLog


@asynccontextmanager
async def log_at(place: str, writers: int) -> AsyncIterator[EventLog]:
    if "://" in place or "host=" in place:
        async with open_pool(place, max_size=max(2, writers)) as pool:
            yield PostgresEventLog(pool)
    else:
        async with SQLiteEventLog(place, patience=120) as log:
            yield log


async def write(log: EventLog, stream: StreamId, count: int) -> None:
    done = 0
    while done < count:
        state = await log.stream_state(stream)
        event = NewEvent(uuid4(), "Counted", b'{"n":1}', datetime.now(UTC), tags=("a",))
        expected = ExpectedVersion.exact(state.version if state else 0)
        try:
            (answer,) = await log.append([StreamAppend(stream, (event,), expected)])
        except OptimisticLockError:
            continue
        assert answer.version == (expected.version or 0) + 1
        say(str(event.event_id))
        done += 1


async def main(place: str, name: str, count: int, writers: int = 1) -> None:
    async with log_at(place, writers) as log:
        say("ready")
        await asyncio.gather(*(write(log, StreamId("Shared", name), count) for _ in range(writers)))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
