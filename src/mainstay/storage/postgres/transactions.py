"""The transactions of transactional handlers, on connections that one handler hands to the next.

A handler's transaction is BEGIN, what the handler says, its completion, COMMIT. Each is a round trip, and round trips
are what it costs. Where handlers wait for a connection, the completion of one, its COMMIT and the BEGIN of the next are
one script (`mainstay.storage.postgres.prepared`): two round trips are left.

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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import psycopg

from mainstay.commands.replies import Key
from mainstay.commands.store import Lease
from mainstay.errors import InvalidOperationError, PoolExhaustedError
from mainstay.message import COMMANDS_SUFFIX
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Connection, Pool, judged, translate_errors
from mainstay.storage.postgres.lending import LentTransaction
from mainstay.storage.postgres.passing import may_pass_on
from mainstay.storage.postgres.prepared import PreparedScript, first_answer
from mainstay.storage.postgres.reading import Reading

RUN = 5.0
"""Seconds for which a connection is handed from one handler to the next before it goes back to the pool."""


class _Begun:
    """A connection in a transaction; ``block`` is psycopg's and stays open from one transaction of ours to the next."""

    __slots__ = ("awaited", "block", "conn", "reading", "until")

    def __init__(
        self,
        conn: Connection,
        block: AbstractAsyncContextManager[psycopg.AsyncTransaction],
        reading: Reading,
        until: float,
    ) -> None:
        self.conn = conn
        self.block = block
        self.reading = reading
        self.until = until
        self.awaited: list[Key] = []

    def again(self) -> "_Begun":
        """The same for the next handler, to be told from this one's."""
        return _Begun(self.conn, self.block, self.reading, self.until)


class HandlerTransaction(AbstractAsyncContextManager[Connection]):
    """A connection in a transaction, which commits when the block ends, unless it raises or `complete` has done it.

    Errors of the block arrive as they were raised.

    Args:
        transactions: Where it comes from.

    Raises:
        StorageUnavailableError: The pool is closed, or the server cannot be reached, or the commit broke.
        PoolExhaustedError: No connection became free in time.
    """

    __slots__ = ("_begun", "_transactions")

    def __init__(self, transactions: "HandlerTransactions") -> None:
        self._transactions = transactions

    async def __aenter__(self) -> Connection:
        self._begun = await self._transactions._begin()  # noqa: SLF001 - a part of it
        return self._begun.conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._transactions._finish(self._begun, error)  # noqa: SLF001 - a part of it


