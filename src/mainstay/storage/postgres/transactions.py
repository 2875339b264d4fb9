"""The transactions of transactional handlers, on connections that one handler hands to the next.

A handler's transaction is BEGIN, what the handler says, its completion, COMMIT. Each is a round trip, and round trips
are what it costs. Where handlers wait for a connection, the completion of one, its COMMIT and the BEGIN of the next are
one script (`mainstay.storage.postgres.prepared`): two round trips are left. A handler on an aggregate needs one: what
the next one reads, and what this one appends, go along with that script (`mainstay.storage.postgres.along`).

Promises. Each handler has a transaction of its own, begun after its command was received. An error in the completion
(the lease is lost) ends the script before the COMMIT: the handler's effects roll back. What the handler gets is an
ordinary connection in psycopg's ``transaction()``: it may use cursors, COPY and savepoints, and cannot commit.

A connection goes back to the pool between two handlers as soon as somebody else waits for the pool, and every `RUN`
seconds, so that the pool can do what it does with it (close it when it is old, for instance). It is never handed on
where something is done between two uses: a pool with a ``reset``, or a connection that begins in a way of its own.

Who is next is chosen before the script is sent, since it is his question that goes with it. If he is gone when it has
been answered, the transaction is ended: it has looked at the database for somebody else. If the script fails, he is the
first who waits again. If only his question fails, the completion before it is committed, and he waits again, too.

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
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from mainstay.commands.replies import Key
from mainstay.commands.store import Lease, NotBegunError
from mainstay.errors import InvalidOperationError, PoolExhaustedError
from mainstay.message import COMMANDS_SUFFIX
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.along import Along
from mainstay.storage.postgres.database import Connection, Pool, judged, translate_errors
from mainstay.storage.postgres.lending import LentTransaction
from mainstay.storage.postgres.passing import may_pass_on
from mainstay.storage.postgres.prepared import PreparedScript, Values, first_answer, keeps_statements
from mainstay.storage.postgres.reading import Reading

RUN = 5.0
"""Seconds for which a connection is handed from one handler to the next before it goes back to the pool."""


_PATIENCE = 5.0
"""Seconds to wait for a statement that a handler has begun and not ended: a cursor half read never ends by itself."""


def has_open_block(conn: Connection) -> bool:
    """Whether somebody has entered ``conn.transaction()`` within our own and has not left it: psycopg counts them.

    Whatever is written in such a block is undone with it: when its generator is collected as garbage, at the latest.
    """
    return int(getattr(conn, "_num_transactions", 0)) > 1


def not_to_be_completed(conn: Connection) -> InvalidOperationError:
    """Why a handler's transaction cannot be the one that completes its command."""
    status = conn.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        return InvalidOperationError(
            "a statement failed in the handler's transaction, and the handler went on; nothing was completed or kept: "
            "let the error out, or run what may fail in `async with ctx.conn.transaction():`, a savepoint"
        )
    if status == TransactionStatus.ACTIVE:
        return InvalidOperationError(
            "the handler has left a statement under way on its connection, such as a cursor that is not read to its "
            "end or a COPY; nothing was completed or kept: end it before the handler returns"
        )
    if has_open_block(conn):
        return InvalidOperationError(
            "the handler has entered conn.transaction() and not left it; nothing was completed or kept: "
            "write `async with ctx.conn.transaction():`"
        )
    return InvalidOperationError(
        "the transaction that this completion belongs to was ended in between; nothing was completed"
    )


