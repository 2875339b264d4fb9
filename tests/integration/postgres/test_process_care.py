"""Processes in the hands of operators: what fsck finds and mends of them, and what pruning takes and leaves."""

from datetime import timedelta
from uuid import uuid4

import pytest

from mainstay import DuplicateProcessError, ProcessManager, ProcessStatus, StepStatus
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.retention import Retention, prune
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.processes import BUYING, Buy, Patient, ProcessSuite, Purchase
from tests.scenarios.world import DOMAIN, World
from tests.support.waiting import eventually

NOW = Retention(timedelta(0))
FORGET = Retention(timedelta(0), forget=True)
UNDER_WAY = "a step under way has a command or a reply on its way"
AS_LONG = "a process is under way as long as one of its steps"
COUNTED = "a process knows how many of its steps are under way"
IN_TURN = "what was done in a process is undone in turn, each step once"
NUMBERED = "steps belong to a process, are numbered from one and undo an earlier one"
TOLD = "the audit trail of a process tells each step and ends at its status"


class OnProcesses(OnPostgres, ProcessSuite):
    @pytest.fixture
    def operator(self, store):
        return Operator(store.pool)

    async def found(self, operator):
        return sorted({finding.invariant for finding in (await operator.fsck()).findings})

    async def replied(self, world, process_id, processes):
        """Let the first step be done, and its reply lie there."""
        async with self.moving(world, DOMAIN):
            known = await processes.get(process_id)
            await world.settled(known.steps[0].command_id)
        return known.steps[0]


class TestFaults(OnProcesses):
    async def test_a_reply_that_was_lost_is_sent_again_and_the_process_goes_on(
        self, world, processes, operator, done
    ) -> None:
        process_id = await processes.start(Buy(), Purchase())
        await self.replied(world, process_id, processes)
        pool = world.store.pool
        await run(pool, f"delete from pgmq.q_{BUYING}__commands")
        await run(pool, "delete from commandbus.audit where subject_no in "
                        "(select subject_no from commandbus.command where command_type = 'Reply')")  # fmt: skip
        await run(pool, "delete from commandbus.command where command_type = 'Reply'")

        assert await self.found(operator) == [UNDER_WAY]
        (tried,) = await operator.repair(dry_run=True)
        assert tried.did
        assert await self.found(operator) == [UNDER_WAY]
        (mended,) = await operator.repair(operator="Ada")
        assert mended.did
        assert await operator.repair() == []
        async with self.moving(world):
            known = await self.ended(processes, process_id)

        assert (known.status, known.state["number"]) == (ProcessStatus.COMPLETED, 7)

    async def test_a_reply_that_an_operator_canceled_is_sent_once_more_and_not_for_ever(
        self, world, processes, operator, done
    ) -> None:
        process_id = await processes.start(Buy(), Purchase())
        await self.replied(world, process_id, processes)
        for _ in range(2):
            (reply,) = await world.bus.query_commands(command_type="Reply", status="PENDING")
            await world.bus.cancel(BUYING, reply.command_id)
            assert await self.found(operator) == [UNDER_WAY]
            (left,) = await operator.repair()

        assert left.did is None
        assert '"outcome": "CANCELED"' in left.left
        step = (await processes.get(process_id)).steps[0]
        await world.send("Reply", {"command_id": str(step.command_id), "outcome": "CANCELED"}, domain=BUYING)
        async with self.moving(world, BUYING):
            known = await self.ended(processes, process_id)

        assert known.status is ProcessStatus.CANCELED

    async def test_a_repair_beside_a_worker_that_takes_the_reply_changes_nothing(
        self, world, processes, operator, done
    ) -> None:
        """A finding of an older look, asked for while the reply is on its way, being taken and taken."""
        process_id = await processes.start(Buy(), Purchase())
        await self.replied(world, process_id, processes)
        asked = f"select commandbus.repair_step('{process_id}', 1)"

        assert await ask(world.store.pool, asked) == [(None,)]
        async with self.moving(world):
            await self.ended(processes, process_id)
            assert await ask(world.store.pool, asked) == [(None,)]

    @pytest.mark.parametrize(
        "fault",
        [
            ("update commandbus.process set status = 'COMPLETED', completed_at = now()", [AS_LONG, TOLD]),
            ("update commandbus.process set completed_at = now()", [AS_LONG]),
            ("delete from commandbus.process_step", [AS_LONG, COUNTED, TOLD]),
            ("update commandbus.process set open_steps = 0", [COUNTED]),
            ("update commandbus.process set last_done = 1", [IN_TURN]),
            ("update commandbus.process_step set step_no = 3", [NUMBERED]),
            ("update commandbus.process_step set undoes = 1", [NUMBERED]),
            ("delete from commandbus.process", [TOLD, NUMBERED]),
            ("delete from commandbus.process_audit where event_type = 'STARTED'", [TOLD]),
            ("delete from commandbus.process_audit", [TOLD]),
            ("update commandbus.process_step set command_id = gen_random_uuid()", [UNDER_WAY]),
        ],
    )
    async def test_what_nobody_can_make_up_is_found_and_left_with_what_to_do(
        self, world, processes, operator, done, fault
    ) -> None:
        statement, expected = fault
        await processes.start(Buy(), Purchase())
        pool = world.store.pool
        assert await self.found(operator) == []

        async with pool.connection() as conn, conn.transaction():
            await conn.execute("create schema kept")
            for table in ("process", "process_step", "process_audit"):
                await conn.execute(f"create table kept.{table} as table commandbus.{table}")
        await run(pool, statement)
        assert await self.found(operator) == sorted(expected)
        assert all(each.did is None and each.left for each in await operator.repair())
        for table in ("process", "process_step", "process_audit"):  # for the check after the test
            await run(pool, f"delete from commandbus.{table}")
            columns = "overriding system value" if table == "process_audit" else ""
            await run(pool, f"insert into commandbus.{table} {columns} table kept.{table}")

    @pytest.mark.parametrize(
        "fault",
        [
            "update commandbus.process set last_done = 0",
            "update commandbus.process_step set done_after = null where step_no = 2",
            "update commandbus.process_step set done_after = 0 where step_no = 2",
            "update commandbus.process_step set done_after = 3 where step_no = 1",
        ],
    )
    async def test_a_step_that_would_not_be_undone_in_its_turn_is_found(
        self, world, processes, operator, done, fault
    ) -> None:
        async with self.moving(world, DOMAIN, BUYING):
            process_id = await processes.start(Buy(), Purchase())

            async def waits_for_the_mail():
                return [step.status for step in (await processes.get(process_id)).steps] == [*3 * ["SUCCESS"], "SENT"]

            await eventually(waits_for_the_mail, timeout=60)
        pool = world.store.pool
        before = await self.found(operator)
        await run(pool, fault)
        found = await self.found(operator)
        await run(pool, "update commandbus.process_step set done_after = step_no - 1 where step_no < 4")
        await run(pool, "update commandbus.process set last_done = 3")

        assert before == []

        assert found == [IN_TURN]


