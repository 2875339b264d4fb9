"""Every fault that is safe to mend is made, found, mended once and audited; nothing healthy is touched."""

import asyncio
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AuditEventType,
    BatchCommand,
    CommandBus,
    CommandStatus,
    HandlerRegistry,
    PgmqClient,
    SendRequest,
    Worker,
)
from mainstay.commands.store import Outcome, Verb
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.postgres import ask, run
from tests.support.cli import run as cli
from tests.support.thorough import every
from tests.support.waiting import eventually

REPLIES = "shop_replies"
QUEUE = "pgmq.q_shop__commands"


@pytest.fixture
async def bus(pool):
    made = CommandBus(pool)
    yield made
    await made.close()


@pytest.fixture
async def operator(pool):
    made = Operator(pool)
    yield made
    await made.bus.close()


async def send(bus, **options):
    return (await bus.send("shop", "Order", uuid4(), {"n": 1}, **options)).command_id


async def received(pool):
    (one,) = await PostgresCommandStore(pool).receive("shop", limit=1, lease_seconds=30, worker="w")
    return one.lease


async def completed(pool, bus, **options):
    command_id = await send(bus, **options)
    lease = await received(pool)
    await PostgresCommandStore(pool).complete("shop", [Outcome(lease, Verb.COMPLETE)])
    return command_id


async def a_batch(bus):
    commands = [BatchCommand("Order", uuid4(), {}) for _ in range(2)]
    end = SendRequest("shop", "End", uuid4(), {})
    return (await bus.create_batch("shop", commands, on_complete=end)).batch_id


# Each makes one fault and returns the command that it is about, or None.


async def a_message_is_lost(pool, bus):
    command_id = await send(bus)
    await run(pool, f"delete from {QUEUE}")
    return command_id


async def a_leased_message_is_lost(pool, bus):
    command_id = await send(bus)
    await received(pool)
    await run(pool, f"delete from {QUEUE}")
    return command_id


async def a_command_waits_nowhere(pool, bus):
    command_id = await send(bus)
    await run(pool, f"delete from {QUEUE}")
    await run(pool, "update commandbus.command set msg_id = null")
    return command_id


async def a_deferred_row_is_lost(pool, bus):
    command_id = await send(bus, delay=3600)
    await run(pool, "delete from commandbus.deferred")
    return command_id


async def a_command_in_line_is_lost(pool, bus):
    await send(bus, key="a")
    command_id = await send(bus, key="a")
    await received(pool)
    await run(pool, "delete from commandbus.keyed where command_id = %s", command_id)
    return command_id


async def a_command_waits_twice(pool, bus):
    command_id = await send(bus)
    await run(pool, "insert into commandbus.deferred values (%s, 'shop', now())", command_id)
    return command_id


async def a_command_in_progress_is_deferred(pool, bus):
    command_id = await send(bus)
    await received(pool)
    await run(pool, "insert into commandbus.deferred values (%s, 'shop', now() + interval '1 h')", command_id)
    return command_id


async def an_ended_command_is_deferred(pool, bus):
    command_id = await completed(pool, bus)
    await run(pool, "insert into commandbus.deferred values (%s, 'shop', now() + interval '1 h')", command_id)
    return command_id


async def an_ended_command_has_a_message(pool, bus):
    command_id = await completed(pool, bus)
    await run(pool, "select pgmq.send('shop__commands', jsonb_build_object('command_id', %s::text))", command_id)
    return command_id


async def a_message_has_no_command(pool, bus):
    await completed(pool, bus)
    command_id = uuid4()
    await run(pool, "select pgmq.send('shop__commands', jsonb_build_object('command_id', %s::text))", command_id)
    return command_id


async def a_deferred_row_has_no_command(pool, bus):
    await run(pool, "insert into commandbus.deferred values (%s, 'shop', now() + interval '1 h')", uuid4())


async def a_key_stands_still(pool, bus):
    await send(bus, key="a")
    command_id = await send(bus, key="a")
    lease = await received(pool)
    await PostgresCommandStore(pool).complete("shop", [Outcome(lease, Verb.COMPLETE)])
    await run(pool, "delete from commandbus.key_hint")
    return command_id


async def the_head_of_a_key_has_ended(pool, bus):
    first = await send(bus, key="a")
    await send(bus, key="a")
    lease = await received(pool)
    await PostgresCommandStore(pool).complete("shop", [Outcome(lease, Verb.COMPLETE)])
    await run(pool, "delete from commandbus.key_hint")
    await run(
        pool,
        "insert into commandbus.key_head (key, domain, subject_no, command_id)"
        " select key, domain, subject_no, command_id from commandbus.command where command_id = %s",
        first,
    )
    return first


async def a_unique_key_is_claimed_by_nobody(pool, bus):
    await run(pool, "insert into commandbus.unique_claim values ('a', 'shop', %s, null)", uuid4())


async def a_live_command_has_no_claim(pool, bus):
    command_id = await send(bus, unique_key="a")
    await run(pool, "delete from commandbus.unique_claim")
    return command_id


