"""The database that a run works on: a fresh one on the embedded server, or the one that the user names.

On the embedded server each run gets an empty database, ``mainstay_demo``. Runs at the same time do not meet: each holds
a lock file beside the server's data, and the second one takes ``mainstay_demo_2``. A database of the user's is used as
it is, and nothing is dropped in it.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

from mainstay.errors import EmbeddedServerError
from mainstay.storage.postgres.embedded import EmbeddedServer

DATABASE: Final = "mainstay_demo"
_AT_MOST: Final = 20


@asynccontextmanager
async def fresh_database() -> AsyncIterator[tuple[str, str]]:
    """Name and connection string of an empty database on the embedded server, which is stopped afterwards.

    Raises:
        MissingDependencyError: The embedded server is not installed.
        EmbeddedServerError: It does not start.
    """
    server = EmbeddedServer()
    try:
        await asyncio.to_thread(server.start)
        name, lock = _lock_name(server.data_dir)
        with lock:
            await asyncio.to_thread(server.drop_database, name)
            yield name, await asyncio.to_thread(server.dsn, name)
    finally:
        await asyncio.to_thread(server.stop)


def _lock_name(data_dir: Path) -> tuple[str, IO[bytes]]:
    """A database that no other run uses, and the lock that says so."""
    for number in range(1, _AT_MOST + 1):
        name = DATABASE if number == 1 else f"{DATABASE}_{number}"
        lock = (data_dir / f"{name}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
        else:
            return name, lock
    raise EmbeddedServerError(f"{_AT_MOST} demos run at the same time; wait until one has ended")
