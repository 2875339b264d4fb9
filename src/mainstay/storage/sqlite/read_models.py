"""`mainstay.projections.read_model_store.ReadModelStore` in a SQLite file, beside events and checkpoints.

Statements are SQLAlchemy's (`mainstay.storage.read_model_statements`), run on the connection that has the transaction.
SQLite has fewer types: a time, a date, a UUID and a Decimal are texts, written so that texts are in the order of what
they mean. Only a Decimal cannot be both exact and in order; it is compared by a function, `mainstay_decimal`, that a
connection gets when it first needs it and that no table depends on.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID
from weakref import WeakSet

import aiosqlite
from sqlalchemy import REAL, ColumnElement, Integer, Text, bindparam, delete, false, func, select, update
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql import ClauseElement

from mainstay.errors import ReadModelTableNotFoundError, StorageError, TenantMismatchError
from mainstay.projections.columns import Kind
from mainstay.projections.read_model import ReadModelTable, Row
from mainstay.projections.read_model_query import Condition, Selection
from mainstay.storage.read_model_statements import ONE, Flavor, Statement, Statements
from mainstay.storage.read_model_tables import Ask, ReadModelTables
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, queries, run_many

_FUNCTION = "mainstay_decimal"
_MISSING = "no such table"
_BIAS = 5_000
"""More than any exponent of a Decimal that a column takes."""
_NINES = str.maketrans("0123456789", "9876543210")

_STORED: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: int,
    Kind.DECIMAL: str,
    Kind.TIMESTAMP: lambda value: value.isoformat(sep=" ", timespec="microseconds"),
    Kind.DATE: date.isoformat,
    Kind.UUID: str,
}
_READ: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.FLOAT: float,
    Kind.DECIMAL: Decimal,
    Kind.TIMESTAMP: datetime.fromisoformat,
    Kind.DATE: date.fromisoformat,
    Kind.UUID: UUID,
}
_TYPE_NAMES = dict.fromkeys(Kind, "TEXT") | {Kind.INTEGER: "INTEGER", Kind.BOOLEAN: "INTEGER", Kind.FLOAT: "REAL"}


def decimal_key(stored: str | None) -> str | None:
    """A Decimal as a text that is in the order of its value; None stays None.

    A sign, the exponent of the first digit, the digits: of negative ones the complement of each, and an end that is
    greater than any digit.
    """
    if stored is None:
        return None
    number = Decimal(stored)
    if not number:
        return "1"
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    key = f"{number.adjusted() + _BIAS:04d}{digits}"
    return f"0{key.translate(_NINES)}~" if number < 0 else f"2{key}"


class SQLiteFlavor(Flavor):
    """How SQLite says it."""

    dialect = sqlite_dialect(paramstyle="qmark")
    nulls_are_largest = False
    table_options = {"sqlite_strict": True}  # noqa: RUF012 - read only
    types = dict.fromkeys(Kind, Text()) | {
        Kind.INTEGER: Integer(),
        Kind.BOOLEAN: Integer(),
        Kind.FLOAT: REAL(),
    }

    def compared(self, column: ColumnElement[Any], kind: Kind) -> ColumnElement[Any]:
        """A Decimal by its key."""
        return getattr(func, _FUNCTION)(column, type_=Text()) if kind is Kind.DECIMAL else column

    def among(self, column: ColumnElement[Any], name: str, kind: Kind, count: int) -> ColumnElement[Any]:
        """One array, however many values; of floats each by itself, because JSON's are not read back exactly."""
        if kind is Kind.FLOAT:
            return column.in_([bindparam(f"{name}_{number}") for number in range(count)]) if count else false()
        return column.in_(select(func.json_each(bindparam(name)).table_valued("value").c.value))

    def values(self, kind: Kind, value: Any) -> Any:
        """A plain value as SQLite stores it."""
        stored = _STORED.get(kind)
        return value if stored is None or value is None else stored(value)

    def comparable(self, kind: Kind, value: Any) -> Any:
        """A Decimal as its key."""
        return decimal_key(str(value)) if kind is Kind.DECIMAL else self.values(kind, value)

    def listed(self, name: str, kind: Kind, values: Sequence[Any]) -> dict[str, Any]:
        """One array of JSON, or floats."""
        if kind is Kind.FLOAT:
            return {f"{name}_{number}": value for number, value in enumerate(values)}
        return {name: json.dumps([self.comparable(kind, value) for value in values])}

    def plain(self, kind: Kind, value: Any) -> Any:
        """A plain value from what is stored."""
        read = _READ.get(kind)
        return value if read is None or value is None else read(value)

    @property
    def type_names(self) -> Mapping[Kind, str]:
        """As ``pragma table_info`` says it."""
        return _TYPE_NAMES

    def literal(self, kind: Kind, value: Any) -> str:
        """A plain value as SQL."""
        stored = self.values(kind, value)
        return "'" + stored.replace("'", "''") + "'" if isinstance(stored, str) else repr(stored)


