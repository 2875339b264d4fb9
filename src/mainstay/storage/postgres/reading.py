"""Reading one connection's answers, while handlers use it one after the other, or a transaction goes on.

psycopg tells the event loop of a connection's socket before each wait, and takes it back afterwards, with a timer
beside it: more work than sending a small statement and reading its answer. Here the loop is told once for all
that is said until the connection goes back to its pool.

Promise: to whoever uses it nothing is different. Psycopg's own generators read what is waited for, in the user's
context (a notice handler logs with the correlation id of the command). Whoever is canceled cancels the statement under
way and waits for its end, and if that cannot be had, the connection is closed, as psycopg does it. Whatever is more
than waiting for an answer (COPY, pipelines, notifications, timeouts) is left to psycopg.

How it fails. A message that nobody waits for, or the end of the connection, wakes the loop once: then it is no longer
told of the socket, until the next wait. A connection class with a ``wait`` of its own keeps it.
"""

import asyncio
from collections.abc import Generator
from contextvars import Context, copy_context
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.waiting import READY_R, WAIT_R

_PATIENCE = 5.0
"""Seconds to wait for the end of a statement that was canceled."""
_TURN = 100
"""So many exchanges without a wait (a COPY has many) until others have their turn."""


class Reading:
    """Waits instead of a connection's own ``wait``, until it is ended.

    Args:
        conn: Idle; of the running event loop.
    """

    __slots__ = ("_answer", "_at_once", "_conn", "_context", "_is_listening", "_loop", "_socket", "_steps")

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn
        self._loop = asyncio.get_running_loop()
        self._socket = conn.pgconn.socket
        self._is_listening = False
        self._at_once = 0
        self._steps: Generator[Any, Any, Any] | None = None
        self._answer: asyncio.Future[Any]
        self._context: Context
        if type(conn).wait is psycopg.AsyncConnection.wait:
            vars(conn).update(wait=self._wait, close=self._close)

    def end(self) -> None:
        """Give the connection its own ``wait`` back."""
        self.pause()
        for name in ("wait", "close"):
            vars(self._conn).pop(name, None)

    def pause(self) -> None:
        """Let go of the socket until the next wait: somebody else will use it, or close it.

        A closed socket must be unknown to the loop before its number is another's.
        """
        if self._is_listening:
            self._is_listening = False
            self._loop.remove_reader(self._socket)

    async def _close(self) -> None:
        self.end()
        await self._conn.close()

    async def _wait(self, steps: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        if args or options or self._steps is not None:
            return await self._leave_to_psycopg(steps, *args, **options)
        try:
            wanted = next(steps)
        except StopIteration as end:
            self._at_once += 1
            if self._at_once % _TURN == 0:
                await asyncio.sleep(0)
            return end.value
        if wanted != WAIT_R:
            return await self._leave_to_psycopg(_resumed(steps, wanted))
        if not self._is_listening:
            self._loop.add_reader(self._socket, self._read)
            self._is_listening = True
        self._steps, self._context, self._answer = steps, copy_context(), self._loop.create_future()
        try:
            return await self._answer
        except asyncio.CancelledError:
            self._steps = None
            if self._conn.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._call_off(steps)
            raise

    def _read(self) -> None:
        """There is something to read."""
        steps = self._steps
        if steps is None:
            self.pause()
            return
        try:
            if self._context.run(steps.send, READY_R) != WAIT_R:
                raise psycopg.InternalError("who has begun to read an answer wants to write")  # noqa: TRY301 - as below
        except StopIteration as end:
            self._steps = None
            if not self._answer.done():
                self._answer.set_result(end.value)
        except BaseException as error:  # noqa: BLE001 - to who waits
            self.pause()
            self._steps = None
            if not self._answer.done():
                self._answer.set_exception(error)

    async def _call_off(self, steps: Generator[Any, Any, Any]) -> None:
        """Cancel the statement under way and wait for its end; else close the connection."""
        try:
            await self._conn.cancel_safe(timeout=_PATIENCE)
            await self._leave_to_psycopg(_resumed(steps, WAIT_R), timeout=_PATIENCE)
        except psycopg.errors.QueryCanceled:
            pass
        except BaseException as error:
            self.pause()
            self._conn.pgconn.finish()
            if not isinstance(error, Exception):
                raise

    async def _leave_to_psycopg(self, steps: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        self.pause()
        return await psycopg.AsyncConnection.wait(self._conn, steps, *args, **options)


def _resumed(steps: Generator[Any, Any, Any], wanted: Any) -> Generator[Any, Any, Any]:
    """The rest of a generator that waits for an answer to what it wanted, as a new one."""
    try:
        while True:
            wanted = steps.send((yield wanted))
    except StopIteration as end:
        return end.value
