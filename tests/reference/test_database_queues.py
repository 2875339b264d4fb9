"""The database page, "Connection Management" and "PGMQ Operations", with ``AsyncRawCursor`` for its ``$1``.

Where docs/compatibility.md names an exception, the test shows both: what happens, and what to write instead.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import orjson
import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg_pool import AsyncConnectionPool

QUEUE = "payments__commands"


# -- Connection Management ---------------------------------------------------------------------------------------------


async def create_pool(database_url: str) -> AsyncConnectionPool:
    """Create and open a connection pool."""
    pool = AsyncConnectionPool(
        database_url,
        min_size=5,
        max_size=20,
        open=False,  # Open explicitly
    )
    await pool.open()
    return pool


class DatabaseManager:
    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._pool: AsyncConnectionPool | None = None

    async def __aenter__(self) -> Self:
        self._pool = await create_pool(self._url)
        return self

    async def __aexit__(self, *args) -> None:
        if self._pool:
            await self._pool.close()

    @property
    def pool(self) -> AsyncConnectionPool:
        if not self._pool:
            raise RuntimeError("Database not connected")
        return self._pool


async def test_lifecycle_management(dsn):
    async with DatabaseManager(dsn) as database, database.pool.connection() as conn:
        assert (await (await conn.execute("select 1")).fetchone()) == (1,)


@pytest.fixture
async def conn(dsn):
    async with await AsyncConnection.connect(dsn, cursor_factory=AsyncRawCursor, autocommit=True) as conn:
        await conn.execute("SELECT pgmq.create($1)", [QUEUE])
        yield conn


# -- Queue Management --------------------------------------------------------------------------------------------------


async def test_queue_management(conn):
    # Create a queue
    await conn.execute("SELECT pgmq.create($1)", ["old_queue"])

    # List queues
    result = await conn.execute("SELECT * FROM pgmq.list_queues()")
    queues = await result.fetchall()
    assert sorted(queue[0] for queue in queues) == ["old_queue", QUEUE]

    # Drop a queue (careful!)
    await conn.execute("SELECT pgmq.drop_queue($1)", ["old_queue"])
    result = await conn.execute("SELECT * FROM pgmq.list_queues()")
    assert [queue[0] for queue in await result.fetchall()] == [QUEUE]


async def test_a_partitioned_queue_needs_pg_partman(conn):
    with pytest.raises(psycopg.errors.RaiseException, match="pg_partman"):
        await conn.execute(
            "SELECT pgmq.create_partitioned($1, $2)",
            ["events__queue", "1 day"],  # Partition by day
        )


# -- Send Messages -----------------------------------------------------------------------------------------------------


async def send_message(
    conn: AsyncConnection,
    queue: str,
    message: dict,
    delay: int = 0,
) -> int:
    """Send a message to the queue."""
    payload = orjson.dumps(message).decode()

    if delay > 0:
        result = await conn.execute(
            "SELECT pgmq.send($1, $2::jsonb, $3)",
            [queue, payload, delay],
        )
    else:
        result = await conn.execute(
            "SELECT pgmq.send($1, $2::jsonb)",
            [queue, payload],
        )

    row = await result.fetchone()
    return row[0]  # msg_id


# -- Read Messages -----------------------------------------------------------------------------------------------------


@dataclass
class QueueMessage:
    msg_id: int
    read_ct: int
    enqueued_at: datetime
    vt: datetime
    message: dict


async def read_messages(
    conn: AsyncConnection,
    queue: str,
    vt: int = 30,
    limit: int = 1,
) -> list[QueueMessage]:
    """Read messages with visibility timeout; the columns named, which the page leaves to their order."""
    result = await conn.execute(
        "SELECT msg_id, read_ct, enqueued_at, vt, message FROM pgmq.read($1, $2, $3)",
        [queue, vt, limit],
    )
    rows = await result.fetchall()

    return [
        QueueMessage(
            msg_id=row[0],
            read_ct=row[1],
            enqueued_at=row[2],
            vt=row[3],
            message=row[4],
        )
        for row in rows
    ]


async def test_send_and_read_messages(conn):
    first = await send_message(conn, QUEUE, {"amount": 1})
    await send_message(conn, QUEUE, {"amount": 2}, delay=60)

    (message,) = await read_messages(conn, QUEUE, vt=30, limit=10)

    assert (message.msg_id, message.read_ct, message.message) == (first, 1, {"amount": 1})
    assert message.vt > message.enqueued_at


async def test_columns_by_their_order_are_not_what_the_page_takes_them_for(conn):
    await send_message(conn, QUEUE, {"amount": 1})

    result = await conn.execute("SELECT * FROM pgmq.read($1, $2, $3)", [QUEUE, 30, 1])

    names = [column.name for column in result.description]
    assert names.index("message") != 4


# -- Message Disposition -----------------------------------------------------------------------------------------------


async def delete_message(conn: AsyncConnection, queue: str, msg_id: int) -> bool:
    """Delete a message (processed successfully)."""
    result = await conn.execute(
        "SELECT pgmq.delete($1, $2)",
        [queue, msg_id],
    )
    row = await result.fetchone()
    return row[0]  # True if deleted


async def archive_message(conn: AsyncConnection, queue: str, msg_id: int) -> bool:
    """Archive a message (for troubleshooting)."""
    result = await conn.execute(
        "SELECT pgmq.archive($1, $2)",
        [queue, msg_id],
    )
    row = await result.fetchone()
    return row[0]  # True if archived


async def set_visibility(
    conn: AsyncConnection,
    queue: str,
    msg_id: int,
    vt: int,
) -> datetime:
    """Extend visibility timeout (for long operations); ``vt FROM``, because the function returns a whole message."""
    result = await conn.execute(
        "SELECT vt FROM pgmq.set_vt($1, $2, $3)",
        [queue, msg_id, vt],
    )
    row = await result.fetchone()
    return row[0]  # New VT expiration


async def test_message_disposition(conn):
    first = await send_message(conn, QUEUE, {})
    second = await send_message(conn, QUEUE, {})

    until = await set_visibility(conn, QUEUE, first, 120)

    assert until > datetime.now(UTC) + timedelta(seconds=60)
    assert await delete_message(conn, QUEUE, first) is True
    assert await delete_message(conn, QUEUE, first) is False
    assert await archive_message(conn, QUEUE, second) is True
    assert await archive_message(conn, QUEUE, second) is False


# -- Pop (Read + Delete) -----------------------------------------------------------------------------------------------


async def pop_message(conn: AsyncConnection, queue: str) -> QueueMessage | None:
    """Pop a message (read and delete atomically); the columns named, as in `read_messages`."""
    result = await conn.execute(
        "SELECT msg_id, read_ct, enqueued_at, vt, message FROM pgmq.pop($1)",
        [queue],
    )
    row = await result.fetchone()
    if not row:
        return None
    return QueueMessage(
        msg_id=row[0],
        read_ct=row[1],
        enqueued_at=row[2],
        vt=row[3],
        message=row[4],
    )


async def test_pop(conn):
    await send_message(conn, QUEUE, {"amount": 1})

    assert (await pop_message(conn, QUEUE)).message == {"amount": 1}
    assert await pop_message(conn, QUEUE) is None


# -- Queue Metrics -----------------------------------------------------------------------------------------------------


async def get_queue_metrics(
    conn: AsyncConnection,
    queue: str,
) -> dict:
    """Get queue metrics; the columns named, because PGMQ has the newest age before the oldest."""
    result = await conn.execute(
        "SELECT queue_name, queue_length, oldest_msg_age_sec, newest_msg_age_sec, total_messages FROM pgmq.metrics($1)",
        [queue],
    )
    row = await result.fetchone()
    return {
        "queue_name": row[0],
        "queue_length": row[1],
        "oldest_msg_age_sec": row[2],
        "newest_msg_age_sec": row[3],
        "total_messages": row[4],
    }


async def test_queue_metrics(conn):
    await send_message(conn, QUEUE, {})

    metrics = await get_queue_metrics(conn, QUEUE)

    assert (metrics["queue_name"], metrics["queue_length"], metrics["total_messages"]) == (QUEUE, 1, 1)
    assert metrics["oldest_msg_age_sec"] >= metrics["newest_msg_age_sec"] >= 0
