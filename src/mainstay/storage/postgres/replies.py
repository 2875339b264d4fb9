"""Waiting for the ends of commands on PostgreSQL: a row says who waits, a notification after the COMMIT tells him."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import psycopg

from mainstay.commands.command import Reply
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.replies import Key, reply_from
from mainstay.commands.store import Wakeups
from mainstay.errors import MainstayError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.callers import rows_in
from mainstay.storage.postgres.database import Connection, Pool, autocommit, execute, fetch_all, fetch_value, sealed
from mainstay.storage.postgres.notifications import Listener

REPLY_CHANNEL = "mainstay.reply."


class PostgresReplies:
    """`ReplyStore` on PostgreSQL."""

    pool: Pool
    _listen_dsn: str | None

    async def get_replies(self, keys: Sequence[Key]) -> Mapping[Key, Reply]:
        """The replies of those of these commands that have ended; one round trip."""
        async with sealed(autocommit(self.pool)) as conn:
            rows = await fetch_all(conn, queries.load("replies")["get_replies"], _columns(keys))
        return {
            (row["domain"], row["command_id"]): reply
            for row in rows
            if (
                reply := reply_from(
                    row["command_id"],
                    row["correlation_id"],
                    CommandStatus(row["status"]),
                    row["result"],
                    row["error_code"],
                    row["error_message"],
                    row["position"],
                )
            )
        }

    async def about_to_wait(self, keys: Sequence[Key], waiter: str, seconds: float) -> None:
        """Ask to be told when one of these commands ends; one round trip."""
        asked = _columns(keys) | {"channel": REPLY_CHANNEL + waiter, "seconds": seconds}
        async with sealed(autocommit(self.pool)) as conn:
            await execute(conn, queries.load("replies")["about_to_wait"], asked)

    async def stop_waiting(self, keys: Sequence[Key], waiter: str) -> None:
        """Take `about_to_wait` back; one round trip."""
        asked = _columns(keys) | {"channel": REPLY_CHANNEL + waiter}
        async with sealed(autocommit(self.pool)) as conn:
            await execute(conn, queries.load("replies")["stop_waiting"], asked)

    async def reply_again(self, domain: str, command_id: UUID, reply_to: str, *, conn: Any = None) -> bool:
        """Answer who sent a command again that has ended; one round trip."""
        query = queries.load("replies")["reply_again"]
        asked = {"domain": domain, "command_id": command_id, "reply_to": reply_to}
        if conn is not None:
            ((did,),) = await rows_in(conn, query, asked)
        else:
            async with sealed(autocommit(self.pool)) as own:
                did = await fetch_value(own, query, asked)
        return bool(did)

    @asynccontextmanager
    async def replies_heard(self, waiter: str) -> AsyncIterator[Wakeups]:
        """Listen on this waiter's own channel, with a connection outside the pool."""
        async with Listener(self.pool, REPLY_CHANNEL + waiter, conninfo=self._listen_dsn) as listener:
            yield listener


async def tell(conn: Connection, keys: Sequence[Key]) -> None:
    """Tell those who wait for these commands, which have ended and are committed; one round trip.

    Args:
        conn: In no transaction.
        keys: Which commands.
    """
    if keys:
        with suppress(MainstayError, psycopg.Error):  # whoever waits also looks by himself
            await execute(conn, queries.load("replies")["tell"], _columns(keys))


def _columns(keys: Sequence[Key]) -> dict[str, Any]:
    return {"domains": [domain for domain, _ in keys], "command_ids": [command_id for _, command_id in keys]}
