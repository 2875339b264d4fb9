"""Shadow runs on PostgreSQL: nothing is written, what was pruned is told of, hot streams are read once."""

from datetime import timedelta
from uuid import UUID

import pytest

from mainstay import Command, HandlerContext, HandlerRegistry, PostgreSQLEventStore, Rehearsal
from mainstay.storage.postgres.retention import Retention, prune
from tests.scenarios.aggregates import Account, Basket, Deposit
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.shadows import ShadowScenarios
from tests.scenarios.world import DOMAIN
from tests.support.dumps import dump


class TestOnPostgres(OnPostgres, ShadowScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def test_nothing_is_written_not_even_by_handlers(self, world, event_store, pool, shadow):
        await run(pool, "create table written (n int)")
        registry = world.registry

        @registry.handler(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            if command.data["writes"]:
                await context.conn.execute("insert into written values (1)")
            await (await context.conn.execute("select count(*) from written")).fetchone()

        for writes in (True, False):
            command_id = await world.send("Fill", {"basket_id": "b", "writes": writes})
            async with world.working(event_store=event_store):
                await world.settled(command_id)
        before = await dump(pool)
        report = await shadow()

        assert (report.equal, report.not_comparable) == (1, {"its handler writes in its transaction": 1})
        assert await dump(pool) == before
        assert await ask(pool, "select count(*) from written") == [(1,)]

    async def test_what_was_pruned_is_told_of(self, world, shadow, pool, history):
        await prune(pool, Retention(timedelta(0), audit=timedelta(days=1)))
        report = await shadow()

        assert (report.equal, report.not_comparable) == (0, {"its payload was pruned": 5})

    async def test_the_events_of_a_stream_are_not_read_from_the_beginning_each_time(self, world, event_store, pool):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        ids = [(await world.bus.send(Deposit(account_id=UUID(int=1), amount=1))).command_id for _ in range(40)]
        async with world.working(event_store=event_store):
            await world.settled(*ids)
        store = PostgreSQLEventStore(pool)
        read, load = [], store.load_stream

        async def counted(*args, **options):
            found = await load(*args, **options)
            read.append(len(found.events))
            return found

        store.load_stream = counted
        registry = HandlerRegistry()
        registry.register_decider(domain=DOMAIN, decider=Account)
        report = await Rehearsal(pool, registry, event_store=store).shadow()

        assert report.equal == 40
        assert sum(read) < 40 * 8
