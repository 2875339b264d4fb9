"""The inbox of a consumer whose database is PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from mainstay.delivery.inbox import KEPT, Inbox
from mainstay.delivery.message import Message
from mainstay.retry import as_seconds
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.callers import rows_in, rows_of
from mainstay.storage.postgres.database import Connection, Pool, run_script, transaction

_BATCH = 10_000
"""Messages that are forgotten in one transaction."""


class PostgresInbox(Inbox):
    """Remembers in the table ``mainstay_inbox``, in the first schema of the search path, what was taken in.

    Args:
        pool: Of the consumer's own database, open.
        consumer: Stable: what was taken in is known under it.
        keep: Time (or seconds) for which it remembers.

    Raises:
        InvalidInputError: Not a name of 1 to 200 printable characters.
        ConfigurationError: Not a duration.
    """

    def __init__(self, pool: Pool, consumer: str, *, keep: timedelta | float = KEPT) -> None:
        super().__init__(consumer, keep=keep)
        self.pool = pool
        self._sql = queries.load("inbox")

    async def prepare(self) -> None:
        """Make the table, if it is not there."""
        async with transaction(self.pool) as conn:
            await run_script(conn, self._sql["prepare"])

    async def take(self, message: Message, conn: Any) -> bool:
        """As `Inbox.take` says.

        Args:
            message: What was delivered.
            conn: In a transaction: a connection of psycopg, SQLAlchemy or Django.
        """
        asked = {"consumer": self.consumer, "message_id": message.id}
        return bool(await rows_in(conn, self._sql["take"], asked))

    @asynccontextmanager
    async def once(self, message: Message) -> AsyncIterator[Connection | None]:
        """As `Inbox.once` says; the connection is psycopg's ``AsyncConnection``."""
        async with transaction(self.pool) as conn:
            yield conn if await self.take(message, conn) else None

    async def prune(self, *, older_than: timedelta | float | None = None) -> int:
        """As `Inbox.prune` says, 10,000 messages in one transaction."""
        seconds = self.keep if older_than is None else as_seconds(older_than)
        asked = {"consumer": self.consumer, "seconds": seconds, "batch": _BATCH}
        forgotten = 0
        while True:
            ((answer,),) = await rows_of(self.pool, self._sql["prune"], asked)
            found = int(answer)
            forgotten += found
            if found < _BATCH:
                return forgotten
