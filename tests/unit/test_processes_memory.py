"""Processes on the memory store."""

from datetime import timedelta

import pytest

from mainstay import MemoryCommandStore
from tests.scenarios.processes import ProcessScenarios
from tests.scenarios.stepping import StepScenarios


class TestProcessesInMemory(ProcessScenarios, StepScenarios):
    @pytest.fixture
    async def store(self):
        return MemoryCommandStore()

    async def create_queue(self, store, name):
        store.create_queue(name)

    async def replies(self, store, queue):
        return store.replies(queue)

    async def make_due(self, store):
        for row in store._state.rows.values():
            if row.due_at is not None:
                row.due_at -= timedelta(days=1)
