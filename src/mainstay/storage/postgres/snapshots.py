"""Snapshots on PostgreSQL: what `mainstay.events.snapshot.SnapshotStore` promises, one statement each."""

from typing import Any

from mainstay.events.snapshot import Snapshot
from mainstay.events.stream import StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.callers import Rows, rows_of
from mainstay.storage.postgres.database import Pool
from mainstay.storage.postgres.event_rows import name_of


class PostgresSnapshotStore:
    """Keeps the latest snapshot of each stream, in the table ``eventsource.snapshot``.

    Args:
        pool: Open; its connections are used for one call each and go back as they came.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._sql = queries.load("snapshots")

    async def load(self, stream: StreamId, *, conn: Any = None) -> Snapshot | None:
        """The snapshot of a stream, if there is one."""
        rows = await self._ask("load", name_of(stream), conn)
        if not rows:
            return None
        version, event_id, schema, state = rows[0]
        return Snapshot(stream, version, event_id, schema, state.encode())

    async def save(self, snapshot: Snapshot, *, conn: Any = None) -> None:
        """Keep a snapshot instead of the older one; one that is there and newer stays."""
        parameters = {
            **name_of(snapshot.stream),
            "version": snapshot.version,
            "event_id": snapshot.event_id,
            "schema": snapshot.schema,
            "state": snapshot.state.decode(),
        }
        await self._ask("save", parameters, conn)

    async def delete(self, stream: StreamId, *, conn: Any = None) -> None:
        """Forget the snapshot of a stream, if there is one."""
        await self._ask("delete", name_of(stream), conn)

    async def _ask(self, query: str, parameters: dict[str, Any], conn: Any) -> Rows:
        return await rows_of(self.pool, self._sql[query], parameters, conn)