class HandlerTransactions:
    """Gives out connections in a transaction.

    Args:
        pool: An open pool.
        kept: How many of its connections are for others.
        tell: Called after a COMMIT with commands for which somebody waits.
    """

    def __init__(self, pool: Pool, kept: int, tell: Callable[[Sequence[Key]], Awaitable[None]]) -> None:
        self._pool = pool
        self._most = max(1, pool.max_size - kept)
        self._tell = tell
        self._scripts: dict[tuple[str, str], tuple[PreparedScript, PreparedScript]] = {}
        self._taken = 0
        self._given: dict[int, _Begun] = {}
        self._waiting: deque[tuple[asyncio.Future[_Begun | None], float]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._promised = 0

    def __len__(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def begin(self) -> HandlerTransaction:
        """A transaction."""
        return HandlerTransaction(self)

    def note(self, conn: Connection, awaited: Sequence[Key]) -> None:
        """Tell those who wait for these commands when the transaction is committed, if it is one of ours."""
        if (begun := self._given.get(id(conn))) is not None:
            begun.awaited.extend(awaited)

    def lend(self, conn: Connection) -> LentTransaction:
        """The transaction of ``conn``, for the thread of a plain handler."""
        if (begun := self._given.get(id(conn))) is not None:
            begun.reading.pause()
        return LentTransaction(conn)

    async def complete(
        self, conn: Connection, domain: str, lease: Lease, result: bytes | None, decision: bytes | None
    ) -> None:
        """Complete a command in its handler's transaction, and commit it; the connection is no longer the handler's.

        Args:
            conn: What `begin` gave.
            domain: The command's.
            lease: The command's.
            result: JSON.
            decision: JSON, as commandbus.record_decision takes it, if the handler decided on an aggregate.

        Raises:
            InvalidOperationError: The transaction was ended in between.
            StaleLeaseError: The lease is lost.
            StorageUnavailableError: The connection broke, and whether it was committed is unknown; or it was not.
            StorageError: The database refused it.
        """
        begun = self._given.get(id(conn))
        if begun is None or conn.pgconn.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            message = "the transaction that this completion belongs to was ended in between; nothing was completed"
            raise InvalidOperationError(message)
        values: dict[str, bytes | None] = {
            "domain": domain.encode(),
            "command_id": lease.command_id.hex.encode(),
            "msg_id": b"%d" % lease.msg_id,
            "lease_no": b"%d" % lease.lease_no,
            "result": result,
        }
        if decision is not None:
            values["decision"] = decision
        which = domain, "complete_one" if decision is None else "complete_decided"
        complete, complete_and_begin = self._scripts.get(which) or self._name_queue(*which)
        try:
            if self._hands_on(begun):
                self._promised += 1
                try:
                    answers = await complete_and_begin.run(conn, values)
                finally:
                    self._promised -= 1
                self._take_back(begun)
                await self._decline(begun)
            else:
                answers = await complete.run(conn, values)
                self._take_back(begun)
                await self._end(begun, None)
        except psycopg.Error as error:
            raise judged(error) from error
        if first_answer(answers) == b"t":
            begun.awaited.append((domain, lease.command_id))
        if begun.awaited:
            await self._tell(begun.awaited)

    def _name_queue(self, domain: str, query: str) -> tuple[PreparedScript, PreparedScript]:
        """The scripts of a domain: that completes; the same, a COMMIT and a BEGIN."""
        sql, queue = queries.load("commands"), f'"q_{domain}{COMMANDS_SUFFIX}"'
        complete = sql[query].replace("queue_table", queue)
        self._scripts[domain, query] = scripts = (
            PreparedScript(complete),
            PreparedScript(f"{complete};\n{sql['commit_and_begin']}"),
        )
        return scripts

    # -- taking -------------------------------------------------------------------------------------------------------
    async def _begin(self) -> _Begun:
        begun = (await self._take()).again()
        self._given[id(begun.conn)] = begun
        return begun

    async def _finish(self, begun: _Begun, error: BaseException | None) -> None:
        """A handler's block ended."""
        if not self._take_back(begun):
            return
        if error is not None:
            await self._end(begun, error)
            return
        with translate_errors():
            await self._end(begun, None)
        if begun.awaited:
            await self._tell(begun.awaited)

    async def _take(self) -> _Begun:
        if self._taken < self._most:
            self._taken += 1
            return await self._open()
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[_Begun | None] = loop.create_future()
        self._waiting.append((mine, loop.time() + self._pool.timeout))
        if self._watch is None:
            self._watch = loop.call_later(self._pool.timeout, self._turn_away)
        try:
            begun = await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:  # it came too late
                await self._decline(mine.result())
            raise
        return begun or await self._open()

    def _turn_away(self) -> None:
        """Tell those who have waited too long. One timer watches for all: the first who waits is the next."""
        self._watch, loop = None, asyncio.get_running_loop()
        while self._waiting:
            first, until = self._waiting[0]
            if not first.done() and until > loop.time():
                self._watch = loop.call_at(until, self._turn_away)
                return
            self._waiting.popleft()
            if not first.done():
                message = "no connection for a handler became free in time: raise the pool's max_size"
                first.set_exception(PoolExhaustedError(message))

    async def _open(self) -> _Begun:
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
        return _Begun(conn, block, Reading(conn), time.monotonic() + RUN)

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
            first, _ = self._waiting.popleft()
            if not first.done():
                first.set_result(begun)
                return True
        return False

    async def _end(self, begun: _Begun, error: BaseException | None) -> None:
        """Commit or roll back, and give the connection back."""
        try:
            await begun.block.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        finally:
            begun.reading.end()
            try:
                await self._pool.putconn(begun.conn)
            finally:
                self._leave()
