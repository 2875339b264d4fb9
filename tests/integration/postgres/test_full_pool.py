"""With a pool of one connection, whoever needs another queue while he holds it waits for nobody."""

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from mainstay import CommandStatus, PostgreSQLEventStore
from mainstay.errors import PoolExhaustedError
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import autocommit
from tests.scenarios.world import DOMAIN, World
from tests.support.purses import Pay, Purse
from tests.support.servers import open_pool

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
