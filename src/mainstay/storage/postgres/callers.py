"""The caller's connection: running a statement of ours in a transaction that somebody else began and will end.

What is taken, and what it must be in:

* ``psycopg.AsyncConnection`` and ``psycopg.Connection``: a transaction, or not in autocommit mode, where the statement
  begins one;
* SQLAlchemy's ``AsyncConnection``, ``AsyncSession``, ``Connection`` and ``Session``, their scoped forms and subclasses,
  with the driver psycopg: the statement goes through SQLAlchemy, which so knows of the transaction that it begins;
* Django's ``connection`` (or ``connections[alias]``) with psycopg 3: an ``atomic`` block.

Promises. The statement is one round trip. The transaction is neither committed nor rolled back, and no mode of the
connection is changed. An error of the statement leaves the transaction as PostgreSQL does: failed, to be rolled back by
whoever began it.

A blocking connection is used from a thread, while the caller's coroutine waits: a statement may have to wait for
another transaction, and the event loop must not. Drivers allow that, one at a time; what belongs to one thread (a
scoped session, Django's connection) is looked up by `settled`, in the thread that asks. Callers of `mainstay.sync` wait
in a thread of their own: there it is looked up and used.

Neither SQLAlchemy nor Django is imported here: an object of theirs proves that it is loaded.
"""

import functools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from mainstay.collecting import collecting_later
from mainstay.errors import InvalidInputError
from mainstay.portal import caller_waits, on_callers_thread
from mainstay.storage.postgres.database import Pool, autocommit, sealed, translate_errors

Rows = list[tuple[Any, ...]]
_DRIVERS = ("psycopg", "psycopg_async")
_TAKEN = (
    "a connection of psycopg (AsyncConnection, Connection), of SQLAlchemy (AsyncConnection, AsyncSession, Connection, "
    "Session) or of Django"
)


def settled(conn: Any) -> Any:
    """What stands behind a proxy that belongs to a thread; anything else as it is.

    Call it in the thread that the connection is used in, before another one runs the statement.

    Args:
        conn: Whatever a caller gave.

    Raises:
        InvalidInputError: Django's connection, but not PostgreSQL's, not by psycopg 3, or not in an ``atomic`` block.
    """
    if _is(conn, "sqlalchemy.orm", "scoped_session") or _is(conn, "sqlalchemy.ext.asyncio", "async_scoped_session"):
        return conn()
    if _is(conn, "django.utils.connection", "ConnectionProxy"):
        conn = sys.modules["django.db"].connections[conn.alias]
    return _of_django(conn) if _is(conn, "django.db.backends.base.base", "BaseDatabaseWrapper") else conn


async def rows_in(conn: Any, query: LiteralString, parameters: dict[str, Any]) -> Rows:
    """Run a statement in a caller's transaction.

    Args:
        conn: One of the kinds above.
        query: With ``%(name)s`` for parameters.
        parameters: Of plain types.

    Raises:
        InvalidInputError: No such connection, or none with a transaction to join.
        StorageUnavailableError: The connection is closed or broke, or the database could not do it now.
        StorageError: The database refused it.
    """
    there = await on_callers_thread(functools.partial(settled, conn)) if caller_waits() else settled(conn)
    async with sealed(_translated()):
        if isinstance(there, psycopg.AsyncConnection):
            _check_transaction(there)
            async with psycopg.AsyncCursor(there, row_factory=tuple_row) as cursor:
                await cursor.execute(query, parameters)
                return await cursor.fetchall()
        if _is(there, "sqlalchemy.ext.asyncio", "AsyncSession"):
            there = await there.connection()
        if _is(there, "sqlalchemy.ext.asyncio", "AsyncConnection"):
            rows: Rows = await there.run_sync(_rows_in_sqlalchemy, query, parameters)
            return rows
        return await on_callers_thread(functools.partial(_blocking(there), there, query, parameters))


async def rows_of(pool: Pool, query: LiteralString, parameters: dict[str, Any], conn: Any = None) -> Rows:
    """Run a statement in the caller's transaction, or if there is none, in one of its own.

    Args:
        pool: Used if there is no connection.
        query: As for `rows_in`.
        parameters: As for `rows_in`.
        conn: The caller's, or None.

    Raises:
        StorageError: As `rows_in`.
    """
    if conn is not None:
        return await rows_in(conn, query, parameters)
    async with (
        sealed(autocommit(pool)) as own,
        psycopg.AsyncCursor(own, row_factory=tuple_row) as cursor,
    ):
        await cursor.execute(query, parameters)
        with collecting_later():  # all rows are there
            return await cursor.fetchall()


