"""The projection store in memory keeps the contract."""

from datetime import timedelta

import pytest

from mainstay.clock import FrozenClock
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.testing.contracts.projections import LEASE, ProjectionStoreContract


class TestMemoryProjectionStore(ProjectionStoreContract):
    @pytest.fixture
    async def store(self):
        self.clock = FrozenClock()
        return MemoryProjectionStore(self.clock)

    async def expire_leases(self, store):
        self.clock.advance(timedelta(seconds=LEASE + 1))

    async def expire_leases_of_others(self, store):
        await self.expire_leases(store)
