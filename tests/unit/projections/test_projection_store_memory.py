"""The projection store in memory keeps the contract."""

from datetime import timedelta

import pytest

from mainstay.clock import FrozenClock
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.testing.contracts.projections import LEASE, NAME, ProjectionStoreContract


class TestMemoryProjectionStore(ProjectionStoreContract):
    @pytest.fixture
    async def store(self):
        self.clock = FrozenClock()
        return MemoryProjectionStore(self.clock)

    async def expire_leases(self, store):
        self.clock.advance(timedelta(seconds=LEASE + 1))

    async def test_nobody_joins_a_batch_whose_lease_has_ended(self, store):
        async with self.claimed(store) as claim, store.batch(claim):
            await self.expire_leases(store)

            assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []
