"""`mainstay.projections.read_model_store.ReadModelStore` on PostgreSQL.

Statements are SQLAlchemy's (`mainstay.storage.read_model_statements`), compiled once and run with psycopg on the
connection that is given: in a projection that of its batch, so that rows and checkpoint are one COMMIT. Many rows are
one statement: each column goes over as an array.

How it fails. A row that somebody else holds is waited for. A deadlock, or a lock that was not to be had in time, is a
`StorageUnavailableError`: nothing was written, and a projection does its batch again.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import psycopg.postgres
import psycopg.sql
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format
from psycopg.rows import tuple_row
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Double,
    Numeric,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    column,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import NullType, TypeEngine

from mainstay.errors import ReadModelTableNotFoundError, TenantMismatchError
from mainstay.projections.columns import Column as ModelColumn
from mainstay.projections.columns import Kind
from mainstay.projections.read_model import ReadModelTable, Row
from mainstay.projections.read_model_query import Condition, Selection
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Connection, Pool, borrowed, judged, sealed, transaction
from mainstay.storage.read_model_statements import ONE, Flavor, Statement, Statements, quoted
from mainstay.storage.read_model_tables import Ask, ReadModelTables

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EXPECTED = "expected\tversion"
"""The version that a row is to have; a name that no field has, because fields are printable."""
_UNDEFINED_TABLE = "42P01"


_TYPE_NAMES = {
    Kind.TEXT: "text",
    Kind.NAME: "text",
    Kind.INTEGER: "bigint",
    Kind.FLOAT: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.DECIMAL: "numeric",
    Kind.TIMESTAMP: "timestamp with time zone",
    Kind.DATE: "date",
    Kind.UUID: "uuid",
    Kind.JSON: "jsonb",
}


class _UtcLoader(Loader):
    """A ``timestamptz`` in UTC, whatever the session's time zone is: at the ends of time its date may not exist."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return _EPOCH + timedelta(microseconds=int.from_bytes(data, "big", signed=True))


def _our_adapters() -> AdaptersMap:
    """How values come and go, whatever the user's pool makes of them: a Decimal that came as a float were not exact."""
    adapters = AdaptersMap(types=psycopg.postgres.types)
    psycopg.postgres.register_default_adapters(adapters)
    adapters.register_loader("timestamptz", _UtcLoader)
    return adapters


_ADAPTERS = _our_adapters()


class _Cursor(psycopg.AsyncCursor[tuple[Any, ...]]):
    """A cursor with adapters of our own."""

    @property
    def adapters(self) -> AdaptersMap:
        """The same for all of them; nobody adds to it."""
        return _ADAPTERS


class PostgresFlavor(Flavor):
    """How PostgreSQL says it."""

    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    nulls_are_largest = True
    percent = "%%"
    types = {  # noqa: RUF012 - read only
        Kind.TEXT: Text(collation="C"),
        Kind.NAME: Text(collation="C"),
        Kind.INTEGER: BigInteger(),
        Kind.FLOAT: Double(),
        Kind.BOOLEAN: Boolean(),
        Kind.DECIMAL: Numeric(),
        Kind.TIMESTAMP: DateTime(timezone=True),
        Kind.DATE: Date(),
        Kind.UUID: Uuid(),
        Kind.JSON: JSONB(),
    }

    def bound(self, name: str, kind: Kind) -> ColumnElement[Any]:
        """A parameter, cast to the column's type: NULL and an empty list have none."""
        return cast(bindparam(name, type_=NullType()), _cast_type(kind))

    def selected(self, column: ColumnElement[Any], kind: Kind) -> ColumnElement[Any]:
        """Documents as text."""
        return cast(column, Text()) if kind is Kind.JSON else column

    def among(self, column: ColumnElement[Any], name: str, kind: Kind, count: int) -> ColumnElement[Any]:
        """One array, however many values."""
        del count
        return column == any_(cast(bindparam(name, type_=NullType()), ARRAY(_cast_type(kind))))

    def values(self, kind: Kind, value: Any) -> Any:
        """As it is: psycopg knows all of them."""
        del kind
        return value

    def listed(self, name: str, kind: Kind, values: Sequence[Any]) -> dict[str, Any]:
        """One array."""
        del kind
        return {name: list(values)}

    @property
    def type_names(self) -> Mapping[Kind, str]:
        """As ``format_type`` says it."""
        return _TYPE_NAMES

    def literal(self, kind: Kind, value: Any) -> str:
        """A plain value as SQL, of no type until the column gives it one."""
        del kind
        return psycopg.sql.Literal(str(value)).as_string().replace("%", self.percent)

    def indexed(self, column: ModelColumn) -> str:
        """A column as an index names it: in the order in which queries ask for it."""
        return quoted(column.name) + (" nulls first" if column.nullable else "")

    def shape_of(self, count: int) -> int:
        """An array is one parameter."""
        del count
        return 0


class PostgresReadModelStore(ReadModelTables):
    """Read models in PostgreSQL.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(PostgresFlavor(), queries.load("read_models"))
        self.pool = pool

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction, to be passed as ``conn``."""
        return transaction(self.pool, translate_body=False)

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def fetch(self, table: ReadModelTable, ids: Sequence[Any], *, conn: Any = None) -> dict[Any, Row]:
        """The rows of these ids; one round trip."""
        if not ids:
            return {}
        mine = self.statements(table)
        rows = await self._rows(table, mine.by_ids(len(ids)), mine.ids(ids), conn)
        return {row["id"]: row for row in _as_rows(table, rows)}

    async def put(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> dict[Any, Row]:
        """Write rows, whether they are there or not; one statement."""
        if not rows:
            return {}
        mine = self.statements(table)
        statement = mine.once("put", lambda: _put(mine))
        async with self._marked(table, conn) as there:
            found = await self._rows(table, statement, _arrays(table, [row | {"version": 1} for row in rows]), there)
            if len(found) < len(rows):
                known = {row[0] for row in found}
                raise TenantMismatchError(table.name, next(row["id"] for row in rows if row["id"] not in known))
        return {id_: {"version": version, "created_at": created_at} for id_, version, created_at in found}

    async def insert(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> int:
        """Write rows that are not there; one statement."""
        if not rows:
            return 0
        mine = self.statements(table)
        return await self._count(table, mine.once("insert", lambda: _insert(mine)), _arrays(table, rows), conn)

    async def update(
        self, table: ReadModelTable, rows: Sequence[Row], versions: Sequence[int], *, conn: Any = None
    ) -> int:
        """Write rows over those that have these versions; one statement."""
        if not rows:
            return 0
        mine = self.statements(table)
        asked = _arrays(table, rows) | {"versions": list(versions)}
        return await self._count(table, mine.once("update", lambda: _update(mine)), asked, conn)

    async def remove(
        self,
        table: ReadModelTable,
        ids: Sequence[Any],
        *,
        versions: Sequence[int] | None = None,
        where: Sequence[Condition] = (),
        conn: Any = None,
    ) -> int:
        """Delete rows; one statement."""
        if not ids:
            return 0
        mine = self.statements(table)
        if versions is None:
            statement, asked = mine.remove(len(ids), where)
            return await self._count(table, statement, asked | mine.ids(ids), conn)
        asked = mine.ids(ids) | {"versions": list(versions)}
        return await self._count(table, mine.once("remove_versions", lambda: _remove(mine)), asked, conn)

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
        return bool(await self._count(table, statement, asked, conn))

    async def find(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> list[Row]:
        """The rows of a query; one round trip."""
        statement, asked = self.statements(table).find(selection)
        return _as_rows(table, await self._rows(table, statement, asked, conn))

    async def count(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> int:
        """How many rows a query has; one round trip."""
        statement, asked = self.statements(table).count(selection.conditions)
        ((found,),) = await self._rows(table, statement, asked, conn)
        return int(found)

    async def truncate(self, table: ReadModelTable, *, where: Sequence[Condition] = (), conn: Any = None) -> int:
        """Delete all rows for which this holds; one statement."""
        statement, asked = self.statements(table).truncate(where)
        return await self._count(table, statement, asked, conn)

    # -- running -------------------------------------------------------------------------------------------------------

    async def _rows(
        self, table: ReadModelTable, statement: Statement, asked: Mapping[str, Any], conn: Any
    ) -> list[tuple[Any, ...]]:
        async with self._cursor(table, conn) as cursor:
            await cursor.execute(statement.sql.encode(), asked, binary=True)
            return await cursor.fetchall()

    async def _count(self, table: ReadModelTable, statement: Statement, asked: Mapping[str, Any], conn: Any) -> int:
        async with self._cursor(table, conn) as cursor:
            await cursor.execute(statement.sql.encode(), asked)
            return cursor.rowcount

    @asynccontextmanager
    async def _cursor(self, table: ReadModelTable, conn: Any) -> AsyncIterator[psycopg.AsyncCursor[tuple[Any, ...]]]:
        try:
            async with borrowed(self.pool, conn) as there, _Cursor(there, row_factory=tuple_row) as cursor:
                yield cursor
        except psycopg.Error as error:
            if error.sqlstate == _UNDEFINED_TABLE:
                raise ReadModelTableNotFoundError(table.name) from error
            raise judged(error) from error

    @asynccontextmanager
    async def _marked(self, table: ReadModelTable, conn: Any) -> AsyncIterator[Any]:
        """What can be undone if a row turns out to be another tenant's."""
        if not table.has_tenant:
            yield conn
        elif conn is None:
            async with self.transaction() as mine:
                yield mine
        else:
            async with borrowed(self.pool, conn) as there, there.transaction():
                yield there

    # -- tables --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self, conn: Any) -> AsyncIterator[Ask]:
        """Ways to run statements in the caller's transaction, or in one of our own."""
        if conn is None:
            async with sealed(transaction(self.pool)) as own:
                yield partial(_ask, own)
        else:
            async with sealed(borrowed(self.pool, conn)) as there:
                yield partial(_ask, there)


def _cast_type(kind: Kind) -> TypeEngine[Any]:
    """What parameters are cast to; a collation is the column's."""
    return Text() if kind in (Kind.TEXT, Kind.NAME) else PostgresFlavor.types[kind]


def _as_rows(table: ReadModelTable, rows: Sequence[tuple[Any, ...]]) -> list[Row]:
    names = tuple(table.columns)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _arrays(table: ReadModelTable, rows: Sequence[Row]) -> dict[str, Any]:
    return {f"c{place}": [row[name] for row in rows] for place, name in enumerate(table.columns)}


async def _ask(conn: Connection, query: str, **asked: Any) -> list[tuple[Any, ...]]:
    async with _Cursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(query.encode(), asked)
        return await cursor.fetchall() if cursor.description else []


def _given(statements: Statements, *more: ColumnElement[Any]) -> Any:
    """Rows as arrays, one for each column, with what is beside them; as a table named ``given``."""
    table = statements.table
    arrays = [
        cast(bindparam(f"c{place}", type_=NullType()), ARRAY(_cast_type(each.kind)))
        for place, each in enumerate(table.columns.values())
    ]
    names = [column(name, _cast_type(each.kind)) for name, each in table.columns.items()]
    rows = func.unnest(*arrays, *more).table_valued(*names, *([column(_EXPECTED, BigInteger())] if more else []))
    return rows.render_derived(name="given")


def _inserted(statements: Statements) -> tuple[Any, Any]:
    given = _given(statements)
    names = list(statements.table.columns)
    return insert(statements.sql).from_select(
        [statements.sql.c[name] for name in names], select(*(given.c[name] for name in names)).order_by(given.c.id)
    ), given


def _insert(statements: Statements) -> ClauseElement:
    found: ClauseElement = _inserted(statements)[0].on_conflict_do_nothing()
    return found


def _put(statements: Statements) -> ClauseElement:
    written, _ = _inserted(statements)
    sql = statements.sql
    values = {each: written.excluded[each.key] for each in sql.c if each.key not in ("id", "created_at", "version")}
    is_mine = sql.c.tenant_id.is_not_distinct_from(written.excluded.tenant_id) if statements.table.has_tenant else None
    statement: ClauseElement = written.on_conflict_do_update(
        index_elements=[sql.c.id], set_=values | {sql.c.version: sql.c.version + ONE}, where=is_mine
    ).returning(sql.c.id, sql.c.version, sql.c.created_at)
    return statement


def _update(statements: Statements) -> ClauseElement:
    versions = cast(bindparam("versions", type_=NullType()), ARRAY(BigInteger()))
    given, sql = _given(statements, versions), statements.sql
    values = {each: given.c[each.key] for each in sql.c if each.key != "id"}
    return update(sql).values(values).where(sql.c.id == given.c.id, sql.c.version == given.c[_EXPECTED])


def _remove(statements: Statements) -> ClauseElement:
    kind = _cast_type(statements.table.id.kind)
    arrays = (
        cast(bindparam("ids", type_=NullType()), ARRAY(kind)),
        cast(bindparam("versions", type_=NullType()), ARRAY(BigInteger())),
    )
    named = func.unnest(*arrays).table_valued(column("id", kind), column(_EXPECTED, BigInteger()))
    given, sql = named.render_derived(name="given"), statements.sql
    return delete(sql).where(sql.c.id == given.c.id, sql.c.version == given.c[_EXPECTED])
