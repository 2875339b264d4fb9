"""Handlers on aggregates: what the next one reads and what this one appends go along with its completion."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay import PostgreSQLEventStore, StreamId
from mainstay.commands.ledger import NewDecision
from mainstay.commands.store import Outcome, Received, Verb
from mainstay.deciding import EventAggregates
from mainstay.errors import OptimisticLockError, StaleLeaseError, StreamTombstonedError
from mainstay.storage.postgres.along import Along
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.prepared import PreparedScript
from tests.integration.postgres.test_handler_transactions import COUNT, DOMAIN, Counted, counted, prepared, received
from tests.scenarios.aggregates import Account, Deposit
from tests.support.servers import open_pool
from tests.support.waiting import eventually

PATIENCE = 30.0


class Bench:
    """A store of commands and one of events, in one database."""

    def __init__(self, store: PostgresCommandStore) -> None:
        self.store = store
        self.events = PostgreSQLEventStore(store.pool)
        self.aggregates = EventAggregates(self.events, joins=True)

    async def handle(self, one: Received, account_id: UUID, *, meanwhile: Any = None, first: Any = None) -> None:
        """What a worker does with a command for an account."""
        ahead = self.aggregates.ahead(Account, account_id) if first is None else first
        async with self.store.transaction(ahead) as conn:
            if meanwhile is not None:
                await meanwhile()
            asked = None if first is not None else ahead
            async with self.aggregates.opened(Account, account_id, conn, asked) as opened:
                opened.aggregate.execute(Deposit(account_id=account_id, amount=1))
            decision = NewDecision(opened.stream, opened.version_read, opened.events, "tests", "1", ())
            await self.store.commit(conn, DOMAIN, Outcome(one.lease, Verb.COMPLETE, decision=decision), opened.left)
        await opened.committed()

    async def append(self, account_id: UUID) -> None:
        """Somebody else is quicker."""
        (event,) = Account(account_id).execute(Deposit(account_id=account_id, amount=1))
        await self.events.append(StreamId("Account", account_id), [event], expected=0)

    async def rows(self, question: str) -> list[Any]:
        async with self.store.pool.connection() as conn:
            return await (await conn.execute(question.encode())).fetchall()

    async def completed(self) -> int:
        ((count,),) = await self.rows("select count(*) from commandbus.command where status = 'COMPLETED'")
        return int(count)


@pytest.fixture
async def bench(dsn) -> AsyncIterator[Bench]:
    """One connection for all handlers."""
    async with open_pool(dsn, max_size=1, connection_class=Counted) as pool:
        yield Bench(await prepared(pool))


async def test_who_waits_for_a_connection_costs_one_round_trip(bench: Bench) -> None:
    held = await received(bench.store)
    await bench.handle(held[0], uuid4())

    with counted() as together:
        await asyncio.gather(*(bench.handle(one, uuid4()) for one in held[1:]))

    assert together == [COUNT - 1 + 3], "BEGIN and the question of the first and COMMIT of the last are their own"
    assert await bench.completed() == COUNT


async def test_the_result_says_version_and_position_of_the_event(bench: Bench) -> None:
    held = await received(bench.store)
    account_id = uuid4()

    for one in held[:2]:
        await bench.handle(one, account_id)
    await asyncio.gather(*(bench.handle(one, uuid4()) for one in held[2:]))

    found = await bench.rows(
        "select c.result, e.version, e.position, d.events from commandbus.command as c"
        " join commandbus.decision as d on d.command_id = c.command_id"
        " join eventsource.event as e on e.position = (c.result ->> 'position')::bigint"
    )
    assert len(found) == COUNT
    assert all(result == {"version": version, "position": at} for result, version, at, _ in found)
    assert sorted(version for _, version, _, _ in found) == [1] * (COUNT - 1) + [2]


@pytest.mark.parametrize("which", [0, 3, COUNT - 1])
async def test_who_is_overtaken_is_told_and_leaves_nothing_and_hinders_nobody(bench: Bench, which: int) -> None:
    async with open_pool(bench.store.pool.conninfo, max_size=1) as pool:
        quicker, account_id = Bench(PostgresCommandStore(pool)), uuid4()
        held = await received(bench.store)

        ends = await asyncio.gather(
            *(
                bench.handle(one, account_id, meanwhile=lambda: quicker.append(account_id))
                if number == which
                else bench.handle(one, uuid4())
                for number, one in enumerate(held)
            ),
            return_exceptions=True,
        )

    overtaken = ends.pop(which)
    # The one whose question went along had read before; the first reads when it has begun.
    assert (overtaken is None) == (which == 0)
    if overtaken is not None:
        assert isinstance(overtaken, OptimisticLockError)
        assert (overtaken.stream, overtaken.actual) == (StreamId("Account", account_id), 1)
    assert set(ends) == {None}
    assert await bench.completed() == COUNT - 1 + (overtaken is None)
    ((messages,),) = await bench.rows("select count(*) from pgmq.q_orders__commands")
    assert messages == (overtaken is not None)


async def test_a_lost_lease_takes_the_events_with_it(bench: Bench) -> None:
    held = await received(bench.store)
    held[1] = Received(held[1].command, held[1].lease._replace(lease_no=17), 1, 3)

    ends = await asyncio.gather(*(bench.handle(one, uuid4()) for one in held), return_exceptions=True)

    assert isinstance(ends.pop(1), StaleLeaseError)
    assert set(ends) == {None}
    assert await bench.rows("select count(*) from eventsource.event") == [(COUNT - 1,)]


async def test_a_question_that_fails_leaves_the_completion_before_it(bench: Bench) -> None:
    """And who asked begins anew, and asks himself."""
    wrong = Along(PreparedScript("select 1 / %(nothing)s::integer"), {"nothing": b"0"})
    held = await received(bench.store)

    await asyncio.gather(*(bench.handle(one, uuid4(), first=wrong if n == 4 else None) for n, one in enumerate(held)))

    assert wrong.rows is None
    assert await bench.completed() == COUNT


async def test_who_is_gone_when_his_question_is_answered_leaves_the_connection_to_others(bench: Bench, pool) -> None:
    held = await received(bench.store)

    async def is_asked() -> bool:
        return bool(bench.store._handling._chosen)

    async with pool.connection() as other:  # holds up the completion of the first, with which the second asks
        await other.execute("select from pgmq.q_orders__commands where msg_id = %s for update", [held[0].lease.msg_id])
        running = [asyncio.create_task(bench.handle(one, uuid4())) for one in held]
        await eventually(is_asked, timeout=PATIENCE)
        assert bench.store.waiting_handlers == COUNT - 1
        running[1].cancel()
    ends = await asyncio.gather(*running, return_exceptions=True)

    assert isinstance(ends.pop(1), asyncio.CancelledError)
    assert set(ends) == {None}
    assert await bench.completed() == COUNT - 1


async def test_a_tombstoned_stream_is_found_so(bench: Bench) -> None:
    account_id = uuid4()
    await bench.append(account_id)
    await bench.events.tombstone(StreamId("Account", account_id), reason="gone", actor="tests")
    held = await received(bench.store)

    ends = await asyncio.gather(
        *(bench.handle(one, account_id if n == 5 else uuid4()) for n, one in enumerate(held)), return_exceptions=True
    )

    assert isinstance(ends.pop(5), StreamTombstonedError)
    assert set(ends) == {None}


async def test_it_needs_no_prepared_statements(dsn) -> None:
    async with open_pool(dsn, max_size=1, kwargs={"prepare_threshold": None}) as pool:
        bench = Bench(await prepared(pool))
        held, account_id = await received(bench.store), uuid4()

        await bench.handle(held[0], account_id)
        await bench.handle(held[1], account_id)
        await asyncio.gather(*(bench.handle(one, uuid4()) for one in held[2:]))

        assert await bench.completed() == COUNT


async def test_a_connection_that_is_lost_fails_one_handler(bench: Bench, pool) -> None:
    async def lost() -> None:
        async with bench.store.transaction() as conn, pool.connection() as other:
            await other.execute("select pg_terminate_backend(%s, 30000)", [conn.info.backend_pid])
            await conn.execute("select 1")

    held = await received(bench.store)
    handlers = [bench.handle(one, uuid4()) for one in held]
    ends = await asyncio.gather(*handlers[:6], lost(), *handlers[6:], return_exceptions=True)

    assert isinstance(ends.pop(6), psycopg.OperationalError)
    assert set(ends) == {None}
    assert await bench.completed() == COUNT
