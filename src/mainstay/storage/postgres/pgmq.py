"""PGMQ's queues as they are: create, send, read, archive, delete.

The command bus does not go through here; replies are read through here, and so is whatever else a user keeps in queues.

Promises. A queue name is checked before it reaches SQL, and reaches it as a parameter only. Rows are read by column
name, so every release of PGMQ since 1.5 will do. A call with a connection joins that connection's transaction; one
without is a transaction of its own.

How it fails. A missing queue is a `QueueNotFoundError` that says how to create it. Inside a caller's transaction that
transaction is then spoilt, as after every SQL error.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg

from mainstay.errors import InvalidInputError, MissingDependencyError, QueueNotFoundError
from mainstay.message import checked_queue
from mainstay.serialization import to_json
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import (
    Connection,
    Pool,
    autocommit,
    borrowed,
    fetch_all,
    fetch_one,
    fetch_value,
)
from mainstay.storage.postgres.pgmq_message import (
    PgmqMessage,
    PgmqMetrics,
    PgmqQueue,
    checked_count,
    checked_lease,
    checked_msg_id,
    checked_seconds,
    written_batch,
    written_headers,
)

__all__ = ["PgmqClient", "PgmqMessage", "PgmqMetrics", "PgmqQueue"]


class PgmqClient:
    """Queues of one database.

    Args:
        pool: An open pool.

    Raises:
        InvalidQueueError: A queue name that PGMQ would refuse, fold or cut; from every call that takes one.
        QueueNotFoundError: The queue does not exist; from every call on messages.
        PgmqMissingError: PGMQ is not installed; from every call.
        StorageUnavailableError: The database cannot be reached; from every call.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("pgmq")

    # -- queues -------------------------------------------------------------------------------------------------------

    async def create_queue(self, queue: str) -> None:
        """Create a queue, on a connection of its own; does nothing if it exists.

        It takes no connection because PGMQ holds an advisory lock until the commit: inside a long transaction it would
        stop everybody who creates a queue of the same name.
        """
        checked_queue(queue)
        async with autocommit(self._pool) as conn:
            await fetch_value(conn, self._sql["create_queue"], {"queue": queue})

    async def create_partitioned(
        self, queue: str, partition_interval: str = "1 day", retention_interval: str | None = None
    ) -> None:
        """Create a queue whose table is partitioned, for very many messages; does nothing if it exists so.

        Args:
            queue: Its name.
            partition_interval: A span of time (``"1 day"``) or a number of messages (``"10000"``).
            retention_interval: Partitions older than this are dropped *with the messages in them*, read or not. None
                keeps all. (PGMQ's own default would drop messages after 100,000 seconds.)

        Raises:
            MissingDependencyError: The extension pg_partman is not installed in this database.
            InvalidInputError: A queue of this name exists and is not partitioned, or an interval is empty.
        """
        checked_queue(queue)
        if not partition_interval or retention_interval == "":
            raise InvalidInputError("an interval must be a span of time ('1 day') or a number of messages ('10000')")
        async with autocommit(self._pool) as conn:
            if not await fetch_value(conn, self._sql["partman_is_installed"]):
                raise MissingDependencyError(
                    f"queue {queue!r} cannot be partitioned: the extension pg_partman is not installed in this "
                    "database. Install its package on the server (Debian: postgresql-18-partman), then run "
                    "CREATE EXTENSION pg_partman"
                )
            there = {found.queue_name: found for found in await self._list(conn)}.get(queue)
            if there is None:
                intervals = {"partition_interval": partition_interval, "retention_interval": retention_interval}
                await fetch_value(conn, self._sql["create_partitioned"], {"queue": queue, **intervals})
            elif not there.is_partitioned:
                raise InvalidInputError(f"queue {queue!r} exists and is not partitioned")

    async def list_queues(self, *, conn: Connection | None = None) -> list[PgmqQueue]:
        """All queues of the database, by name."""
        async with borrowed(self._pool, conn) as session:
            return await self._list(session)

    async def drop_queue(self, queue: str) -> bool:
        """Drop a queue and its archive with everything in them, on a connection of its own.

        Returns:
            False if there was no such queue.
        """
        checked_queue(queue)
        async with autocommit(self._pool) as conn:
            return bool(await fetch_value(conn, self._sql["drop_queue"], {"queue": queue}))

    async def purge(self, queue: str, *, conn: Connection | None = None) -> int:
        """Remove all messages, read or not; the archive stays.

        Returns:
            How many there were.
        """
        async with self._on(queue, conn) as session:
            return int(await fetch_value(session, self._sql["purge"], {"queue": queue}))

    async def metrics(self, queue: str, *, conn: Connection | None = None) -> PgmqMetrics:
        """Length and ages of a queue. Reads the whole queue: not for every second."""
        async with self._on(queue, conn) as session:
            row = await fetch_one(session, self._sql["metrics"], {"queue": queue})
        if row is None:
            raise QueueNotFoundError(queue)
        return PgmqMetrics(**{name: row[name] for name in PgmqMetrics.__dataclass_fields__})

    # -- messages -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        queue: str,
        message: Any,
        delay: timedelta | float = 0,
        conn: Connection | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a message into a queue.

        Args:
            queue: Which.
            message: Anything that JSON can hold, usually a dict.
            delay: Seconds, or a timedelta, before it can be read.
            conn: Send it with this connection's transaction or not at all.
            headers: JSON object that travels along.

        Returns:
            Its number in the queue.

        Raises:
            InvalidPayloadError: The message or the headers cannot be stored as JSON, or are too large.
        """
        values = {
            "queue": checked_queue(queue),
            "message": _text(to_json(message, what="message")),
            "headers": _text(written_headers(headers)),
            "delay": checked_seconds(delay),
        }
        async with self._on(queue, conn) as session:
            return int(await fetch_value(session, self._sql["send"], values))

    async def send_batch(
        self,
        queue: str,
        messages: Sequence[Any],
        delay: timedelta | float = 0,
        conn: Connection | None = None,
        *,
        headers: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> list[int]:
        """Put messages into a queue, all or none; arguments as for `send`, ``headers`` one for each message.

        Returns:
            Their numbers, in the order given.

        Raises:
            InvalidPayloadError: One of them cannot be stored; the error says which.
            InvalidInputError: There are not as many headers as messages.
        """
        documents, along = written_batch(messages, headers)
        values = {
            "queue": checked_queue(queue),
            "messages": [_text(document) for document in documents],
            "headers": None if along is None else [_text(document) for document in along],
            "delay": checked_seconds(delay),
        }
        if not documents:
            return []
        async with self._on(queue, conn) as session:
            rows = await fetch_all(session, self._sql["send_batch"], values)
        return [int(row["msg_id"]) for row in rows]

    async def read(
        self,
        queue: str,
        visibility_timeout: timedelta | float = 30,
        batch_size: int = 1,
        conn: Connection | None = None,
    ) -> list[PgmqMessage]:
        """Read visible messages, oldest first, and hide them from others for a while.

        Args:
            queue: Which.
            visibility_timeout: Seconds, or a timedelta, until they are seen again; rounded up to whole seconds.
            batch_size: How many at most.
            conn: Read in this connection's transaction: they stay locked until it ends.
        """
        values = {
            "queue": checked_queue(queue),
            "visibility_timeout": checked_lease(visibility_timeout),
            "batch_size": checked_count(batch_size, "batch_size"),
        }
        async with self._on(queue, conn) as session:
            rows = await fetch_all(session, self._sql["read"], values)
        return sorted((_message(row) for row in rows), key=lambda message: message.msg_id)

    async def pop(self, queue: str, conn: Connection | None = None) -> PgmqMessage | None:
        """Take the oldest visible message out for good: if its reader then fails, it is lost.

        Returns:
            None if nothing is visible.
        """
        checked_queue(queue)
        async with self._on(queue, conn) as session:
            row = await fetch_one(session, self._sql["pop"], {"queue": queue})
        return None if row is None else _message(row)

    async def archive(self, queue: str, msg_id: int, conn: Connection | None = None) -> bool:
        """Move a message to the queue's archive, where it is kept.

        Returns:
            False if it was not in the queue.
        """
        async with self._on(queue, conn) as session:
            return bool(await fetch_value(session, self._sql["archive"], _address(queue, msg_id)))

    async def delete(self, queue: str, msg_id: int, conn: Connection | None = None) -> bool:
        """Delete a message.

        Returns:
            False if it was not in the queue.
        """
        async with self._on(queue, conn) as session:
            return bool(await fetch_value(session, self._sql["delete"], _address(queue, msg_id)))

    async def set_vt(
        self, queue: str, msg_id: int, visibility_timeout: timedelta | float, conn: Connection | None = None
    ) -> datetime | None:
        """Hide a message from now on for a while, longer or shorter than before.

        Args:
            queue: Which.
            msg_id: Its number there.
            visibility_timeout: Seconds, or a timedelta; rounded up to whole seconds. 0 shows it at once.
            conn: Join this connection's transaction.

        Returns:
            When it will be seen again; None if it is not in the queue.
        """
        values = {**_address(queue, msg_id), "visibility_timeout": checked_lease(visibility_timeout)}
        async with self._on(queue, conn) as session:
            row = await fetch_one(session, self._sql["set_vt"], values)
        return None if row is None else row["vt"]

    @asynccontextmanager
    async def _on(self, queue: str, conn: Connection | None) -> AsyncIterator[Connection]:
        """A connection for statements on one queue, whose absence becomes an error of ours."""
        checked_queue(queue)
        try:
            async with borrowed(self._pool, conn) as session:
                yield session
        except psycopg.errors.UndefinedTable as error:  # of PGMQ itself it would have been translated
            raise QueueNotFoundError(queue) from error

    async def _list(self, conn: Connection) -> list[PgmqQueue]:
        rows = await fetch_all(conn, self._sql["list_queues"])
        return [PgmqQueue(**{name: row[name] for name in PgmqQueue.__dataclass_fields__}) for row in rows]


def _text(document: bytes | None) -> str | None:
    """JSON as the driver sends it: text, which the statement casts."""
    return None if document is None else document.decode()


def _address(queue: str, msg_id: int) -> dict[str, Any]:
    return {"queue": checked_queue(queue), "msg_id": checked_msg_id(msg_id)}


def _message(row: Mapping[str, Any]) -> PgmqMessage:
    return PgmqMessage(
        msg_id=row["msg_id"],
        read_count=row["read_ct"],
        enqueued_at=row["enqueued_at"],
        vt=row["vt"],
        message=row["message"],
        headers=row.get("headers"),
        last_read_at=row.get("last_read_at"),
    )
