"""The database page, "Transactional Patterns", "pg_notify Integration" and "Query Patterns".

The page's tables are unqualified: the connection string carries ``options=-c search_path=commandbus,public``.
"""

# ruff: noqa: SIM117 - written as the page writes it

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from commandbus import Command, CommandBus, CommandMetadata, CommandStatus, HandlerRegistry, PgmqClient, Worker
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.waiting import eventually


@pytest.fixture
async def pool(dsn):
    """As the page's code needs it; autocommit because psycopg hears notifications outside transactions only."""
    conninfo = make_conninfo(dsn, options="-c search_path=commandbus,public")
    kwargs = {"cursor_factory": AsyncRawCursor, "autocommit": True}
    async with AsyncConnectionPool(conninfo, kwargs=kwargs, open=False) as pool:
        for queue in ("orders__commands", "orders__replies"):
            await PgmqClient(pool).create_queue(queue)
        yield pool


def a_command():
    return Command(
        domain="orders",
        command_type="CreateOrder",
        command_id=uuid4(),
        data={"total": 7},
        correlation_id=uuid4(),
        reply_to="orders__replies",
    )


# -- Transactional Patterns --------------------------------------------------------------------------------------------

#: What `fsck` says of a command that was completed by SQL of one's own.
FAULTS = {
    "a command with a message id has that message",
    "a pending command waits in exactly one place",
    "a terminal command has answered who asked",
    "an audit trail is a legal path that ends at the status",
}


async def send_command_transactional(
    pool: AsyncConnectionPool,
    command: Command,
) -> int:
    """Send command with metadata in single transaction."""
    async with pool.connection() as conn:
        async with conn.transaction():
            # 1. Insert metadata (enforce uniqueness)
            await conn.execute(
                """
                INSERT INTO command_bus_command (
                    domain, command_id, command_type, status, max_attempts,
                    reply_queue, correlation_id, created_at, updated_at
                ) VALUES ($1, $2, $3, $4, $5, $6, $7, NOW(), NOW())
                """,
                [
                    command.domain,
                    command.command_id,
                    command.command_type,
                    "PENDING",
                    3,
                    command.reply_to,
                    command.correlation_id,
                ],
            )

            # 2. Send to PGMQ
            payload = orjson.dumps(command.to_dict()).decode()
            result = await conn.execute(
                "SELECT pgmq.send($1, $2::jsonb)",
                [f"{command.domain}__commands", payload],
            )
            msg_id = (await result.fetchone())[0]

            # 3. Update metadata with msg_id
            await conn.execute(
                """
                UPDATE command_bus_command
                SET msg_id = $1, updated_at = NOW()
                WHERE domain = $2 AND command_id = $3
                """,
                [msg_id, command.domain, command.command_id],
            )

            # 4. Audit
            await conn.execute(
                """
                INSERT INTO command_bus_audit (domain, command_id, event_type)
                VALUES ($1, $2, 'SENT')
                """,
                [command.domain, command.command_id],
            )

            return msg_id


async def complete_command_transactional(
    pool: AsyncConnectionPool,
    domain: str,
    command_id: UUID,
    msg_id: int,
    result_data: dict | None = None,
) -> None:
    """Complete command with reply in single transaction."""
    async with pool.connection() as conn:
        async with conn.transaction():
            # 1. Update metadata to COMPLETED
            await conn.execute(
                """
                UPDATE command_bus_command
                SET status = 'COMPLETED', updated_at = NOW()
                WHERE domain = $1 AND command_id = $2
                """,
                [domain, command_id],
            )

            # 2. Delete message from queue
            await conn.execute(
                "SELECT pgmq.delete($1, $2)",
                [f"{domain}__commands", msg_id],
            )

            # 3. Send reply
            reply = {
                "command_id": str(command_id),
                "outcome": "SUCCESS",
                "data": result_data or {},
            }
            await conn.execute(
                "SELECT pgmq.send($1, $2::jsonb)",
                [f"{domain}__replies", orjson.dumps(reply).decode()],
            )

            # 4. Audit
            await conn.execute(
                """
                INSERT INTO command_bus_audit (domain, command_id, event_type, details_json)
                VALUES ($1, $2, 'COMPLETED', $3::jsonb)
                """,
                [domain, command_id, orjson.dumps({"data": result_data}).decode()],
            )


async def test_atomic_send_and_complete(pool):
    command, bus = a_command(), CommandBus(pool)

    msg_id = await send_command_transactional(pool, command)
    sent = await bus.get_command("orders", command.command_id)
    await complete_command_transactional(pool, "orders", command.command_id, msg_id, {"ok": True})
    completed = await bus.get_command("orders", command.command_id)

    assert (sent.status, sent.msg_id, sent.reply_to) == (CommandStatus.PENDING, msg_id, "orders__replies")
    assert completed.status is CommandStatus.COMPLETED
    assert (await PgmqClient(pool).pop("orders__replies")).message["data"] == {"ok": True}
    assert await PgmqClient(pool).pop("orders__commands") is None
    assert {fault.invariant for fault in (await PostgresCommandStore(pool).fsck()).findings} == FAULTS


