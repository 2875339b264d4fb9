"""A caller's own ``sqlite3`` connection: our statements in a transaction that blocking code began and will end.

It belongs to the thread that made it. So it is taken only from callers of `mainstay.sync`, who wait in that thread and
lend it; what it makes of rows is left as it is.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from mainstay.portal import caller_waits, on_callers_thread

T = TypeVar("T")


class _Ended:
    """What is left of a cursor that was closed where it was made."""

    def __init__(self, rowcount: int) -> None:
        self.rowcount = rowcount

    async def close(self) -> None:
        """It is."""


class CallersConnection:
    """As much of aiosqlite's ``Connection`` as our statements need, on the thread that lends itself.

    Args:
        conn: The caller's.
    """

    row_factory = None
    """Of what this gives: rows as tuples, whatever the caller's connection makes of them."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    @staticmethod
    def takes(conn: Any) -> bool:
        """Whether a connection is of this kind, and its thread lends itself."""
        return isinstance(conn, sqlite3.Connection) and caller_waits()

    @property
    def in_transaction(self) -> bool:
        """Whether the caller has begun one."""
        return self._conn.in_transaction

    async def execute_fetchall(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a question."""
        return await self._with_cursor(lambda cursor: cursor.execute(statement, parameters).fetchall())

    async def execute(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> _Ended:
        """Execute a statement that answers nothing."""
        return await self._with_cursor(lambda cursor: _Ended(cursor.execute(statement, parameters).rowcount))

    @asynccontextmanager
    async def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> AsyncIterator[_Ended]:
        """Execute a statement once for each row."""
        given = list(rows)
        yield await self._with_cursor(lambda cursor: _Ended(cursor.executemany(statement, given).rowcount))

    async def _with_cursor(self, use: Callable[[sqlite3.Cursor], T]) -> T:
        def there() -> T:
            cursor = self._conn.cursor()
            try:
                cursor.row_factory = None
                return use(cursor)
            finally:
                cursor.close()

        return await on_callers_thread(there)
