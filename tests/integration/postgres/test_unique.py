"""Unique keys between sessions: who waits for whom, who gets the key, and what a crash leaves.

What may not wait runs under a lock_timeout, so that waiting is an error; what must wait is watched in
pg_stat_activity. No test depends on being quick enough.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mainstay import CommandBus, CommandStatus, HandlerRegistry, NotUniqueError, SendRequest, Worker
from mainstay.commands.command import SendResult
from mainstay.commands.store import Answer, NewCommand, NotUnique, Received, Verb
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands.base import new, saying
from tests.scenarios.postgres import run
from tests.support.servers import open_pool
from tests.support.waiting import eventually

DOMAIN = "orders"


@pytest.fixture
async def store(pool: AsyncConnectionPool[Any]) -> PostgresCommandStore:
    made = PostgresCommandStore(pool)
    await made.ensure_queue(DOMAIN)
    return made


@pytest.fixture
async def impatient(dsn: str, store: PostgresCommandStore) -> AsyncIterator[PostgresCommandStore]:
    """A store for which waiting for a lock is an error."""
    async with open_pool(dsn, kwargs={"options": "-c lock_timeout=1s"}) as pool:
        yield PostgresCommandStore(pool)


@pytest.fixture
async def bus(store: PostgresCommandStore) -> AsyncIterator[CommandBus]:
    made = CommandBus(store)
    yield made
    await made.close()


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        yield conn


@asynccontextmanager
async def doomed(dsn: str) -> AsyncIterator[AsyncConnection[Any]]:
    """A session in a transaction that somebody will kill."""
    conn = await AsyncConnection.connect(dsn)
    try:
        yield conn
    finally:
        await conn.close()


async def waiting(conn: AsyncConnection[Any], count: int) -> bool:
    """Whether so many sessions of this database wait for a lock."""
    cursor = await conn.execute(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return await cursor.fetchone() == (count,)


def report(**changes: Any) -> NewCommand:
    return new(**{"unique_key": "report"} | changes)


async def send(store: PostgresCommandStore, command: NewCommand, conn: Any = None) -> Answer:
    (answer,) = await store.send([command], conn=conn)
    return answer


async def received(store: PostgresCommandStore) -> Received:
    (one,) = await store.receive(DOMAIN, limit=1, lease_seconds=60, worker="w1")
    return one


async def ended(store: PostgresCommandStore, **changes: Any) -> UUID:
    """A completed command that has had the key."""
    assert isinstance(await send(store, report(**changes)), SendResult)
    one = await received(store)
    await store.complete(DOMAIN, [saying(one, Verb.COMPLETE)])
    return one.command.command_id


async def is_sound(store: PostgresCommandStore) -> None:
    assert (await store.fsck()).findings == ()


# --- two senders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("takes_over", [True, False])
async def test_of_two_open_transactions_with_one_key_the_second_waits_how_the_first_ends(
    store, pool, dsn, commits, takes_over
) -> None:
    if takes_over:
        await ended(store)
    first, second = report(), report()

    async with pool.connection() as one, pool.connection() as other, session(dsn) as observer:
        assert isinstance(await send(store, first, one), SendResult)
        sending = asyncio.ensure_future(send(store, second, other))
        await eventually(lambda: waiting(observer, 1))
        await (one.commit() if commits else one.rollback())
        answer = await sending
        await other.commit()

    expected = NotUnique(first.command_id) if commits else SendResult(second.command_id, answer.msg_id)
    assert answer == expected
    assert (await received(store)).command.command_id == (first if commits else second).command_id
    await is_sound(store)


@pytest.mark.parametrize("takes_over", [True, False])
async def test_a_sender_that_is_killed_leaves_the_key_as_it_was(store, dsn, takes_over) -> None:
    if takes_over:
        await ended(store)

    async with doomed(dsn) as victim, session(dsn) as observer:
        await send(store, report(), victim)
        sending = asyncio.ensure_future(send(store, report()))
        await eventually(lambda: waiting(observer, 1))
        await observer.execute("select pg_terminate_backend(%s)", [victim.info.backend_pid])

        assert isinstance(await sending, SendResult)
    await is_sound(store)


async def test_a_sender_that_dies_between_claim_and_command_has_claimed_nothing(store, dsn) -> None:
    async with doomed(dsn) as victim, session(dsn) as observer:
        claim = "select * from commandbus.claim_unique('orders', %s::jsonb)"
        command = f'[{{"domain": "orders", "command_id": "{uuid4()}", "unique_key": "report"}}]'
        await victim.execute(claim, [command])
        await observer.execute("select pg_terminate_backend(%s)", [victim.info.backend_pid])

    assert isinstance(await send(store, report()), SendResult)
    await is_sound(store)


async def test_who_is_refused_holds_nothing_while_his_transaction_is_open(store, impatient, pool) -> None:
    assert isinstance(await send(store, report()), SendResult)
    async with pool.connection() as conn, conn.transaction():
        assert isinstance(await send(store, report(), conn), NotUnique)
        await store.complete(DOMAIN, [saying(await received(store), Verb.COMPLETE)])

        assert isinstance(await send(impatient, report()), SendResult)
    await is_sound(store)


async def test_an_end_that_is_not_committed_is_not_waited_for_and_frees_nothing_yet(store, impatient) -> None:
    first = report()
    await send(store, first)
    one = await received(store)
    async with store.transaction() as tx:
        await store.complete(DOMAIN, [saying(one, Verb.COMPLETE)], conn=tx)
        while_open = await send(impatient, report())

    assert while_open == NotUnique(first.command_id)
    assert isinstance(await send(impatient, report()), SendResult)


async def test_other_keys_and_commands_without_one_wait_for_nobody(store, impatient, pool) -> None:
    async with pool.connection() as conn, conn.transaction():
        await send(store, report(), conn)

        assert isinstance(await send(impatient, report(unique_key="other")), SendResult)
        assert isinstance(await send(impatient, new()), SendResult)
        one = await received(impatient)
        await impatient.complete(DOMAIN, [saying(one, Verb.COMPLETE)])
        assert isinstance(await send(impatient, report(unique_key="other")), SendResult)


async def test_a_send_that_waits_for_a_key_holds_up_no_other_send_of_its_bus(bus, store, pool) -> None:
    options = {"unique_key": "report"}
    async with pool.connection() as conn:
        await send(store, report(), conn)
        stuck = [asyncio.ensure_future(bus.send(DOMAIN, "CreateOrder", uuid4(), {}, **options)) for _ in range(3)]
        others = [bus.send(DOMAIN, "CreateOrder", uuid4(), {}) for _ in range(20)]
        assert len(await asyncio.gather(*others)) == 20
        assert not any(each.done() for each in stuck)
        await conn.commit()

    for each in await asyncio.gather(*stuck, return_exceptions=True):
        assert isinstance(each, NotUniqueError)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_handler_that_sends_with_a_key_that_is_being_taken_holds_up_no_other(pool, store, bus, commits) -> None:
    registry = HandlerRegistry()

    @registry.handler(DOMAIN, "First")
    async def first(command: Any, context: Any) -> None:
        await context.send(DOMAIN, "Second", {}, unique_key="report", on_conflict="skip", delay=3600)

    registry.register(DOMAIN, "CreateOrder", lambda command, context: {})
    worker = Worker(store, DOMAIN, registry)
    async with pool.connection() as conn:
        taken = report(delay=3600.0)
        await send(store, taken, conn)
        requests = [SendRequest(DOMAIN, "First", uuid4(), {}) for _ in range(6)]
        requests += [SendRequest(DOMAIN, "CreateOrder", uuid4(), {}) for _ in range(60)]
        await bus.send_batch(requests)
        running = asyncio.create_task(worker.run(concurrency=8, poll_interval=0.05))

        async def completed(command_type: str) -> int:
            return len(await bus.query_commands(CommandStatus.COMPLETED, DOMAIN, command_type, limit=100))

        await eventually(lambda: _equals(completed("CreateOrder"), 60), timeout=60)
        assert await completed("First") == 0
        await (conn.commit() if commits else conn.rollback())

    await eventually(lambda: _equals(completed("First"), 6), timeout=60)
    await worker.stop()
    await running

    seconds = await bus.query_commands(domain=DOMAIN, command_type="Second")
    assert len(seconds) == (0 if commits else 1)
    assert await bus.command_exists(DOMAIN, taken.command_id) is commits
    await is_sound(store)


async def test_a_schedule_whose_key_is_being_taken_holds_up_no_other(pool, store, bus) -> None:
    await bus.schedules.set("first", DOMAIN, "CreateOrder", every=1, unique_key="report")
    await bus.schedules.set("second", DOMAIN, "CreateOrder", every=1)
    earlier = "update commandbus.schedule set next_due_at = next_due_at - interval '2 h' where name = %s"
    async with pool.connection() as conn:
        await send(store, report(), conn)
        for name in ("first", "second"):
            await run(pool, earlier, name)
        await run(pool, earlier, "first")

        assert (await store.schedules.fire(DOMAIN)).sent == 1
        held_up, fired = await bus.schedules.list()
        assert (held_up.sent_count, held_up.skipped_count, fired.sent_count) == (0, 0, 1)
        assert held_up.last_error is not None
        await conn.commit()

    await store.schedules.fire(DOMAIN)
    held_up = await bus.schedules.get("first")
    assert held_up is not None
    assert (held_up.sent_count, held_up.skipped_count, held_up.last_error) == (0, 1, None)


async def _equals(found: Any, expected: object) -> bool:
    return await found == expected


# --- many keys --------------------------------------------------------------------------------------------------------


def batch(*keys: str) -> list[NewCommand]:
    return [report(unique_key=key) for key in keys]


async def test_batches_that_name_keys_in_opposite_order_do_not_deadlock(store, pool, dsn) -> None:
    """Both stand before a third's key: then each has what it took on the way, and the other wants that."""
    async with pool.connection() as third, session(dsn) as observer:
        await send(store, report(unique_key="m"), third)
        upward = asyncio.ensure_future(store.send(batch("a", "m", "z"), atomic=True))
        await eventually(lambda: waiting(observer, 1))
        downward = asyncio.ensure_future(store.send(batch("z", "m", "a"), atomic=True))
        await eventually(lambda: waiting(observer, 2))
        await third.rollback()
        answers = [await upward, await downward]

    assert [all(isinstance(each, SendResult) for each in one) for one in answers] == [True, False]
    assert all(isinstance(each, NotUnique) for each in answers[1])
    await is_sound(store)


