"""The log in memory: the contract, and that the contract would notice."""

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import ConfigurationError
from mainstay.events.memory import MemoryEventLog
from mainstay.testing.contracts.events import EventLogContract
from mainstay.testing.contracts.events.base import stream


class TestMemoryEventLog(EventLogContract):
    @pytest.fixture
    async def log(self):
        self.clock = FrozenClock()
        return MemoryEventLog(self.clock)

    def pass_time(self, log):
        self.clock.advance(0.25)

    async def test_only_its_own_open_transaction_is_taken(self, log):
        async with MemoryEventLog().transaction() as foreign, log.transaction() as ended:
            pass

        for conn in (foreign, ended, "a connection"):
            with pytest.raises(ConfigurationError, match="conn"):
                await self.appended(log, stream(), conn=conn)
