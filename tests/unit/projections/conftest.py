"""A store of events, one of checkpoints, and a manager, in memory."""

import pytest

from mainstay.events.store import EventStore, InMemoryEventStore
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.subscription import SubscriptionManager


@pytest.fixture
def store() -> EventStore:
    return InMemoryEventStore()


@pytest.fixture
def checkpoints() -> MemoryProjectionStore:
    return MemoryProjectionStore()


@pytest.fixture
async def manager(store, checkpoints):
    manager = SubscriptionManager(store, checkpoints)
    yield manager
    await manager.stop()
