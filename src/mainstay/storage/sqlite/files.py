"""Snapshots, and checkpoints, in a SQLite file of their own: for those whose events are elsewhere.

Each opens itself when it is first used, makes the file if it is missing, and is to be closed: its connections have
threads, which keep a program from ending. ``async with SnapshotFile(path) as snapshots`` does both. Beside events in
the same file, take `SQLiteEventLog.snapshots` and `SQLiteEventLog.projections`: those join its transactions.
"""

import os
from typing import Self

from mainstay.clock import SystemClock
from mainstay.storage.sqlite.database import Database
from mainstay.storage.sqlite.projections import SQLiteProjectionStore
from mainstay.storage.sqlite.snapshots import SQLiteSnapshotStore

_PATIENCE = 30.0
_READERS = 4


class _OwnFile:
    """A file that is opened and closed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Database(path, SystemClock(), patience=_PATIENCE, readers=_READERS)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def initialize(self) -> None:
        """Open the file, and install the schema if it is not there; does nothing if it is open.

        Raises:
            StorageError: It cannot be opened.
        """
        await self._file.open()

    async def close(self) -> None:
        """Close the file, after the transaction that is open; does nothing if it is closed."""
        await self._file.close()


class SnapshotFile(_OwnFile, SQLiteSnapshotStore):
    """Keeps the latest snapshot of each stream; `mainstay.events.snapshot.SnapshotStore` says what that means.

    Args:
        path: The file; ``":memory:"`` for one that is deleted when it is closed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        _OwnFile.__init__(self, path)
        SQLiteSnapshotStore.__init__(self, self._file)


class CheckpointFile(_OwnFile, SQLiteProjectionStore):
    """Keeps checkpoints, dead letters and read models; `mainstay.projections.store` says what that means.

    Args:
        path: The file; ``":memory:"`` for one that is deleted when it is closed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        _OwnFile.__init__(self, path)
        SQLiteProjectionStore.__init__(self, self._file)
