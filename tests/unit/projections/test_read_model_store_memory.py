"""Read models in memory keep the contract."""

import pytest

from mainstay.projections.read_model_memory import MemoryReadModelStore
from mainstay.testing.contracts.read_models import ReadModelStoreContract


class TestMemoryReadModelStore(ReadModelStoreContract):
    @pytest.fixture
    async def store(self):
        return MemoryReadModelStore()