async def asynchronous(conn: Any) -> psycopg.AsyncConnection[Any]:
    """The connection on which a caller's transaction can be written to by code that awaits.

    Args:
        conn: psycopg's ``AsyncConnection``, or SQLAlchemy's ``AsyncConnection`` or ``AsyncSession``.

    Raises:
        InvalidInputError: One of a kind that blocks, or none with a transaction to join.
    """
    there = settled(conn)
    if _is(there, "sqlalchemy.ext.asyncio", "AsyncSession"):
        there = await there.connection()
    if _is(there, "sqlalchemy.ext.asyncio", "AsyncConnection"):
        there = (await there.get_raw_connection()).driver_connection
    if not isinstance(there, psycopg.AsyncConnection):
        message = (
            "conn must be a psycopg.AsyncConnection, or SQLAlchemy's AsyncConnection or AsyncSession, if projections "
            f"write through it, not {type(conn).__name__}"
        )
        raise InvalidInputError(message)
    _check_transaction(there)
    return there


def _blocking(conn: Any) -> Callable[[Any, LiteralString, dict[str, Any]], Rows]:
    """How to run a statement on a blocking connection.

    Raises:
        InvalidInputError: It is none that we know.
    """
    if isinstance(conn, psycopg.Connection):
        return _rows_in_psycopg
    if _is(conn, "sqlalchemy.orm", "Session"):
        return lambda session, query, parameters: _rows_in_sqlalchemy(session.connection(), query, parameters)
    if _is(conn, "sqlalchemy", "Connection"):
        return _rows_in_sqlalchemy
    raise InvalidInputError(f"conn must be {_TAKEN}, not {type(conn).__name__}")


def _rows_in_psycopg(conn: psycopg.Connection[Any], query: LiteralString, parameters: dict[str, Any]) -> Rows:
    _check_transaction(conn)
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()


def _rows_in_sqlalchemy(conn: Any, query: LiteralString, parameters: dict[str, Any]) -> Rows:
    if conn.dialect.name != "postgresql" or conn.dialect.driver not in _DRIVERS:
        message = (
            f"conn must use the driver psycopg, not {conn.dialect.name}+{conn.dialect.driver}: "
            "create the engine with postgresql+psycopg://"
        )
        raise InvalidInputError(message)
    _check_transaction(conn.connection.driver_connection)
    return [tuple(row) for row in conn.exec_driver_sql(query, parameters)]


def _of_django(wrapper: Any) -> Any:
    conn = wrapper.connection
    if wrapper.vendor != "postgresql" or not (conn is None or isinstance(conn, psycopg.Connection)):
        message = f"conn must be Django's connection to PostgreSQL with psycopg 3, not {wrapper.vendor}'s"
        raise InvalidInputError(message)
    if conn is None or not wrapper.in_atomic_block:
        message = "conn has no transaction to join: wrap it in `with transaction.atomic():`"
        raise InvalidInputError(message)
    if wrapper.needs_rollback:
        message = "the atomic block to join has failed before: leave it, and begin again"
        raise InvalidInputError(message)
    return conn


def _check_transaction(conn: Any) -> None:
    if conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE:
        message = "conn has no transaction to join: it is in autocommit mode; use `with conn.transaction():`"
        raise InvalidInputError(message)


@asynccontextmanager
async def _translated() -> AsyncIterator[Any]:
    with translate_errors(), _unwrapped():
        yield None


@contextmanager
def _unwrapped() -> Iterator[None]:
    """SQLAlchemy's errors: the driver's own where there is one, else what they say about the transaction."""
    try:
        yield
    except Exception as error:
        if not _is(error, "sqlalchemy.exc", "SQLAlchemyError"):
            raise
        cause = getattr(error, "orig", None)
        if isinstance(cause, psycopg.Error):
            raise cause from error
        raise InvalidInputError(f"conn has no transaction to join: {error}") from error


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class whose module need not be installed."""
    found = getattr(sys.modules.get(module), name, None)
    return found is not None and isinstance(value, found)
