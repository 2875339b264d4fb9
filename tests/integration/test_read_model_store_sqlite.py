"""Read models on SQLite: the contract."""

import pytest

from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.testing.contracts.read_models import ReadModelStoreContract


class TestSQLiteReadModelStore(ReadModelStoreContract):
    @pytest.fixture
    async def store(self):
        async with SQLiteEventLog(":memory:") as log:
            yield log.read_models()
