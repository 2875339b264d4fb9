"""The log of events on PostgreSQL: the contract, on every version."""

import psycopg
import pytest
from psycopg import sql

from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.testing.contracts.events import EventLogContract
from tests.support.servers import open_pool

TABLES = ("event", "event_tag", "kind", "stream")


@pytest.fixture(scope="module")
def common_dsn(postgres_server):
    """One database for all tests, emptied before each; no test crashes it, so nobody need wait for the disk."""
    with postgres_server.database() as name:
        dsn = postgres_server.dsn(name)
        with psycopg.connect(dsn, autocommit=True) as conn:
            alter = sql.SQL("alter database {} set synchronous_commit = off")
            conn.execute(alter.format(sql.Identifier(name)))
        yield dsn


class TestPostgresEventLog(EventLogContract):
    @pytest.fixture
    async def log(self, common_dsn):
        with psycopg.connect(common_dsn, autocommit=True) as conn:
            conn.execute("set session_replication_role = replica")
            for table in TABLES:
                conn.execute(sql.SQL("delete from {}").format(sql.Identifier("eventsource", table)))
            conn.execute("update eventsource.feed_horizon set position = 0")
        async with open_pool(common_dsn) as pool:
            yield PostgresEventLog(pool)