class _Begun:
    """A connection in a transaction; ``block`` is psycopg's and stays open from one transaction of ours to the next."""

    __slots__ = ("awaited", "block", "conn", "factories", "reading", "until")

    def __init__(
        self,
        conn: Connection,
        block: AbstractAsyncContextManager[psycopg.AsyncTransaction],
        reading: Reading,
        until: float,
    ) -> None:
        self.conn = conn
        self.factories = conn.row_factory, conn.cursor_factory
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
        first: What to ask as soon as it has begun, if that costs no round trip.

    Raises:
        StorageUnavailableError: The pool is closed, or the server cannot be reached, or the commit broke.
        NotBegunError: No connection became free in time.
    """

    __slots__ = ("_begun", "_first", "_transactions")

    def __init__(self, transactions: "HandlerTransactions", first: Along | None) -> None:
        self._transactions = transactions
        self._first = first

    async def __aenter__(self) -> Connection:
        self._begun = await self._transactions._begin(self._first)  # noqa: SLF001 - a part of it
        return self._begun.conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._transactions._finish(self._begun, error)  # noqa: SLF001 - a part of it


class _Waiting:
    """Somebody who waits for a transaction: who is told, until when, and what he will ask first."""

    __slots__ = ("first", "told", "until")

    def __init__(self, told: "asyncio.Future[_Begun | None]", until: float, first: Along | None) -> None:
        self.told = told
        self.until = until
        self.first = first


class HandlerTransactions:
    """Gives out connections in a transaction.

    Args:
        pool: An open pool.
        kept: Says how many of its connections are for others; asked each time, as a pool may be resized.
        tell: Called after a COMMIT with commands for which somebody waits.
    """

    def __init__(self, pool: Pool, kept: Callable[[], int], tell: Callable[[Sequence[Key]], Awaitable[None]]) -> None:
        self._pool = pool
        self._kept = kept
        self._tell = tell
        self._scripts: dict[tuple[str, str, str], tuple[PreparedScript, PreparedScript]] = {}
        self._taken = 0
        self._given: dict[int, _Begun] = {}
        self._waiting: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._chosen = 0

    def __len__(self) -> int:
        """How many wait for one, with those who are next."""
        return len(self._waiting) + self._chosen

    @property
    def most(self) -> int:
        """How many there may be at the same time."""
        return max(1, self._pool.max_size - self._kept())

    def begin(self, first: Along | None = None) -> HandlerTransaction:
        """A transaction.

        Args:
            first: What to ask as soon as it has begun, if that costs no round trip.
        """
        return HandlerTransaction(self, first)

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
        self,
        conn: Connection,
        domain: str,
        lease: Lease,
        result: bytes | None,
        *,
        decision: bytes | None = None,
        also: Along | None = None,
    ) -> None:
        """Complete a command in its handler's transaction, and commit it; the connection is no longer the handler's.

        Args:
            conn: What `begin` gave.
            domain: The command's.
            lease: The command's.
            result: JSON.
            decision: JSON, as commandbus.record_decisions takes it, if the handler decided on an aggregate.
            also: Appends what was decided; its row is the version and the position that the result says if it is None.

        Raises:
            InvalidOperationError: The transaction was ended in between.
            StaleLeaseError: The lease is lost.
            StorageUnavailableError: The connection broke, and whether it was committed is unknown; or it was not.
            StorageError: The database refused it.
            EventError: So does the log of events.
        """
        begun = self._given.get(id(conn))
        if begun is None or conn.pgconn.transaction_status != TransactionStatus.INTRANS or has_open_block(conn):
            raise not_to_be_completed(conn)
        values: dict[str, bytes | None] = {
            "domain": domain.encode(),
            "command_id": lease.command_id.hex.encode(),
            "msg_id": b"%d" % lease.msg_id,
            "lease_no": b"%d" % lease.lease_no,
            "result": result,
        }
        if decision is not None:
            values["decision"] = decision
        query = "complete_one" if decision is None else "complete_decided"
        if also is not None:
            query = "append_and_complete_decided"
            values.update(also.values)
        which = domain, query, "" if also is None else also.script.text
        complete, complete_and_begin = self._scripts.get(which) or self._write_scripts(*which)
        try:
            if (following := self._next(begun)) is not None:
                answers = await self._run_for(following, begun, complete_and_begin, values)
            else:
                # What holds a stream is committed in this round trip: whoever waits for it does not wait for another.
                answers = await (complete if also is None else complete_and_begin).run(conn, values)
                self._take_back(begun)
                await self._end(begun, None)
        except psycopg.Error as error:
            judgement = judged(error)
            raise (judgement if also is None else also.named(judgement)) from error
        if also is not None:
            also.answer(conn, answers[-1])
        if first_answer(answers) == b"t":
            begun.awaited.append((domain, lease.command_id))
        if begun.awaited:
            await self._tell(begun.awaited)

    async def _run_for(
        self, following: _Waiting, begun: _Begun, script: PreparedScript, values: Values
    ) -> Sequence[PGresult]:
        """Complete, commit and begin for who is next, and ask what he asks first."""
        conn, first = begun.conn, following.first
        has_failed = False
        self._chosen += 1
        try:
            if first is None or not keeps_statements(conn):
                answers, first = await script.run(conn, values), None
            else:
                answers, found = await script.run_before(conn, values, first.script, first.values)
                has_failed = found is None
                if found is not None:
                    first.answer(conn, found)
        except BaseException:
            self._wait_again(following)
            raise
        finally:
            self._chosen -= 1
        self._take_back(begun)
        if has_failed:
            self._wait_again(following)
            await self._end(begun, RuntimeError("what the next handler asked first has failed"))
        elif not following.told.done():
            following.told.set_result(begun)
        elif first is None:
            await self._decline(begun)
        else:
            await self._end(begun, None)
        return answers

    def _write_scripts(self, domain: str, query: str, appending: str) -> tuple[PreparedScript, PreparedScript]:
        """The scripts of a domain, and of what is appended: that completes; the same, a COMMIT and a BEGIN."""
        sql, queue = queries.load("commands"), f'"q_{domain}{COMMANDS_SUFFIX}"'
        complete = sql[query].replace("queue_table", queue).replace("appending_query", appending)
        self._scripts[domain, query, appending] = scripts = (
            PreparedScript(complete),
            PreparedScript(f"{complete};\n{sql['commit_and_begin']}"),
        )
        return scripts

    # -- taking -------------------------------------------------------------------------------------------------------
    async def _begin(self, first: Along | None) -> _Begun:
        begun = (await self._take(first)).again()
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

    async def _take(self, first: Along | None) -> _Begun:
        if self._taken < self.most:
            self._taken += 1
            return await self._open()
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[_Begun | None] = loop.create_future()
        self._waiting.append(_Waiting(mine, loop.time() + self._pool.timeout, first))
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
            first = self._waiting[0]
            if not first.told.done() and first.until > loop.time():
                self._watch = loop.call_at(first.until, self._turn_away)
                return
            self._waiting.popleft()
            if not first.told.done():
                message = "no connection for a handler became free in time: raise the pool's max_size"
                first.told.set_exception(NotBegunError(message))

    def _wait_again(self, waiting: _Waiting) -> None:
        """Let somebody who was to be next wait in front of the others."""
        self._waiting.appendleft(waiting)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_at(waiting.until, self._turn_away)

    async def _open(self) -> _Begun:
        conn: Connection | None = None
        try:
            with translate_errors():
                conn = await self._pool.getconn()
                block = conn.transaction()
                await block.__aenter__()
        except BaseException as error:
            try:
                if conn is not None:
                    await self._pool.putconn(conn)
            finally:
                self._leave()
            if isinstance(error, PoolExhaustedError):
                raise NotBegunError(str(error)) from error
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
        """Whether the handler still had it; what it made of rows and cursors is no business of the next one."""
        conn = begun.conn
        if self._given.get(id(conn)) is not begun:
            return False
        del self._given[id(conn)]
        conn.row_factory, conn.cursor_factory = begun.factories
        return True

    # -- passing on ---------------------------------------------------------------------------------------------------
    def _next(self, begun: _Begun) -> _Waiting | None:
        """Who waited for this connection; None if nobody did, or something else has to be done with it first."""
        conn = begun.conn
        if (
            time.monotonic() >= begun.until
            or (conn.isolation_level, conn.read_only, conn.deferrable) != (None, None, None)
            or not may_pass_on(self._pool)
        ):
            return None
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.told.done():
                return waiting
        return None

    def _pass_on(self, begun: _Begun | None) -> bool:
        """Let the first who waits have a transaction, or the right to take a connection; False if nobody waits."""
        while self._waiting:
            told = self._waiting.popleft().told
            if not told.done():
                told.set_result(begun)
                return True
        return False

    async def _end(self, begun: _Begun, error: BaseException | None) -> None:
        """Commit or roll back, and give the connection back."""
        try:
            await self._let_go(begun, must_commit=error is None)
            await begun.block.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        finally:
            begun.reading.end()
            try:
                await self._pool.putconn(begun.conn)
            finally:
                self._leave()

    @staticmethod
    async def _let_go(begun: _Begun, *, must_commit: bool) -> None:
        """Wait for what a handler has left under way; what has no end by itself ends with the connection.

        Raises:
            InvalidOperationError: It does, and was to be committed.
        """
        conn, is_free = begun.conn, True
        if conn.lock.locked():
            try:
                async with asyncio.timeout(_PATIENCE), conn.lock:
                    pass
            except TimeoutError:
                is_free = False
        if is_free and not has_open_block(conn):
            return
        refusal = not_to_be_completed(conn)
        begun.reading.pause()
        conn.pgconn.finish()
        if must_commit:
            raise refusal
