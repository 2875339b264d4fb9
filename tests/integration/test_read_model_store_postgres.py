"""Read models on PostgreSQL: the contract, on every version."""

import psycopg
import pytest
from psycopg import sql

from mainstay.storage.postgres.read_models import PostgresReadModelStore
from mainstay.testing.contracts.read_models import ReadModelStoreContract
from tests.support.servers import open_pool


@pytest.fixture(scope="module")
def common_dsn(postgres_server):
    """One database for all tests, emptied before each; no test crashes it, so nobody need wait for the disk."""
    with postgres_server.database(schema=False) as name:
        dsn = postgres_server.dsn(name)
        with psycopg.connect(dsn, autocommit=True) as conn:
            alter = sql.SQL("alter database {} set synchronous_commit = off")
            conn.execute(alter.format(sql.Identifier(name)))
            alter = sql.SQL("alter database {} set timezone = 'Asia/Kathmandu'")
            conn.execute(alter.format(sql.Identifier(name)))
        yield dsn


class TestPostgresReadModelStore(ReadModelStoreContract):
    @pytest.fixture
    async def store(self, common_dsn):
        with psycopg.connect(common_dsn, autocommit=True) as conn:
            conn.execute("drop schema if exists public cascade; create schema public")
        async with open_pool(common_dsn) as pool:
            yield PostgresReadModelStore(pool)
