"""What a bus must do, on whatever broker it stands.

Subclass it in a test module, and say how a topic is opened::

    class TestMyBus(BusContract):
        @asynccontextmanager
        async def opened(self, topic, partitions): ...

It needs pytest-asyncio in auto mode.
"""

from mainstay.testing.contracts.delivery.base import BusSuite, FromLog, Taken, message
from mainstay.testing.contracts.delivery.consuming import ConsumingContract
from mainstay.testing.contracts.delivery.failing import FailingContract
from mainstay.testing.contracts.delivery.publishing import PublishingContract

__all__ = [
    "BusContract",
    "BusSuite",
    "ConsumingContract",
    "FailingContract",
    "FromLog",
    "PublishingContract",
    "Taken",
    "message",
]


class BusContract(PublishingContract, ConsumingContract, FailingContract):
    """All of it."""
