"""Operators' actions when things go wrong: a kill in the middle, two at once, workers in between."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    Action,
    ActionState,
    BatchCommand,
    BatchStatus,
    CommandBus,
    CommandModel,
    CommandStatus,
    HandlerRegistry,
    InvalidOperationError,
    InvalidPayloadError,
    Selection,
    TroubleshootingQueue,
)
from mainstay.commands.store import Outcome, Verb
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands.base import new
from tests.support.waiting import eventually

DOMAIN = "orders"
COUNT = 60
ALL = Selection(DOMAIN)


class Numbered(CommandModel, domain=DOMAIN, type="CreateOrder"):
    n: int


#: Carries an action out one command at a time, and says so after each.
ONE_BY_ONE = """
import asyncio, sys
from uuid import UUID
from mainstay import Mainstay

async def main(dsn, action_id):
    async with Mainstay.connect(dsn) as app:
        told = lambda steps: print(len(steps), flush=True)
        await app.troubleshooting.run(UUID(action_id), chunk_size=1, on_progress=told)

asyncio.run(main(*sys.argv[1:]))
"""
#: Sends a stream of which nobody sees the end.
ENDLESS = """
import asyncio, sys
from itertools import count
from uuid import UUID, uuid4
from mainstay import BatchCommand, Mainstay