async def test_claims_in_the_order_given_would_deadlock(store, pool, dsn) -> None:
    """The control."""
    naive = (
        "insert into commandbus.unique_claim (domain, unique_key, command_id)"
        " select 'orders', k, gen_random_uuid() from unnest(%s::text[]) with ordinality as t(k, n) order by n"
        " on conflict do nothing"
    )
    async with (
        pool.connection() as third,
        pool.connection() as up,
        pool.connection() as down,
        session(dsn) as observer,
    ):
        await third.execute(naive, [["m"]])
        upward = asyncio.ensure_future(up.execute(naive, [["a", "m", "z"]]))
        await eventually(lambda: waiting(observer, 1))
        downward = asyncio.ensure_future(down.execute(naive, [["z", "m", "a"]]))
        await eventually(lambda: waiting(observer, 2))
        await third.rollback()
        results = await asyncio.gather(upward, downward, return_exceptions=True)
        for conn in (up, down):
            await conn.rollback()

    assert [isinstance(each, psycopg.errors.DeadlockDetected) for each in results].count(True) == 1


async def test_looking_before_sending_would_make_two(store, pool) -> None:
    """The control: both look, see nobody, and send."""
    look = (
        "select count(*) from commandbus.command where domain = 'orders' and unique_key = 'report'"
        " and status not in ('COMPLETED', 'FAILED', 'CANCELED')"
    )
    ids: list[UUID] = []
    async with pool.connection() as one, pool.connection() as other:
        for conn in (one, other):
            assert await (await conn.execute(look)).fetchone() == (0,)
        for conn in (one, other):
            plain = new()
            await send(store, plain, conn)
            ids.append(plain.command_id)
            await conn.execute("update commandbus.command set unique_key = 'report' where command_id = %s", [ids[-1]])
            await conn.commit()

    found = (await store.fsck()).findings
    assert [each.invariant for each in found] == ["a command that has not ended holds its unique key"] * 2


async def test_whoever_sends_takes_over_and_ends_at_once_no_key_ever_has_two(dsn, store) -> None:
    keys = [f"k{n}" for n in range(6)]
    taken: list[SendResult] = []

    async def sender(own: PostgresCommandStore, place: int) -> None:
        for n in range(15):
            names = [keys[(place + n + step * (-1) ** place) % 6] for step in range(3)]
            answers = await own.send([*batch(*names), new()], atomic=bool(n % 2))
            if all(isinstance(each, SendResult) for each in answers) or not n % 2:
                taken.extend(each for each in answers if isinstance(each, SendResult))

    async def receiver(own: PostgresCommandStore, senders: "asyncio.Task[Any]") -> None:
        while not senders.done() or (await own.backlog(DOMAIN)).ready:
            hand = await own.receive(DOMAIN, limit=5, lease_seconds=60, worker="w1")
            keys_in_hand = [(await own.get(DOMAIN, each.command.command_id)).unique_key for each in hand]
            named = [key for key in keys_in_hand if key]
            assert len(named) == len(set(named))
            await own.complete(DOMAIN, [saying(each, Verb.COMPLETE) for each in hand])

    async with open_pool(dsn, max_size=8) as pool:
        own = PostgresCommandStore(pool)
        senders = asyncio.ensure_future(asyncio.gather(*(sender(own, place) for place in range(4))))
        await asyncio.gather(senders, *(receiver(own, senders) for _ in range(3)))

    report_of_all = await store.fsck()
    assert report_of_all.findings == ()
    assert report_of_all.commands == len(taken) >= 30


