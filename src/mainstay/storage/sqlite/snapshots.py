"""Snapshots in a SQLite file, beside the events."""

from typing import Any
from uuid import UUID

from mainstay.events.snapshot import Snapshot
from mainstay.events.stream import StreamId
from mainstay.storage.sqlite.database import Database, fetch, queries, run
from mainstay.storage.sqlite.event_rows import parts_of


class SQLiteSnapshotStore:
    """Keeps the latest snapshot of each stream; `mainstay.events.snapshot.SnapshotStore` says what that means.

    Args:
        database: The file; `SQLiteEventLog.snapshots` gives that of a log.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries("snapshots")

    async def load(self, stream: StreamId, *, conn: Any = None) -> Snapshot | None:
        """The snapshot of a stream, if there is one."""
        async with self._database.read(conn) as connection:
            rows = await fetch(connection, self._sql["load"], parts_of(stream))
        if not rows:
            return None
        version, event_id, schema, state = rows[0]
        return Snapshot(stream, version, UUID(bytes=event_id), schema, state.encode())

    async def save(self, snapshot: Snapshot, *, conn: Any = None) -> None:
        """Keep a snapshot instead of the older one; one that is there and newer stays."""
        parts = (*parts_of(snapshot.stream), snapshot.version, snapshot.event_id.bytes, snapshot.schema)
        await self._run("save", (*parts, snapshot.state.decode()), conn)

    async def delete(self, stream: StreamId, *, conn: Any = None) -> None:
        """Forget the snapshot of a stream, if there is one."""
        await self._run("delete", parts_of(stream), conn)

    async def _run(self, query: str, parameters: tuple[Any, ...], conn: Any) -> None:
        async with self._database.within(conn) as mine:
            with self._database.translated():
                await run(mine.connection, self._sql[query], parameters)
