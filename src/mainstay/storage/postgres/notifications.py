"""Waking up early: LISTEN on a connection of its own.

A notification is a hint that there may be something to do, never the thing itself: it can be lost, doubled or early,
and whoever waits for one also looks by himself from time to time. That is why a `Listener` says no more than "something
was heard", and why it never fails: the worst it does is to stay silent for a while.

States::

    stopped ──start──> connecting ──LISTEN accepted──> listening
                          ^   │ └─failed: back off─┐      │
                          └───┴────────────────────┴─lost─┘

Promises. The connection is made from the pool's parameters but never taken from the pool: a connection that listens, in
autocommit mode, cannot go back among the others. What is committed after `start` has returned is heard, if the server
could be reached then. A connection that follows a failure reports one wake-up without a notification, because one may
have been missed meanwhile. Stopping closes the connection, in whatever state it is.

How it fails. A connection that breaks is made anew, with longer and longer pauses, for ever; each failure is logged. A
peer that vanishes without a word is noticed by TCP keep-alive in about a minute. Behind PgBouncer in transaction mode
LISTEN is refused or worthless: give ``conninfo`` the server's own address there, or let polling do it.
"""

import asyncio
import random

import psycopg
from psycopg import sql

from mainstay.errors import InvalidInputError, InvalidPayloadError, shown
from mainstay.service import Service, cancel
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.beside import connected
from mainstay.storage.postgres.database import Pool, autocommit, fetch_value
from mainstay.telemetry import get_logger

_log = get_logger("mainstay.storage.postgres.notifications")

_LONGEST_CHANNEL = 63
"""Bytes of an identifier; LISTEN cuts what is longer, NOTIFY refuses it."""
_LONGEST_PAYLOAD = 7999
"""Bytes, PostgreSQL's limit."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class Listener(Service):
    """An ear for one channel; an async context manager.

    Args:
        pool: Gives the connection parameters, and is used for nothing else.
        channel: Any printable text of 1 to 63 bytes; it is quoted, so case and punctuation count.
        conninfo: Connect here instead, for pools that go through a pooler.

    Raises:
        InvalidInputError: The channel's name is empty, too long or not printable.
    """

    def __init__(self, pool: Pool, channel: str, *, conninfo: str | None = None) -> None:
        super().__init__()
        self.channel = checked_channel(channel)
        self._pool = pool
        self._conninfo = conninfo
        self._heard = asyncio.Event()
        self._payloads: set[str] = set()
        self._tried = asyncio.Event()
        self._is_listening = False
        self._listen = sql.SQL(queries.load("notifications")["listen"]).format(channel=sql.Identifier(channel))

    async def start(self) -> None:
        """Begin to listen, and return when the server has accepted or the first attempt failed; nothing if begun."""
        if self.is_running:
            return
        self._tried.clear()
        await super().start()
        try:
            await self._tried.wait()
        except BaseException:
            await self.stop()
            raise

    async def wait(self, timeout: float) -> bool:
        """Wait until something was heard since the last call.

        Args:
            timeout: Seconds at most.

        Returns:
            Whether something was heard: a notification, or a connection that followed a failure.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._heard.wait()
        except TimeoutError:
            return False
        self._heard.clear()
        return True

    @property
    def is_listening(self) -> bool:
        """Whether the server has accepted, and the connection is not known to be lost."""
        return self._is_listening and self.is_running

    def payloads(self) -> set[str]:
        """What the notifications since the last call carried; nothing, of a connection that followed a failure."""
        found, self._payloads = self._payloads, set()
        return found

    def heard(self, payload: str) -> bool:
        """Whether one of the notifications since the last call carried this payload."""
        return payload in self.payloads()

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                ear = group.create_task(self._listen_forever())
                await self.stopping.wait()
                await cancel(ear)
        finally:
            self._tried.set()

    async def _listen_forever(self) -> None:
        failures = 0
        missed = False
        while True:
            try:
                async with await connected(self._pool, self._conninfo) as conn:
                    await conn.execute(self._listen)
                    failures = 0
                    self._is_listening = True
                    if missed:
                        self._heard.set()
                    self._tried.set()
                    async for notification in conn.notifies():
                        self._payloads.add(notification.payload)
                        self._heard.set()
            except (psycopg.Error, OSError) as error:
                self._is_listening = False
                self._tried.set()
                missed = True
                pause = min(_FIRST_PAUSE * 2**failures, _LONGEST_PAUSE)
                failures = min(failures + 1, 30)  # the power above must not grow for ever
                pause *= random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
                _log.warning(
                    "listening was interrupted, trying again in %.1f s",
                    pause,
                    extra={"channel": self.channel, "error": str(error)},
                )
                await asyncio.sleep(pause)


async def notify(pool: Pool, channel: str, payload: str = "") -> None:
    """Tell everybody who listens on a channel, in a transaction of its own.

    It takes no connection on purpose: every transaction that notifies waits for one lock when it commits.

    Args:
        pool: An open pool.
        channel: Any printable text of 1 to 63 bytes.
        payload: At most 7,999 bytes.

    Raises:
        InvalidInputError: The channel's name is empty, too long or not printable.
        InvalidPayloadError: The payload is too long or cannot be stored.
        StorageUnavailableError: The database cannot be reached.
    """
    if not isinstance(payload, str) or "\x00" in payload or not _size(payload) <= _LONGEST_PAYLOAD:
        raise InvalidPayloadError(
            f"the payload of a notification is text of up to {_LONGEST_PAYLOAD} bytes, without NUL"
        )
    values = {"channel": checked_channel(channel), "payload": payload}
    async with autocommit(pool) as conn:
        await fetch_value(conn, queries.load("notifications")["notify"], values)


def checked_channel(channel: object) -> str:
    """The channel's name itself, if LISTEN and NOTIFY both take it as it is.

    Raises:
        InvalidInputError: They do not.
    """
    if not isinstance(channel, str) or not channel.isprintable() or not 1 <= _size(channel) <= _LONGEST_CHANNEL:
        raise InvalidInputError(f"a channel is printable text of 1 to {_LONGEST_CHANNEL} bytes, not {shown(channel)}")
    return channel


def _size(text: str) -> float:
    """Bytes of a text; infinite if it has no UTF-8 form."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return float("inf")
