"""The inbox: lets a consumer take each message in exactly once, in its own database.

A bus delivers at least once. A consumer that writes to a database remembers there, in the same transaction, which
messages it has taken in; one that comes again finds itself, and nothing is written::

    inbox = PostgresInbox(pool, "billing")
    await inbox.prepare()

    async def bill(message, conn):
        await conn.execute("insert into invoice (order_id) values (%s)", [message.data["order_id"]])

    async with bus, Consumer(bus, "billing", inbox.handling(bill)):
        ...

One suite, `mainstay.testing.contracts.inbox`, holds every inbox to what is written here.

What an inbox promises
----------------------

*Once.* Of all transactions that take a message in for one consumer, one commits: what is written in it is there exactly
once. This holds for what is written through its connection, and for nothing else.

*For as long as it remembers.* What is older than ``keep`` is forgotten, and would be taken in again: keep longer than
the broker may deliver late, dead letters included.

What it locks. A transaction that takes a message in holds that message's row until its COMMIT. Another that comes with
the same one waits for that, and then finds it taken, or takes it if the first was rolled back.

How it fails. Killed before the COMMIT: nothing was written, nothing is remembered, the message comes again. Killed
after it: the message comes again, and is found. If the answer to a COMMIT was lost, the next attempt finds out.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

from mainstay.delivery.consumer import MessageHandler
from mainstay.delivery.message import Message
from mainstay.errors import MainstayError
from mainstay.message import checked_text
from mainstay.retry import as_seconds
from mainstay.telemetry import get_logger

log = get_logger(__name__)

KEPT = timedelta(days=30)
"""How long an inbox remembers, unless told otherwise."""
_NAME_LIMIT = 200
_PRUNED_EVERY = 3600.0


class Inbox(ABC):
    """Base of inboxes.

    Args:
        consumer: Stable: what was taken in is known under it.
        keep: Time (or seconds) for which it remembers.

    Raises:
        InvalidInputError: Not a name of 1 to 200 printable characters.
        ConfigurationError: Not a duration.
    """

    def __init__(self, consumer: str, *, keep: timedelta | float = KEPT) -> None:
        self.consumer = checked_text(consumer, "a consumer's name", _NAME_LIMIT)
        self.keep = as_seconds(keep)
        self._due = time.monotonic() + _PRUNED_EVERY

    @abstractmethod
    async def prepare(self) -> None:
        """Make the table ``mainstay_inbox``, if it is not there; the only thing of ours that the database needs."""

    @abstractmethod
    async def take(self, message: Message, conn: Any) -> bool:
        """Take a message in, in the caller's transaction; whether it is the first time.

        Args:
            message: What was delivered.
            conn: In a transaction.

        Raises:
            StorageError: The database is away or refuses.
        """

    @abstractmethod
    def once(self, message: Message) -> AbstractAsyncContextManager[Any | None]:
        """A transaction that takes a message in: its connection, or None if the message was taken in before.

        It is committed at the end of the block, rolled back if that raises.

        Args:
            message: What was delivered.

        Raises:
            StorageUnavailableError: The database is away, or the way to it broke.
        """

    @abstractmethod
    async def prune(self, *, older_than: timedelta | float | None = None) -> int:
        """Forget what was taken in long ago; gives how many messages.

        Args:
            older_than: Time (or seconds); what was given as ``keep`` unless given.
        """

    def handling(self, handler: Callable[[Message, Any], Awaitable[None]]) -> MessageHandler:
        """A handler for a `Consumer` that calls this one for each message once, in a transaction of the inbox.

        Once an hour it forgets what is older than ``keep``.

        Args:
            handler: Is given the message and the connection, and writes through that.
        """

        async def handle(message: Message) -> None:
            async with self.once(message) as conn:
                if conn is not None:
                    await handler(message, conn)
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + _PRUNED_EVERY
                try:
                    await self.prune()
                except MainstayError:
                    log.exception("the inbox of %s could not be pruned", self.consumer)

        return handle
