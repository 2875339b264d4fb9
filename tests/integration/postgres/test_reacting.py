"""Reactions on PostgreSQL: what only a database can show."""

import asyncio

import pytest

from mainstay import (
    HandlerRegistry,
    PostgreSQLEventStore,
    ReactionContext,
    SubscriptionConfig,
    Worker,
    handles,
)
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.scenarios.postgres import ask, run
from tests.scenarios.reacting import DOMAIN, PATIENCE, Paid, ReactingScenarios, Shipping
from tests.support.waiting import eventually


class Noted(Shipping):
    """Writes a row for each event, too, to a table that can be built anew."""

    name = "shipping"
    tables = ("noted",)

    @handles(Paid)
    async def paid(self, event: Paid, ctx: ReactionContext) -> None:
        await ctx.conn.execute(f"insert into {self.table('noted')} values (%s)", [event.amount])
        await super().paid(event, ctx)


class TestReacting(ReactingScenarios):
    @pytest.fixture
    async def checkpoints(self, pool):
        await run(pool, "create table noted (amount int)")
        return PostgresProjectionStore(pool)

    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def test_rows_commands_and_checkpoint_are_one_commit(self, event_store, checkpoints, pool):
        await self.pay(event_store, 1, 2, 3)
        reaction = Noted()
        reaction.refused = 3
        await self.stops(event_store, checkpoints, reaction)

        assert await ask(pool, "select amount from noted order by 1") == [(1,), (2,)]
        assert [each.data["amount"] for each in await self.sent(checkpoints)] == [1, 2]

    async def test_a_rebuild_sends_nothing_for_what_was_handled_before(self, event_store, checkpoints, pool):
        await self.pay(event_store, 1, 2, 3)
        await self.react(event_store, checkpoints, Noted())
        await run(pool, "update noted set amount = 7 where amount = 2")
        newer = Noted()
        newer.also = True
        manager = await self.react(event_store, checkpoints, newer)
        rebuilt = await manager.rebuild("shipping", actor="ann")
        await self.pay(event_store, 4)
        await manager.start()
        await manager.drain(PATIENCE)

        assert rebuilt.swapped
        assert not rebuilt.is_same
        assert await ask(pool, "select amount from noted order by 1") == [(1,), (2,), (3,), (4,)]
        assert [each.data["amount"] for each in await self.sent(checkpoints)] == [1, 2, 3, 4]
        assert [each.data["amount"] for each in await self.sent(checkpoints, "Also")] == [4]

    async def test_a_worker_that_sleeps_is_woken_behind_the_commit(self, event_store, checkpoints, pool):
        done = asyncio.Event()
        registry = HandlerRegistry()
        registry.register(DOMAIN, "Ship", lambda command, ctx: None)

        @registry.handler(DOMAIN, "Tell")
        async def tell(command, ctx):
            done.set()

        await checkpoints.commands.ensure_queue(DOMAIN)
        worker = Worker(pool, DOMAIN, registry)
        working = asyncio.create_task(worker.run(poll_interval=600))

        async def sleeps():
            return await ask(pool, "select 1 from commandbus.sleeper")

        await eventually(sleeps, timeout=PATIENCE)
        await self.pay(event_store, 1)
        await self.react(event_store, checkpoints, Shipping())
        async with asyncio.timeout(25):  # before the worker looks by itself
            await done.wait()
        await worker.stop()
        await working

    async def test_two_managers_of_one_subscription_send_once_each(self, event_store, checkpoints, pool):
        for stream in range(8):
            await self.pay(event_store, *range(stream * 5, stream * 5 + 5), stream=str(stream))
        config = SubscriptionConfig(poll=0.02, lease=2.0, shards=4, batch_size=3)
        await asyncio.gather(
            self.react(event_store, checkpoints, Shipping(), config),
            self.react(event_store, PostgresProjectionStore(pool), Shipping(), config),
        )

        assert [each.data["amount"] for each in await self.sent(checkpoints)] == list(range(40))
        assert await ask(pool, "select count(*), count(distinct command_id) from commandbus.command") == [(80, 80)]