async def main(dsn, batch_id):
    async with Mainstay.connect(dsn) as app, app.bus.open_batch("orders", batch_id=UUID(batch_id)) as batch:
        for n in count(1):
            await batch.send(BatchCommand("CreateOrder", uuid4(), {"n": n}))
            if n % 1000 == 0:
                print(batch.sent, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def store(pool: AsyncConnectionPool[Any]) -> PostgresCommandStore:
    made = PostgresCommandStore(pool)
    await made.ensure_queue(DOMAIN)
    return made


@pytest.fixture
def tsq(pool):
    return TroubleshootingQueue(pool)


async def troubled(store, count=COUNT):
    """Bring so many new commands into the troubleshooting queue."""
    await store.send([new() for _ in range(count)])
    taken = await store.receive(DOMAIN, limit=count, lease_seconds=60, worker="w1")
    await store.complete(
        DOMAIN, [Outcome(each.lease, Verb.TROUBLESHOOT, error_type="PERMANENT", error_code="BAD") for each in taken]
    )
    return [each.command.command_id for each in taken]


async def decided(store, ids):
    """How often operators retried each command."""
    trails = [await store.audit_trail(key, DOMAIN) for key in ids]
    return Counter(sum(event.event_type == "OPERATOR_RETRY" for event in trail) for trail in trails)


def kill_after(code, *arguments, lines):
    """Run a program, and kill it after it has printed so many lines."""
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(lines):
                assert process.stdout.readline()
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.thorough
async def test_an_action_goes_on_after_its_process_was_killed_and_nothing_is_done_twice(dsn, store, tsq):
    ids = await troubled(store)
    begun = await tsq.begin(Action.RETRY, ALL, operator="ada")
    kill_after(ONE_BY_ONE, dsn, str(begun.action_id), lines=5)
    found = await tsq.get_action(begun.action_id)

    assert found.state is ActionState.RUNNING
    assert 5 <= found.position < COUNT
    assert await decided(store, ids) == {1: found.position, 0: COUNT - found.position}

    done = await tsq.run(begun.action_id)

    assert (done.state, done.applied) == (ActionState.DONE, COUNT)
    assert await decided(store, ids) == {1: COUNT}
    assert (await store.fsck()).clean


async def test_a_part_whose_connection_breaks_before_the_commit_never_was(dsn, store, tsq):
    ids = await troubled(store, 3)
    begun = await tsq.begin(Action.RETRY, ALL, operator="ada")
    conn = await AsyncConnection.connect(dsn)
    await conn.execute("select * from commandbus.run_action(%s, 2)", [begun.action_id])
    other = asyncio.create_task(tsq.run(begun.action_id))
    await eventually(lambda: waits_for_a_lock(store))
    await terminate(store, conn.info.backend_pid)
    done = await other
    await conn.close()

    assert done.applied == 3
    assert await decided(store, ids) == {1: 3}


async def waits_for_a_lock(store):
    async with store.pool.connection() as conn:
        cursor = await conn.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return (await cursor.fetchone())[0] == 1


async def terminate(store, pid):
    async with store.pool.connection() as conn:
        await conn.execute("select pg_terminate_backend(%s)", [pid])


async def test_two_operators_with_two_actions_on_one_group_share_it(store, tsq):
    ids = await troubled(store)
    begun = [await tsq.begin(Action.RETRY, ALL, operator=name) for name in ("ada", "bob")]
    done = await asyncio.gather(*(tsq.run(each.action_id, chunk_size=7) for each in begun))

    assert sum(each.applied for each in done) == COUNT
    assert sum(each.refused for each in done) == COUNT
    assert await decided(store, ids) == {1: COUNT}
    assert (await store.fsck()).clean


async def test_undo_and_workers_at_the_same_time_agree_on_every_command(store, tsq):
    ids = await troubled(store)
    done = await tsq.run((await tsq.begin(Action.RETRY, ALL, operator="ada")).action_id)

    async def work():
        taken = []
        for _ in range(6):
            taken += await store.receive(DOMAIN, limit=5, lease_seconds=60, worker="w1")
        return taken

    told, one, other = await asyncio.gather(tsq.undo(done.action_id, "ada"), work(), work())
    taken = {each.command.command_id for each in one + other}

    assert {each.command_id for each in told if each.undone} == set(ids) - taken
    assert await tsq.count(DOMAIN) == COUNT - len(taken)
    assert (await store.fsck()).clean


async def test_stopping_and_promoting_at_the_same_time_agree_on_every_command(store, tsq):
    await troubled(store)
    begun = await tsq.begin(Action.RETRY, ALL, operator="ada", rate=1000)
    await tsq.run(begun.action_id)

    async def work():
        return [each for _ in range(8) for each in await store.receive(DOMAIN, limit=5, lease_seconds=60, worker="w1")]

    taken, _ = await asyncio.gather(work(), tsq.stop(begun.action_id, "bob"))
    taken += await store.receive(DOMAIN, limit=COUNT, lease_seconds=60, worker="w2")
    waiting = await tsq.count(DOMAIN)

    assert len({each.command.command_id for each in taken}) == len(taken)
    assert waiting + len(taken) <= COUNT
    assert (await store.fsck()).clean


async def test_an_edit_is_validated_and_one_retry_is_taken_back(pool, store):
    (key,) = await troubled(store, 1)

    registry = HandlerRegistry()
    registry.register(Numbered, lambda command, context: None)
    tsq = TroubleshootingQueue(pool, registry=registry)
    with pytest.raises(InvalidPayloadError, match=r"orders\.CreateOrder would not .*: n: Field required"):
        await tsq.operator_retry(DOMAIN, key, "ada", data={})
    await tsq.operator_retry(DOMAIN, key, "ada", data={"n": 2})
    await tsq.undo_command(DOMAIN, key, "ada", reason="too early")

    assert (await tsq.get(DOMAIN, key)).payload == {"n": 1}
    with pytest.raises(InvalidOperationError, match="no operator retried it"):
        await tsq.undo_command(DOMAIN, key, "ada")


async def test_a_preview_says_what_it_would_be_about(store, tsq):
    await troubled(store, 8)
    seen = await tsq.preview(ALL, sample=2)

    assert (seen.commands, len(seen.groups), len(seen.sample), seen.needs_approval) == (8, 1, 2, False)


@pytest.mark.thorough
async def test_a_stream_whose_sender_was_killed_is_left_open_and_can_be_cancelled(dsn, pool, store):
    key = uuid4()
    bus = CommandBus(pool)
    kill_after(ENDLESS, dsn, str(key), lines=2)

    async def settled():
        found = await bus.get_batch(DOMAIN, key)
        return found.total_count >= 1000 and not await busy(store) and found

    left = await eventually(settled)
    action = await bus.cancel_batch(DOMAIN, key, operator="ada", reason="its sender died")
    await store.fold_batches(DOMAIN)
    gone = await bus.get_batch(DOMAIN, key)

    assert (left.sealed, left.is_complete) == (False, False)
    assert gone.status is BatchStatus.COMPLETED_WITH_FAILURES
    assert gone.canceled_count == gone.total_count == action.applied
    assert gone.total_count % 1000 == 0
    assert (await store.fsck()).clean


async def busy(store):
    """Whether another session of this database is in a transaction."""
    async with store.pool.connection() as conn:
        cursor = await conn.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and backend_type = 'client backend' and pid <> pg_backend_pid() and state <> 'idle'"
        )
        return (await cursor.fetchone())[0] > 0


@pytest.mark.thorough
async def test_five_thousand_in_a_stream_are_counted_exactly_while_they_are_handled(pool, store):
    bus = CommandBus(pool)
    key = uuid4()

    async def work():
        handled = 0
        while handled < 5000:
            taken = await store.receive(DOMAIN, limit=500, lease_seconds=60, worker="w1")
            await store.complete(DOMAIN, [Outcome(each.lease, Verb.COMPLETE) for each in taken])
            await store.fold_batches(DOMAIN)
            handled += len(taken)

    worker = asyncio.create_task(work())
    made = await bus.create_batch(
        DOMAIN, (BatchCommand("CreateOrder", uuid4(), {"n": n}) for n in range(5000)), batch_id=key
    )
    await worker
    await store.fold_batches(DOMAIN)
    done = await bus.get_batch(DOMAIN, key)

    assert made.total_commands == done.total_count == done.completed_count == 5000
    assert done.status is BatchStatus.COMPLETED
    assert (await store.stats(DOMAIN))[0].by_status == {CommandStatus.COMPLETED: 5000}
