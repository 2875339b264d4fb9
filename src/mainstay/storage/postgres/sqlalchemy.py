"""A SQLAlchemy session in a transaction that is not SQLAlchemy's: that of a transactional handler.

Promises. The session works on the very connection it is given, in the transaction that is open there, so what it writes
commits with the command's completion or not at all. It cannot end that transaction: a ``commit()`` writes what is
pending and commits nothing. A ``rollback()`` cannot be taken back piece by piece: it dooms the block, whose end raises,
and with it the handler. Savepoints (``session.begin_nested()``) are the session's own.

How it fails. After an error of the database the transaction is of no use, as always with PostgreSQL; a handler that
swallows it cannot complete.

How it is done. One engine for the process, which makes a "connection" out of whatever is in `_current`, in the context
of the block. What SQLAlchemy would do to a connection of its own (commit, roll back, close, change its mode) `_Lent`
does not pass on.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from mainstay.errors import InvalidOperationError

_current: ContextVar["_Lent"] = ContextVar("mainstay_lent_connection")


class _Lent:
    """A connection of psycopg, as SQLAlchemy may use it."""

    def __init__(self, conn: Any) -> None:
        self._conn: Any = conn
        self.is_rolled_back = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def add_notice_handler(self, handler: Callable[..., None]) -> None:
        """Nothing: the connection goes back to the user's pool, and would collect handlers."""


class _LentToLoop(_Lent):
    """One without the right to end its transaction or change its mode."""

    def cursor(self, *names: Any, **options: Any) -> Any:
        """A cursor with rows as SQLAlchemy reads them, whatever the user's pool is set to."""
        if names or options:
            return self._conn.cursor(*names, **(options | {"row_factory": tuple_row}))
        return psycopg.AsyncCursor(self._conn, row_factory=tuple_row)

    async def commit(self) -> None:
        """Nothing: the completion commits."""

    async def rollback(self) -> None:
        """Note that somebody wanted to: the transaction cannot be rolled back without the completion."""
        self.is_rolled_back = True

    async def close(self) -> None:
        """Nothing."""

    async def _refuse(self, *_: Any) -> None:
        message = "the connection of a handler keeps its mode: autocommit and isolation level belong to the worker"
        raise InvalidOperationError(message)

    set_autocommit = set_isolation_level = set_read_only = set_deferrable = _refuse
    tpc_begin = tpc_prepare = tpc_commit = tpc_rollback = _refuse


class _LentToThread(_Lent):
    """The same for blocking code; the connection itself refuses to change its mode."""

    def cursor(self, *names: Any, **options: Any) -> Any:
        """A cursor with rows as SQLAlchemy reads them, whatever the user's pool is set to."""
        return self._conn.cursor(*names, **(options | {"row_factory": tuple_row}))

    def commit(self) -> None:
        """Nothing: the completion commits."""

    def rollback(self) -> None:
        """Note that somebody wanted to: the transaction cannot be rolled back without the completion."""
        self.is_rolled_back = True

    def close(self) -> None:
        """Nothing."""


async def _lend() -> Any:
    return _current.get()


@cache
def _engine() -> AsyncEngine:
    return create_async_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        pool_reset_on_return=None,
        use_native_hstore=False,
        async_creator=_lend,
    )


@cache
def _plain_engine() -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        pool_reset_on_return=None,
        use_native_hstore=False,
        creator=_current.get,
    )


@asynccontextmanager
async def lent_session(conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[AsyncSession]:
    """A session in the transaction of a connection, for the length of a block, which flushes at its end.

    Args:
        conn: In a transaction that somebody else ends.

    Raises:
        InvalidOperationError: The block rolled the session back; nothing of the transaction may be committed.
    """
    lent = _LentToLoop(conn)
    token = _current.set(lent)
    try:
        connection = await _engine().connect()
    finally:
        _current.reset(token)
    lent.is_rolled_back = False  # the first connection of an engine is tried out
    try:
        await connection.begin()  # a session joins a transaction that has begun, and does not end it
        async with AsyncSession(
            bind=connection, expire_on_commit=False, join_transaction_mode="rollback_only"
        ) as session:
            yield session
            await session.flush()
    finally:
        rolled_back = lent.is_rolled_back
        await connection.close()
    if rolled_back:
        raise _rolled_back()


@contextmanager
def lent_plain_session(conn: psycopg.Connection[Any]) -> Iterator[Session]:
    """As `lent_session`, for blocking code."""
    lent = _LentToThread(conn)
    token = _current.set(lent)
    try:
        connection = _plain_engine().connect()
    finally:
        _current.reset(token)
    lent.is_rolled_back = False
    try:
        connection.begin()
        with Session(bind=connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session:
            yield session
            session.flush()
    finally:
        rolled_back = lent.is_rolled_back
        connection.close()
    if rolled_back:
        raise _rolled_back()


def _rolled_back() -> InvalidOperationError:
    message = (
        "the session was rolled back, which cannot be done without the command's completion: "
        "raise from the handler to roll everything back, or use session.begin_nested() for a part"
    )
    return InvalidOperationError(message)
