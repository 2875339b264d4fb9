"""What a store of read models must do, on whatever it stands.

Subclass it in a test module, and give it a fixture named ``store`` without any tables::

    class TestMyStore(ReadModelStoreContract):
        @pytest.fixture
        async def store(self): ...

It needs pytest-asyncio in auto mode.
"""

from mainstay.testing.contracts.read_models.asking import AskingContract
from mainstay.testing.contracts.read_models.base import Order, ReadModelStoreSuite, Ticket
from mainstay.testing.contracts.read_models.saving import SavingContract
from mainstay.testing.contracts.read_models.tables import BatchContract, TableContract

__all__ = [
    "AskingContract",
    "BatchContract",
    "Order",
    "ReadModelStoreContract",
    "ReadModelStoreSuite",
    "SavingContract",
    "TableContract",
    "Ticket",
]


class ReadModelStoreContract(SavingContract, AskingContract, TableContract, BatchContract):
    """All of it."""
