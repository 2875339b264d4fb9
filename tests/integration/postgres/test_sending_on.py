"""What a handler sends, what it writes and its completion are one COMMIT: also if the connection is lost around it."""

from collections import Counter

import pytest

from mainstay import CommandStatus
from mainstay.commands.store import CommandFilter
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.postgres import OnPostgres, ask, beginning, run
from tests.scenarios.sending_on import SendingOnScenarios
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.waiting import eventually

S = CommandStatus


class TestSendingOn(OnPostgres, SendingOnScenarios):
    pass


class TestOneCommit(OnPostgres, WorldSuite):
    """Killed before the COMMIT: nothing happened. Cut off after it: everything did, once."""

    @pytest.fixture
    async def proxy(self, dsn):
        with Proxy(dsn) as proxy:
            yield proxy

    @pytest.fixture
    async def store(self, proxy):
        async with open_pool(proxy.dsn) as pool:
            await run(pool, "create table effect (command_id uuid)")
            yield PostgresCommandStore(pool)

    async def _sent(self, world: World) -> Counter[str]:
        """How often each type of command is there."""
        found = await world.store.query(CommandFilter(), limit=100, offset=0)
        return Counter(one.command_type for one in found)

    @pytest.mark.parametrize("order", ["cut_before", "cut_after"])
    @pytest.mark.parametrize("transactional", [True, False], ids=["transactional", "plain"])
    async def test_a_connection_cut_around_the_commit_neither_loses_nor_doubles(
        self, world: World, proxy: Proxy, order: str, transactional
    ) -> None:
        attempts = []
        flush = beginning("commands", "complete_and_send")

        @world.handles(DOMAIN, "Do", transactional=transactional)
        async def do(command, ctx):
            attempts.append(ctx.attempt)
            await ctx.send("invoices", "Invoice")
            await ctx.send(DOMAIN, "Next", name="next")
            if transactional:
                await ctx.conn.execute("insert into effect values (%s)", [command.command_id])

        world.handles(DOMAIN, "Next")(lambda command, ctx: None)
        await self.create_queue(world.store, "invoices__commands")
        cut = getattr(proxy, order)("commit" if transactional else flush)
        async with world.working():
            command_id = await world.send(reply_to="order_replies")
            done = await world.settled(command_id)
            await eventually(cut.happened.is_set, timeout=PATIENCE)

        assert done.status is S.COMPLETED
        assert attempts == ([1, 2] if transactional and order == "cut_before" else [1])
        assert await self._sent(world) == {"Do": 1, "Invoice": 1, "Next": 1}
        assert len(await self.replies(world.store, "order_replies")) == 1
        assert await ask(world.store.pool, "select count(*) from effect") == [(int(transactional),)]

    async def test_a_backend_killed_before_the_commit_leaves_nothing(self, world: World, pool) -> None:
        seen = []

        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command, ctx):
            await ctx.send(DOMAIN, "Next")
            await ctx.conn.execute("insert into effect values (%s)", [command.command_id])
            if ctx.attempt == 1:
                await run(pool, "select pg_terminate_backend(%s)", ctx.conn.info.backend_pid)
            else:
                seen.append(await ask(pool, "select count(*) from effect"))
                seen.append(await self._sent(world))

        world.handles(DOMAIN, "Next")(lambda command, ctx: None)
        async with world.working():
            done = await world.settled(await world.send())

        assert (done.status, done.attempts) == (S.COMPLETED, 2)
        assert seen == [[(0,)], {"Do": 1}]
        assert await self._sent(world) == {"Do": 1, "Next": 1}
        assert await ask(world.store.pool, "select count(*) from effect") == [(1,)]
