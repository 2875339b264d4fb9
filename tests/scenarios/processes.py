"""Processes, moved by workers: a suite for every store."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from mainstay import (
    BusinessRuleException,
    CommandModel,
    CommandStatus,
    ConfigurationError,
    DuplicateProcessError,
    HandlerRegistry,
    InvalidInputError,
    InvalidOperationError,
    PermanentCommandError,
    Process,
    ProcessEventType,
    ProcessManager,
    ProcessNotFoundError,
    ProcessStatus,
    Step,
    StepStatus,
    register_processes,
)
from mainstay.commands.store import CommandFilter
from tests.scenarios.world import DOMAIN, PATIENCE, World, WorldSuite
from tests.support.waiting import eventually

P, S, E = ProcessStatus, StepStatus, ProcessEventType
BUYING = "buying"
PLAIN = {"article": "lamp"}


class Purchase(BaseModel):
    """What a purchase knows."""

    article: str = "lamp"
    number: int | None = None
    paid: bool = False


class Buy(Process[Purchase]):
    """Reserve, pay, ship; a purchase that fails gives the money and the article back."""

    process_type = "Buy"
    domain = BUYING
    state_class = Purchase

    def start(self, state):
        return Step(DOMAIN, "Reserve", {"article": state.article})

    async def on_reply(self, state, reply):
        match reply.step:
            case "Reserve":
                state.number = reply.result["number"]
                return Step(DOMAIN, "Pay", {"number": state.number})
            case "Pay":
                state.paid = True
                return [Step(DOMAIN, "Ship", {"number": state.number}), Step("mail", "Thank", {}, name="thanks")]
            case _:
                return None

    def compensate(self, state, done):
        undoing = {"Reserve": "Release", "Pay": "Refund"}.get(done.step)
        return Step(DOMAIN, undoing, {"number": done.result["number"]}) if undoing else None


class Patient(Buy):
    """The same with deadlines."""

    process_type = "Patient"
    deadline = 3600

    def start(self, state):
        return Step(DOMAIN, "Reserve", {"article": state.article}, deadline=1800)


class ProcessSuite(WorldSuite):
    """What suites of processes need: handlers of the steps, and workers."""

    @pytest.fixture
    def done(self, world: World) -> list[str]:
        """What the steps did, in order; a handler fails where ``world.refused`` says so."""
        done: list[str] = []
        world.refused = set()
        for command_type in ("Reserve", "Pay", "Ship", "Release", "Refund"):

            @world.handles(DOMAIN, command_type)
            async def handle(command, ctx):
                if command.command_type in world.refused:
                    raise BusinessRuleException("NO", "no, thank you")
                done.append(command.command_type)
                return {"number": 7}

        @world.handles("mail", "Thank")
        async def thank(command, ctx):
            done.append("Thank")

        register_processes(world.registry, Buy(), Patient())
        return done

    @pytest.fixture
    def processes(self, world: World) -> ProcessManager:
        return ProcessManager(world.store)

    @asynccontextmanager
    async def moving(self, world: World, *domains: str) -> AsyncIterator[None]:
        """Workers for everything, or for these domains."""
        async with AsyncExitStack() as stack:
            for domain in domains or (DOMAIN, "mail", BUYING):
                await stack.enter_async_context(world.working(domain=domain))
            yield

    async def ended(self, processes: ProcessManager, process_id: UUID, *statuses: ProcessStatus):
        async def look():
            known = await processes.get(process_id)
            return known if known.status in (statuses or (P.COMPLETED, P.COMPENSATED, P.CANCELED, P.FAILED)) else None

        return await eventually(look, timeout=PATIENCE, what="the process has ended")

    async def commands(self, world: World) -> Counter[str]:
        found = await world.store.query(CommandFilter(), limit=1000, offset=0)
        return Counter(one.command_type for one in found)


class ProcessScenarios(ProcessSuite):
    """Forward, back, twice, late, and in numbers."""

    async def make_due(self, store: Any) -> None:
        """Let every deferred command be due."""
        raise NotImplementedError

    # -- forward ------------------------------------------------------------------------------------------------------
    async def test_a_process_goes_from_step_to_step_to_its_end(self, world: World, processes, done) -> None:
        async with self.moving(world):
            process_id = await processes.start(Buy(), Purchase())
            known = await self.ended(processes, process_id)

        assert known.status is P.COMPLETED
        assert known.state == {"article": "lamp", "number": 7, "paid": True}
        assert done[:2] == ["Reserve", "Pay"]
        assert sorted(done[2:]) == ["Ship", "Thank"]
        assert [(step.name, step.status) for step in known.steps] == [
            ("Reserve", S.SUCCESS),
            ("Pay", S.SUCCESS),
            ("Ship", S.SUCCESS),
            ("thanks", S.SUCCESS),
        ]
        assert all(step.replied_at >= step.sent_at for step in known.steps)
        assert known.completed_at is not None
        trail = [(event.event_type, event.step_no) for event in await processes.get_audit_trail(process_id)]
        assert trail[:5] == [
            (E.STARTED, None),
            (E.STEP_SENT, 1),
            (E.STEP_SUCCEEDED, 1),
            (E.STEP_SENT, 2),
            (E.STEP_SUCCEEDED, 2),
        ]
        assert trail[-1] == (E.COMPLETED, None)

    async def test_the_steps_of_a_process_belong_to_one_correlation(self, world: World, processes, done) -> None:
        correlation = uuid4()
        async with self.moving(world):
            process_id = await processes.start(Buy(), Purchase(), correlation_id=correlation)
            known = await self.ended(processes, process_id)
        step = await world.known(known.steps[1].command_id)

        assert step.correlation_id == known.correlation_id == correlation

    async def test_a_process_that_is_started_in_a_transaction_that_rolls_back_never_was(
        self, world: World, processes, done
    ) -> None:
        process_id = uuid4()
        with suppress(KeyError):
            async with world.store.transaction() as conn:
                await processes.start(Buy(), Purchase(), process_id=process_id, conn=conn)
                raise KeyError

        assert await processes.get(process_id) is None
        assert await self.commands(world) == {}

    async def test_a_process_that_is_started_in_a_transaction_is_announced_after_its_commit(
        self, world: World, processes, done
    ) -> None:
        woken = []

        async def wake(domains):
            woken.append(sorted(domains))

        world.store.wake = wake
        async with world.store.transaction() as conn:
            for _ in range(2):
                await processes.start(Buy(), Purchase(), conn=conn)
        assert woken == []

        await processes.wake()
        await processes.wake()

        assert woken == [[DOMAIN, DOMAIN]]

    async def test_an_id_starts_one_process(self, world: World, processes, done) -> None:
        process_id = await processes.start(Buy(), Purchase())
        with pytest.raises(DuplicateProcessError):
            await processes.start(Buy(), Purchase(article="table"), process_id=process_id)

        assert (await processes.get(process_id)).state["article"] == "lamp"
        assert await self.commands(world) == {"Reserve": 1}

    async def test_a_step_may_be_a_typed_command(self, world: World, processes, done) -> None:
        class Lend(CommandModel, domain=DOMAIN, type="Reserve", version=2):
            article: str

        class Typed(Buy):
            process_type = "Typed"

            def start(self, state):
                return Step.of(Lend(article=state.article), name="Reserve", headers={"a": 1})

        process_id = await processes.start(Typed(), Purchase())
        (step,) = (await processes.get(process_id)).steps
        command = await world.known(step.command_id)

        assert (step.name, step.domain, step.command_type, step.data) == ("Reserve", DOMAIN, "Reserve", PLAIN)
        assert command.headers == {"a": 1, "command_version": 2, "process_id": str(process_id)}
        with pytest.raises(InvalidInputError, match="CommandModel"):
            Step.of(Purchase())

    async def test_whoever_waits_for_a_process_gets_it_when_it_has_ended(self, world: World, processes, done) -> None:
        process_id = await processes.start(Buy(), Purchase())
        with pytest.raises(TimeoutError, match="it is WAITING_FOR_REPLY; Reserve is PENDING"):
            await processes.wait_for(process_id, timeout=0)
        with pytest.raises(ProcessNotFoundError):
            await processes.wait_for(uuid4(), timeout=0)

        waiting = asyncio.create_task(processes.wait_for(process_id, timeout=PATIENCE))
        async with self.moving(world):
            known = await waiting

        assert (known.status, known.has_ended) == (P.COMPLETED, True)
        assert [step.name for step in known.steps] == ["Reserve", "Pay", "Ship", "thanks"]
        assert await processes.wait_for(process_id, timeout=0) == known

    # -- back ---------------------------------------------------------------------------------------------------------
    async def test_what_was_done_is_undone_last_first_and_only_then_has_the_process_ended(
        self, world: World, processes, done
    ) -> None:
        world.refused.add("Ship")
        async with self.moving(world):
            process_id = await processes.start(Buy(), Purchase())

            async def look():
                known = await processes.get(process_id)
                if known.status is P.COMPENSATED:
                    assert done[-2:] == ["Refund", "Release"]
                return known if known.status is P.COMPENSATED else None

            known = await eventually(look, timeout=PATIENCE)

        assert [name for name in done if name != "Thank"] == ["Reserve", "Pay", "Refund", "Release"]
        assert (known.error_code, known.error_message) == ("NO", "no, thank you")
        assert [(step.name, step.undoes) for step in known.steps if step.undoes] == [("Refund", 2), ("Release", 1)]
        trail = [event.event_type for event in await processes.get_audit_trail(process_id)]
        assert trail.index(E.COMPENSATING) < trail.index(E.COMPENSATED) == len(trail) - 1

    async def test_a_step_whose_command_waits_for_an_operator_holds_its_process_up(
        self, world: World, processes, done
    ) -> None:
        @world.handles(DOMAIN, "Broken")
        async def broken(command, ctx):
            raise PermanentCommandError("BROKEN", "broken")

        class Fragile(Buy):
            process_type = "Fragile"

            def start(self, state):
                return [Step(DOMAIN, "Broken")]

            def on_reply(self, state, reply):
                state.number = reply.result["number"]

        world.registry.clear()
        world.handles(DOMAIN, "Broken")(broken)
        register_processes(world.registry, Fragile())
        async with self.moving(world, DOMAIN, BUYING):
            process_id = await processes.start(Fragile(), Purchase())
            step = (await processes.get(process_id)).steps[0]
            await world.settled(step.command_id)

            assert (await processes.get(process_id)).status is P.WAITING_FOR_REPLY

            await world.tsq.operator_complete(DOMAIN, step.command_id, {"number": 9})
            known = await self.ended(processes, process_id)

        assert (known.status, known.state["number"]) == (P.COMPLETED, 9)

    async def test_a_process_whose_undoing_fails_is_failed_and_says_why(self, world: World, processes, done) -> None:
        world.refused |= {"Pay", "Release"}
        async with self.moving(world):
            known = await self.ended(processes, await processes.start(Buy(), Purchase()))

        assert (known.status, known.error_code) == (P.FAILED, "COMPENSATION_FAILED")
        assert "Release" in known.error_message

    async def test_an_operator_cancels_a_process_and_what_was_done_is_undone(
        self, world: World, processes, done
    ) -> None:
        async with self.moving(world, BUYING):
            process_id = await processes.start(Buy(), Purchase())
            await processes.cancel(process_id, reason="changed their mind")
            known = await self.ended(processes, process_id, P.COMPENSATING)
            with pytest.raises(InvalidOperationError, match="COMPENSATING"):
                await processes.cancel(process_id)

            assert done == []
            async with self.moving(world, DOMAIN):  # the step under way is waited for
                known = await self.ended(processes, process_id)

        assert known.status is P.CANCELED
        assert (known.error_code, known.error_message) == ("CANCELED", "changed their mind")
        assert done == ["Reserve", "Release"]
        with pytest.raises(ProcessNotFoundError):
            await processes.cancel(uuid4())

    async def test_a_canceled_step_undoes_its_process(self, world: World, processes, done) -> None:
        async with self.moving(world, BUYING):
            process_id = await processes.start(Buy(), Purchase())
            await world.bus.cancel(DOMAIN, (await processes.get(process_id)).steps[0].command_id)
            known = await self.ended(processes, process_id)

        assert (known.status, known.steps[0].status) == (P.CANCELED, S.CANCELED)

    async def test_a_process_may_go_another_way_when_a_step_fails(self, world: World, processes, done) -> None:
        class Stubborn(Buy):
            process_type = "Stubborn"

            def on_failure(self, state, reply):
                return Step(DOMAIN, "Reserve", {}, name="again") if reply.step == "Pay" else None

            def on_reply(self, state, reply):
                return super().on_reply(state, reply) if reply.step != "again" else None

        world.refused.add("Pay")
        world.registry.clear()
        for command_type in ("Reserve", "Pay"):

            @world.handles(DOMAIN, command_type)
            async def handle(command, ctx):
                if command.command_type in world.refused:
                    raise BusinessRuleException("NO", "no")
                return {"number": 1}

        register_processes(world.registry, Stubborn())
        async with self.moving(world, DOMAIN, BUYING):
            known = await self.ended(processes, await processes.start(Stubborn(), Purchase()))

        assert known.status is P.COMPLETED
        assert [(step.name, step.status) for step in known.steps] == [
            ("Reserve", S.SUCCESS),
            ("Pay", S.FAILED),
            ("again", S.SUCCESS),
        ]

    # -- twice --------------------------------------------------------------------------------------------------------
    async def test_a_reply_that_comes_twice_changes_nothing(self, world: World, processes, done) -> None:
        async with self.moving(world):
            process_id = await processes.start(Buy(), Purchase())
            known = await self.ended(processes, process_id)
            commands = await self.commands(world)
            first = known.steps[0]
            again = {
                "command_id": str(first.command_id),
                "correlation_id": str(process_id),
                "outcome": "SUCCESS",
                "data": {"number": 99},
            }
            reply = await world.send("Reply", again, domain=BUYING)
            await world.settled(reply, domain=BUYING)
            after = await processes.get(process_id)

        assert (after.status, after.state, after.steps) == (known.status, known.state, known.steps)
        assert await self.commands(world) == commands + Counter({"Reply": 1})
        assert (await processes.get_audit_trail(process_id))[-1].event_type is E.REPLY_IGNORED

    async def test_a_reply_to_nobody_is_not_lost(self, world: World, processes, done) -> None:
        told = {"command_id": str(uuid4()), "correlation_id": str(uuid4()), "outcome": "SUCCESS", "data": None}
        async with self.moving(world, BUYING):
            reply = await world.settled(await world.send("Reply", told, domain=BUYING), domain=BUYING)

        assert (reply.status, reply.last_error_code) == (CommandStatus.IN_TROUBLESHOOTING_QUEUE, "UNKNOWN_PROCESS")

    async def test_a_process_whose_code_fails_moves_on_when_an_operator_retries(
        self, world: World, processes, done
    ) -> None:
        broken = [True]

        class Buggy(Buy):
            process_type = "Buggy"

            def on_reply(self, state, reply):
                if broken:
                    raise PermanentCommandError("BUG", "a bug")
                state.number = reply.result["number"]

        world.registry.clear()

        @world.handles(DOMAIN, "Reserve")
        async def reserve(command, ctx):
            return {"number": 3}

        register_processes(world.registry, Buggy())
        async with self.moving(world, DOMAIN, BUYING):
            process_id = await processes.start(Buggy(), Purchase())
            (item,) = await eventually(lambda: world.tsq.list_troubleshooting(BUYING), timeout=PATIENCE)
            assert (await processes.get(process_id)).steps[0].status is S.SENT
            broken.clear()
            await world.tsq.operator_retry(BUYING, item.command_id)
            known = await self.ended(processes, process_id)

        assert (known.status, known.state["number"]) == (P.COMPLETED, 3)

    # -- late ---------------------------------------------------------------------------------------------------------
    async def test_a_step_that_is_late_undoes_its_process_and_is_undone_when_it_comes_after_all(
        self, world: World, processes, done
    ) -> None:
        async with self.moving(world, BUYING):
            process_id = await processes.start(Patient(), Purchase())
            of_it = await world.store.query(CommandFilter(), limit=10, offset=0)
            assert [each.headers["process_id"] for each in of_it] == 3 * [str(process_id)]  # a step and two deadlines
            await self.make_due(world.store)
            known = await self.ended(processes, process_id)

            assert (known.status, known.error_code) == (P.COMPENSATED, "DEADLINE")
            assert known.steps[0].status is S.TIMED_OUT
            async with self.moving(world, DOMAIN):
                await eventually(lambda: done == ["Reserve", "Release"], timeout=PATIENCE)
                known = await self.ended(processes, process_id)

        assert known.status is P.COMPENSATED
        assert [step.status for step in known.steps] == [S.SUCCESS, S.SUCCESS]

    async def test_a_deadline_that_comes_when_all_is_done_changes_nothing(self, world: World, processes, done) -> None:
        async with self.moving(world):
            process_id = await processes.start(Patient(), Purchase())
            known = await self.ended(processes, process_id)
            await self.make_due(world.store)
            deadlines = await world.bus.query_commands(domain=BUYING, command_type="ProcessDeadline")
            await world.settled(*(each.command_id for each in deadlines), domain=BUYING)
            after = await processes.get(process_id)

        assert len(deadlines) == 2
        assert (after.status, after.steps) == (P.COMPLETED, known.steps)

    # -- in numbers ---------------------------------------------------------------------------------------------------
    async def test_a_batch_of_processes_is_started_once_and_counted(self, world: World, processes, done) -> None:
        batch_id = uuid4()
        states = [Purchase(article=f"lamp {n}") for n in range(25)]
        async with self.moving(world):
            for _ in range(2):
                await processes.start_batch(Buy(), states, batch_id=batch_id, chunk_size=10)

            async def look():
                batch = await processes.batch(batch_id)
                return batch if batch.is_complete else None

            batch = await eventually(look, timeout=PATIENCE)

        assert batch.by_status == {P.COMPLETED: 25}
        assert batch.total == 25
        assert Counter(done) == dict.fromkeys(["Reserve", "Pay", "Ship", "Thank"], 25)
        found = await processes.query(batch_id=batch_id, status=P.COMPLETED, process_type="Buy", limit=10, offset=20)
        assert len(found) == 5
        assert await processes.query(domain="elsewhere") == []

    # -- mistakes -----------------------------------------------------------------------------------------------------
    async def test_mistakes_are_told_when_they_are_made(self, world: World, processes, done) -> None:
        class Nameless(Buy):
            process_type = None

        class Confused(Buy):
            def start(self, state):
                return "Reserve"

        for wrong in (Nameless(), Confused(), Buy, object()):
            with pytest.raises(ConfigurationError):
                await processes.start(wrong, Purchase())
        with pytest.raises(InvalidInputError):
            await processes.start(Buy(), {"article": "lamp"})
        with pytest.raises(InvalidInputError):
            await processes.start(Buy(), Purchase(), process_id="x")
        with pytest.raises(ConfigurationError):
            register_processes(HandlerRegistry(), Buy(), Buy())

        assert await self.commands(world) == {}
