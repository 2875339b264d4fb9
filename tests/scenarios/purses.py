"""What suites about purses, which decide in groups, need."""

from typing import Any
from uuid import UUID

import pytest

from mainstay import AggregateRepository, CommandModel, EventStore, Worker
from tests.scenarios.world import DOMAIN, World, WorldSuite
from tests.support.purses import Purse


class PurseSuite(WorldSuite):
    """What both suites need."""

    @pytest.fixture
    def event_store(self, store: Any) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    def purses(self, event_store: EventStore) -> AggregateRepository[Purse]:
        return AggregateRepository(event_store, Purse)

    @pytest.fixture(autouse=True)
    def decides(self, world: World) -> None:
        world.registry.register_decider(domain=DOMAIN, decider=Purse, stream="purse_id")

    async def sent(self, world: World, *commands: CommandModel, **options: Any) -> list[UUID]:
        return [(await world.bus.send(each, **options)).command_id for each in commands]

    async def done(self, world: World, worker: Worker, *commands: UUID, concurrency: int = 16) -> list[Any]:
        """What became of commands, once they have ended or wait for an operator."""
        async with world.working(worker, concurrency=concurrency):
            await world.settled(*commands)
        return [await world.known(each) for each in commands]
