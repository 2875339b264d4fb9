"""The patterns page: repository, transactions, result types, registry, worker, logging, configuration."""

# ruff: noqa: SIM117 - written as the page writes it

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg_pool import AsyncConnectionPool

from commandbus import (
    Command,
    CommandBus,
    Config,
    HandlerContext,
    HandlerRegistry,
    PgmqClient,
    PostgresAuditLogger,
    Worker,
)
from commandbus.models import CommandMetadata, CommandStatus, Failure, Success
from commandbus.repositories.postgres import PostgresCommandRepository as OurRepository
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.waiting import eventually


@pytest.fixture
async def raw_pool(dsn):
    """A pool as the page's SQL needs it: ``$1`` parameters, unqualified tables."""
    options = {"cursor_factory": AsyncRawCursor, "options": "-c search_path=commandbus,public"}
    async with AsyncConnectionPool(dsn, kwargs=options, open=False) as pool:
        yield pool


# -- Repository Pattern ------------------------------------------------------------------------------------------------


@runtime_checkable
class CommandRepository(Protocol):
    """Repository for command metadata."""

    async def save(
        self,
        command: CommandMetadata,
        *,
        conn: AsyncConnection | None = None,
    ) -> None:
        """Save command metadata."""
        ...

    async def get_by_id(
        self,
        domain: str,
        command_id: UUID,
        *,
        conn: AsyncConnection | None = None,
    ) -> CommandMetadata | None:
        """Get command by domain and ID."""
        ...

    async def update_status(
        self,
        domain: str,
        command_id: UUID,
        status: CommandStatus,
        *,
        conn: AsyncConnection | None = None,
    ) -> None:
        """Update command status."""
        ...


class PostgresCommandRepository:
    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def save(
        self,
        command: CommandMetadata,
        *,
        conn: AsyncConnection | None = None,
    ) -> None:
        sql = """
            INSERT INTO command_bus_command (
                domain, command_id, command_type, status
            ) VALUES ($1, $2, $3, $4)
        """
        async with self._get_connection(conn) as c:
            await c.execute(sql, (command.domain, command.command_id, command.command_type, command.status))

    @asynccontextmanager
    async def _get_connection(self, conn: AsyncConnection | None) -> AsyncIterator[AsyncConnection]:
        if conn is not None:
            yield conn
        else:
            async with self._pool.connection() as c:
                yield c


def a_command(domain="orders"):
    return CommandMetadata(
        domain=domain,
        command_id=uuid4(),
        command_type="CreateOrder",
        status=CommandStatus.PENDING,
        attempts=0,
        max_attempts=3,
    )


async def test_repository_pattern(raw_pool):
    command = a_command()
    await PostgresCommandRepository(raw_pool).save(command)
    ours = OurRepository(raw_pool)

    await ours.update_status("orders", command.command_id, CommandStatus.IN_PROGRESS)

    assert isinstance(ours, CommandRepository)
    assert (await ours.get_by_id("orders", command.command_id)).status is CommandStatus.IN_PROGRESS


# -- Transaction Management --------------------------------------------------------------------------------------------


@dataclass
class OutgoingCommand:
    """What the page's method takes."""

    metadata: CommandMetadata
    payload: dict[str, Any]

    @property
    def domain(self):
        return self.metadata.domain

    @property
    def command_id(self):
        return self.metadata.command_id

    @property
    def queue(self):
        return f"{self.domain}__commands"


class Bus:
    def __init__(self, pool):
        self._pool = pool
        self._repo = OurRepository(pool)
        self._pgmq = PgmqClient(pool)
        self._audit = PostgresAuditLogger(pool)

    async def send(self, command: OutgoingCommand) -> UUID:
        """Send a command atomically with metadata."""
        async with self._pool.connection() as conn:
            async with conn.transaction():
                # All operations in same transaction
                await self._repo.save(command.metadata, conn=conn)
                msg_id = await self._pgmq.send(
                    command.queue,
                    command.payload,
                    conn=conn,
                )
                await self._repo.update_msg_id(
                    command.domain,
                    command.command_id,
                    msg_id,
                    conn=conn,
                )
                await self._audit.log(
                    event_type="SENT",
                    command_id=command.command_id,
                    conn=conn,
                )
        return command.command_id


async def test_a_command_of_a_bus_of_ones_own_is_handled_by_a_worker_like_any_other(pool):
    registry = HandlerRegistry()
    registry.register("orders", "CreateOrder", echo)
    await PgmqClient(pool).create_queue("orders__commands")
    metadata = a_command()
    payload = Command("orders", "CreateOrder", metadata.command_id, {"total": 7}).to_dict()

    command_id = await Bus(pool).send(OutgoingCommand(metadata, payload))
    done = await handled(pool, registry, command_id)

    assert done.result == {"total": 7}
    assert (await PostgresCommandStore(pool).fsck()).clean
    trail = await CommandBus(pool).get_audit_trail(command_id)
    assert [event.event_type.value for event in trail] == ["SENT", "RECEIVED", "COMPLETED"]


