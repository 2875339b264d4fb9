"""The transactions of transactional handlers, on connections that one handler hands to the next.

A handler's transaction is BEGIN, what the handler says, its completion, COMMIT. Each is a round trip, and round trips
are what it costs. Where handlers wait for a connection, the completion of one, its COMMIT and the BEGIN of the next are
one script: two round trips are left.

Promises. Each handler has a transaction of its own, begun after its command was received. An error in the completion
(the lease is lost) ends the script before the COMMIT: the handler's effects roll back. What the handler gets is an
ordinary connection in psycopg's ``transaction()``: it may use cursors, COPY and savepoints, and cannot commit.

A connection goes back to the pool between two handlers as soon as somebody else waits for the pool, and every `RUN`
seconds, so that the pool can do what it does with it (close it when it is old, for instance). It is never handed on
where something is done between two uses: a pool with a ``reset``, or a connection that begins in a way of its own.

How it fails. A connection that breaks breaks one handler's transaction; it goes back to the pool, which replaces it.
Whether a COMMIT happened that was under way is unknown, as ever: see `mainstay.commands.execution`.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from mainstay.errors import InvalidOperationError, PoolExhaustedError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Connection, Pool, borrowed, fetch_value, sealed, translate_errors
from mainstay.storage.postgres.passing import may_pass_on
from mainstay.storage.postgres.scripts import run_statements

RUN = 5.0
"""Seconds for which a connection is handed from one handler to the next before it goes back to the pool."""


@dataclass(slots=True, eq=False)
class _Begun:
    """A connection in a transaction; ``block`` is psycopg's and stays open from one transaction of ours to the next."""

    conn: Connection
    block: AbstractAsyncContextManager[psycopg.AsyncTransaction]
    until: float


class HandlerTransactions:
    """Gives out connections in a transaction.

    Args:
        pool: An open pool.
        kept: How many of its connections are for others.
    """

    def __init__(self, pool: Pool, kept: int) -> None:
        self._pool = pool
        self._most = max(1, pool.max_size - kept)
        self._sql = queries.load("commands")
        self._taken = 0
        self._given: dict[int, _Begun] = {}
        self._waiting: deque[asyncio.Future[_Begun | None]] = deque()
        self._promised = 0

    def __len__(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, which commits when the block ends, unless it raises or `complete` has done it.

        Errors of the block arrive as they were raised.

        Raises:
            StorageUnavailableError: The pool is closed, or the server cannot be reached, or the commit broke.
            PoolExhaustedError: No connection became free in time.
        """
        begun = replace(await self._take())  # so that it can be told from the next handler's
        key = id(begun.conn)
        self._given[key] = begun
        try:
            yield begun.conn
        except BaseException as error:
            if self._take_back(begun):
                await self._end(begun, error)
            raise
        if self._take_back(begun):
            with translate_errors():
                await self._end(begun, None)

    async def complete(self, conn: Connection, parameters: dict[str, Any]) -> bool:
        """Complete a command in its handler's transaction, and commit it; the connection is no longer the handler's.

        Args:
            conn: What `begin` gave.
            parameters: Of the statement.

        Raises:
            InvalidOperationError: The transaction was ended in between.
            StaleLeaseError: The lease is lost.
            StorageUnavailableError: The connection broke, and whether it was committed is unknown; or it was not.
            StorageError: The database refused it.
        """
        begun = self._given.get(id(conn))
        if begun is None or conn.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            message = "the transaction that this completion belongs to was ended in between; nothing was completed"
            raise InvalidOperationError(message)
        async with sealed(borrowed(self._pool, conn)):
            if not self._hands_on(begun):
                awaited = await fetch_value(conn, self._sql["complete_one"], parameters)
                self._take_back(begun)
                await self._end(begun, None)
                return bool(awaited)
            self._promised += 1
            try:
                first, *_ = await run_statements(conn, self._sql["complete_one_and_begin"], parameters)
            finally:
                self._promised -= 1
            self._take_back(begun)
            await self._decline(begun)
        return first.get_value(0, 0) == b"t"

    # -- taking -------------------------------------------------------------------------------------------------------
    async def _take(self) -> _Begun:
        if self._taken < self._most:
            self._taken += 1
            return await self._begin()
        mine: asyncio.Future[_Begun | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(self._pool.timeout):
                begun = await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():  # it came too late
                await self._decline(mine.result())
            if isinstance(error, TimeoutError):
                message = "no connection for a handler became free in time: raise the pool's max_size"
                raise PoolExhaustedError(message) from error
            raise
        return begun or await self._begin()

    async def _begin(self) -> _Begun:
        conn: Connection | None = None
        try:
            with translate_errors():
                conn = await self._pool.getconn()
                block = conn.transaction()
                await block.__aenter__()
        except BaseException:
            try:
                if conn is not None:
                    await self._pool.putconn(conn)
            finally:
                self._leave()
            raise
        return _Begun(conn, block, time.monotonic() + RUN)

    async def _decline(self, begun: _Begun | None) -> None:
        if begun is None:
            self._leave()
        elif not self._pass_on(begun):
            await self._end(begun, None)

    def _leave(self) -> None:
        """One connection less is taken; or who waits may take it."""
        if not self._pass_on(None):
            self._taken -= 1

    def _take_back(self, begun: _Begun) -> bool:
        """Whether the handler still had it."""
        if self._given.get(id(begun.conn)) is not begun:
            return False
        del self._given[id(begun.conn)]
        return True

    # -- passing on ---------------------------------------------------------------------------------------------------
    def _hands_on(self, begun: _Begun) -> bool:
        """Whether somebody here waits for this connection, and nothing else has to be done with it first."""
        conn = begun.conn
        return (
            len(self._waiting) > self._promised
            and time.monotonic() < begun.until
            and (conn.isolation_level, conn.read_only, conn.deferrable) == (None, None, None)
            and may_pass_on(self._pool)
        )

    def _pass_on(self, begun: _Begun | None) -> bool:
        """Let the first who waits have a transaction, or the right to take a connection; False if nobody waits."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(begun)
                return True
        return False

    async def _end(self, begun: _Begun, error: BaseException | None) -> None:
        """Commit or roll back, and give the connection back."""
        try:
            await begun.block.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        finally:
            try:
                await self._pool.putconn(begun.conn)
            finally:
                self._leave()
