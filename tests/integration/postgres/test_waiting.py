"""Who waits for whom, seen through the bus and the store; `test_concurrency` looks at sessions.

Waiting is proved by ``lock_timeout``: whoever waits longer than that for a lock gets an error. Orders of events are
forced by locks that the tests hold, never by time.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay import (
    CommandBus,
    CommandStatus,
    DuplicateCommandError,
    setup_database,
)
from mainstay.commands.store import Action, OperatorRequest, Outcome, Received, Verb, Verdict
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.servers import open_pool
from tests.support.waiting import eventually

DOMAIN = "orders"
QUEUE = f"{DOMAIN}__commands"
PATIENCE = 90.0
IMPATIENT = {"kwargs": {"options": "-c lock_timeout=1000"}}


@pytest.fixture
async def bus(pool) -> AsyncIterator[CommandBus]:
    bus = CommandBus(pool)
    await PostgresCommandStore(pool).ensure_queue(DOMAIN)
    yield bus
    await bus.close()
    report = await PostgresCommandStore(pool).fsck()
    assert report.findings == ()


@pytest.fixture
async def impatient(dsn: str) -> AsyncIterator[Any]:
    """A pool for those who wait for no lock."""
    async with open_pool(dsn, **IMPATIENT) as opened:
        yield opened


async def ask(pool, question, *parameters):
    async with pool.connection() as conn:
        return await (await conn.execute(question, parameters or None)).fetchall()


async def send(bus: CommandBus, **options) -> UUID:
    return (await bus.send(DOMAIN, "Do", options.pop("command_id", None) or uuid4(), {}, **options)).command_id


def waits_for_a_lock(pool, count: int = 1):
    async def look() -> bool:
        ((found,),) = await ask(
            pool,
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        return found >= count

    return look


async def test_a_worker_that_completes_holds_up_no_worker_that_receives(bus: CommandBus, pool, impatient) -> None:
    store = PostgresCommandStore(impatient)
    for _ in range(4):
        await send(bus)
    held = await store.receive(DOMAIN, limit=2, lease_seconds=30, worker="one")
    async with pool.connection() as conn, conn.transaction():
        await store.complete(DOMAIN, [outcome_of(one, Verb.COMPLETE) for one in held], conn=conn)
        rest = await store.receive(DOMAIN, limit=10, lease_seconds=30, worker="two")
        verdicts = await store.complete(DOMAIN, [outcome_of(one, Verb.COMPLETE) for one in rest])
        await store.renew(DOMAIN, [one.lease for one in held], 30)

    assert len(rest) == 2
    assert verdicts == [Verdict.APPLIED] * 2


async def test_a_sender_of_an_id_that_waits_holds_up_no_other_sender_of_its_process(bus: CommandBus, pool) -> None:
    one = uuid4()
    async with pool.connection() as conn:
        await send(bus, command_id=one, conn=conn)
        waiting = asyncio.create_task(send(bus, command_id=one))
        await eventually(waits_for_a_lock(pool), timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE / 3):
            others = await asyncio.gather(*(send(bus) for _ in range(10)))
        assert not waiting.done()
        await conn.commit()
    with pytest.raises(DuplicateCommandError):
        await waiting

    assert len(set(others)) == 10


async def test_an_operator_waits_for_no_worker(bus: CommandBus, pool, impatient) -> None:
    """Locks of commands that workers hold are not in the operators' one order: waiting for them would be a deadlock."""
    ids = [await send(bus) for _ in range(3)]
    store = PostgresCommandStore(impatient)
    async with pool.connection() as conn:
        await conn.execute("select from commandbus.receive(%s, 2, 30, 'w')", [DOMAIN])
        verdicts = await store.act(DOMAIN, ids, OperatorRequest(Action.RETRY, "ada"))

    assert [(verdict.applied, verdict.status) for verdict in verdicts] == [(False, CommandStatus.PENDING)] * 3


async def test_a_stray_message_that_was_read_before_takes_no_lease_away(bus: CommandBus, pool) -> None:
    one = await send(bus)
    store = PostgresCommandStore(pool)
    (received,) = await store.receive(DOMAIN, limit=1, lease_seconds=600, worker="w")
    await ask(
        pool,
        "select pgmq.send(%s, jsonb_build_object('command_id', %s::text)), (select count(*) from pgmq.read(%s, 0, 1))",
        QUEUE,
        str(one),
        QUEUE,
    )
    await ask(pool, "select count(*) from pgmq.read(%s, 0, 10)", QUEUE)
    again = await store.receive(DOMAIN, limit=10, lease_seconds=600, worker="v")
    verdict = await store.complete(DOMAIN, [outcome_of(received, Verb.COMPLETE)])

    assert again == []
    assert verdict == [Verdict.APPLIED]


async def test_a_command_is_cancelled_received_or_completed_by_an_operator_but_only_one_of_them(
    bus: CommandBus, pool
) -> None:
    store = PostgresCommandStore(pool)
    for _ in range(20):
        one = await send(bus)
        (received,) = await store.receive(DOMAIN, limit=1, lease_seconds=0, worker="w")
        verdict, canceled, again = await asyncio.gather(
            store.complete(DOMAIN, [outcome_of(received, Verb.GIVE_BACK)]),
            store.cancel(DOMAIN, one, reason=None),
            store.receive(DOMAIN, limit=1, lease_seconds=30, worker="v"),
        )
        found = await bus.get_command(DOMAIN, one)
        assert found is not None
        assert (canceled is CommandStatus.PENDING) == (found.status is CommandStatus.CANCELED)
        assert not (again and found.status is CommandStatus.CANCELED and verdict == [Verdict.APPLIED])
        await store.complete(DOMAIN, [outcome_of(each, Verb.COMPLETE) for each in again])
        if found.status is CommandStatus.PENDING:
            await bus.cancel(DOMAIN, one)


async def test_a_schema_installed_by_many_at_once_is_installed_once(empty_pool) -> None:
    answers = await asyncio.gather(*(setup_database(empty_pool) for _ in range(5)))

    assert sorted(answers) == [False, False, False, False, True]


def outcome_of(received: Received, verb: Verb) -> Outcome:
    """What a worker says of a command."""
    return Outcome(received.lease, verb)