async def echo(cmd: Command, ctx: HandlerContext) -> Any:
    return cmd.data


async def handled(pool, registry, command_id):
    """What became of a command under a worker."""
    bus = CommandBus(pool)
    worker = Worker(pool, "orders", registry)
    running = asyncio.create_task(worker.run(poll_interval=0.1))

    async def completed():
        command = await bus.get_command("orders", command_id)
        return command if command.status is CommandStatus.COMPLETED else None

    try:
        return await eventually(completed)
    finally:
        await worker.stop(timeout=10)
        await running


# -- Result Types for Errors -------------------------------------------------------------------------------------------


async def validate_command(cmd: Command) -> Success[Command] | Failure:
    if not cmd.data:
        return Failure(code="EMPTY_DATA", message="Command data is required")
    return Success(cmd)


async def test_result_pattern():
    empty = Command(domain="orders", command_type="T", command_id=uuid4(), data={})

    assert await validate_command(empty) == Failure(code="EMPTY_DATA", message="Command data is required", details=None)
    assert isinstance(await validate_command(Command("orders", "T", uuid4(), {"n": 1})), Success)


# -- Handler Registry --------------------------------------------------------------------------------------------------


def test_handler_registry():
    registry = HandlerRegistry()
    registry.register("orders", "CreateOrder", echo)

    @registry.decorator("orders", "CancelOrder")
    async def cancel(cmd: Command, ctx: HandlerContext) -> None: ...

    assert registry.get("orders", "CreateOrder") is echo
    assert registry.get("orders", "CancelOrder") is cancel
    assert registry.get("orders", "Unknown") is None
    with pytest.raises(ValueError, match=r"(?i)handler already registered for orders\.CreateOrder"):
        registry.register("orders", "CreateOrder", echo)


def test_the_registrys_arguments_can_be_named():
    registry = HandlerRegistry()

    registry.register(domain="orders", command_type="CreateOrder", handler=echo)

    assert registry.get(domain="orders", command_type="CreateOrder") is echo


# -- Logging Pattern ---------------------------------------------------------------------------------------------------

# Context for request tracing
correlation_id_var: ContextVar[str | None] = ContextVar("correlation_id", default=None)


class ContextFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.correlation_id = correlation_id_var.get()
        return True


@pytest.fixture
def logger():
    # Setup
    logger = logging.getLogger("commandbus")
    context = ContextFilter()
    logger.addFilter(context)
    yield logger
    logger.removeFilter(context)


# Usage in handler
async def process_command(cmd: Command, logger: logging.Logger) -> None:
    token = correlation_id_var.set(str(cmd.correlation_id))
    try:
        logger.info(
            "Processing command",
            extra={
                "command_id": str(cmd.command_id),
                "command_type": cmd.command_type,
            },
        )
        # ... process
    finally:
        correlation_id_var.reset(token)


async def test_logging_pattern_in_a_handler(pool, logger, caplog):
    caplog.set_level(logging.INFO, "commandbus")
    registry = HandlerRegistry()

    @registry.decorator("orders", "CreateOrder")
    async def create(cmd: Command, ctx: HandlerContext) -> None:
        await process_command(cmd, logger)

    correlation_id, command_id = uuid4(), uuid4()
    bus = CommandBus(pool)
    await bus.send("orders", "CreateOrder", command_id, {}, correlation_id=correlation_id)
    await handled(pool, registry, command_id)
    await bus.close()

    (record,) = [record for record in caplog.records if record.message == "Processing command"]
    assert record.correlation_id == str(correlation_id)
    assert (record.command_id, record.command_type) == (str(command_id), "CreateOrder")


# -- Configuration Pattern ---------------------------------------------------------------------------------------------


def test_configuration_pattern(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/app")
    monkeypatch.setenv("MAX_RETRIES", "5")
    monkeypatch.setenv("VT_SECONDS", "60")

    config = Config.from_env()

    assert (config.database_url, config.max_retries, config.vt_seconds) == ("postgresql://localhost/app", 5, 60)
    assert (config.backoff_base, config.backoff_multiplier, config.max_backoff) == (10.0, 2.0, 300.0)
    with pytest.raises(ValueError, match="max_retries must be >= 1"):
        Config(database_url="postgresql://localhost/app", max_retries=0)
    with pytest.raises(ValueError, match="vt_seconds must be >= 5"):
        Config(database_url="postgresql://localhost/app", vt_seconds=4)
    with pytest.raises(AttributeError):
        config.max_retries = 1
