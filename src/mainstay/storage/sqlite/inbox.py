"""The inbox of a consumer whose database is a SQLite file."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

import aiosqlite

from mainstay.clock import Clock, SystemClock
from mainstay.delivery.inbox import KEPT, Inbox
from mainstay.delivery.message import Message
from mainstay.retry import as_seconds
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, queries
from mainstay.storage.sqlite.event_rows import micros_of

_PATIENCE = 30.0


class _InboxFile(Database):
    parts = ("inbox",)


class SQLiteInbox(Inbox):
    """Remembers in the table ``mainstay_inbox`` of a file what was taken in.

    It opens itself when it is first used, makes the file if it is missing, and is to be closed: ``async with`` does
    both.

    Args:
        path: The consumer's own database.
        consumer: Stable: what was taken in is known under it.
        keep: Time (or seconds) for which it remembers.
        clock: Where times come from.

    Raises:
        MissingDependencyError: The extra ``sqlite`` is not installed; raised when this module is imported.
        InvalidInputError: Not a name of 1 to 200 printable characters.
        ConfigurationError: Not a duration, or not a path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        consumer: str,
        *,
        keep: timedelta | float = KEPT,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(consumer, keep=keep)
        self._file = _InboxFile(path, clock or SystemClock(), patience=_PATIENCE, readers=1)
        self._sql = queries("inbox")

    async def __aenter__(self) -> Self:
        """Open the file, and make the table."""
        await self.prepare()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file."""
        await self.close()

    async def prepare(self) -> None:
        """Open the file, and make the table, if it is not there."""
        await self._file.open()

    async def close(self) -> None:
        """Close the file, after the transaction that is open; does nothing if it is closed."""
        await self._file.close()

    async def take(self, message: Message, conn: Any) -> bool:
        """As `Inbox.take` says.

        Args:
            message: What was delivered.
            conn: What `once` gave, or a connection of the caller's own to the same file, in a transaction.
        """
        async with self._file.within(conn) as mine:
            return await self._take(message, mine)

    async def _take(self, message: Message, mine: SQLiteTransaction) -> bool:
        row = (self.consumer, message.id.bytes, micros_of(self._file.now()))
        with self._file.translated():
            return bool(await fetch(mine.connection, self._sql["take"], row))

    @asynccontextmanager
    async def once(self, message: Message) -> AsyncIterator[aiosqlite.Connection | None]:
        """As `Inbox.once` says; the connection is aiosqlite's."""
        async with self._file.write() as mine:
            yield mine.connection if await self._take(message, mine) else None

    async def prune(self, *, older_than: timedelta | float | None = None) -> int:
        """As `Inbox.prune` says."""
        age = timedelta(seconds=self.keep if older_than is None else as_seconds(older_than))
        async with self._file.write() as mine:
            with self._file.translated():
                row = (self.consumer, micros_of(self._file.now() - age))
                return len(await fetch(mine.connection, self._sql["prune"], row))
