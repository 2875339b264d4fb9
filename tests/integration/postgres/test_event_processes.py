"""Processes that events move, on PostgreSQL: what only a database can show."""

import asyncio

import pytest

from mainstay import PostgreSQLEventStore, ProcessStatus
from mainstay.commands.process import TakenEvent
from mainstay.commands.process_moves import Happening, take_event
from mainstay.projections.store import Checkpoint
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import transaction
from mainstay.storage.postgres.projections import PostgresProjectionStore
from mainstay.storage.postgres.retention import prune
from tests.integration.postgres.test_process_care import FORGET, NOW
from tests.scenarios.event_processes import PATIENCE, Delivered, EventProcessScenarios, Fulfilling, Ordered, PaidFor
from tests.scenarios.postgres import ask, run
from tests.support.waiting import eventually

STRAY = """
    insert into commandbus.process_event
    select gen_random_uuid(), event_id, event_type, position, was_taken, taken_at from commandbus.process_event
"""


class TestEventProcesses(EventProcessScenarios):
    @pytest.fixture
    async def checkpoints(self, pool):
        return PostgresProjectionStore(pool)

    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def make_due(self, checkpoints) -> None:
        await run(checkpoints.pool, "update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")

    async def waits_for_a_lock(self, pool) -> None:
        async def waiting():
            found = await ask(
                pool, "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            return bool(found)

        await eventually(waiting, timeout=PATIENCE)

    async def test_an_event_that_comes_while_a_reply_is_taken_waits_for_it(
        self, event_store, checkpoints, fulfil, pool
    ):
        await self.happen(event_store, Ordered())
        await self.tell(event_store, checkpoints, fulfil)
        key = fulfil.process_id_of("1")
        await self.happen(event_store, PaidFor(order_id="1"), "p1")
        async with transaction(pool) as held:
            await PostgresCommandStore(pool).processes.lock(process_id=key, conn=held)
            telling = asyncio.create_task(self.tell(event_store, checkpoints, fulfil))
            await self.waits_for_a_lock(pool)
            between = (await self.process(checkpoints, fulfil)).state["paid"]
        await telling
        async with self.working(checkpoints, fulfil):
            found = await self.stands(checkpoints, fulfil, ProcessStatus.WAITING_FOR_EVENT)

        assert between == 0
        assert (found.state["paid"], found.state["shipped"]) == (1, True)

    async def test_two_that_begin_one_process_at_the_same_time_begin_it_once(self, fulfil, pool):
        store = PostgresCommandStore(pool)
        event = Ordered(aggregate_id="1")

        def happening(n: int) -> Happening:
            taken = TakenEvent(event.event_id if n == 0 else Ordered().event_id, "FulfilledOrderOrdered", n + 1)
            return Happening(taken, lambda state: fulfil.ordered(state, event), Fulfilling, event.event_id)

        key = fulfil.process_id_of("1")
        async with transaction(pool) as first:
            begun = await take_event(store, fulfil, key, happening(0), first)

            async def second():
                async with transaction(pool) as other:
                    return await take_event(store, fulfil, key, happening(1), other)

            later = asyncio.create_task(second())
            await self.waits_for_a_lock(pool)
        moved = await later
        found = await store.processes.get(key)

        assert begun is not None
        assert moved is not None
        assert [(each.position, each.was_taken) for each in found.events] == [(1, True), (2, True)]
        assert [step.command_type for step in found.steps] == ["Charge", "Charge"]
        assert await ask(pool, "select count(*) from commandbus.command where command_type = 'Charge'") == [(2,)]

    @pytest.mark.parametrize("what", [NOW, FORGET], ids=["pruned", "forgotten"])
    async def test_a_process_that_was_pruned_is_not_moved_by_its_events_again(
        self, event_store, checkpoints, fulfil, pool, what
    ):
        await self.happen(event_store, Ordered())
        await self.happen(event_store, Delivered(order_id="1"), "d1")
        await self.tell(event_store, checkpoints, fulfil)
        async with self.working(checkpoints, fulfil):
            await self.stands(checkpoints, fulfil, ProcessStatus.COMPLETED)
        await prune(pool, what)
        before = await self.process(checkpoints, fulfil)
        await checkpoints.reset("processes", Checkpoint(), actor="ann")
        await self.tell(event_store, checkpoints, fulfil)

        assert before.pruned_at is not None
        assert len(before.events) == (0 if what is FORGET else 2)
        assert await self.process(checkpoints, fulfil) == before

    async def test_a_fault_of_what_a_process_heard_is_found(self, event_store, checkpoints, fulfil, pool):
        await self.happen(event_store, Ordered())
        await self.tell(event_store, checkpoints, fulfil)
        await run(pool, STRAY)
        await run(pool, "delete from commandbus.process_audit where event_type = 'EVENT_TAKEN'")
        found = {each.invariant for each in (await checkpoints.commands.fsck()).findings}
        await run(pool, "delete from commandbus.process_event; delete from commandbus.process_audit; "
                        "delete from commandbus.process_step; delete from commandbus.process")  # fmt: skip

        assert found == {
            "events belong to a process",
            "the audit trail of a process tells each step and ends at its status",
        }
