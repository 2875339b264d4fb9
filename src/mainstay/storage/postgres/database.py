"""How a store reaches PostgreSQL: connections, statements, and what errors become.

Every store goes through the three context managers here, and so do its errors:

* `autocommit`: one statement that is a whole transaction; saves the BEGIN and the COMMIT round trip.
* `transaction`: several statements, together or not at all.
* `borrowed`: the caller's connection if there is one, so that our writes join its transaction; else `autocommit`.
* `sealed`: around one of these, for statements of ours alone: no error of the driver leaves it.

Promises. A connection goes back to its pool as it came out of it: idle, and in the autocommit mode it had. Nothing is
set on the session, so all of it works behind PgBouncer in transaction mode. Whatever the user's pool is configured to
return (row factory, cursor class), the statement helpers return what they say.

How it fails. Errors of the driver that mean something to a user become errors of `mainstay.errors` with the original as
``__cause__``; the rest (a deadlock, a serialization failure, a canceled query, a violated constraint) stays as it is,
because only the caller knows whether to repeat. A connection that broke while a statement was under way leaves its
outcome unknown, and `StorageUnavailableError` says no more than that.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.abc import QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row, scalar_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from mainstay.errors import (
    ConfigurationError,
    InvalidInputError,
    MainstayError,
    PermissionDeniedError,
    PgmqMissingError,
    PoolClosedError,
    PoolExhaustedError,
    SchemaMissingError,
    StorageError,
    StorageUnavailableError,
    error_for_sqlstate,
    shown,
)
from mainstay.storage.postgres.reading import Reading
from mainstay.storage.postgres.refusals import check_place, place_of, unreached

#: A pool of the user's; what its connections return is none of our business.
Pool = AsyncConnectionPool[Any]
#: A connection of the user's.
Connection = AsyncConnection[Any]
#: Parameters of one statement.
Params = Mapping[str, Any] | Sequence[Any]

#: Schemas that are ours. An object missing elsewhere is the user's own affair.
_OURS = ("commandbus", "eventsource", "mainstay")
#: Undefined schema, table, function, object.
_UNDEFINED = frozenset({"3F000", "42P01", "42883", "42704"})
_PERMISSION_DENIED = "42501"
_TRANSACTION_FAILED = "25P02"
#: Classes and codes that say: this server or this way to it cannot be used (now). Connection failure, out of resources,
#: refused login; shut down or starting, no such database, ended idle transaction, read-only standby.
_UNAVAILABLE_CLASSES = ("08", "53", "28", "57P")
_UNAVAILABLE = frozenset({"3D000", "25P03", "25006"})
#: Serialization failure, deadlock, lock timeout, canceled statement.
_TRY_AGAIN = frozenset({"40001", "40P01", "55P03", "57014"})


RECONNECT_TIMEOUT = 2.0
"""Seconds for which a pool of ours tries to replace a connection by itself.

