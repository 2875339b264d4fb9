"""The guide: "Code Patterns" and "Testing Requirements"."""

# ruff: noqa: SIM117 - written as the guide writes it

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from commandbus.exceptions import PermanentCommandError, TransientCommandError
from commandbus.models import CommandMetadata, CommandStatus
from commandbus.pgmq.client import PgmqClient
from commandbus.repositories.postgres import PostgresCommandRepository
from commandbus.testing.fakes import FakePgmqClient


def test_error_handling():
    # Permanent failure - goes to troubleshooting immediately
    with pytest.raises(PermanentCommandError) as permanent:
        raise PermanentCommandError(code="INVALID_ACCOUNT", message="Account not found")

    # Transient failure - retried according to policy
    with pytest.raises(TransientCommandError) as transient:
        raise TransientCommandError(code="TIMEOUT", message="Database timeout")

    assert permanent.value.code == "INVALID_ACCOUNT"
    assert "Database timeout" in str(transient.value)


@runtime_checkable
class CommandRepository(Protocol):
    async def save(self, command: CommandMetadata) -> None: ...
    async def get_by_id(self, domain: str, command_id: UUID) -> CommandMetadata | None: ...


@dataclass
class Bus:
    """Somebody's own bus, as the guide sketches it."""

    pool: AsyncConnectionPool
    repo: CommandRepository
    pgmq: Any

    async def send(self, command: CommandMetadata, queue: str, payload: dict[str, Any]) -> None:
        async with self.pool.connection() as conn:
            async with conn.transaction():
                await self.repo.save(command, conn=conn)
                await self.pgmq.send(queue, payload, conn=conn)


def a_command():
    return CommandMetadata(
        domain="payments",
        command_id=uuid4(),
        command_type="Pay",
        status=CommandStatus.PENDING,
        attempts=0,
        max_attempts=3,
    )


async def test_repository_pattern_and_transactions(pool):
    repo, pgmq = PostgresCommandRepository(pool), PgmqClient(pool)
    await pgmq.create_queue("payments__commands")
    command = a_command()

    await Bus(pool, repo, pgmq).send(command, "payments__commands", {"amount": 5})

    assert isinstance(repo, CommandRepository)
    assert (await repo.get_by_id("payments", command.command_id)).command_type == "Pay"
    assert (await pgmq.pop("payments__commands")).message == {"amount": 5}


async def test_a_message_that_cannot_be_sent_takes_the_command_with_it(pool):
    repo = PostgresCommandRepository(pool)
    command = a_command()

    with pytest.raises(Exception, match="does not exist"):
        await Bus(pool, repo, PgmqClient(pool)).send(command, "no_such_queue", {})

    assert await repo.get_by_id("payments", command.command_id) is None


async def test_unit_tests_need_no_postgres():
    pgmq = FakePgmqClient()
    await pgmq.create_queue("payments__commands")

    msg_id = await pgmq.send("payments__commands", {"amount": 5})
    (message,) = await pgmq.read("payments__commands", visibility_timeout=30, batch_size=1)

    assert (message.msg_id, message.read_ct, message.message) == (msg_id, 1, {"amount": 5})
    assert await pgmq.archive("payments__commands", msg_id)