class TestPruning(OnProcesses):
    @pytest.fixture
    async def world(self, store):
        world = World(store)
        await store.ensure_queue(DOMAIN)
        yield world
        await world.bus.close()
        assert (await store.fsck()).findings == ()  # it knows that trails were pruned

    async def test_a_pruned_process_keeps_how_it_ended_and_its_id_is_still_refused(
        self, world, processes, operator, done
    ) -> None:
        async with self.moving(world):
            ended = await processes.start_batch(Buy(), [Purchase()] * 5)
            await eventually(self.all_ended(processes, ended), timeout=60)
        waiting = await processes.start(Buy(), Purchase())

        pruned = await prune(world.store.pool, NOW, chunk=2)
        again = await prune(world.store.pool, NOW, chunk=2)

        assert (pruned.processes, again.processes, again.audit) == (5, 0, 0)
        (one, *_) = await processes.query(batch_id=ended)
        slim = await processes.get(one.process_id)
        assert (slim.status, slim.state) == (ProcessStatus.COMPLETED, {})
        assert slim.pruned_at is not None
        assert [(step.name, step.status, step.data, step.result) for step in slim.steps[:2]] == [
            ("Reserve", StepStatus.SUCCESS, {}, None),
            ("Pay", StepStatus.SUCCESS, {}, None),
        ]
        assert await processes.get_audit_trail(one.process_id) == []
        with pytest.raises(DuplicateProcessError):
            await processes.start(Buy(), Purchase(), process_id=one.process_id)
        assert (await processes.get(waiting)).state["article"] == "lamp"
        assert len(await processes.get_audit_trail(waiting)) == 2
        assert await self.found(operator) == []

    def all_ended(self, processes: ProcessManager, batch_id):
        async def look():
            return (await processes.batch(batch_id)).is_complete

        return look

    async def test_what_ended_lately_stays_whole_and_audit_may_outlive_state(
        self, world, processes, operator, done
    ) -> None:
        async with self.moving(world):
            process_id = await processes.start(Buy(), Purchase())
            await self.ended(processes, process_id)

        assert (await prune(world.store.pool, Retention(timedelta(hours=1)))).processes == 0
        assert (await processes.get(process_id)).state["number"] == 7
        assert (await prune(world.store.pool, Retention(timedelta(0), audit=timedelta(days=1)))).processes == 1
        assert len(await processes.get_audit_trail(process_id)) > 5
        assert await self.found(operator) == []

    async def test_forgetting_takes_the_steps_and_leaves_the_process(self, world, processes, operator, done) -> None:
        async with self.moving(world):
            process_id = await processes.start(Buy(), Purchase())
            await self.ended(processes, process_id)
        commands = len(await world.bus.query_commands())

        forgotten = (await prune(world.store.pool, FORGET)).forgotten

        assert forgotten == commands + 4
        assert (await processes.get(process_id)).steps == ()
        with pytest.raises(DuplicateProcessError):
            await processes.start(Buy(), Purchase(), process_id=process_id)
        assert await self.found(operator) == []

    async def test_the_steps_of_a_process_under_way_are_not_forgotten(self, world, processes, operator, done) -> None:
        process_id = await processes.start(Buy(), Purchase())
        step = await self.replied(world, process_id, processes)

        await prune(world.store.pool, FORGET)

        assert await world.known(step.command_id)
        assert await self.found(operator) == []
        async with self.moving(world):
            assert (await self.ended(processes, process_id)).status is ProcessStatus.COMPLETED

    async def test_a_process_with_a_step_that_may_still_be_done_is_left_alone_and_undone_then(
        self, world, processes, operator, done
    ) -> None:
        async with self.moving(world, BUYING):
            process_id = await processes.start(Patient(), Purchase())
            await run(world.store.pool, "update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")
            await self.ended(processes, process_id, ProcessStatus.COMPENSATED)

        assert (await prune(world.store.pool, NOW)).processes == 0
        async with self.moving(world, DOMAIN):
            known = await processes.get(process_id)
            await world.settled(known.steps[0].command_id)
        assert (await prune(world.store.pool, NOW)).processes == 0  # its reply lies there
        async with self.moving(world):
            await eventually(lambda: done == ["Reserve", "Release"], timeout=60)
            await self.ended(processes, process_id, ProcessStatus.COMPENSATED)
        await eventually(self.pruned_one(world))

    def pruned_one(self, world):
        async def look():
            return (await prune(world.store.pool, NOW)).processes == 1

        return look

    async def test_what_comes_late_to_a_pruned_process_changes_nothing(self, world, processes, operator, done) -> None:
        async with self.moving(world):
            process_id = await processes.start(Patient(), Purchase())
            known = await self.ended(processes, process_id)
            await prune(world.store.pool, NOW)
            await run(world.store.pool, "update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")
            late = {"command_id": str(known.steps[0].command_id), "outcome": "SUCCESS"}
            ids = [
                await world.send("Reply", late, domain=BUYING),
                await world.send("ProcessCancel", {"process_id": str(process_id), "reason": None}, domain=BUYING),
                *(each.command_id for each in await world.bus.query_commands(command_type="ProcessDeadline")),
            ]
            await world.settled(*ids, domain=BUYING)

        assert len(ids) == 4
        assert {(await world.known(each, BUYING)).status.value for each in ids} == {"COMPLETED"}
        assert (await processes.get(process_id)).status is ProcessStatus.COMPLETED
        assert await processes.get_audit_trail(process_id) == []

    async def test_a_process_that_somebody_holds_is_passed_by(self, world, processes, operator, done) -> None:
        async with self.moving(world):
            ids = [await processes.start(Buy(), Purchase(), process_id=uuid4()) for _ in range(2)]
            for each in ids:
                await self.ended(processes, each)
        async with world.store.transaction() as conn:
            await world.store.processes.lock(process_id=ids[0], conn=conn)

            assert (await prune(world.store.pool, NOW)).processes == 1
        assert (await prune(world.store.pool, NOW)).processes == 1
