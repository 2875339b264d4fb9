"""With a pool of one connection, whoever needs another queue while he holds it waits for nobody."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest

from mainstay import AuditEventType, CommandStatus, PostgreSQLEventStore
from mainstay.errors import PoolExhaustedError
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import autocommit
from tests.scenarios.world import DOMAIN, World
from tests.support.purses import Pay, Purse
from tests.support.servers import open_pool
from tests.support.waiting import eventually

ELSEWHERE = "elsewhere"


@pytest.fixture
async def small(dsn):
    async with open_pool(dsn, min_size=1, max_size=1, timeout=600.0) as pool:
        yield pool


async def test_a_queue_is_made_while_the_last_connection_is_held(small) -> None:
    store = PostgresCommandStore(small)
    async with store.transaction():
        with pytest.raises(PoolExhaustedError):  # the control: no other is to be had
            async with autocommit(small, timeout=0.01):
                pass
        async with asyncio.timeout(60):
            await store.ensure_queue(ELSEWHERE)

    async with autocommit(small) as conn:
        found = await (await conn.execute("select to_regclass('pgmq.q_elsewhere__commands') is not null")).fetchone()
    assert found == (True,)


async def test_a_handler_that_sends_elsewhere_for_the_first_time_holds_the_last_connection(small) -> None:
    world = World(PostgresCommandStore(small))
    await world.store.ensure_queue(DOMAIN)

    @world.registry.handler(DOMAIN, "Forward", transactional=True)
    async def forward(command, ctx):
        await ctx.send(ELSEWHERE, "Take", {})

    sent = (await world.bus.send(DOMAIN, "Forward", uuid4(), {})).command_id
    async with world.working():
        known = await world.settled(sent)

    assert (known.status, known.attempts) == (CommandStatus.COMPLETED, 1)


async def test_a_command_that_finds_no_connection_for_its_handler_spends_no_attempt(dsn, pool) -> None:
    bus, tried = World(PostgresCommandStore(pool)), []
    async with open_pool(dsn, min_size=1, max_size=5, timeout=30.0) as narrow:  # for three handlers at once
        world = World(PostgresCommandStore(narrow))
        await world.store.ensure_queue(DOMAIN)
        entered, go_on = asyncio.Semaphore(0), asyncio.Event()

        @world.registry.handler(DOMAIN, "Stay", transactional=True)
        async def stay(command, ctx):
            entered.release()
            await go_on.wait()

        @world.registry.handler(DOMAIN, "Do", transactional=True)
        async def do(command, ctx):
            tried.append(ctx.attempt)

        stays = [await bus.send("Stay") for _ in range(3)]
        async with world.working(concurrency=4):
            for _ in stays:
                await entered.acquire()
            narrow.timeout = 0.05
            late = await bus.send("Do", max_attempts=1)
            await eventually(lambda: is_given_back(bus, late))
            go_on.set()
            known = await bus.settled(late, *stays, late)

    assert (known.status, known.attempts, tried) == (CommandStatus.COMPLETED, 1, [1])
    assert {(await bus.known(each)).attempts for each in stays} == {1}


@pytest.mark.parametrize("transactional", [False, True])
async def test_a_handler_that_has_begun_and_finds_no_other_connection_spends_an_attempt(
    dsn, pool, transactional
) -> None:
    bus = World(PostgresCommandStore(pool))
    async with open_pool(dsn, min_size=1, max_size=5, timeout=0.05) as narrow:  # for three handlers at once
        world = World(PostgresCommandStore(narrow))
        await world.store.ensure_queue(DOMAIN)

        @world.registry.handler(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            async with AsyncExitStack() as taken:
                for _ in range(4):
                    await taken.enter_async_context(world.store.transaction())

        greedy = await bus.send("Do", max_attempts=1)
        async with world.working(concurrency=1):
            known = await bus.settled(greedy)

    assert (known.status, known.attempts) == (CommandStatus.IN_TROUBLESHOOTING_QUEUE, 1)
    assert known.last_error_code == "PoolExhaustedError"


async def is_given_back(world: World, command_id) -> bool:
    return AuditEventType.GIVEN_BACK in await world.events(command_id)


@pytest.mark.parametrize(("concurrency", "warns"), [(3, False), (4, True)])
async def test_a_worker_that_may_run_more_handlers_than_it_has_connections_says_so(
    dsn, concurrency, warns, caplog
) -> None:
    async with open_pool(dsn, min_size=1, max_size=5) as narrow:
        world = World(PostgresCommandStore(narrow))
        world.registry.register(DOMAIN, "Plain", print)
        async with world.working(concurrency=concurrency):
            pass
        assert caplog.messages == []
        world.registry.register(DOMAIN, "Do", print, transactional=True)
        async with world.working(concurrency=concurrency):
            pass

    said = "the pool has connections for 3 of those that are transactional; the others wait: raise its max_size by 1"
    assert [said in each for each in caplog.messages] == [True] * warns


async def test_a_group_that_holds_its_streams_sends_elsewhere_for_the_first_time(small) -> None:
    """Streams that others append to are held from the beginning, in a transaction on the last connection."""
    world = World(PostgresCommandStore(small))
    await world.store.ensure_queue(DOMAIN)
    world.registry.register_decider(domain=DOMAIN, decider=Purse, stream="purse_id")
    worker, here, held_then = world.worker(event_store=PostgreSQLEventStore(small)), uuid4(), []
    grouping = worker._execution.grouping
    holding = grouping.deciders.holding
    grouping._gathering.contended[grouping.deciders.stream_of(Purse, here)] = float("inf")

    @asynccontextmanager
    async def forgetful(streams):
        async with holding(streams) as held:
            world.store._queues.clear()  # as if nothing had been sent there yet
            held_then.append(list(held.streams))
            yield held

    grouping.deciders.holding = forgetful
    sent = (await world.bus.send(Pay(purse_id=here, amount=5, to=uuid4()))).command_id
    async with world.working(worker):
        known = await world.settled(sent)

    assert (known.status, known.attempts) == (CommandStatus.COMPLETED, 1)
    assert len(held_then[0]) == 1