The pool doubles its pauses up to this limit (300 s by default), and a caller gets nothing while it waits: after an
outage of 18 s a default pool was usable 10 s after the server was. When it has given up, the next caller makes it try
at once.
"""


def checked_dsn(dsn: object) -> str:
    """A connection string, if libpq understands it. Errors repeat none of it: a password may be in it.

    Raises:
        ConfigurationError: It is none.
    """
    form = "write postgresql://user@host/database or host=... dbname=..."
    if not isinstance(dsn, str):
        raise ConfigurationError(f"a connection string is a text, not {type(dsn).__name__}: {form}")
    try:
        dsn.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("the connection string has half of a character in it (a lone surrogate)") from None
    if not dsn.strip():
        raise ConfigurationError(f"no database was named, the connection string is empty: {form}")
    scheme, is_url, _ = dsn.partition("://")
    if is_url and scheme.startswith(("postgresql+", "postgres+")):
        raise ConfigurationError("the connection string is SQLAlchemy's: write postgresql:// alone, without +DRIVER")
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        message = f"the connection string cannot be understood, and is not shown, as a password may be in it: {form}"
        raise ConfigurationError(message) from None
    check_place(dsn)
    return dsn


def in_utf8(dsn: str) -> dict[str, Any]:
    """What lets a connection read and write any text that the database can hold; empty if the DSN says otherwise."""
    return {} if "client_encoding" in conninfo_to_dict(dsn) else {"client_encoding": "utf8"}


def open_pool(dsn: str, *, min_size: int = 2, max_size: int = 10, timeout: float = 30.0) -> Pool:
    """A pool that opens when it is entered (``async with``) and closes when it is left.

    Args:
        dsn: libpq connection string or URL.
        min_size: Connections kept open.
        max_size: Connections at most.
        timeout: Seconds to wait for a free connection.

    Raises:
        ConfigurationError: Not a connection string, or no such pool.
    """
    checked_dsn(dsn)
    sizes = [min_size, max_size]
    if not all(type(size) is int for size in sizes) or not 0 <= min_size <= max_size or max_size == 0:
        told = f"min_size={shown(min_size)}, max_size={shown(max_size)}"
        raise ConfigurationError(f"a pool keeps 0 <= min_size <= max_size connections, and may have one, not {told}")
    return AsyncConnectionPool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        reconnect_timeout=RECONNECT_TIMEOUT,
        open=False,
        kwargs=in_utf8(dsn),
    )


@asynccontextmanager
async def autocommit(pool: Pool, *, timeout: float | None = None) -> AsyncIterator[Connection]:
    """A connection on which every statement commits by itself.

    The mode is changed on the client only: no round trip. It is put back however the block ends; a transaction that the
    block left open is rolled back first.

    Args:
        pool: An open pool.
        timeout: Seconds to wait for a free one; None: as long as the pool says.

    Raises:
        StorageUnavailableError: The pool is closed, or the server cannot be reached.
        PoolExhaustedError: No connection became free in time.
        MainstayError: What `translate` makes of an error in the block.
    """
    lost = False
    try:
        with translate_errors():
            async with pool.connection(timeout) as conn:
                before = conn.autocommit
                await conn.set_autocommit(True)
                try:
                    yield conn
                except psycopg.Error as error:
                    _raise_translated(error, conn)
                finally:
                    if conn.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                        await conn.rollback()
                    # In any other state but idle the pool closes the connection instead of taking it back.
                    if conn.info.transaction_status == TransactionStatus.IDLE:
                        await conn.set_autocommit(before)
                    lost = conn.closed
    finally:
        if lost:
            await replace_lost(pool)


async def replace_lost(pool: Pool) -> None:
    """Let the pool look at its idle connections after one broke: the others of its age are likely to be dead too.

    Otherwise each of them would cost somebody a failed call.
    """
    with suppress(psycopg.Error):
        await pool.check()


class HeldConnection:
    """One connection of a pool, in autocommit, kept by somebody who calls often.

    A pool hands its connections out in turn. Whoever comes back every millisecond would find each time another server
    process, whose caches are cold; this one is always the same. After an error it goes back to the pool, which judges
    it, and the next call takes another.

    Args:
        pool: An open pool, with connections to spare.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._conn: Connection | None = None
        self._lock = asyncio.Lock()

    @property
    def in_use(self) -> bool:
        """Whether a call is under way."""
        return self._lock.locked()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The connection; a second caller waits for the first.

        Raises:
            StorageUnavailableError: The pool is closed, or the server cannot be reached.
            PoolExhaustedError: No connection became free in time.
            MainstayError: What `translate` makes of an error in the block.
        """
        async with self._lock:
            with translate_errors():
                if self._conn is None:
                    self._conn = await self._pool.getconn()
                    await self._conn.set_autocommit(True)
                try:
                    yield self._conn
                except BaseException:
                    await self._give_back()
                    raise

    async def close(self) -> None:
        """Give the connection back, in the mode it came in."""
        async with self._lock:
            await self._give_back()

    async def _give_back(self) -> None:
        conn, self._conn = self._conn, None
        if conn is None:
            return
        try:
            if conn.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                await conn.rollback()
            if conn.info.transaction_status == TransactionStatus.IDLE:
                await conn.set_autocommit(False)
        except psycopg.Error:
            await conn.close()
        finally:
            lost = conn.closed
            await self._pool.putconn(conn)
            if lost:
                await replace_lost(self._pool)


@asynccontextmanager
async def transaction(pool: Pool, *, translate_body: bool = True) -> AsyncIterator[Connection]:
    """A connection inside a transaction that commits when the block ends and rolls back when it raises.

    Args:
        pool: An open pool.
        translate_body: False when the block runs a user's code, whose own errors must arrive as they were raised.

    Raises:
        StorageUnavailableError: The pool is closed, or the server cannot be reached, or the commit broke.
        PoolExhaustedError: No connection became free in time.
        MainstayError: What `translate` makes of an error in the block, if it is asked to.
    """
    raised_inside: BaseException | None = None
    used: Connection | None = None
    try:
        async with pool.connection() as conn:
            used, reading = conn, Reading(conn)
            try:
                async with conn.transaction():
                    try:
                        yield conn
                    except BaseException as error:
                        raised_inside = error
                        raise
            finally:
                reading.end()
    except psycopg.Error as error:
        if error is raised_inside and not translate_body:
            raise
        _raise_translated(error, used)


@asynccontextmanager
async def borrowed(pool: Pool, conn: Connection | None) -> AsyncIterator[Connection]:
    """The caller's connection if it gave one, else one of the pool in autocommit.

    A caller's connection is never committed, rolled back or changed.

    Args:
        pool: Used if there is no connection.
        conn: The caller's connection, in whatever transaction it is.

    Raises:
        InvalidInputError: What was given is no asynchronous connection of psycopg.
        StorageUnavailableError: The pool or the connection is closed, or the server cannot be reached.
        PoolExhaustedError: No connection became free in time.
        MainstayError: What `translate` makes of an error in the block.
    """
    if conn is None:
        async with autocommit(pool) as own:
            yield own
    elif not isinstance(conn, AsyncConnection):
        raise InvalidInputError(f"conn must be a psycopg.AsyncConnection, not {type(conn).__name__}")
    else:
        try:
            yield conn
        except psycopg.Error as error:
            _raise_translated(error, conn)


@asynccontextmanager
async def sealed(connection: AbstractAsyncContextManager[Connection]) -> AsyncIterator[Connection]:
    """One of the above for statements of ours alone: every error of the driver becomes one of ours.

    A caller cannot judge statements that are not his.

    Args:
        connection: `autocommit`, `borrowed` or what else gives a connection.

    Raises:
        StorageUnavailableError: As the one above; or the database could not do it now (a deadlock, a lock or statement
            timeout) and changed nothing.
        StorageError: The database refused it.
    """
    try:
        async with connection as conn:
            yield conn
    except psycopg.Error as error:
        raise judged(error) from error


def judged(error: psycopg.Error) -> MainstayError:
    """What any error of a statement of ours alone stands for.

    Args:
        error: Raised by psycopg or its pool.
    """
    if ours := translate(error):
        return ours
    text = error.diag.message_primary or str(error)
    if error.sqlstate in _TRY_AGAIN:
        return StorageUnavailableError(f"the database could not do it now, and changed nothing: {text}")
    return StorageError(f"the database refused: {text}")


@dataclass(frozen=True)
class _DocumentReader:
    """Reads ``jsonb`` on a connection of this encoding; an object, because psycopg keeps no closure as a loader.

    A value that Python has no room for comes as ``{"unreadable": its text}``, not as an error.
    """

    encoding: str

    def __call__(self, document: str | bytes) -> Any:
        text = document if isinstance(document, str) else bytes(document).decode(self.encoding)
        try:
            return orjson.loads(text)
        except ValueError:
            return {"unreadable": text}


async def fetch_all(conn: Connection, query: QueryNoTemplate, params: Params | None = None) -> list[DictRow]:
    """All rows of a query, as dictionaries; JSON in them as values, whatever the user's pool makes of it."""
    async with AsyncCursor(conn, row_factory=dict_row) as cursor:
        set_json_loads(_DocumentReader(conn.info.encoding), cursor)
        await cursor.execute(query, params)
        return await cursor.fetchall()