class SQLiteReadModelStore(ReadModelTables):
    """Read models in a file.

    Args:
        database: The file; `SQLiteEventLog.read_models` gives that of a log.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(SQLiteFlavor(), queries("read_models"))
        self._database = database
        self._prepared: WeakSet[aiosqlite.Connection] = WeakSet()

    def transaction(self) -> AbstractAsyncContextManager[SQLiteTransaction]:
        """A transaction, to be passed as ``conn``."""
        return self._database.write()

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def fetch(self, table: ReadModelTable, ids: Sequence[Any], *, conn: Any = None) -> dict[Any, Row]:
        """The rows of these ids; one statement."""
        if not ids:
            return {}
        mine = self.statements(table)
        rows = await self._rows(table, mine.by_ids(len(ids)), mine.ids(ids), conn)
        return {row["id"]: row for row in self._as_rows(table, rows)}

    async def put(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> dict[Any, Row]:
        """Write rows, whether they are there or not; two statements."""
        if not rows:
            return {}
        mine = self.statements(table)
        async with self._writing(table, conn) as there:
            asked = [self._values(table, row | {"version": 1}) for row in rows]
            await self._many(there, mine.once("put", lambda: _put(mine)), asked)
            ids = mine.ids([row["id"] for row in rows])
            found = await _run(there.connection, mine.by_ids(len(rows)), ids)
            done = {row["id"]: row for row in self._as_rows(table, found)}
            for row in rows if table.has_tenant else ():
                if done[row["id"]]["tenant_id"] != row["tenant_id"]:
                    raise TenantMismatchError(table.name, row["id"])
        return {key: {"version": row["version"], "created_at": row["created_at"]} for key, row in done.items()}

    async def insert(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> int:
        """Write rows that are not there."""
        mine = self.statements(table)
        async with self._writing(table, conn) as there:
            asked = [self._values(table, row) for row in rows]
            return await self._many(there, mine.once("insert", lambda: _insert(mine)), asked)

    async def update(
        self, table: ReadModelTable, rows: Sequence[Row], versions: Sequence[int], *, conn: Any = None
    ) -> int:
        """Write rows over those that have these versions."""
        mine = self.statements(table)
        async with self._writing(table, conn) as there:
            asked = [
                self._values(table, row) | {"expected": version} for row, version in zip(rows, versions, strict=True)
            ]
            return await self._many(there, mine.once("update", lambda: _update(mine)), asked)

    async def remove(
        self,
        table: ReadModelTable,
        ids: Sequence[Any],
        *,
        versions: Sequence[int] | None = None,
        where: Sequence[Condition] = (),
        conn: Any = None,
    ) -> int:
        """Delete rows."""
        if not ids:
            return 0
        mine = self.statements(table)
        async with self._writing(table, conn) as there:
            if versions is None:
                statement, asked = mine.remove(len(ids), where)
                return await self._many(there, statement, [asked | mine.ids(ids)])
            kind = table.id.kind
            each = [
                {"row": self.flavor.values(kind, id_), "expected": version}
                for id_, version in zip(ids, versions, strict=True)
            ]
            return await self._many(there, mine.once("remove_versions", lambda: _remove(mine)), each)

    async def mark(
        self,
        table: ReadModelTable,
        id: Any,  # noqa: A002 - what it is
        deleted_at: datetime | None,
        now: datetime,
        *,
        where: Sequence[Condition] = (),
        conn: Any = None,
    ) -> bool:
        """Lay a row aside, or take it back; one statement."""
        statement, asked = self.statements(table).mark(id, deleted_at, now, where)
        async with self._writing(table, conn) as there:
            return bool(await self._many(there, statement, [asked]))

    async def find(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> list[Row]:
        """The rows of a query; one statement."""
        statement, asked = self.statements(table).find(selection)
        return self._as_rows(table, await self._rows(table, statement, asked, conn))

    async def count(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> int:
        """How many rows a query has; one statement."""
        statement, asked = self.statements(table).count(selection.conditions)
        ((found,),) = await self._rows(table, statement, asked, conn)
        return int(found)

    async def truncate(self, table: ReadModelTable, *, where: Sequence[Condition] = (), conn: Any = None) -> int:
        """Delete all rows for which this holds; one statement."""
        statement, asked = self.statements(table).truncate(where)
        async with self._writing(table, conn) as there:
            return await self._many(there, statement, [asked])

    # -- running -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self, conn: Any) -> AsyncIterator[Ask]:
        """Ways to run statements in the caller's transaction, or in one of our own."""
        async with self._database.within(conn) as mine:
            with self._database.translated():
                yield partial(_ask, mine.connection)

    async def _rows(
        self, table: ReadModelTable, statement: Statement, asked: Mapping[str, Any], conn: Any
    ) -> list[tuple[Any, ...]]:
        with _named(table):
            async with self._database.read(conn) as there:
                await self._prepare(there)
                return await _run(there, statement, asked)

    @asynccontextmanager
    async def _writing(self, table: ReadModelTable, conn: Any) -> AsyncIterator[SQLiteTransaction]:
        """The caller's transaction or one of our own; undone if the block raises."""
        with _named(table):
            async with self._database.marked(conn) as mine:
                await self._prepare(mine.connection)
                with self._database.translated():
                    yield mine

    async def _prepare(self, connection: aiosqlite.Connection) -> None:
        if connection not in self._prepared:
            await connection.create_function(_FUNCTION, 1, decimal_key, deterministic=True)
            self._prepared.add(connection)

    async def _many(self, there: SQLiteTransaction, statement: Statement, asked: Sequence[Mapping[str, Any]]) -> int:
        if not asked:
            return 0
        return await run_many(there.connection, statement.sql, [statement.positional(each) for each in asked])

    def _values(self, table: ReadModelTable, row: Row) -> dict[str, Any]:
        values = self.flavor.values
        return {f"c{place}": values(each.kind, row[name]) for place, (name, each) in enumerate(table.columns.items())}

    def _as_rows(self, table: ReadModelTable, rows: Sequence[tuple[Any, ...]]) -> list[Row]:
        plain, columns = self.flavor.plain, tuple(table.columns.values())
        return [{each.name: plain(each.kind, value) for each, value in zip(columns, row, strict=True)} for row in rows]


