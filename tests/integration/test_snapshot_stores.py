"""Snapshots in databases: the contract."""

import pytest

from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.snapshots import PostgresSnapshotStore
from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.testing.contracts.snapshots import TransactionalSnapshotContract


class TestPostgresSnapshotStore(TransactionalSnapshotContract):
    @pytest.fixture
    async def snapshots(self, postgres_server, pool):
        return PostgresSnapshotStore(pool)

    @pytest.fixture
    async def log(self, pool):
        return PostgresEventLog(pool)


class TestSQLiteSnapshotStore(TransactionalSnapshotContract):
    @pytest.fixture
    async def log(self, tmp_path):
        async with SQLiteEventLog(tmp_path / "snapshots.sqlite") as log:
            yield log

    @pytest.fixture
    async def snapshots(self, log):
        return log.snapshots()
