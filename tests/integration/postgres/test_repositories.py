"""Commands and audit events, row by row."""

from dataclasses import replace
from uuid import uuid4

import pytest

from mainstay.commands.command import CommandMetadata
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.repository import CommandRepository
from mainstay.errors import (
    CommandNotFoundError,
    DuplicateCommandError,
    InvalidDomainError,
    InvalidInputError,
    InvalidOperationError,
    InvalidPayloadError,
)
from mainstay.storage.postgres.repositories import PostgresAuditLogger, PostgresCommandRepository


@pytest.fixture
def repo(pool):
    return PostgresCommandRepository(pool)


@pytest.fixture
def audit(pool):
    return PostgresAuditLogger(pool)


def a_command(**changes):
    command = CommandMetadata(
        domain="orders",
        command_id=uuid4(),
        command_type="CreateOrder",
        status=CommandStatus.PENDING,
        attempts=0,
        max_attempts=3,
        correlation_id=uuid4(),
        reply_to="orders__replies",
        data={"total": 12.5},
    )
    return replace(command, **changes)


async def listed(pool, command):
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select count(*) from commandbus.troubleshooting where command_id = %s", [command.command_id]
        )
        return (await cursor.fetchone())[0]


def test_it_is_what_the_protocol_asks_for(repo):
    assert isinstance(repo, CommandRepository)


async def test_a_saved_command_comes_back_as_it_was(repo):
    command = a_command(last_error_code="X", result=[1, 2])

    await repo.save(command)

    assert await repo.get_by_id("orders", command.command_id) == command


async def test_an_unknown_command_is_none(repo):
    assert await repo.get_by_id("orders", uuid4()) is None


async def test_a_known_id_is_refused_and_nothing_changes(repo):
    command = a_command()
    await repo.save(command)

    with pytest.raises(DuplicateCommandError):
        await repo.save(replace(command, command_type="Other"))

    assert (await repo.get_by_id("orders", command.command_id)).command_type == "CreateOrder"


async def test_an_id_may_be_used_in_two_domains(repo):
    command = a_command()

    await repo.save(command)
    await repo.save(replace(command, domain="billing"))

    assert (await repo.get_by_id("billing", command.command_id)).domain == "billing"


async def test_all_calls_join_the_callers_transaction(repo, audit, pool):
    command = a_command()
    async with pool.connection() as conn, conn.transaction(force_rollback=True):
        await repo.save(command, conn=conn)
        await repo.update_status("orders", command.command_id, CommandStatus.IN_PROGRESS, conn=conn)
        await repo.update_msg_id("orders", command.command_id, 7, conn=conn)
        await audit.log(event_type="SENT", command_id=command.command_id, conn=conn)
        inside = await repo.get_by_id("orders", command.command_id, conn=conn)
        trail = await audit.get_events(command.command_id, conn=conn)

    assert (inside.status, inside.msg_id) == (CommandStatus.IN_PROGRESS, 7)
    assert [event.event_type for event in trail] == [AuditEventType.SENT]
    assert await repo.get_by_id("orders", command.command_id) is None


async def test_a_status_changes_until_the_command_has_ended(repo):
    command = a_command(msg_id=5)
    await repo.save(command)

    await repo.update_status("orders", command.command_id, CommandStatus.IN_PROGRESS)
    await repo.update_status("orders", command.command_id, "COMPLETED")
    await repo.update_status("orders", command.command_id, CommandStatus.COMPLETED)

    ended = await repo.get_by_id("orders", command.command_id)
    assert (ended.status, ended.msg_id) == (CommandStatus.COMPLETED, None)
    assert ended.updated_at > command.updated_at
    with pytest.raises(InvalidOperationError, match="is COMPLETED"):
        await repo.update_status("orders", command.command_id, CommandStatus.PENDING)


async def test_the_troubleshooting_list_follows_the_status(repo, pool):
    command = a_command()
    await repo.save(command)

    await repo.update_status("orders", command.command_id, CommandStatus.IN_TROUBLESHOOTING_QUEUE)
    await repo.update_status("orders", command.command_id, CommandStatus.IN_TROUBLESHOOTING_QUEUE)
    assert await listed(pool, command) == 1
    await repo.update_status("orders", command.command_id, CommandStatus.CANCELED)

    assert await listed(pool, command) == 0


async def test_a_command_saved_in_troubleshooting_is_listed(repo, pool):
    command = a_command(status=CommandStatus.IN_TROUBLESHOOTING_QUEUE)

    await repo.save(command)

    assert await listed(pool, command) == 1


async def test_a_deferred_command_that_is_ended_waits_no_more(repo, pool):
    command = a_command()
    await repo.save(command)
    async with pool.connection() as conn:
        await conn.execute(
            "insert into commandbus.deferred (command_id, domain, due_at) values (%s, 'orders', now())",
            [command.command_id],
        )

    await repo.update_status("orders", command.command_id, CommandStatus.CANCELED)

    async with pool.connection() as conn:
        cursor = await conn.execute("select count(*) from commandbus.deferred")
        assert await cursor.fetchone() == (0,)


async def test_a_batch_is_counted_by_the_bus_alone(repo, pool):
    with pytest.raises(InvalidInputError, match="batch"):
        await repo.save(a_command(batch_id=uuid4()))

    command = a_command()
    await repo.save(command)
    async with pool.connection() as conn:
        await conn.execute("update commandbus.command set batch_id = %s", [uuid4()])
    with pytest.raises(InvalidOperationError, match="batch"):
        await repo.update_status("orders", command.command_id, CommandStatus.CANCELED)


async def test_an_unknown_command_cannot_be_changed(repo, audit):
    for call in (
        repo.update_status("orders", uuid4(), CommandStatus.CANCELED),
        repo.update_msg_id("orders", uuid4(), 1),
        audit.log(event_type="SENT", command_id=uuid4()),
    ):
        with pytest.raises(CommandNotFoundError):
            await call


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"domain": "Orders!"}, InvalidDomainError),
        ({"command_id": "x"}, InvalidInputError),
        ({"command_type": ""}, InvalidInputError),
        ({"status": "DONE"}, InvalidInputError),
        ({"max_attempts": 0}, InvalidInputError),
        ({"msg_id": 0}, InvalidInputError),
        ({"reply_to": "Bad Queue"}, InvalidInputError),
        ({"data": {"x": float("inf")}}, InvalidPayloadError),
    ],
)
async def test_what_no_command_can_have_is_refused(repo, changes, error):
    with pytest.raises(error):
        await repo.save(a_command(**changes))


async def test_events_are_told_in_order_with_their_details(repo, audit):
    command = a_command()
    await repo.save(command)
    await repo.save(replace(command, domain="billing"))
    await audit.log(event_type=AuditEventType.SENT, command_id=command.command_id, domain="orders")
    await audit.log(event_type="CANCELED", command_id=command.command_id, domain="orders", details={"why": "test"})

    events = await audit.get_events(command.command_id, "orders")

    assert [event.event_type for event in events] == [AuditEventType.SENT, AuditEventType.CANCELED]
    assert events[1].details == {"why": "test"}
    assert events[0].audit_id < events[1].audit_id
    assert await audit.get_events(command.command_id, "billing") == []


async def test_an_unknown_event_is_refused(audit):
    with pytest.raises(InvalidInputError, match="event_type"):
        await audit.log(event_type="EXPLODED", command_id=uuid4())
