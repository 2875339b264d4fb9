"""What a process reads of its steps when it needs more than the one that was answered: a suite for every store."""

from mainstay import ProcessEventType, ProcessStatus, Step, StepStatus, register_processes
from tests.scenarios.processes import BUYING, Buy, ProcessSuite, Purchase
from tests.scenarios.world import DOMAIN, PATIENCE, World
from tests.support.waiting import eventually

P, S, E = ProcessStatus, StepStatus, ProcessEventType


class StepScenarios(ProcessSuite):
    """Undoing many, and looking back."""

    async def test_of_many_steps_that_were_done_each_is_asked_once_what_undoes_it_the_last_first(
        self, world: World, processes, done
    ) -> None:
        asked: list[str] = []

        class Wide(Buy):
            process_type = "Wide"

            def start(self, state):
                return [Step(DOMAIN, "Reserve", name=f"r{number}") for number in range(50)]

            def on_reply(self, state, reply):
                return None

            def is_done(self, state):
                return False

            def compensate(self, state, done):
                asked.append(done.step)
                return Step(DOMAIN, "Release", done.result) if done.step in {"r3", "r40"} else None

        world.registry.clear()
        for command_type in ("Reserve", "Release"):

            @world.handles(DOMAIN, command_type)
            async def handle(command, ctx):
                return {"number": 1}

        register_processes(world.registry, Wide())
        async with self.moving(world, DOMAIN, BUYING):
            process_id = await processes.start(Wide(), Purchase())
            known = await self.ended(processes, process_id, P.WAITING_FOR_EVENT)
            await processes.cancel(process_id)
            known = await self.ended(processes, process_id)
        names = {step.step_no: step.name for step in known.steps}
        trail = await processes.get_audit_trail(process_id)
        was_done = [names[event.step_no] for event in trail if event.event_type is E.STEP_SUCCEEDED][:50]

        assert known.status is P.CANCELED
        assert asked == was_done[::-1]
        assert [names[step.undoes] for step in known.steps[50:]] == [name for name in asked if name in {"r3", "r40"}]

    async def test_a_step_on_its_way_out_may_look_at_those_before_it(self, world: World, processes, done) -> None:
        seen = []

        class Looking(Buy):
            process_type = "Looking"

            async def before_send(self, state, step, sending):
                earlier = [(each.name, each.status) for each in await sending.steps()]
                seen.append((step.command_type, sending.last_step, sending.process.steps, earlier))

        world.registry.clear()
        for command_type in ("Reserve", "Pay", "Ship"):

            @world.handles(DOMAIN, command_type)
            async def handle(command, ctx):
                return {"number": 1}

        register_processes(world.registry, Looking())
        async with self.moving(world, DOMAIN, BUYING):
            await processes.start(Looking(), Purchase())
            await eventually(lambda: len(seen) == 4, timeout=PATIENCE)

        assert seen == [
            ("Reserve", None, (), []),
            ("Pay", "Reserve", (), [("Reserve", S.SENT)]),
            ("Ship", "Pay", (), [("Reserve", S.SUCCESS), ("Pay", S.SENT)]),
            ("Thank", "Pay", (), [("Reserve", S.SUCCESS), ("Pay", S.SENT)]),
        ]
