"""What `timeout` means for deciders, in groups and one by one: a suite for every store."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from mainstay import CommandStatus
from mainstay.commands.deciders import Fate
from mainstay.deciding.store import ToCommit
from tests.scenarios.grouping import GroupScenarios, PurseSuite
from tests.scenarios.world import DOMAIN, World
from tests.support.purses import Purse, Sum, Take
from tests.support.waiting import eventually

S = CommandStatus


class TimeoutScenarios(PurseSuite):
    """An attempt ends in time, whatever it waits for, and what it had decided is written once or not at all."""

    made = GroupScenarios.made

    async def sent_in_time(self, world: World, purse_id: UUID) -> UUID:
        """A command that may take half a second, as often as it likes."""
        world.registry.clear()
        world.registry.register_decider(domain=DOMAIN, decider=Purse, stream="purse_id", timeout=0.5)
        (sent,) = await self.sent(world, Take(purse_id=purse_id, amount=1), max_attempts=1000)
        return sent

    async def has_timed_out(self, world: World, command_id: UUID) -> bool:
        return (await world.known(command_id)).last_error_code == "TIMEOUT"

    async def test_it_limits_the_wait_for_a_group_and_what_comes_too_late_is_not_written(
        self, world, purses, event_store
    ):
        worker = self.made(world, event_store)
        watched = worker._execution.grouping.deciders._groups
        purse_id, free = uuid4(), asyncio.Event()

        async def hold(group: Sequence[ToCommit]) -> None:
            await free.wait()

        watched.before = hold
        sent = await self.sent_in_time(world, purse_id)
        async with world.working(worker):
            await eventually(lambda: self.has_timed_out(world, sent))
            watched.before = None
            free.set()
            known = await world.settled(sent)

        assert (known.status, known.attempts > 1) == (S.COMPLETED, True)
        assert (await purses.load(purse_id)).state == Sum(1)
        assert watched.fates[0] in {Fate.STALE, Fate.REPEATED}  # received again by then, or not yet

    async def test_if_the_commit_came_first_the_timeout_changes_nothing(self, world, purses, event_store):
        worker = self.made(world, event_store)
        watched = worker._execution.grouping.deciders._groups
        purse_id, stuck = uuid4(), asyncio.Event()

        async def hold(group: Sequence[ToCommit]) -> None:
            await stuck.wait()

        watched.after = hold
        sent = await self.sent_in_time(world, purse_id)
        async with world.working(worker):
            known = await world.settled(sent)
            await eventually(lambda: worker.in_flight_count == 0)  # the timeout has come, and was written
            stuck.set()

        assert (known.status, known.attempts) == (S.COMPLETED, 1)
        assert await world.known(sent) == known
        assert (await purses.load(purse_id)).state == Sum(1)
