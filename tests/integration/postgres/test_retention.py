"""What pruning takes and what it leaves, beside everything that may hold or want the same rows."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from mainstay import (
    Action,
    BatchCommand,
    CommandBus,
    CommandStatus,
    ConfigurationError,
    DuplicateCommandError,
    HandlerRegistry,
    MemoryCommandStore,
    NotUniqueError,
    PermanentCommandError,
    Pruner,
    Retention,
    Selection,
    SendRequest,
    TroubleshootingQueue,
    Worker,
)
from mainstay.commands.store import Outcome, Verb
from mainstay.operations.operator import Operator
from mainstay.storage.postgres import pruner as pruning
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.retention import prune
from tests.scenarios.postgres import ask, run
from tests.support.cli import run as cli
from tests.support.waiting import eventually

NOW = Retention(timedelta(0))


@pytest.fixture
async def bus(pool):
    made = CommandBus(pool)
    yield made
    await made.close()


async def worked_off(pool, bus, count=10, *, until=None, **options):
    """Ids of so many completed commands; waits until so many, or ``until``, are completed."""
    requests = [SendRequest("shop", "Order", uuid4(), {"n": n}, **options) for n in range(count)]
    if requests:
        await bus.send_batch(requests)
    registry = HandlerRegistry()
    registry.register("shop", "Order", lambda command, context: {"was": command.data["n"]})

    @registry.handler("shop", "Break")
    async def break_it(command, context):
        raise PermanentCommandError("BROKEN", "broken")

    worker = Worker(pool, "shop", registry)
    running = asyncio.create_task(worker.run(concurrency=10, poll_interval=0.05))

    async def done():
        return len(await bus.query_commands(CommandStatus.COMPLETED, "shop", limit=1000)) >= (until or count)

    await eventually(done)
    await worker.stop()
    await running
    return [request.command_id for request in requests]


async def is_sound(pool):
    assert (await Operator(pool).fsck()).findings == ()


async def test_a_pruned_command_keeps_its_outcome_and_its_id_is_still_refused(pool, bus):
    ids = await worked_off(pool, bus, headers={"h": "1"})
    waiting = (await bus.send("shop", "Order", uuid4(), {"n": 99}, delay=3600)).command_id

    done = await prune(pool, NOW, chunk=3)
    again = await prune(pool, NOW, chunk=3)

    assert (done.walked, done.pruned, done.audit) == (11, 10, 30)
    assert (again.pruned, again.audit) == (0, 0)
    slim = await bus.get_command("shop", ids[3])
    assert (slim.status, slim.result) == (CommandStatus.COMPLETED, {"was": 3})
    assert await ask(pool, "select count(*) from commandbus.command where data is not null") == [(1,)]
    with pytest.raises(DuplicateCommandError):
        await bus.send("shop", "Order", ids[3], {"n": 3})
    assert (await bus.get_command("shop", waiting)).data == {"n": 99}
    assert len(await bus.get_audit_trail(waiting, "shop")) == 1
    await is_sound(pool)


async def test_what_ended_lately_stays_whole(pool, bus):
    ids = await worked_off(pool, bus)

    done = await prune(pool, Retention(timedelta(hours=1)))

    assert (done.walked, done.pruned) == (0, 0)
    assert (await bus.get_command("shop", ids[0])).data == {"n": 0}


async def test_an_audit_trail_may_outlive_the_payload(pool, bus):
    ids = await worked_off(pool, bus)

    done = await prune(pool, Retention(timedelta(0), audit=timedelta(days=1)))

    assert (done.pruned, done.audit) == (10, 0)
    assert len(await bus.get_audit_trail(ids[0], "shop")) == 3
    await is_sound(pool)
    assert (await prune(pool, NOW)).audit == 30
    await is_sound(pool)


async def test_a_forgotten_id_may_be_sent_again(pool, bus):
    ids = await worked_off(pool, bus)
    await run(pool, "select pgmq.send('shop__commands', '{}')")
    await run(pool, "select pgmq.archive('shop__commands', msg_id) from pgmq.q_shop__commands")

    done = await prune(pool, Retention(timedelta(0), forget=True, archive=timedelta(0)), chunk=4)

    assert (done.forgotten, done.audit, done.archive) == (10, 30, 1)
    assert await bus.get_command("shop", ids[0]) is None
    await bus.send("shop", "Order", ids[0], {"n": 1}, delay=3600)
    await is_sound(pool)


async def test_a_claim_goes_when_its_command_holds_it_no_longer(pool, bus):
    held = await worked_off(pool, bus, 1, unique_key="held", unique_for=3600)
    await worked_off(pool, bus, 1, until=2, unique_key="over")
    live = (await bus.send("shop", "Order", uuid4(), {}, delay=3600, unique_key="live")).command_id

    done = await prune(pool, Retention(timedelta(0), forget=True))

    assert done.forgotten == 1
    assert await ask(pool, "select unique_key from commandbus.unique_claim order by 1") == [("held",), ("live",)]
    for key, holder in (("held", held[0]), ("live", live)):
        with pytest.raises(NotUniqueError) as caught:
            await bus.send("shop", "Order", uuid4(), {}, unique_key=key)
        assert caught.value.holder_id == holder
    await bus.send("shop", "Order", uuid4(), {}, delay=3600, unique_key="over")
    await is_sound(pool)


async def test_a_claim_that_somebody_takes_over_is_passed_by(pool, bus):
    await worked_off(pool, bus, 1, unique_key="over")
    async with pool.connection() as conn:
        await bus.send("shop", "Order", uuid4(), {}, delay=3600, unique_key="over", conn=conn)

        async with asyncio.timeout(120):
            await prune(pool, Retention(timedelta(0), forget=True))

    with pytest.raises(NotUniqueError):
        await bus.send("shop", "Order", uuid4(), {}, unique_key="over")
    await is_sound(pool)


async def ended_batch(pool, bus, *, broken=False, **options):
    """A batch of one command and its completion command, both worked off; and one that waits for an operator."""
    commands = [BatchCommand("Order", uuid4(), {"n": 1}), *([BatchCommand("Break", uuid4(), {})] if broken else [])]
    end = SendRequest("shop", "Order", uuid4(), {"n": 0})
    batch = await bus.create_batch("shop", commands, on_complete=end, custom_data={"by": "Ada"}, **options)
    await worked_off(pool, bus, 0, until=2)

    async def over():
        return (await bus.get_batch("shop", batch.batch_id)).completed_at is not None

    await eventually(over)
    return batch.batch_id, end.command_id


async def test_a_pruned_batch_keeps_its_counts_and_sends_nothing_again(pool, bus):
    batch_id, end = await ended_batch(pool, bus)
    before = await bus.get_batch("shop", batch_id)

    done = await prune(pool, NOW)
    again = await prune(pool, NOW)

    assert (done.batches, again.batches, again.audit) == (1, 0, 0)
    slim = await bus.get_batch("shop", batch_id)
    assert (slim.custom_data, slim.name, slim.status) == (None, before.name, before.status)
    assert (slim.total_count, slim.completed_count, slim.completed_at) == (1, 1, before.completed_at)
    assert await ask(pool, "select on_complete from commandbus.batch") == [
        ({"domain": "shop", "command_id": str(end)},)
    ]
    assert await ask(pool, "select count(*) from commandbus.audit") == [(0,)]
    await is_sound(pool)


async def test_a_batch_is_forgotten_with_its_commands_and_then_what_it_sent_at_its_end(pool, bus):
    forget = Retention(timedelta(0), forget=True)
    batch_id, end = await ended_batch(pool, bus)

    first = await prune(pool, forget)
    assert await bus.get_batch("shop", batch_id) is None
    assert (await bus.get_command("shop", end)).status is CommandStatus.COMPLETED
    await is_sound(pool)
    second = await prune(pool, forget)

    assert (first.forgotten, second.forgotten) == (2, 1)
    assert await bus.query_commands() == []
    assert await ask(pool, "select count(*) from commandbus.batch_delta") == [(0,)]
    await is_sound(pool)


async def test_a_batch_with_a_command_that_waits_for_an_operator_is_not_forgotten(pool, bus):
    batch_id, _ = await ended_batch(pool, bus, broken=True)

    done = await prune(pool, Retention(timedelta(0), forget=True))

    assert done.forgotten == 0
    assert (await bus.get_batch("shop", batch_id)).in_troubleshooting_count == 1
    assert len(await bus.list_batch_commands("shop", batch_id)) == 2
    await is_sound(pool)


async def test_a_batch_that_is_open_or_has_parts_stays(pool, bus):
    await bus.pause("shop", "Later")
    parent = await bus.create_batch("shop", [BatchCommand("Later", uuid4(), {})], custom_data={"by": "Ada"})
    part, _ = await ended_batch(pool, bus, parent_id=parent.batch_id)

    done = await prune(pool, Retention(timedelta(0), forget=True))

    assert done.batches == 1
    assert await bus.get_batch("shop", part) is None
    assert (await bus.get_batch("shop", parent.batch_id)).custom_data == {"by": "Ada"}
    await is_sound(pool)


async def test_an_action_loses_what_taking_it_back_needs_and_then_itself(pool, bus):
    queue = TroubleshootingQueue(pool)
    await bus.send_batch([SendRequest("shop", "Break", uuid4(), {}) for _ in range(7)])
    store = PostgresCommandStore(pool)
    received = await store.receive("shop", limit=7, lease_seconds=30, worker="w")
    await store.complete("shop", [Outcome(each.lease, Verb.TROUBLESHOOT, error_code="BROKEN") for each in received])
    begun = await queue.begin(Action.RETRY, Selection("shop"), operator="Ada", reason="a test")
    waiting = await queue.begin(Action.CANCEL, Selection("shop"), operator="Ada", reason="not carried out")
    await queue.run(begun.action_id, chunk_size=3)

    done = await prune(pool, Retention(timedelta(0), audit=timedelta(days=1)), chunk=3)
    again = await prune(pool, Retention(timedelta(0), audit=timedelta(days=1)), chunk=3)

    assert (done.actions, again.actions) == (1, 0)
    kept = await queue.get_action(begun.action_id)
    assert (kept.total, kept.applied, kept.operator) == (7, 7, "Ada")
    assert await ask(pool, "select action_id, count(*) from commandbus.operator_item group by 1") == [
        (waiting.action_id, 7)
    ]
    await is_sound(pool)
    assert (await prune(pool, NOW)).actions == 1
    assert await ask(pool, "select action_id, state from commandbus.operator_action") == [
        (waiting.action_id, "RUNNING")
    ]
    await is_sound(pool)


async def test_a_row_that_somebody_holds_is_passed_by(pool, bus):
    ids = await worked_off(pool, bus, 5)
    async with pool.connection() as conn:
        await conn.execute("select from commandbus.command where command_id = %s for update", (ids[0],))

        async with asyncio.timeout(120):
            done = await prune(pool, NOW)

    assert done.pruned == 4
    assert (await prune(pool, NOW)).pruned == 1


async def test_pruning_beside_workers_takes_only_what_has_ended(pool, bus):
    pruner = Pruner(pool, Retention(timedelta(0), per_second=1e6), every=timedelta(milliseconds=1))
    async with pruner:
        ids = await worked_off(pool, bus, 300)
    async with pruner:

        async def all_slim():
            return await ask(pool, "select count(*) from commandbus.command where pruned_at is null") == [(0,)]

        await eventually(all_slim)

    results = {(await bus.get_command("shop", each)).result["was"] for each in ids[:50]}
    assert results == set(range(50))
    await is_sound(pool)


SLIM = "select count(*) from commandbus.command where pruned_at is not null"


async def test_of_many_pruners_one_prunes_and_the_next_run_is_due_for_all_together(pool, bus, monkeypatch):
    under_way, most, runs = 0, 0, 0
    real = pruning.prune

    async def counted(*args, **kwargs):
        nonlocal under_way, most, runs
        under_way, runs = under_way + 1, runs + 1
        most = max(most, under_way)
        try:
            await others_asked()
            return await real(*args, **kwargs)
        finally:
            under_way -= 1

    async def others_asked():
        for _ in range(10):
            await ask(pool, "select pg_sleep(0)")

    monkeypatch.setattr(pruning, "prune", counted)
    await worked_off(pool, bus)
    pruners = [Pruner(pool, NOW) for _ in range(5)]
    for each in pruners:
        await each.start()

    async def all_slim():
        return await ask(pool, SLIM) == [(10,)]

    async def run_is_over():
        return await ask(pool, "select next_at > now() + interval '30 min' and until <= now() from commandbus.pruning")

    await eventually(all_slim)
    while await run_is_over() != [(True,)]:
        pass
    for each in pruners:
        await each.stop()

    assert (most, runs) == (1, 1)


async def test_a_pruner_that_died_is_followed_when_its_lease_is_over(pool, bus):
    await worked_off(pool, bus)
    await run(pool, "select commandbus.take_pruning('the dead', 1)")
    (again,) = (await ask(pool, "select commandbus.take_pruning('another', 60)"))[0]
    assert 0 < again <= 1

    async with Pruner(pool, NOW):

        async def all_slim():
            return await ask(pool, SLIM) == [(10,)]

        await eventually(all_slim)


async def test_a_pruner_that_is_stopped_in_a_run_leaves_it_to_another(pool, bus):
    await worked_off(pool, bus, 20)
    slow = Pruner(pool, Retention(timedelta(0), per_second=0.001))
    await slow.start()

    async def is_at_it():
        return await ask(pool, SLIM) == [(20,)]

    await eventually(is_at_it)
    await slow.stop()

    assert await ask(pool, "select commandbus.take_pruning('another', 60)") == [(0.0,)]


async def test_a_pruner_that_lost_its_lease_ends_its_run(pool, bus, monkeypatch):
    monkeypatch.setattr(pruning, "LEASE", 0.2)
    await worked_off(pool, bus, 20)
    async with Pruner(pool, Retention(timedelta(0), per_second=0.001)):

        async def is_at_it():
            return await ask(pool, SLIM) == [(20,)]

        async def has_ended():
            return await ask(pool, "select count(*) from commandbus.pruning where holder = 'another'") == [(1,)]

        await eventually(is_at_it)
        await run(pool, "update commandbus.pruning set holder = 'another', until = now() + interval '1 hour'")
        await eventually(has_ended)

    assert await ask(pool, "select until > now() from commandbus.pruning") == [(True,)]  # not ended by the loser


async def test_a_worker_prunes_if_it_is_told_so(pool, bus):
    await worked_off(pool, bus)
    registry = HandlerRegistry()
    registry.register("shop", "Order", lambda command, context: None)
    worker = Worker(pool, "shop", registry, retention=NOW, prune_every=3600)
    running = asyncio.create_task(worker.run())

    async def all_slim():
        return await ask(pool, SLIM) == [(10,)]

    await eventually(all_slim)
    await worker.stop()
    await running
    with pytest.raises(ConfigurationError, match="needs a pool"):
        Worker(MemoryCommandStore(), "shop", registry, retention=NOW)


async def test_a_pruner_can_be_stopped_twice_and_unstarted(pool):
    pruner = Pruner(pool, NOW)
    await pruner.stop()
    await pruner.start()
    await pruner.stop()
    await pruner.stop()

    assert not pruner.is_running


@pytest.mark.parametrize(
    "wrong",
    [
        {"completed": timedelta(-1)},
        {"completed": 5},
        {"completed": timedelta(2), "audit": timedelta(1)},
        {"completed": timedelta(2), "per_second": 0},
    ],
    ids=["negative", "number", "audit-shorter", "no-rate"],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        Retention(**wrong)


def test_the_command_line_prunes(dsn):
    done = cli("prune", "--older-than", "90d", "--archive", "1h", "--dsn", dsn, "--json")

    assert (done.code, done.json["pruned"]) == (0, 0)
    assert "Pruned 0 commands" in cli("prune", "--older-than", "0s", "--dsn", dsn).out
    assert cli("prune", "--older-than", "soon", "--dsn", dsn).code == 2
