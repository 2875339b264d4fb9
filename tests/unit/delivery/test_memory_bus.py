from contextlib import asynccontextmanager

import pytest

from mainstay.delivery.consumer import Consumer
from mainstay.delivery.memory import MemoryBus
from mainstay.testing.contracts.delivery import BusContract, Taken, message


class TestMemoryBus(BusContract):
    @pytest.fixture(autouse=True)
    def _one_process(self):
        self._topics = {}

    @asynccontextmanager
    async def opened(self, topic, partitions):
        async with self._topics.setdefault(topic, MemoryBus(topic, partitions=partitions)) as bus:
            yield bus


class Trembling(MemoryBus):
    """Fails in a way that nobody has thought of, a few times."""

    left = 2

    @asynccontextmanager
    async def join(self, group, *, start="beginning"):
        if self.left:
            self.left -= 1
            raise RuntimeError("the transport is closed")
        async with super().join(group, start=start) as member:
            yield member


async def test_a_consumer_joins_again_whatever_ended_its_membership(caplog) -> None:
    bus, handler = Trembling(), Taken()
    async with Consumer(bus, "billing", handler):
        await bus.publish([sent := message(1)])
        await handler.has([sent])

    assert "group billing waits for its broker: the transport is closed" in caplog.text
