"""A process that appends to a SQLite file: ``python -m tests.support.event_writer PATH STREAM COUNT``.

It says ``ready``, and after each append that was acknowledged the id of its event. It expects the version that it has
read, so of two such processes one must read again.
"""

import asyncio
import sys
from datetime import UTC, datetime
from uuid import uuid4

from mainstay.errors import OptimisticLockError
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.storage.sqlite.events import SQLiteEventLog


async def main(path: str, name: str, count: int) -> None:
    stream = StreamId("Shared", name)
    async with SQLiteEventLog(path, patience=120) as log:
        say("ready")
        done = 0
        while done < count:
            state = await log.stream_state(stream)
            event = NewEvent(uuid4(), "Counted", b'{"n":1}', datetime.now(UTC), tags=("a",))
            expected = ExpectedVersion.exact(state.version if state else 0)
            try:
                await log.append([StreamAppend(stream, (event,), expected)])
            except OptimisticLockError:
                continue
            say(str(event.event_id))
            done += 1


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
