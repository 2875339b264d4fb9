"""A SQLite file: its connections, its transactions, its schema, and what can go wrong with it.

SQLite lets one transaction write and many read at a time (write-ahead log). There is one connection that writes,
handed from transaction to transaction, and a few that read, each with a thread of its own (aiosqlite). Writers begin
with BEGIN IMMEDIATE, so two never find out at the end that they were in each other's way: those of this process wait in
line here, those of other processes wait in SQLite, each up to ``patience``. A task that has a transaction open and
begins another would wait for itself: it is told so at once.

Durable. A commit is on the disk when it returns (``synchronous = full``).

In memory. A database in SQLite's own memory has no write-ahead log: who reads waits for who writes, and a program that
reads inside its transaction waits for itself. So ``":memory:"`` is a file in the directory for temporary files that
nobody waits for the disk for, and that is deleted when the log is closed.

How it fails. A process that dies leaves its last transaction whole or not at all; the next who opens the file sees to
that. A task that is canceled rolls back before the next transaction begins; whether a COMMIT that was under way
happened is unknown, as ever. What SQLite refuses becomes an error of ours with the file's name in it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar, cast

from mainstay.clock import Clock
from mainstay.errors import (
    ConfigurationError,
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseLockedError,
    MissingDependencyError,
    PermissionDeniedError,
    PoolClosedError,
    SchemaOutdatedError,
    SchemaTooNewError,
    StorageError,
    StorageUnavailableError,
    shown,
)
from mainstay.storage.query_files import QueryFile, read
from mainstay.storage.sqlite.callers import CallersConnection

try:
    import sqlite3

    import aiosqlite
except ImportError as error:
    raise MissingDependencyError('SQLite needs the extra "sqlite": pip install "mainstay[sqlite]"') from error

T = TypeVar("T")

OLDEST = (3, 37, 0)
"""The oldest SQLite with strict tables."""
MEMORY = ":memory:"
INTERVAL = 0.05
"""Seconds between two attempts at what SQLite itself does not wait for."""

_HERE = files("mainstay.storage.sqlite")
_SCHEMA = {part: (1, f"{at:04}_{part}.sql") for at, part in enumerate(("events", "projections", "inbox"), 1)}


@cache
def queries(room: str) -> QueryFile:
    """The queries of a room.

    Args:
        room: ``"events"`` reads ``queries/events.sql``.
    """
    return read(_HERE / "queries", room)


@dataclass(slots=True, eq=False)
class SQLiteTransaction:
    """An open transaction.

    Attributes:
        connection: For statements of your own; never commit or roll back on it.
        began: When it began, by the database's clock.
        is_open: Whether it still is.
    """

    connection: aiosqlite.Connection
    began: datetime
    is_open: bool = True

    def require(self) -> None:
        """See that it was not ended from inside.

        Raises:
            ConfigurationError: It was: by a commit or rollback, or by SQLite, after an error that nobody heeded.
        """
        if not self.connection.in_transaction:
            message = (
                "the transaction was ended from inside, by a commit, a rollback or an error that was passed over: "
                "what was written before is committed or lost. Leave its end to the block that began it"
            )
            raise ConfigurationError(message)


class Database:
    """A SQLite file; it opens itself when it is first used.

    Args:
        path: The file, made if it is missing; ``":memory:"`` for one that is deleted when it is closed.
        clock: Where transactions take their time from.
        patience: Seconds to wait for another transaction of this process, and for another process that writes.
        readers: Connections that read, at most.
    """

    parts: ClassVar[tuple[str, ...]] = ("events", "projections")
    """What is installed in it."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock, *, patience: float, readers: int) -> None:
        self.path = _checked_path(path)
        if not 0 <= patience < float("inf") or readers < 1:
            raise ConfigurationError(f"patience must be seconds, and readers 1 at least, not {patience} and {readers}")
        self._clock = clock
        self._patience = patience
        self._file = Path()
        self._passing: TemporaryDirectory[str] | None = None
        self._writer: aiosqlite.Connection | None = None
        self._idle: list[aiosqlite.Connection] = []
        self._free = asyncio.Semaphore(readers)
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._writes: asyncio.Task[Any] | None = None
        self._begun: SQLiteTransaction | None = None
        self._is_closed = False
        self._sql = queries("database")

    # -- opening and closing ------------------------------------------------------------------------------------------
    async def open(self) -> None:
        """Open the file, and install the schema if it is not there; does nothing if it is open.

        Raises:
            SchemaTooNewError: A newer version of mainstay has written it.
            StorageError: It cannot be opened: a directory, not a database, damaged, locked, not allowed.
        """
        if self._writer is not None:
            return
        async with self._opening:
            if self._is_closed:
                raise PoolClosedError(f"the log on {self.path} is closed")
            if self._writer is not None:
                return
            if self.path == MEMORY:
                self._passing = TemporaryDirectory(prefix="mainstay-", ignore_cleanup_errors=True)
                self._file = Path(self._passing.name, "events.sqlite")
            else:
                self._file = Path(self.path)
            writer: aiosqlite.Connection | None = None
            try:
                with self.translated():
                    writer = await self._connected()
                    name = "configure_writer" if self._passing is None else "configure_passing_writer"
                    await self._patiently(writer, self._sql[name])
                    for part in self.parts:
                        await self._install(writer, part, *_SCHEMA[part])
            except BaseException:
                if writer is not None:
                    await through(writer.close())
                self._forget_file()
                raise
            self._writer = writer

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._writer is not None

    async def close(self) -> None:
        """Close all connections, after the transaction that is open; does nothing if it is closed."""
        async with self._opening, self._writing:
            self._is_closed = True
            for connection in (*self._idle, *([self._writer] if self._writer else [])):
                await through(connection.close())
            self._idle.clear()
            self._writer = None
            self._forget_file()

    def _forget_file(self) -> None:
        if self._passing is not None:
            self._passing.cleanup()
            self._passing = None

    async def _connected(self) -> aiosqlite.Connection:
        """A connection. One that cannot be had is closed properly too, or its thread would outlive the event loop."""
        failed: list[sqlite3.Error] = []

        def connect() -> sqlite3.Connection:
            try:
                return sqlite3.connect(self._file, isolation_level=None, timeout=self._patience)
            except sqlite3.Error as error:
                failed.append(error)
                return sqlite3.connect(MEMORY)

        connection = aiosqlite.Connection(connect, iter_chunk_size=64)
        try:
            await through(_opened(connection))
        except asyncio.CancelledError:
            await through(connection.close())
            raise
        if failed:
            await through(connection.close())
            raise failed[0]
        return connection

    async def _patiently(self, connection: aiosqlite.Connection, script: str) -> None:
        """Run what fails at once if another process opens or closes the file at the same time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while True:
            try:
                await connection.executescript(script)
            except sqlite3.OperationalError as error:
                if _kind(error) != sqlite3.SQLITE_BUSY or loop.time() > end:
                    raise
                await asyncio.sleep(INTERVAL)
            else:
                return

    async def _install(self, connection: aiosqlite.Connection, part: str, version: int, script: str) -> None:
        found = await self._version(connection, part)
        if found is None:
            try:
                await self._patiently(connection, (_HERE / "schema" / script).read_text(encoding="utf-8"))
            except sqlite3.OperationalError:
                await connection.rollback()
                if await self._version(connection, part) is None:  # else another process was quicker
                    raise
            found = await self._version(connection, part)
        if found is None or found < version:
            message = (
                f"{self.path} holds version {found} of {part}; this mainstay needs {version}: import into a new file"
            )
            raise SchemaOutdatedError(message)
        if found > version:
            message = (
                f"{self.path} was written by a newer mainstay (version {found} of {part}, known is {version}): upgrade"
            )
            raise SchemaTooNewError(message)

    async def _version(self, connection: aiosqlite.Connection, part: str) -> int | None:
        if not await fetch(connection, self._sql["find_schema"]):
            return None
        rows = await fetch(connection, self._sql["schema_version"], (part,))
        return int(rows[0][0]) if rows else None

    # -- transactions -------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def write(self) -> AsyncIterator[SQLiteTransaction]:
        """A transaction that writes; it commits when the block ends, unless that raises.

        Raises:
            DatabaseLockedError: Another writes for too long.
            ConfigurationError: The task has a transaction open already; or it was ended by a statement in the block.
            StorageError: See `open`.
        """
        await self.open()
        async with self._turn():
            if self._writer is None:
                raise PoolClosedError(f"the log on {self.path} is closed")
            mine = SQLiteTransaction(self._writer, self._clock.now())
            try:
                with self.translated():
                    await through(_ended(self._writer.execute(self._sql["begin"])))
                mine.began = self._clock.now()
                self._begun = mine
                yield mine
                mine.is_open = False
                mine.require()
                with self.translated():
                    await through(self._writer.commit())
            except BaseException:
                mine.is_open = False
                with suppress(sqlite3.Error):  # what went wrong before is what is to be told
                    await through(self._writer.rollback())
                raise
            finally:
                self._begun = None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One after another, in the order in which they came."""
        if self.writes_here():
            message = (
                f"a transaction on {self.path} is open in this very task, and another would wait for its end: pass "
                "what you have as conn="
            )
            raise ConfigurationError(message)
        try:
            async with asyncio.timeout(self._patience):
                await self._writing.acquire()
        except TimeoutError:
            message = (
                f"{self.path} is locked: another transaction of this process is open for longer than "
                f"{self._patience:g} s"
            )
            raise DatabaseLockedError(message) from None
        self._writes = asyncio.current_task()
        try:
            yield
        finally:
            self._writes = None
            self._writing.release()

    def writes_here(self) -> bool:
        """Whether the task that asks has a transaction open: nobody else can write then, and it must not wait."""
        return self._writes is not None and self._writes is asyncio.current_task()

    def now(self) -> datetime:
        """The time, by the database's clock."""
        return self._clock.now()

    @asynccontextmanager
    async def within(self, conn: Any) -> AsyncIterator[SQLiteTransaction]:
        """The caller's transaction; or one of our own for None.

        Args:
            conn: A transaction from `write`, or its connection in the task that began it; or an aiosqlite connection
                of the caller's own, in a transaction; or from blocking code one of sqlite3.

        Raises:
            ConfigurationError: Something else.
        """
        if conn is None:
            async with self.write() as mine:
                yield mine
        elif isinstance(conn, SQLiteTransaction):
            if not conn.is_open or conn.connection is not self._writer:
                raise ConfigurationError("conn is a transaction that has ended, or that of another log")
            yield conn
        elif self._begun is not None and conn is self._begun.connection and self.writes_here():
            yield self._begun
        else:
            yield SQLiteTransaction(await self._checked(conn), self._clock.now())

    @asynccontextmanager
    async def marked(self, conn: Any) -> AsyncIterator[SQLiteTransaction]:
        """The same; what is done in the block is undone if it raises, also if the caller goes on."""
        async with self.within(conn) as mine:
            if conn is None:
                yield mine
                return
            await run(mine.connection, self._sql["set_mark"])
            try:
                yield mine
            except BaseException:
                await through(run(mine.connection, self._sql["return_to_mark"]))
                await through(run(mine.connection, self._sql["forget_mark"]))
                raise
            await run(mine.connection, self._sql["forget_mark"])

    async def _checked(self, conn: Any) -> aiosqlite.Connection:
        await self.open()
        taken: aiosqlite.Connection = conn
        if CallersConnection.takes(conn):
            taken = cast("aiosqlite.Connection", CallersConnection(conn))
        elif not isinstance(conn, aiosqlite.Connection) or conn is self._writer:
            message = (
                "conn must be what transaction() gives, or a connection of your own: aiosqlite's, or for code that "
                f"blocks sqlite3's; not {shown(conn)}"
            )
            raise ConfigurationError(message)
        if not taken.in_transaction:
            raise ConfigurationError("conn is in no transaction: execute BEGIN IMMEDIATE on it first")
        ((file,),) = await fetch(taken, self._sql["main_file"])
        if not self._is_ours(file):
            raise ConfigurationError(f"conn is a connection to {file or 'memory'}, and this log is in {self._file}")
        return taken

    def _is_ours(self, file: str) -> bool:
        return bool(file) and self._file.samefile(file)

    @asynccontextmanager
    async def read(self, conn: Any = None) -> AsyncIterator[aiosqlite.Connection]:
        """A connection to ask one question: one that sees what is committed, or the caller's."""
        if conn is not None:
            async with self.within(conn) as mine:
                with self.translated():
                    yield mine.connection
            return
        await self.open()
        async with self._free:
            reader = None
            try:
                with self.translated():
                    reader = self._idle.pop() if self._idle else await self._reader()
                    yield reader
            finally:
                if reader is not None and self._is_closed:
                    await through(reader.close())
                elif reader is not None:
                    self._idle.append(reader)

    async def _reader(self) -> aiosqlite.Connection:
        reader = await self._connected()
        await run(reader, self._sql["configure_reader"])
        return reader

    @contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            if isinstance(error, ValueError) and str(error) not in {"Connection closed", "no active connection"}:
                raise
            raise self._translation(error) from error

    def _translation(self, error: Exception) -> StorageError:
        where = f"{self.path}: {error}"
        match _kind(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return DatabaseLockedError(f"{where}; another process holds it for longer than {self._patience:g} s")
            case sqlite3.SQLITE_FULL:
                return DatabaseFullError(f"{where}; nothing was written")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return DatabaseCorruptError(f"{where}; restore it from a copy, or name another file")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                return PermissionDeniedError(f"{where}; let this user write to the file and to its directory")
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR | None:
                return StorageUnavailableError(f"{where}; see that the directory exists and can be written to")
        return StorageError(where)


async def fetch(
    connection: aiosqlite.Connection, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> list[Any]:
    """All rows of a question, as tuples, whatever the connection makes of rows."""
    if connection.row_factory is None:
        return list(await connection.execute_fetchall(statement, parameters))
    async with connection.cursor() as cursor:
        cursor.row_factory = None
        await cursor.execute(statement, parameters)
        return list(await cursor.fetchall())


async def run(connection: aiosqlite.Connection, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Execute a statement that answers nothing."""
    await _ended(connection.execute(statement, parameters))


async def run_many(connection: aiosqlite.Connection, statement: str, rows: Iterable[Sequence[Any]]) -> int:
    """Execute a statement once for each row; gives how many rows it changed."""
    async with connection.executemany(statement, rows) as cursor:
        return cursor.rowcount


async def _opened(connection: aiosqlite.Connection) -> None:
    await connection


async def _ended(doing: Awaitable[aiosqlite.Cursor]) -> None:
    await (await doing).close()


async def through(doing: Awaitable[T]) -> T:
    """Await something to its end, also if the task is canceled meanwhile; the cancellation comes after it."""
    task = asyncio.ensure_future(doing)
    canceled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            canceled = error
    if canceled is not None:
        task.exception()
        raise canceled
    return task.result()


def _kind(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _checked_path(path: Any) -> str:
    if sqlite3.sqlite_version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise MissingDependencyError(f"SQLite {oldest} or newer is needed; this Python has {sqlite3.sqlite_version}")
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(f"a SQLite file is named by a path, not {shown(path)}")
    text = os.fspath(path)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ConfigurationError(f"{shown(path)} is no name for a SQLite file")
    return text