async def test_a_command_sent_so_is_handled_by_a_worker_like_any_other(pool):
    command, bus, registry = a_command(), CommandBus(pool), HandlerRegistry()

    @registry.decorator("orders", "CreateOrder")
    async def create(cmd, ctx):
        return {"doubled": cmd.data["total"] * 2}

    worker = Worker(pool, "orders", registry)
    await send_command_transactional(pool, command)
    running = asyncio.create_task(worker.run(poll_interval=0.1))
    reply = await eventually(lambda: PgmqClient(pool).pop("orders__replies"))
    await worker.stop(timeout=10)
    await running

    assert reply.message["data"] == {"doubled": 14}
    assert reply.message["correlation_id"] == str(command.correlation_id)
    assert (await bus.get_command("orders", command.command_id)).status is CommandStatus.COMPLETED
    assert (await PostgresCommandStore(pool).fsck()).clean


# -- pg_notify Integration ---------------------------------------------------------------------------------------------


async def notify_new_command(
    conn: AsyncConnection,
    domain: str,
    queue: str,
) -> None:
    """Notify workers of new command."""
    channel = f"commandbus.{domain}"
    await conn.execute(
        "SELECT pg_notify($1, $2)",
        [channel, queue],
    )


async def listen_for_commands(
    conn: AsyncConnection,
    domain: str,
    callback: Callable[[str], Awaitable[None]],
) -> None:
    """Listen for command notifications; the channel quoted, which the page forgets."""
    channel = f"commandbus.{domain}"
    await conn.execute(f'LISTEN "{channel}"')

    async for notify in conn.notifies():
        await callback(notify.payload)


async def test_listening_for_notifications(pool):
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with pool.connection() as listening, pool.connection() as conn:
        listener = asyncio.create_task(listen_for_commands(listening, "orders", heard.put))

        async def told():
            await notify_new_command(conn, "orders", "orders__commands")
            return not heard.empty()

        await eventually(told)
        listener.cancel()
        await asyncio.wait({listener})
        await listening.execute("UNLISTEN *")

    assert heard.get_nowait() == "orders__commands"


class NotifyWorker:
    def __init__(self, pool: AsyncConnectionPool, domain: str) -> None:
        self._pool = pool
        self._domain = domain
        self._poll_interval = 5.0  # Fallback polling
        self.seen: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Run worker with notify + polling fallback."""
        async with self._pool.connection() as listen_conn:
            channel = f"commandbus.{self._domain}"
            await listen_conn.execute(f'LISTEN "{channel}"')

            while True:
                # Wait for notify or timeout
                try:
                    async with asyncio.timeout(self._poll_interval):
                        async for notify in listen_conn.notifies():
                            await self._process_queue(notify.payload)
                            break  # Process one, then check again
                except TimeoutError:
                    # Fallback: poll the queue
                    await self._process_queue(f"{self._domain}__commands")

    async def _process_queue(self, queue: str) -> None:
        """Process available messages from queue."""
        messages = await PgmqClient(self._pool).read(queue, 30, 10)
        for msg in messages:
            self.seen.append(msg.message)


@pytest.mark.parametrize("woken", [True, False])
async def test_a_worker_with_notify_and_polling_fallback(pool, woken):
    command = a_command()
    await send_command_transactional(pool, command)
    worker = NotifyWorker(pool, "orders")
    worker._poll_interval = 60.0 if woken else 0.05
    running = asyncio.create_task(worker.run())

    async def seen():
        if woken:
            async with pool.connection() as conn:
                await notify_new_command(conn, "orders", "orders__commands")
        return worker.seen

    (message,) = await eventually(seen)
    running.cancel()
    await asyncio.wait({running})

    assert message == command.to_dict()


# -- Query Patterns ----------------------------------------------------------------------------------------------------


async def find_by_status(
    conn: AsyncConnection,
    domain: str,
    status: CommandStatus,
    limit: int = 100,
) -> list[CommandMetadata]:
    """Find commands by status."""
    result = await conn.execute(
        """
        SELECT * FROM command_bus_command
        WHERE domain = $1 AND status = $2
        ORDER BY created_at DESC
        LIMIT $3
        """,
        [domain, status.value, limit],
    )
    return [CommandMetadata.from_row(row) for row in await result.fetchall()]


async def test_find_commands_by_status(pool):
    bus, command_id = CommandBus(pool), uuid4()
    await bus.send("orders", "CreateOrder", command_id, {}, reply_to="orders__replies")
    await bus.close()

    async with pool.connection() as conn:
        (found,) = await find_by_status(conn, "orders", CommandStatus.PENDING)
        assert await find_by_status(conn, "orders", CommandStatus.FAILED) == []

    assert (found.command_id, found.status, found.max_attempts) == (command_id, CommandStatus.PENDING, 3)
    assert found.reply_to == "orders__replies"


@dataclass
class AuditEvent:
    """The three fields that the page reads."""

    event_type: str
    timestamp: datetime
    details: dict[str, Any] | None


async def get_audit_trail(
    conn: AsyncConnection,
    command_id: UUID,
) -> list[AuditEvent]:
    """Get audit trail for a command."""
    result = await conn.execute(
        """
        SELECT event_type, ts, details_json
        FROM command_bus_audit
        WHERE command_id = $1
        ORDER BY ts ASC
        """,
        [command_id],
    )
    return [
        AuditEvent(
            event_type=row[0],
            timestamp=row[1],
            details=row[2],
        )
        for row in await result.fetchall()
    ]


async def test_get_audit_trail(pool):
    command = a_command()
    msg_id = await send_command_transactional(pool, command)
    await complete_command_transactional(pool, "orders", command.command_id, msg_id, {"ok": True})

    async with pool.connection() as conn:
        trail = await get_audit_trail(conn, command.command_id)

    assert [(event.event_type, event.details) for event in trail] == [
        ("SENT", None),
        ("COMPLETED", {"data": {"ok": True}}),
    ]
