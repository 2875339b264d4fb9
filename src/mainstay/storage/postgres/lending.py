"""A transaction of the event loop in the hands of a thread.

A transactional handler that is a plain function works on the connection in whose transaction its command completes.
That connection is asynchronous; what the thread gets is a blocking one on the same socket, for as long as the loop
waits for it. The two share nothing else: the blocking one prepares no statements, so their names cannot meet, and it
leaves the handlers of notices and notifications as they are.

Whoever takes it back sets a flag and then waits for a lock that every exchange with the server holds. An exchange under
way is canceled meanwhile, by a message to the server, again and again until it ends; the flag lets no other begin. Only
then may the loop use the connection.
"""

import asyncio
import threading
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import psycopg
from psycopg.adapt import AdaptersMap

from mainstay.errors import InvalidOperationError

_TURN = 0.5
"""Seconds between two requests to cancel what is under way."""


class LentConnection(psycopg.Connection[Any]):
    """A blocking connection on the socket of an asynchronous one, without the right to end its transaction.

    Args:
        conn: In a transaction; nobody else may use it until this is taken back.
    """

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        notices, notifies = conn.pgconn.notice_handler, conn.pgconn.notify_handler
        super().__init__(conn.pgconn, row_factory=conn.row_factory)  # type: ignore[arg-type]  # rows are made alike
        conn.pgconn.notice_handler, conn.pgconn.notify_handler = notices, notifies
        self._adapters = AdaptersMap(conn.adapters)
        self.prepare_threshold = None
        self._exchange = threading.RLock()
        self._is_taken_back = False

    def __del__(self, *_: Any) -> None:  # the socket is not ours to close, or to complain about
        pass

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Every exchange with the server goes through here."""
        with self._exchange:
            if self._is_taken_back:
                raise InvalidOperationError("the handler whose connection this was has ended, or its time is over")
            return super().wait(*args, **kwargs)

    async def take_back(self) -> None:
        """Let nothing more be done with it, end what is being done, and return when that has ended."""
        self._is_taken_back = True
        if self._exchange.acquire(blocking=False):
            self._exchange.release()
        else:
            await asyncio.to_thread(self._end_exchange)

    def _end_exchange(self) -> None:
        self._try_cancel()
        while not self._exchange.acquire(timeout=_TURN):
            self._try_cancel()
        self._exchange.release()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise InvalidOperationError(
            "the connection of a handler keeps its transaction and its mode: they belong to the worker, which commits "
            "when the handler has returned; to roll back, raise, or use conn.transaction() for a part"
        )

    commit = rollback = close = __enter__ = __exit__ = _refuse
    set_autocommit = set_isolation_level = set_read_only = set_deferrable = _refuse
    tpc_begin = tpc_prepare = tpc_commit = tpc_rollback = _refuse


class LentTransaction:
    """`mainstay.commands.threads.Lent` on PostgreSQL.

    Args:
        conn: Of the transaction.
    """

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self.conn = LentConnection(conn)

    def session(self) -> AbstractContextManager[Any]:
        """A SQLAlchemy ``Session`` in it."""
        from mainstay.storage.postgres.sqlalchemy import lent_plain_session  # noqa: PLC0415 - as in commands.py

        return lent_plain_session(self.conn)

    async def take_back(self) -> None:
        """Let nothing more be done with it, end what is being done, and return when that has ended."""
        await self.conn.take_back()