async def the_claim_of_a_live_command_stands_for_one_that_ended(pool, bus):
    over = await completed(pool, bus, unique_key="a")
    command_id = await send(bus, unique_key="a")
    await run(pool, "update commandbus.unique_claim set command_id = %s", over)
    return command_id


async def trouble_is_not_listed(pool, bus):
    command_id = await send(bus)
    lease = await received(pool)
    await PostgresCommandStore(pool).complete("shop", [Outcome(lease, Verb.TROUBLESHOOT, error_code="BROKEN")])
    await run(pool, "delete from commandbus.troubleshooting")
    return command_id


async def trouble_is_listed_in_vain(pool, bus):
    command_id = await completed(pool, bus)
    await run(
        pool,
        "insert into commandbus.troubleshooting (command_id, domain, command_type, since, fingerprint, group_id)"
        " values (%s, 'shop', 'Order', now(), '', '')",
        command_id,
    )
    return command_id


async def a_reply_is_missing(pool, bus):
    command_id = await completed(pool, bus, reply_to=REPLIES)
    await run(pool, f"delete from pgmq.q_{REPLIES}")
    await run(pool, "update commandbus.command set reply_msg_id = null")
    return command_id


async def a_batch_miscounts(pool, bus):
    await a_batch(bus)
    await run(pool, "update commandbus.batch set completed_count = completed_count + 7, total_count = 1")


async def a_completion_command_is_missing(pool, bus):
    batch_id = await a_batch(bus)
    await run(
        pool,
        "update commandbus.batch set completed_at = now(), status = 'COMPLETED' where batch_id = %s",
        batch_id,
    )


async def an_action_miscounts(pool, bus):
    batch_id = await a_batch(bus)
    await bus.cancel_batch("shop", batch_id, operator="Eve", reason="a test")
    await run(pool, "update commandbus.operator_action set applied = 0, refused = 1")


async def items_have_no_action(pool, bus):
    await run(
        pool,
        "insert into commandbus.operator_item (action_id, position, domain, command_id) values (%s, 1, 'shop', %s)",
        *(uuid4(), uuid4()),
    )


async def a_delta_has_no_batch(pool, bus):
    await run(pool, "insert into commandbus.batch_delta (domain, batch_id, total) values ('shop', %s, 1)", uuid4())


async def a_batch_that_can_end_is_not_looked_at(pool, bus):
    batch_id = await a_batch(bus)
    await bus.cancel_batch("shop", batch_id, operator="Eve", reason="a test")
    await run(pool, "delete from commandbus.batch_delta")
    await run(
        pool,
        "update commandbus.batch set total_count = 2, canceled_count = 2, completed_at = null where batch_id = %s",
        batch_id,
    )
    await run(pool, "delete from pgmq.q_shop__commands where message ->> 'command_type' = 'End'")
    await run(pool, "delete from commandbus.audit where subject_no in "
                    "(select subject_no from commandbus.command where command_type = 'End')")  # fmt: skip
    await run(pool, "delete from commandbus.command where command_type = 'End'")


FAULTS = {
    made.__name__: made
    for made in (
        a_message_is_lost,
        a_leased_message_is_lost,
        a_command_waits_nowhere,
        a_deferred_row_is_lost,
        a_command_in_line_is_lost,
        a_command_waits_twice,
        a_command_in_progress_is_deferred,
        an_ended_command_is_deferred,
        an_ended_command_has_a_message,
        a_message_has_no_command,
        a_deferred_row_has_no_command,
        a_key_stands_still,
        the_head_of_a_key_has_ended,
        a_unique_key_is_claimed_by_nobody,
        a_live_command_has_no_claim,
        the_claim_of_a_live_command_stands_for_one_that_ended,
        trouble_is_not_listed,
        trouble_is_listed_in_vain,
        a_reply_is_missing,
        a_batch_miscounts,
        a_completion_command_is_missing,
        an_action_miscounts,
        items_have_no_action,
        a_delta_has_no_batch,
        a_batch_that_can_end_is_not_looked_at,
    )
}


@pytest.mark.parametrize("fault", every(3, FAULTS))
async def test_a_fault_is_mended_once_and_audited(pool, bus, operator, fault):
    await PgmqClient(pool).create_queue(REPLIES)
    await send(bus, delay=3600)  # something healthy beside it
    command_id = await FAULTS[fault](pool, bus)
    assert not (await operator.fsck()).clean

    tried = await operator.repair(dry_run=True, operator="Ada")
    assert any(each.did for each in tried)
    assert not (await operator.fsck()).clean  # nothing was changed
    done = await operator.repair(operator="Ada")

    assert any(each.did for each in done)
    assert (await operator.fsck()).findings == ()
    assert await operator.repair() == []
    if isinstance(command_id, UUID) and await bus.get_command("shop", command_id) and "key" not in fault:
        told = [e for e in await bus.get_audit_trail(command_id, "shop") if e.event_type is AuditEventType.REPAIRED]
        assert [event.details["operator"] for event in told] == ["Ada"]


