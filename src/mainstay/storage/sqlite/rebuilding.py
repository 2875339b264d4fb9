"""Rebuilds in a SQLite file: the shards of two names, and their tables, in one transaction, while nobody else writes.

Tables are changed as SQLite does it: a copy is made from the statement that made the original, and indexes, whose names
are the file's, get another one. Who reads while names are swapped sees one or the other, never half of it.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite

from mainstay.errors import StorageError, SubscriptionNotFoundError
from mainstay.projections.checks import checked_shards, checked_version, rebuild_name
from mainstay.projections.store import Checkpoint, ShardState, ShardStatus
from mainstay.projections.tables import BESIDE, TableComparison, kept
from mainstay.serialization import storable
from mainstay.storage.query_files import QueryFile
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, queries, through
from mainstay.storage.sqlite.event_rows import as_json, micros_of
from mainstay.storage.sqlite.shard_rows import SQLiteBatch, checkpoint_fields, state_from

_INDEX = re.compile(
    r"^CREATE\s+(UNIQUE\s+)?INDEX\s.*?\sON\s+(?:\"[^\"]+\"|\[[^]]+\]|`[^`]+`|\w+)\s*(\(.*)$", re.IGNORECASE | re.DOTALL
)

_WRITES = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


class SQLiteTables:
    """See `mainstay.projections.tables.Tables`.

    Args:
        database: The file.
        conn: In a transaction.
        sql: The room's queries.
    """

    def __init__(self, database: Database, conn: aiosqlite.Connection, sql: QueryFile) -> None:
        self._database = database
        self._conn = conn
        self._sql = sql

    @property
    def conn(self) -> aiosqlite.Connection:
        """The transaction."""
        return self._conn

    async def create_like(self, table: str, new: str) -> None:
        """Make an empty table of the form of another, with its indexes."""
        await self._refuse_dependents(table)
        rows = await self._ask("made_by", {"table": _plain(table)})
        made = next((sql for kind, _, sql in rows if kind == "table"), None)
        if made is None or "(" not in made or made.upper().startswith("CREATE VIRTUAL"):
            raise StorageError(f"there is no table {table}, or none that can be copied")
        await self._run("create_table", new=_quoted(new), body=made[made.index("(") :])
        for kind, name, sql in rows:
            if kind == "index" and sql is not None and (parts := _INDEX.match(sql)):
                free = _quoted(await self._free_name(name.split(BESIDE)[0]))
                await self._run("create_index", unique=parts[1] or "", index=free, new=_quoted(new), body=parts[2])

    async def compare(self, table: str, new: str, *, sample: int, left_out: Sequence[str] = ()) -> TableComparison:
        """What differs in the columns that both have; rows that are there several times count once."""
        found = [await self._columns(each) for each in (table, new)]
        columns = [name for name in found[0] if name in found[1] and name not in left_out]
        listed = ", ".join(_quoted(name) for name in columns) or "null"
        counts, numbers, rows = [], [], []
        for one, other in ((table, new), (new, table)):
            names = {"table": _quoted(one), "new": _quoted(other), "columns": listed}
            counts.append((await self._run("count_rows", table=_quoted(one)))[0][0])
            numbers.append((await self._run("count_differences", **names))[0][0])
            some = await self._run("differences", {"sample": sample}, **names)
            rows.append([dict(zip(columns, row, strict=False)) for row in some])
        return TableComparison(table, *counts, *numbers, *rows)

    async def swap(self, tables: Sequence[tuple[str, str]], *, keep: bool) -> None:
        """Let new tables have the names of old ones."""
        for table, new in tables:
            await self._refuse_dependents(table)
            if keep:
                if await self._columns(kept(table)):
                    message = (
                        f"there is a table {kept(table)} already, kept by an earlier rebuild: drop it, or keep none"
                    )
                    raise StorageError(message)
                await self._run("rename_table", table=_quoted(table), new=_quoted(kept(table)))
            else:
                await self._run("drop_table", table=_quoted(table))
            await self._run("rename_table", table=_quoted(new), new=_quoted(table))

    async def drop(self, tables: Sequence[str]) -> None:
        """Drop tables, as far as they are there."""
        for table in tables:
            await self._run("drop_table", table=_quoted(table))

    @asynccontextmanager
    async def watching(self, tables: Sequence[str]) -> AsyncIterator[list[str]]:
        """Which of these the block writes to: SQLite asks, for each statement anew, whether it may."""
        names = {_plain(each).lower(): each for each in tables}
        found: list[str] = []

        def seen(action: int, table: str | None, *_: str | None) -> int:
            name = names.get((table or "").lower())
            if action in _WRITES and name is not None and name not in found:
                found.append(name)
            return sqlite3.SQLITE_OK

        await self._conn.set_authorizer(seen)
        try:
            yield found
        finally:
            await through(self._conn.set_authorizer(None))

    async def _refuse_dependents(self, table: str) -> None:
        """See that nothing hangs on a table that would not follow in a swap.

        Raises:
            StorageError: A view, a trigger or a foreign key of another table does.
        """
        word = re.compile(rf"\b{re.escape(_plain(table))}\b", re.IGNORECASE)
        for kind, name, sql in await self._ask("hanging", {"table": _plain(table), "like": f"%{_plain(table)}%"}):
            if sql is not None and not word.search(sql):
                continue
            message = f"the {kind} {name} hangs on table {table}: drop it, and make it again after the swap"
            raise StorageError(message)

    async def _free_name(self, index: str) -> str:
        taken = {name for (name,) in await self._ask("indexes", {})}
        names = (f"{index}{suffix}" for suffix in ("", BESIDE, *(f"{BESIDE}_{n}" for n in range(2, len(taken) + 3))))
        return next(name for name in names if name not in taken)

    async def _columns(self, table: str) -> list[str]:
        """Names of columns, but those that the database numbers by itself."""
        return [name for (name,) in await self._ask("columns", {"table": _plain(table)})]

    async def _ask(self, query: str, asked: dict[str, Any]) -> list[Any]:
        with self._database.translated():
            return await fetch(self._conn, self._sql[query], asked)

    async def _run(self, query: str, asked: Mapping[str, Any] | None = None, /, **names: str) -> list[Any]:
        """A statement about tables, with their names in it."""
        statement: str = queries("tables")[query]
        for place, name in names.items():
            statement = statement.replace("{" + place + "}", name)
        with self._database.translated():
            return await fetch(self._conn, statement, asked or ())


class SQLiteRebuilding:
    """See `mainstay.projections.store.Rebuilding`.

    Args:
        database: The file.
        mine: The transaction.
        sql: The room's queries.
        subscription: Its name.
    """

    def __init__(self, database: Database, mine: SQLiteTransaction, sql: QueryFile, subscription: str) -> None:
        self._database = database
        self._mine = mine
        self._sql = sql
        self._name = subscription
        self._rebuild = rebuild_name(subscription)
        self.tables = SQLiteTables(database, mine.connection, sql)
        self.serving: list[ShardState] = []
        self.rebuilt: list[ShardState] = []

    @property
    def conn(self) -> aiosqlite.Connection:
        """The transaction."""
        return self._mine.connection

    async def hold(self) -> None:
        """See where the shards of both stand; the file is locked.

        Raises:
            SubscriptionNotFoundError: There is no such subscription.
        """
        self.serving = [state_from(row) for row in await self._ask("states", {"subscription": self._name})]
        self.rebuilt = [state_from(row) for row in await self._ask("states", {"subscription": self._rebuild})]
        if not self.serving:
            raise SubscriptionNotFoundError(self._name)

    async def begin(
        self,
        *,
        shards: int,
        version: int,
        start: Checkpoint,
        actor: str,  # noqa: ARG002 - there is no trail
    ) -> None:
        """Make a rebuild known."""
        asked = {
            "subscription": self._rebuild,
            "shards": checked_shards(shards),
            "version": checked_version(version),
            "now": self._now(),
            "numbers": as_json(range(shards)),
            **checkpoint_fields(start),
        }
        await self._ask("add_subscription", asked)
        await self._ask("add_shards", asked)

    def batch(self, shard: int) -> SQLiteBatch:
        """One of the rebuild's shards, in this transaction."""
        where = {"subscription": self._rebuild, "shard": shard}
        return SQLiteBatch(self._database, self._sql, self._mine, where, self.rebuilt[shard].checkpoint)

    async def swap(self, *, actor: str) -> int:
        """Let the rebuild's shards be the subscription's."""
        names = {"subscription": self._name, "rebuild": self._rebuild}
        who = {"now": self._now(), "actor": storable(actor)}
        paused = next((each for each in self.serving if each.status is ShardStatus.PAUSED), None)
        ((token,),) = await self._ask("next_token", names)
        await self._ask("drop_doubles", names)
        settled = await self._ask("settle_rebuilt", names | who)
        await self._ask("move_letters", names)
        await self._ask("forget_shards", (self._name,))
        status = {
            "token": token,
            "status": str(ShardStatus.ACTIVE if paused is None else paused.status),
            "reason": None if paused is None else paused.reason,
            "actor": who["actor"] if paused is None else paused.actor,
        }
        await self._ask("move_shards", names | {"now": who["now"]} | status)
        await self._ask("raise_generation", names)
        await self._ask("forget", (self._rebuild,))
        return len(settled)

    async def cancel(self) -> None:
        """Forget the rebuild."""
        for query in ("forget_letters", "forget_shards", "forget"):
            await self._ask(query, (self._rebuild,))

    async def _ask(self, query: str, asked: Any) -> list[Any]:
        self._mine.require()
        with self._database.translated():
            return await fetch(self._mine.connection, self._sql[query], asked)

    def _now(self) -> int:
        return micros_of(self._database.now())


def _plain(name: str) -> str:
    """A table's name without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _quoted(name: str) -> str:
    return '"' + _plain(name).replace('"', '""') + '"'
