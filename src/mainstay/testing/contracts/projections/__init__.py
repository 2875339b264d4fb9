"""What a projection store must do, on whatever it stands.

Subclass it in a test module, give it a fixture named ``store`` and say how to let leases end::

    class TestMyStore(ProjectionStoreContract):
        @pytest.fixture
        async def store(self): ...

        async def expire_leases(self, store): ...

It needs pytest-asyncio in auto mode.
"""

from mainstay.testing.contracts.projections.base import LEASE, NAME, ProjectionStoreSuite, at, letter
from mainstay.testing.contracts.projections.dead_letters import DeadLetterContract
from mainstay.testing.contracts.projections.rebuilding import RebuildContract
from mainstay.testing.contracts.projections.shards import ShardContract

__all__ = [
    "LEASE",
    "NAME",
    "DeadLetterContract",
    "ProjectionStoreContract",
    "ProjectionStoreSuite",
    "RebuildContract",
    "ShardContract",
    "at",
    "letter",
]


class ProjectionStoreContract(ShardContract, DeadLetterContract, RebuildContract):
    """All of it."""