@contextmanager
def _named(table: ReadModelTable) -> Iterator[None]:
    """Says which table is missing."""
    try:
        yield
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, sqlite3.OperationalError) and str(cause).startswith(_MISSING):
            raise ReadModelTableNotFoundError(table.name) from cause
        raise


async def _run(
    connection: aiosqlite.Connection, statement: Statement, asked: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    return await fetch(connection, statement.sql, statement.positional(asked))


async def _ask(connection: aiosqlite.Connection, query: str, **asked: Any) -> list[tuple[Any, ...]]:
    return await fetch(connection, query, asked)


def _given(statements: Statements) -> dict[Any, Any]:
    return {each: bindparam(f"c{place}") for place, each in enumerate(statements.sql.c)}


def _insert(statements: Statements) -> ClauseElement:
    return insert(statements.sql).values(_given(statements)).on_conflict_do_nothing()


def _put(statements: Statements) -> ClauseElement:
    sql = statements.sql
    written = insert(sql).values(_given(statements))
    values = {each: written.excluded[each.key] for each in sql.c if each.key not in ("id", "created_at", "version")}
    is_mine = sql.c.tenant_id.is_not_distinct_from(written.excluded.tenant_id) if statements.table.has_tenant else None
    return written.on_conflict_do_update(
        index_elements=[sql.c.id], set_=values | {sql.c.version: sql.c.version + ONE}, where=is_mine
    )


def _update(statements: Statements) -> ClauseElement:
    sql, given = statements.sql, _given(statements)
    key = given.pop(sql.c.id)
    return update(sql).values(given).where(sql.c.id == key, sql.c.version == bindparam("expected"))


def _remove(statements: Statements) -> ClauseElement:
    sql = statements.sql
    return delete(sql).where(sql.c.id == bindparam("row"), sql.c.version == bindparam("expected"))
