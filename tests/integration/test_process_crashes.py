"""A process whose workers lose their connection before or after any statement: no step twice, none lost."""

from collections import Counter

import pytest
from pydantic import BaseModel

from mainstay import BusinessRuleException, Process, ProcessManager, ProcessStatus, Step, register_processes
from mainstay.commands.store import CommandFilter
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.postgres import OnPostgres, ask, beginning, run
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.thorough import every
from tests.support.waiting import eventually

STATEMENTS = {
    "lock": beginning("processes", "lock"),
    "advance": beginning("processes", "advance"),
    "send": beginning("commands", "send"),
    "complete": beginning("commands", "complete"),
    "commit": "commit",
}


class Count(BaseModel):
    """How many steps were done."""

    done: int = 0


class Three(Process[Count]):
    """Two steps forward, a third that is refused, and back again."""

    process_type = "Three"
    domain = "counting"
    state_class = Count

    def start(self, state):
        return self.step("One")

    def on_reply(self, state, reply):
        state.done += 1
        return self.step({"One": "Two", "Two": "Last"}[reply.step])

    def compensate(self, state, done):
        return self.step(f"Undo{done.step}")

    def step(self, name):
        return Step(DOMAIN, name, max_attempts=20)


class TestCrashes(OnPostgres, WorldSuite):
    @pytest.fixture
    async def proxy(self, dsn):
        with Proxy(dsn) as proxy:
            yield proxy

    @pytest.fixture
    async def store(self, proxy):
        async with open_pool(proxy.dsn) as pool:
            await run(pool, "create table effect (what text)")
            yield PostgresCommandStore(pool)

    @pytest.mark.parametrize("statement", every(2, STATEMENTS))
    async def test_a_process_survives_a_lost_connection_before_and_after_any_statement(
        self, world: World, proxy: Proxy, statement
    ) -> None:
        for name in ("One", "Two", "Last", "UndoOne", "UndoTwo"):

            @world.handles(DOMAIN, name, transactional=True)
            async def step(command, ctx):
                if command.command_type == "Last":
                    raise BusinessRuleException("NO", "no")
                await ctx.conn.execute("insert into effect values (%s)", [command.command_type])

        register_processes(world.registry, Three())
        processes = ProcessManager(world.store)
        process_id = await processes.start(Three(), Count())
        cuts = [order(STATEMENTS[statement], times=3) for order in (proxy.cut_before, proxy.cut_after)]
        async with world.working(), world.working(domain="counting"):

            async def look():
                known = await processes.get(process_id)
                return known if known.completed_at is not None else None

            known = await eventually(look, timeout=PATIENCE)

        assert all(cut.happened.is_set() for cut in cuts)
        assert (known.status, known.state) == (ProcessStatus.COMPENSATED, {"done": 2})
        commands = await world.store.query(CommandFilter(), limit=100, offset=0)
        sent = Counter(each.command_type for each in commands)
        assert sent == {"One": 1, "Two": 1, "Last": 1, "UndoOne": 1, "UndoTwo": 1, "Reply": 5}
        effects = Counter(row[0] for row in await ask(world.store.pool, "select what from effect"))
        assert effects == {"One": 1, "Two": 1, "UndoOne": 1, "UndoTwo": 1}
