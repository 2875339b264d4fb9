"""A connection of the pool that one caller passes on to the next.

Who sends one command after another took a connection from the pool for each, and gave it back: a tenth of what a send
cost. Here the next caller finds it, if he comes before the event loop turns to something else: a sequence of awaited
calls does. Meanwhile the event loop is told of its socket once (`mainstay.storage.postgres.reading`).

Promises. Whoever waits for the pool is served first: the connection goes back at once. It also goes back when nobody
has taken it in the turn of the event loop that it was left in, and after `RUN` seconds in any case, so that the pool
can do what it does with it (close it when it is old, for instance). It is never passed on in a pool with a ``reset``.
What goes back to the pool is idle.

How it fails. A connection whose caller got an error, or was canceled, is not passed on. psycopg has ended its query by
then, or closed it; a transaction left open is rolled back; the pool replaces it if it broke.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from mainstay.storage.postgres.database import Connection, Pool, replace_lost
from mainstay.storage.postgres.reading import Reading

T = TypeVar("T")

RUN = 5.0
"""Seconds for which a connection is passed on before it goes back to the pool."""
_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


def may_pass_on(pool: Pool) -> bool:
    """Whether a connection of the pool may go from one caller to the next: nobody waits for one, nothing is reset."""
    if getattr(pool, "_reset", None) is not None:
        return False
    waiting = getattr(pool, "_waiting", None)  # what get_stats() counts, when it puts all it knows into a dict
    return not (pool.get_stats().get("requests_waiting") if waiting is None else waiting)


class PassedConnection:
    """One connection passed on between callers; those who come while it is in use get another.

    Args:
        pool: An open pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._left: tuple[Connection, Reading, float] | None = None
        self._clearing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, use: Callable[[Connection], Awaitable[T]]) -> T:
        """Call ``use`` with a connection, which it leaves idle unless it raises.

        Raises:
            psycopg.Error: What the pool or ``use`` raises.
        """
        left, self._left = self._left, None
        if left is None:
            conn = await self._pool.getconn()
            reading, until = Reading(conn), time.monotonic() + RUN
        else:
            conn, reading, until = left
            self._do_not_clear()
        try:
            result = await use(conn)
        except BaseException:
            await self._give_back(conn, reading)
            raise
        if self._left is None and time.monotonic() < until and may_pass_on(self._pool):
            self._left = conn, reading, until
            # one that is called off costs the event loop nothing, where call_soon has it turn once for nothing
            self._clearing = asyncio.get_running_loop().call_later(0, self._clear)
        else:
            await self._give_back(conn, reading)
        return result

    def _do_not_clear(self) -> None:
        clearing, self._clearing = self._clearing, None
        if clearing is not None:
            clearing.cancel()

    def _clear(self) -> None:
        """Give back what nobody has taken in this turn of the event loop."""
        left, self._left, self._clearing = self._left, None, None
        if left is not None:
            conn, reading, _ = left
            task = asyncio.get_running_loop().create_task(self._give_back(conn, reading))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_back(self, conn: Connection, reading: Reading) -> None:
        reading.end()
        try:
            if conn.info.transaction_status in _OPEN:
                with suppress(psycopg.Error):  # the pool looks at it again
                    await conn.rollback()
        finally:
            lost = conn.closed
            await self._pool.putconn(conn)
            if lost:
                await replace_lost(self._pool)
