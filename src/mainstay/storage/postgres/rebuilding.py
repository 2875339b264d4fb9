"""Rebuilds on PostgreSQL: the shards of two names in one transaction, and their tables.

What each call locks, in which order, and what a crash leaves is written in the head of its function.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mainstay.errors import SubscriptionNotFoundError
from mainstay.projections.checks import checked_shards, checked_version, rebuild_name
from mainstay.projections.store import Checkpoint, ShardState
from mainstay.projections.tables import TableComparison, kept
from mainstay.serialization import storable
from mainstay.storage.postgres.database import Connection, Pool, borrowed, execute, fetch_all, fetch_value, sealed
from mainstay.storage.postgres.shard_rows import PostgresBatch, checkpoint_fields, state_from
from mainstay.storage.postgres.trail import say_who
from mainstay.storage.query_files import QueryFile


class PostgresTables:
    """See `mainstay.projections.tables.Tables`.

    Args:
        pool: Whose connection it is.
        conn: In a transaction.
        sql: The room's queries.
    """

    def __init__(self, pool: Pool, conn: Connection, sql: QueryFile) -> None:
        self._pool = pool
        self._conn = conn
        self._sql = sql

    @property
    def conn(self) -> Connection:
        """The transaction."""
        return self._conn

    async def create_like(self, table: str, new: str) -> None:
        """Make an empty table of the form of another; one round trip."""
        await self._ask("create_beside", {"table": table, "beside": new})

    async def compare(self, table: str, new: str, *, sample: int, left_out: Sequence[str] = ()) -> TableComparison:
        """What differs in the columns that both have; one round trip, which reads both as a whole."""
        asked = {"table": table, "beside": new, "left_out": list(left_out), "sample": sample}
        (row,) = await self._ask("compare_tables", asked)
        found = row["difference"]
        return TableComparison(
            table,
            found["old"],
            found["new"],
            found["only_old"],
            found["only_new"],
            found["sample_old"],
            found["sample_new"],
        )

    async def swap(self, tables: Sequence[tuple[str, str]], *, keep: bool) -> None:
        """Let new tables have the names of old ones; one round trip."""
        old = [each for each, _ in tables]
        names = [kept(each) for each in old] if keep else None
        await self._ask("swap_tables", {"tables": old, "besides": [new for _, new in tables], "kept": names})

    async def drop(self, tables: Sequence[str]) -> None:
        """Drop tables; one round trip."""
        await self._ask("drop_tables", {"tables": list(tables)})

    @asynccontextmanager
    async def watching(self, tables: Sequence[str]) -> AsyncIterator[list[str]]:
        """Which of these the transaction has written to by the end of the block; one round trip, at the end."""
        written: list[str] = []
        yield written
        written += [row["table"] for row in await self._ask("written", {"tables": list(tables)})]

    async def _ask(self, query: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        async with sealed(borrowed(self._pool, self._conn)) as conn:
            return await fetch_all(conn, self._sql[query], asked)


class PostgresRebuilding:
    """See `mainstay.projections.store.Rebuilding`.

    Args:
        pool: Whose connection it is.
        conn: In a transaction.
        sql: The room's queries.
        subscription: Its name.
    """

    def __init__(self, pool: Pool, conn: Connection, sql: QueryFile, subscription: str) -> None:
        self._pool = pool
        self._conn = conn
        self._sql = sql
        self._name = subscription
        self._rebuild = rebuild_name(subscription)
        self._rows: dict[int, dict[str, Any]] = {}
        self.tables = PostgresTables(pool, conn, sql)
        self.serving: list[ShardState] = []
        self.rebuilt: list[ShardState] = []

    @property
    def conn(self) -> Connection:
        """The transaction."""
        return self._conn

    async def hold(self) -> None:
        """Lock the shards of both, and see where they stand; four round trips.

        Raises:
            SubscriptionNotFoundError: There is no such subscription.
        """
        async with sealed(borrowed(self._pool, self._conn)) as conn:
            for name in (self._name, self._rebuild):
                known = await fetch_value(conn, self._sql["hold"], {"subscription": name})
                if not known and name == self._name:
                    raise SubscriptionNotFoundError(name)
            serving = await fetch_all(conn, self._sql["states"], {"subscription": self._name})
            rebuilt = await fetch_all(conn, self._sql["states"], {"subscription": self._rebuild})
        self._rows = {row["shard"]: row for row in rebuilt}
        self.serving, self.rebuilt = [state_from(row) for row in serving], [state_from(row) for row in rebuilt]

    async def begin(self, *, shards: int, version: int, start: Checkpoint, actor: str) -> None:
        """Make a rebuild known, and the operators' trail tell of it; two round trips."""
        asked = {
            "subscription": self._rebuild,
            "shards": checked_shards(shards),
            "version": checked_version(version),
            **checkpoint_fields(start),
        }
        note = {"subscription": self._name, "shards": shards, "version": version, "actor": storable(actor)}
        async with sealed(borrowed(self._pool, self._conn)) as conn:
            await fetch_all(conn, self._sql["register"], asked)
            await execute(conn, self._sql["note_rebuild"], note)

    def batch(self, shard: int) -> PostgresBatch:
        """One of the rebuild's shards, in this transaction."""
        return PostgresBatch(self._conn, self._sql, self._rebuild, self._rows[shard])

    async def swap(self, *, actor: str) -> int:
        """Let the rebuild's shards be the subscription's; one round trip."""
        asked = {"subscription": self._name, "rebuild": self._rebuild, "actor": storable(actor)}
        async with sealed(borrowed(self._pool, self._conn)) as conn:
            settled: int = await fetch_value(conn, self._sql["swap"], asked)
        return settled

    async def cancel(self) -> None:
        """Forget the rebuild; one round trip."""
        async with sealed(borrowed(self._pool, self._conn)) as conn:
            await say_who(conn)
            await execute(conn, self._sql["forget"], {"subscription": self._rebuild})
