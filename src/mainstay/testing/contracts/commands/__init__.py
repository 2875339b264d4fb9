"""What a command store must do, on whatever it stands.

Subclass it in a test module, give it a fixture named ``store`` and say how to look around::

    class TestMyStore(CommandStoreContract):
        @pytest.fixture
        async def store(self): ...

        async def create_queue(self, store, name): ...
        async def replies(self, store, queue): ...
        async def messages(self, store, domain): ...
        async def expire_leases(self, store): ...
        async def make_due(self, store): ...
        async def let_time_pass(self, store, passed): ...

It needs pytest-asyncio in auto mode. After every test the store's own `fsck` must find nothing and every audit trail
must be a legal path. What each part asks is in its module.
"""

from mainstay.testing.contracts.commands.actions import ActionContract
from mainstay.testing.contracts.commands.asking import AskingContract
from mainstay.testing.contracts.commands.base import CommandStoreSuite
from mainstay.testing.contracts.commands.batches import BatchContract
from mainstay.testing.contracts.commands.breakers import BreakerContract
from mainstay.testing.contracts.commands.committing import CommittingContract
from mainstay.testing.contracts.commands.completing import CompletingContract
from mainstay.testing.contracts.commands.conversations import ConversationContract
from mainstay.testing.contracts.commands.deciding import DecidingContract
from mainstay.testing.contracts.commands.ending import EndingContract
from mainstay.testing.contracts.commands.failures import FailureContract
from mainstay.testing.contracts.commands.gates import GateContract
from mainstay.testing.contracts.commands.ordering import OrderingContract
from mainstay.testing.contracts.commands.processes import ProcessContract
from mainstay.testing.contracts.commands.receiving import ReceivingContract
from mainstay.testing.contracts.commands.replies import RepliesContract
from mainstay.testing.contracts.commands.scheduling import SchedulingContract
from mainstay.testing.contracts.commands.sending import SendingContract
from mainstay.testing.contracts.commands.sending_plain import SendingPlainContract
from mainstay.testing.contracts.commands.sends import SendsContract
from mainstay.testing.contracts.commands.streams import StreamContract
from mainstay.testing.contracts.commands.troubleshooting import TroubleshootingContract
from mainstay.testing.contracts.commands.unique import UniqueContract

__all__ = [
    "ActionContract",
    "AskingContract",
    "BatchContract",
    "BreakerContract",
    "CommandStoreContract",
    "CommandStoreSuite",
    "CommittingContract",
    "CompletingContract",
    "ConversationContract",
    "DecidingContract",
    "EndingContract",
    "FailureContract",
    "GateContract",
    "OrderingContract",
    "ProcessContract",
    "ReceivingContract",
    "RepliesContract",
    "SchedulingContract",
    "SendingContract",
    "SendingPlainContract",
    "SendsContract",
    "StreamContract",
    "TroubleshootingContract",
    "UniqueContract",
]


class CommandStoreContract(
    SendingContract,
    SendingPlainContract,
    ReceivingContract,
    OrderingContract,
    EndingContract,
    CompletingContract,
    CommittingContract,
    DecidingContract,
    SendsContract,
    GateContract,
    BreakerContract,
    TroubleshootingContract,
    FailureContract,
    ActionContract,
    BatchContract,
    StreamContract,
    AskingContract,
    RepliesContract,
    SchedulingContract,
    ProcessContract,
    UniqueContract,
    ConversationContract,
):
    """The whole suite."""
