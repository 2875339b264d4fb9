"""Processes on PostgreSQL, also where workers are cut off between any two steps."""

from datetime import UTC, datetime, timedelta

from mainstay import ProcessStatus, Step, StepStatus, register_processes
from mainstay.commands.store import CommandFilter
from tests.scenarios.postgres import OnPostgres
from tests.scenarios.processes import Buy, ProcessScenarios, Purchase
from tests.scenarios.stepping import StepScenarios
from tests.scenarios.world import DOMAIN


class Hurried(Buy):
    """Ahead of others, behind those of its article, and not for ever; after an hour that has passed, not at all."""

    process_type = "Hurried"
    domain = "hurrying"

    def start(self, state):
        until = datetime.now(UTC) + timedelta(hours=state.number)
        return Step(DOMAIN, "Reserve", {}, key=state.article, priority=5, expires_at=until)


class TestProcesses(OnPostgres, ProcessScenarios, StepScenarios):
    async def test_a_step_may_say_of_its_command_what_a_send_may(self, world, processes, done):
        register_processes(world.registry, Hurried())
        in_time = await processes.start(Hurried(), Purchase(number=1))
        (sent,) = await world.store.query(CommandFilter(domain=DOMAIN), limit=2, offset=0)
        too_late = await processes.start(Hurried(), Purchase(number=-1, article="vase"))
        async with self.moving(world, DOMAIN, "mail", Hurried.domain):
            await self.ended(processes, in_time)
            expired = await self.ended(processes, too_late)

        assert (sent.key, sent.priority, sent.expires_at > sent.created_at) == ("lamp", 5, True)
        assert expired.status is ProcessStatus.CANCELED
        assert [step.status for step in expired.steps] == [StepStatus.CANCELED]
        assert done[0] == "Reserve"
        assert done.count("Reserve") == 1