async def test_what_was_mended_is_handled(pool, bus, operator):
    handled = []
    for fault in (a_message_is_lost, a_command_waits_nowhere):
        await fault(pool, bus)
        await operator.repair()
    registry = HandlerRegistry()
    registry.register("shop", "Order", lambda command, context: handled.append(command.command_id))
    worker = Worker(pool, "shop", registry)
    running = asyncio.create_task(worker.run(concurrency=2, poll_interval=0.05))

    await eventually(lambda: len(handled) == 2)
    await worker.stop()
    await running

    assert (await operator.fsck()).clean


@pytest.mark.parametrize(
    "statement",
    [
        "update commandbus.operator_action set total = 9, position = 9",
        "delete from commandbus.operator_item",
        "update commandbus.operator_action set ended_at = null",
        "update commandbus.operator_action set state = 'RUNNING', ended_at = null",
        "update commandbus.operator_item set position = position + 100",
    ],
)
async def test_what_an_action_has_still_to_do_is_not_made_up(pool, bus, operator, statement):
    batch_id = await a_batch(bus)
    await bus.cancel_batch("shop", batch_id, operator="Eve", reason="a test")
    assert (await operator.fsck()).clean

    await run(pool, statement)

    assert {"action" in each.finding.invariant and each.left is not None for each in await operator.repair()} == {True}


async def test_what_is_not_safe_is_left_with_what_to_do(pool, bus, operator):
    await completed(pool, bus)
    await run(pool, "update commandbus.command set attempts = 9")

    (left,) = await operator.repair()

    assert left.did is None
    assert "find out who changed" in left.left


async def test_of_two_live_commands_of_a_unique_key_a_person_chooses(pool, bus, operator):
    first = await send(bus, unique_key="a")
    second = await send(bus)
    await run(pool, "update commandbus.command set unique_key = 'a' where command_id = %s", second)

    (left,) = await operator.repair()
    assert (left.finding.command_id, left.did) == (second, None)
    assert "cancel one of the two" in left.left

    await bus.cancel("shop", first)
    assert [bool(each.did) for each in await operator.repair()] == [True]
    assert (await operator.fsck()).clean


async def test_repairing_beside_live_workers_touches_nothing_healthy(pool, bus, operator):
    """Findings of an older look, asked for again and again while commands are sent, retried and completed."""
    registry = HandlerRegistry()
    seen = []

    @registry.handler("shop", "Order")
    async def order(command, context):
        seen.append(command.command_id)
        if context.attempt == 1 and len(seen) % 3 == 0:
            raise ValueError("again")

    worker = Worker(pool, "shop", registry, visibility_timeout=30)
    running = asyncio.create_task(worker.run(concurrency=10, poll_interval=0.05))
    await eventually(lambda: worker.is_running)
    sent = [(await bus.send_batch([SendRequest("shop", "Order", uuid4(), {}) for _ in range(100)])).results]
    ids = [each.command_id for each in sent[0]]
    rules = ("a pending command waits in exactly one place", "a command with a message id has that message")

    async def pester():
        for command_id in ids:
            for rule in rules:
                ((did,),) = await ask(pool, "select commandbus.repair(%s, 'shop', %s, '{}', 'Ada')", rule, command_id)
                assert did is None

    await asyncio.gather(*(pester() for _ in range(2)))

    async def all_done():
        return len(await bus.query_commands(CommandStatus.COMPLETED, "shop", limit=1000)) == len(ids)

    async def soon():
        await run(pool, "update commandbus.deferred set due_at = now()")
        return await all_done()

    await eventually(soon, timeout=90)
    await worker.stop()
    await running
    assert (await operator.fsck()).clean


def test_the_command_line_says_what_it_did(dsn):
    async def break_it():
        async with Operator.connect(dsn) as one:
            await a_message_is_lost(one.pool, one.bus)

    asyncio.run(break_it())

    tried = cli("fsck", "--repair", "--dry-run", "--dsn", dsn)
    done = cli("fsck", "--repair", "--dsn", dsn, "--json")
    again = cli("fsck", "--repair", "--dsn", dsn)

    assert (tried.code, done.code, again.code) == (0, 0, 0)
    assert "would be mended" in tried.out
    assert (done.json["mended"], done.json["left"]) == (1, 0)
    assert "nothing to mend" in again.out
    assert cli("fsck", "--dry-run", "--dsn", dsn).code == 2


@pytest.mark.parametrize("status", ["PENDING", "IN_PROGRESS"])
async def test_a_command_whose_trail_says_that_it_has_ended_is_not_handled_again(pool, bus, operator, status):
    command_id = await completed(pool, bus)
    await run(pool, "update commandbus.command set status = %s where command_id = %s", status, command_id)

    await operator.repair(operator="Ada")

    assert not (await operator.fsck()).clean
    assert await ask(pool, f"select * from {QUEUE}") == []
