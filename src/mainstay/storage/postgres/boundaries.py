"""Connections that can be stopped at every boundary between two statements, for the idempotency certifier.

Everything that a psycopg connection sends goes through its ``wait``: before and after it is where a process can die.
Only what runs in the context of an `Attempt` is watched.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import execute, fetch_all, fetch_value

COMMIT = "COMMIT"
_SHORT = 70


class Fault(StrEnum):
    """What happens at a boundary."""

    DIES = "the process dies"
    LOSES_CONNECTION = "the connection is terminated"
    STALLS = "it stalls, another worker does it, then it goes on"


class Place(NamedTuple):
    """Where a fault strikes: before or after which statement of the attempt, numbered from 0."""

    number: int
    is_after: bool


class Attempt:
    """One run of a handler, whose statements are counted, and which a fault may strike.

    Args:
        fault: What happens; None: nothing.
        place: Where.
        terminate: Ends a server process, given its id.
        outside: Whether our statements outside of transactions count, too: each is a transaction.
    """

    def __init__(
        self,
        fault: Fault | None = None,
        place: Place | None = None,
        terminate: Callable[[int], Any] | None = None,
        *,
        outside: bool = False,
    ) -> None:
        self.outside = outside
        self._fault = fault
        self._place = place
        self._terminate = terminate
        self._connections: set[WatchedConnection] = set()
        self.statements: list[str] = []
        self.struck = asyncio.Event()
        self.resumed = asyncio.Event()

    async def before(self, conn: "WatchedConnection | None", statement: str) -> int:
        """A statement is about to be sent; its number."""
        index = len(self.statements)
        self.statements.append(statement)
        if conn is not None:
            self._connections.add(conn)
        await self._strike(conn, Place(index, is_after=False))
        return index

    async def after(self, conn: "WatchedConnection | None", index: int) -> None:
        """The statement has been carried out."""
        await self._strike(conn, Place(index, is_after=True))

    async def _strike(self, conn: "WatchedConnection | None", place: Place) -> None:
        if self._fault is None or place != self._place:
            return
        if self._fault is Fault.LOSES_CONNECTION:
            if conn is not None and self._terminate is not None:
                await self._terminate(conn.info.backend_pid)
            return
        if self._fault is Fault.DIES:
            for each in self._connections:
                each.pgconn.finish()  # as the kernel does when a process is gone: the server rolls back
        self.struck.set()
        await self.resumed.wait()


current_attempt: ContextVar[Attempt | None] = ContextVar("mainstay_current_attempt", default=None)


class WatchedCursor(psycopg.AsyncCursor[Any]):
    """Says which statement comes."""

    async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        """As psycopg's."""
        conn = self.connection
        if isinstance(conn, WatchedConnection):
            text = (
                query
                if isinstance(query, str)
                else query.as_string(conn)
                if hasattr(query, "as_string")
                else str(query)
            )
            conn.statement = " ".join(text.split())[:_SHORT]
        return await super().execute(query, *args, **options)


class WatchedConnection(psycopg.AsyncConnection[Any]):
    """Stops where the attempt of its context says."""

    statement: str | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = WatchedCursor

    async def wait(self, *args: Any, **options: Any) -> Any:
        """Send something and wait for the answer; a boundary before, a boundary after."""
        attempt = current_attempt.get()
        statement, self.statement = self.statement, None
        is_in_transaction = self.info.transaction_status is not TransactionStatus.IDLE
        if attempt is not None and not (statement or is_in_transaction) and attempt.outside:
            statement = _asked_by(args[0])
        if attempt is None or not (statement or is_in_transaction):
            return await super().wait(*args, **options)
        index = await attempt.before(self, statement or COMMIT)
        answer = await super().wait(*args, **options)
        await attempt.after(self, index)
        return answer


def _asked_by(steps: Any) -> str | None:
    """The statement that a cursor of psycopg is about to send; None for anything else that it waits for."""
    query = getattr(steps, "gi_frame", None) and steps.gi_frame.f_locals.get("query")
    return " ".join(query.split())[:_SHORT] if isinstance(query, str) else None


class Laboratory:
    """A database in which a program is run again and again, each time as new.

    Args:
        dsn: A database with mainstay's schema, for this purpose only: all rows in it are removed.
        ignored: Columns that two runs may differ in.
    """

    def __init__(self, dsn: str, ignored: Sequence[str]) -> None:
        self._dsn = dsn
        self._ignored = list(ignored)
        self._sql = queries.load("certifier")

    async def empty(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Remove all rows."""
        await execute(conn, self._sql["empty_everything"])

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection that nothing strikes; each statement commits."""
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as conn:
            yield conn

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[AsyncConnectionPool[Any]]:
        """A pool of watched connections."""
        pool = AsyncConnectionPool(
            self._dsn, connection_class=WatchedConnection, min_size=1, max_size=20, timeout=20, open=False
        )
        await pool.open()
        try:
            yield pool
        finally:
            await pool.close(timeout=1)

    async def terminate(self, pid: int) -> None:
        """End a server process."""
        async with self.connection() as conn:
            await execute(conn, self._sql["terminate"], {"pid": pid})

    async def state(self, conn: psycopg.AsyncConnection[Any]) -> dict[str, list[str]]:
        """The rows of every table of the program, without ignored columns."""
        found = await fetch_all(conn, self._sql["state_questions"], {"ignored": self._ignored})
        return {row["name"]: list(await fetch_value(conn, row["question"])) for row in found}
