from contextlib import asynccontextmanager

import pytest

from mainstay.delivery.memory import MemoryBus
from mainstay.testing.contracts.delivery import BusContract


class TestMemoryBus(BusContract):
    @pytest.fixture(autouse=True)
    def _one_process(self):
        self._topics = {}

    @asynccontextmanager
    async def opened(self, topic, partitions):
        async with self._topics.setdefault(topic, MemoryBus(topic, partitions=partitions)) as bus:
            yield bus