# --- what it costs ----------------------------------------------------------------------------------------------------


async def test_a_command_without_a_unique_key_does_not_touch_the_claims(store, dsn) -> None:
    """Neither its send, nor its completion, nor the completion of one that has a key. One connection does it all."""
    async with open_pool(dsn, max_size=1) as pool:
        own = PostgresCommandStore(pool)
        bus = CommandBus(own)
        await bus.send(DOMAIN, "CreateOrder", uuid4(), {}, unique_key="report")
        one = await received(own)
        before = await touched(pool)

        await own.complete(DOMAIN, [saying(one, Verb.COMPLETE)])
        await bus.send(DOMAIN, "CreateOrder", uuid4(), {})
        await bus.send_batch([SendRequest(DOMAIN, "CreateOrder", uuid4(), {}) for _ in range(50)])
        for hand in await own.receive(DOMAIN, limit=100, lease_seconds=60, worker="w1"):
            await own.complete(DOMAIN, [saying(hand, Verb.COMPLETE)])
        after = await touched(pool)

        await bus.send(DOMAIN, "CreateOrder", uuid4(), {}, unique_key="report")
        assert before == after != await touched(pool)
        await bus.close()


async def touched(pool: AsyncConnectionPool[Any]) -> Any:
    """Scans of the claims, and rows written there, by the one session of this pool."""
    async with pool.connection() as conn:
        await conn.execute("select pg_stat_force_next_flush()")
        await conn.commit()
        cursor = await conn.execute(
            "select idx_scan, seq_scan, n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables"
            " where relid = 'commandbus.unique_claim'::regclass"
        )
        return await cursor.fetchone()
