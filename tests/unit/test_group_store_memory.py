"""Group commit in memory: the contract."""

import pytest

from mainstay.commands.memory import MemoryCommandStore
from mainstay.deciding.memory import MemoryGroupStore
from mainstay.events.memory import MemoryEventLog
from mainstay.testing.contracts.grouping import GroupStoreContract


class TestMemoryGroupStore(GroupStoreContract):
    @pytest.fixture
    async def store(self):
        return MemoryCommandStore()

    @pytest.fixture
    async def log(self):
        return MemoryEventLog()

    @pytest.fixture
    async def groups(self, store, log):
        return MemoryGroupStore(store, log)

    async def create_queue(self, store, name):
        store.create_queue(name)

    async def replies(self, store, queue):
        return store.replies(queue)
