"""Snapshots in databases: the contract."""

from uuid import uuid4

import pytest

from mainstay import AggregateRepository, PostgreSQLEventStore, SnapshotPolicy
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.snapshots import PostgresSnapshotStore
from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.testing.contracts.snapshots import TransactionalSnapshotContract
from tests.scenarios.aggregates import Account, Deposit
from tests.support.servers import open_pool


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


async def test_who_holds_the_only_connection_loads_with_it(dsn: str) -> None:
    """Else a worker waits for a connection while it holds a stream, and all others wait for the stream."""
    async with open_pool(dsn, max_size=1, timeout=1.0) as pool:
        store = PostgreSQLEventStore(pool)
        accounts = AggregateRepository(store, Account, snapshots=SnapshotPolicy.every(1))
        account_id = uuid4()
        await accounts.execute(account_id, Deposit(account_id=account_id, amount=1))
        made = accounts.create_new(account_id)

        async with store.transaction() as conn:
            await accounts.load_all([made], conn=conn)

        assert made.version == 1
