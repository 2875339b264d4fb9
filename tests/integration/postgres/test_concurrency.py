"""Sessions side by side: nobody waits for a stranger, nobody loses sight of a message, nobody deadlocks.

What may not wait runs under a lock_timeout, so that waiting is an error; what must wait is watched in
pg_stat_activity. No test depends on being quick enough.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import combinations
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    BatchCommand,
    CommandBus,
    DuplicateCommandError,
    InvalidOperationError,
    SendRequest,
    TroubleshootingQueue,
)
from mainstay.commands.actions import CANCEL_BATCH, ActionState, NewAction
from mainstay.commands.command import SendResult
from mainstay.commands.failures import Selection
from mainstay.commands.store import Action, NotUnique, OperatorRequest, Outcome, Received, Verb
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands.base import new, saying
from tests.support.servers import open_pool
from tests.support.thorough import thorough
from tests.support.waiting import eventually

DOMAIN = "orders"
GATE = 4711
#: A statement that has its snapshot and then stops, until the gate's lock is free, before it reads the queue.
BEHIND_THE_GATE = "with gate as materialized (select 10 as n from pg_advisory_xact_lock(4711)) "
#: Receiving as one would write it: one statement, with PGMQ's own function.
NAIVE = (
    BEHIND_THE_GATE + "select c.command_id from gate cross join lateral pgmq.read('orders__commands', 60, gate.n) as m "
    "join commandbus.command as c on c.command_id = (m.message ->> 'command_id')::uuid and c.domain = 'orders'"
)
OURS = (
    BEHIND_THE_GATE
    + "select r.command_id from gate cross join lateral commandbus.receive('orders', gate.n, 60, 'w1') as r"
)


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


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        yield conn


async def waiting(conn: AsyncConnection[Any], count: int) -> bool:
    """Whether so many sessions of this database wait for a lock."""
    cursor = await conn.execute(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    row = await cursor.fetchone()
    return row == (count,)


async def written(dsn: str) -> dict[str, int]:
    """How many rows every table of commands and queues has."""
    async with session(dsn) as conn:
        cursor = await conn.execute(
            "select table_schema || '.' || quote_ident(table_name) from information_schema.tables "
            "where table_type = 'BASE TABLE' and table_schema in ('commandbus', 'pgmq')"
        )
        counts = {}
        for (table,) in await cursor.fetchall():
            (counts[table],) = (await (await conn.execute(f"select count(*) from {table}")).fetchone()) or (0,)
        return counts


async def receive(store: PostgresCommandStore, limit: int = 100, lease: float = 60.0) -> list[Received]:
    return await store.receive(DOMAIN, limit=limit, lease_seconds=lease, worker="w1")


async def send(store: PostgresCommandStore, *commands: Any) -> list[UUID]:
    answers = await store.send(commands or [new()])
    assert all(isinstance(answer, SendResult) for answer in answers), answers
    return [command.command_id for command in commands]


# --- open transactions ------------------------------------------------------------------------------------------------


async def test_an_open_transaction_of_a_caller_holds_up_nobody(pool, impatient) -> None:
    bus = CommandBus(pool)
    batch = (await bus.create_batch(DOMAIN, [BatchCommand("CreateOrder", uuid4(), {})])).batch_id
    into_batch = {"batch_id": batch}

    async with pool.connection() as conn, conn.transaction():
        await bus.send(DOMAIN, "CreateOrder", uuid4(), {}, conn=conn)
        await bus.send(DOMAIN, "CreateOrder", uuid4(), {}, conn=conn, delay=60, **into_batch)
        await bus.send_batch([SendRequest(DOMAIN, "CreateOrder", uuid4(), {}, **into_batch)] * 1, conn=conn)
        await bus.create_batch(DOMAIN, [BatchCommand("CreateOrder", uuid4(), {})], conn=conn)

        await impatient.ensure_queue("another")
        commands = [new(), new(**into_batch), new(delay=0.0), new(**into_batch), new(delay=60.0)]
        assert len(await send(impatient, *commands)) == 5
        taken = await receive(impatient)
        assert len(taken) == 5
        assert await impatient.renew(DOMAIN, [each.lease for each in taken], 60) == []
        await impatient.complete(
            DOMAIN, [saying(each, verb) for each, verb in zip(taken, [*Verb, Verb.COMPLETE][:5], strict=True)]
        )
        await impatient.cancel(DOMAIN, commands[-1].command_id, reason=None)
        await impatient.act(
            DOMAIN, [each.command.command_id for each in taken], OperatorRequest(Action.RETRY, operator="ada")
        )
        await impatient.fold_batches(DOMAIN)
        await impatient.about_to_sleep(DOMAIN, "w1")
        await impatient.wake([DOMAIN])
        assert (await impatient.fsck()).findings == ()
        assert await impatient.get_batch(DOMAIN, batch) is not None

    assert (await impatient.fsck()).findings == ()
    await bus.close()


async def test_a_transaction_that_rolls_back_has_written_nothing(pool, store, dsn) -> None:
    bus = CommandBus(pool)
    batch = (await bus.create_batch(DOMAIN, [BatchCommand("CreateOrder", uuid4(), {})])).batch_id
    before = await written(dsn)

    async with pool.connection() as conn, conn.transaction(force_rollback=True):
        await bus.send(DOMAIN, "CreateOrder", uuid4(), {}, conn=conn, batch_id=batch)
        await bus.send(DOMAIN, "CreateOrder", uuid4(), {}, conn=conn, delay=60)
        await bus.send_batch([SendRequest(DOMAIN, "CreateOrder", uuid4(), {}) for _ in range(20)], 5, conn=conn)
        await bus.create_batch(DOMAIN, [BatchCommand("CreateOrder", uuid4(), {})], conn=conn)
        assert await written(dsn) == before

    assert await written(dsn) == before
    await bus.close()


@pytest.mark.parametrize("commits", [True, False])
async def test_of_two_open_transactions_with_one_id_the_second_waits_how_the_first_ends(
    pool, store, dsn, commits
) -> None:
    bus = CommandBus(pool)
    key = uuid4()

    async with pool.connection() as first, pool.connection() as second, session(dsn) as observer:
        await bus.send(DOMAIN, "CreateOrder", key, {"by": "first"}, conn=first)
        sending = asyncio.ensure_future(bus.send(DOMAIN, "CreateOrder", key, {"by": "second"}, conn=second))
        await eventually(lambda: waiting(observer, 1))
        await (first.commit() if commits else first.rollback())
        if commits:
            with pytest.raises(DuplicateCommandError):
                await sending
        else:
            await sending
        await second.commit()

    known = await bus.get_command(DOMAIN, key)
    assert known is not None
    assert known.data == {"by": "first" if commits else "second"}
    assert len(await receive(store)) == 1


# --- receiving --------------------------------------------------------------------------------------------------------


async def found_behind_the_gate(statement: str, store: PostgresCommandStore, dsn: str) -> list[UUID]:
    """What a statement finds of a command that was committed after its snapshot and before it read the queue."""
    async with session(dsn) as gatekeeper, session(dsn) as reader:
        await gatekeeper.execute("select pg_advisory_lock(%s)", [GATE])
        reading = asyncio.ensure_future(reader.execute(statement))
        await eventually(lambda: waiting(gatekeeper, 1))
        await send(store, new())
        await gatekeeper.execute("select pg_advisory_unlock(%s)", [GATE])
        return [key for (key,) in await (await reading).fetchall()]


async def test_a_command_committed_while_a_receive_begins_is_received(store, dsn) -> None:
    assert len(await found_behind_the_gate(OURS, store, dsn)) == 1


async def test_a_queue_read_inside_a_larger_statement_would_lose_sight_of_a_message(store, dsn) -> None:
    """The control: the message is leased, its reader does not see it, and nobody else can have it for a minute."""
    assert await found_behind_the_gate(NAIVE, store, dsn) == []
    assert await receive(store) == []
    assert (await store.stats(DOMAIN))[0].in_flight == 1


@pytest.mark.thorough
async def test_with_many_senders_and_receivers_each_command_is_received_once_and_none_stands_still(dsn, store) -> None:
    """The lease is five minutes: a command that stood still for one would miss the end of this test."""
    received: list[Received] = []
    total = 8 * 40

    async def sender(own: PostgresCommandStore) -> None:
        for _ in range(20):
            await send(own, new(), new())

    async def receiver(own: PostgresCommandStore) -> None:
        while len(received) < total:
            taken = await receive(own, limit=7, lease=300)
            received.extend(taken)
            await own.complete(DOMAIN, [saying(each, Verb.COMPLETE) for each in taken])

    async with open_pool(dsn, max_size=14) as pool, asyncio.timeout(240):
        own = PostgresCommandStore(pool)
        await asyncio.gather(*(sender(own) for _ in range(8)), *(receiver(own) for _ in range(6)))

    assert len({each.command.command_id for each in received}) == len(received) == total
    assert {each.attempt for each in received} == {1}
    assert (await store.fsck()).findings == ()


# --- everything at once -----------------------------------------------------------------------------------------------


class Mixer:
    """One of several who do whatever can be done, to the same commands, in an order that a seed decides."""

    def __init__(self, store: PostgresCommandStore, seed: int, sent: list[UUID], hands: list[Received]) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.sent = sent
        self.hands = hands
        self.batches: list[UUID] = []

    async def run(self, steps: int) -> None:
        doings = [
            self.send,
            self.send,
            self.receive,
            self.receive,
            self.complete,
            self.complete,
            self.renew,
            self.cancel,
            self.cancel_batch,
            self.operate,
            self.fold,
        ]
        for _ in range(steps):
            await self.random.choice(doings)()

    def some(self, values: list[Any], most: int = 12) -> list[Any]:
        return self.random.sample(values, min(len(values), self.random.randint(1, most)))

    async def send(self) -> None:
        if not self.batches:
            bus = CommandBus(self.store)
            made = await bus.create_batch(DOMAIN, [BatchCommand("CreateOrder", uuid4(), {})])
            self.batches.append(made.batch_id)
            await bus.close()
        commands = [
            new(
                batch_id=self.random.choice([None, *self.batches]),
                delay=self.random.choice([None, None, 0.0, 0.01]),
                max_attempts=self.random.randint(1, 4),
                unique_key=self.random.choice([*[None] * 6, *"abcdef"]),
                unique_for=self.random.choice([None, 0.01]),
            )
            for _ in range(self.random.randint(1, 8))
        ]
        for each in await self.store.send(commands, atomic=self.random.random() < 0.3):
            assert isinstance(each, SendResult | NotUnique), each
        stored = [await self.store.get(DOMAIN, each.command_id) for each in commands]
        self.sent += [each.command_id for each in stored if each is not None]

    async def receive(self) -> None:
        lease = self.random.choice([0.001, 60.0])
        self.hands += await receive(self.store, self.random.randint(1, 12), lease)

    async def complete(self) -> None:
        said: dict[UUID, Outcome] = {}
        for each in self.some(self.hands):
            verb = self.random.choice([*Verb])
            if verb is Verb.RETRY and each.attempt >= each.max_attempts:
                verb = Verb.TROUBLESHOOT
            changes = {"delay": 0.0} if verb is Verb.RETRY else {}
            said[each.lease.command_id] = saying(each, verb, **changes)
        await self.store.complete(DOMAIN, list(said.values()))

    async def renew(self) -> None:
        await self.store.renew(DOMAIN, [each.lease for each in self.some(self.hands)], 0.05)

    async def cancel(self) -> None:
        for key in self.some(self.sent, 2):
            await self.store.cancel(DOMAIN, key, reason="mixed", running=self.random.random() < 0.5)

    async def cancel_batch(self) -> None:
        if self.batches and self.random.random() < 0.3:
            which = Selection(DOMAIN, batch_id=self.random.choice(self.batches))
            action = NewAction(uuid4(), CANCEL_BATCH, which, "ada", None, running=self.random.random() < 0.7)
            if await self.store.begin_action(action) is ActionState.RUNNING:
                while await self.store.run_action(action.action_id, 5):
                    pass

    async def operate(self) -> None:
        keys = self.some(self.sent, 30)
        if keys:
            action = self.random.choice([Action.RETRY, Action.RETRY, *Action])
            await self.store.act(DOMAIN, keys, OperatorRequest(action, operator="ada"))

    async def fold(self) -> None:
        await self.store.fold_batches(DOMAIN)


@pytest.mark.parametrize("seed", [1, thorough(2)])
async def test_whatever_is_done_at_once_nobody_deadlocks_and_everything_adds_up(dsn, store, seed) -> None:
    sent: list[UUID] = []
    hands: list[Received] = []

    async with open_pool(dsn, min_size=8, max_size=8) as pool:
        mixed = PostgresCommandStore(pool)
        await asyncio.gather(*(Mixer(mixed, 100 * seed + n, sent, hands).run(60) for n in range(8)))

    report = await store.fsck()

    assert report.findings == ()
    assert report.commands >= len(sent) > 100


async def test_of_operators_who_retry_at_once_one_is_obeyed_and_one_message_sent(dsn, store) -> None:
    (key,) = await send(store, new())
    (taken,) = await receive(store)
    await store.complete(DOMAIN, [saying(taken, Verb.TROUBLESHOOT)])
    queue = TroubleshootingQueue(store)

    async with session(dsn) as holder, session(dsn) as observer:
        async with holder.transaction():
            await holder.execute("select from commandbus.command where command_id = %s for update", [key])
            retries = [asyncio.ensure_future(queue.operator_retry(DOMAIN, key, f"operator {n}")) for n in range(3)]
            await eventually(lambda: waiting(observer, 3))
        results = await asyncio.gather(*retries, return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["InvalidOperationError"] * 2 + ["int"]
    assert all("not in the troubleshooting queue" in str(e) for e in results if isinstance(e, InvalidOperationError))
    assert (await store.stats(DOMAIN))[0].ready == 1
    assert (await store.fsck()).findings == ()


async def test_first_sends_into_a_new_domain_at_once_are_all_stored(dsn) -> None:
    async with open_pool(dsn, min_size=8, max_size=8) as pool:
        buses = [CommandBus(pool) for _ in range(8)]
        await asyncio.gather(*(bus.send("brand-new", "CreateOrder", uuid4(), {}) for bus in buses))
        store = PostgresCommandStore(pool)

        assert (await store.stats("brand-new"))[0].ready == 8
        assert (await store.fsck()).findings == ()


# --- sleeping ---------------------------------------------------------------------------------------------------------

SENDERS_STEPS = ["write", "commit", "wake"]
WORKERS_STEPS = ["look", "say it sleeps", "look again"]
#: Every order of the six steps that keeps the sender's and the worker's own.
ORDERS = [
    [next(senders) if place in places else next(workers) for place in range(6)]
    for places in combinations(range(6), 3)
    for senders, workers in [(iter(SENDERS_STEPS), iter(WORKERS_STEPS))]
]


async def test_a_command_sent_at_any_moment_around_falling_asleep_is_never_missed(store, dsn) -> None:
    assert len(ORDERS) == 20
    async with session(dsn) as sender, store.wakeups(DOMAIN, "w1") as ear:
        for order in ORDERS:
            received: list[Received] = []
            for step in order:
                if step == "write":
                    await sender.execute("begin")
                    await store.send([new()], conn=sender)
                elif step == "commit":
                    await sender.execute("commit")
                elif step == "wake":
                    await store.wake([DOMAIN])
                elif step == "say it sleeps":
                    await store.about_to_sleep(DOMAIN, "w1")
                else:
                    received += await receive(store)
            if not received:
                assert await ear.wait(60), order
                received = await receive(store)

            assert len(received) == 1, order
            await forget(sender, ear)


async def test_a_worker_that_did_not_look_again_would_miss_a_command(store, dsn) -> None:
    """The control: looked, then a command was sent and nobody found asleep, then fell asleep."""
    async with session(dsn) as sender, store.wakeups(DOMAIN, "w1") as ear:
        looked = await receive(store)
        async with sender.transaction():
            await store.send([new()], conn=sender)
        woken = await store.wake([DOMAIN])
        await store.about_to_sleep(DOMAIN, "w1")

        assert (looked, woken) == ([], 0)
        assert not await ear.wait(0.1)


async def forget(conn: AsyncConnection[Any], ear: Any) -> None:
    """Forget the worker's wish, and what it may have heard."""
    await conn.execute("delete from commandbus.sleeper")
    while await ear.wait(0.05):
        pass