async def fetch_one(conn: Connection, query: QueryNoTemplate, params: Params | None = None) -> DictRow | None:
    """The first row of a query as a dictionary, or None if it has none; JSON in it as `fetch_all` says."""
    async with AsyncCursor(conn, row_factory=dict_row) as cursor:
        set_json_loads(_DocumentReader(conn.info.encoding), cursor)
        await cursor.execute(query, params)
        return await cursor.fetchone()


async def fetch_value(conn: Connection, query: QueryNoTemplate, params: Params | None = None) -> Any:
    """The first column of the first row, or None if there is no row."""
    async with AsyncCursor(conn, row_factory=scalar_row) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchone()


async def execute(conn: Connection, query: QueryNoTemplate, params: Params | None = None) -> int:
    """Run a statement and return the number of rows that it touched."""
    async with AsyncCursor(conn) as cursor:
        await cursor.execute(query, params)
        return cursor.rowcount


async def run_script(conn: Connection, script: str) -> None:
    """Run any number of statements at once.

    Args:
        conn: In a transaction, unless the script may stop half-way.
        script: Text of this package, or made from it; it takes no parameters.
    """
    async with AsyncCursor(conn) as cursor:
        await cursor.execute(script.encode(), prepare=False)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn driver errors of the block into ours; the original is the ``__cause__``.

    Raises:
        MainstayError: What `translate` makes of the error.
    """
    try:
        yield
    except psycopg.Error as error:
        _raise_translated(error)


def translate(error: psycopg.Error) -> MainstayError | None:
    """The error of ours that a driver error stands for.

    Args:
        error: Raised by psycopg or its pool.

    Returns:
        None if it stands for none: a constraint, a deadlock, a mistake in SQL, whatever the caller has to judge.
    """
    pool_error = _pool_error(error)
    if pool_error is not None:
        return pool_error
    state = error.sqlstate
    text = error.diag.message_primary or str(error)
    if state is None:
        # A connection that is lost or was closed has no SQLSTATE; nor has a misuse of the driver, which is no
        # OperationalError.
        if error.pgconn is not None:  # it was to be made
            return unreached(error)
        return _unavailable(text) if isinstance(error, psycopg.OperationalError) else None
    if state == _PERMISSION_DENIED:
        return PermissionDeniedError(
            f"{text}: grant the role usage on the schemas commandbus, eventsource, mainstay and pgmq and all rights on "
            "their tables, sequences and functions; to install or upgrade, also the right to create in the database"
        )
    if state in _UNDEFINED:
        return _undefined(text)
    if state == _TRANSACTION_FAILED:
        return StorageError(f"the transaction to join has failed before: roll it back, and begin again ({text})")
    if state.startswith(_UNAVAILABLE_CLASSES) or state in _UNAVAILABLE:
        return _unavailable(text)
    return error_for_sqlstate(state, text, error.diag.message_detail)


def _raise_translated(error: psycopg.Error, conn: Connection | None = None) -> NoReturn:
    """Raise what an error stands for, or the error itself; of a schema that is missing say where, if that is known."""
    ours = translate(error)
    if ours is None:
        raise error
    if isinstance(ours, SchemaMissingError) and conn is not None and not conn.closed:
        ours = SchemaMissingError(f"{ours} (this is {place_of(conn)})")
    raise ours from error


def _pool_error(error: psycopg.Error) -> MainstayError | None:
    if isinstance(error, PoolClosed):
        return PoolClosedError(f"{error}: open it first (await pool.open()), and keep it open while it is used")
    if isinstance(error, PoolTimeout | TooManyRequests):
        return PoolExhaustedError(
            f"{error}: all connections of the pool are in use (raise max_size, or hold them for a shorter time), "
            "or the server cannot be reached"
        )
    return None


def _undefined(text: str) -> MainstayError | None:
    # These SQLSTATEs carry no field for the name, but the name stands in the message in every language.
    if any(f"{schema}." in text or f'"{schema}"' in text for schema in _OURS):
        return SchemaMissingError(
            f"{text}: mainstay is not installed in this database, or in an older version; "
            "run `mainstay schema upgrade` or await setup_database(pool)"
        )
    # A missing pgmq.q_orders is a missing queue, which its store reports.
    if any(name in text for name in ('"pgmq"', "pgmq.meta")) or " pgmq." in text:
        return PgmqMissingError(f"{text}: PGMQ is absent or too old; run `mainstay schema upgrade`")
    return None


def _unavailable(text: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"the database cannot be used: {text}")
