"""Suites on PostgreSQL, and questions to it."""

import pytest
from psycopg import sql

from mainstay import PgmqClient
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.world import DOMAIN

QUEUE = f"{DOMAIN}__commands"


async def ask(pool, question, *parameters):
    """The rows of a query."""
    async with pool.connection() as conn:
        return await (await conn.execute(question, parameters or None)).fetchall()


async def run(pool, statement, *parameters):
    async with pool.connection() as conn:
        await conn.execute(statement, parameters or None)


def beginning(room: str, name: str) -> str:
    """How one of our statements begins on its way to the server: up to its first parameter."""
    return queries.load(room)[name].partition("%(")[0].strip()


class OnPostgres:
    @pytest.fixture
    async def store(self, pool):
        return PostgresCommandStore(pool)

    async def create_queue(self, store, name):
        await PgmqClient(store.pool).create_queue(name)

    async def make_due(self, store):
        await run(store.pool, "update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")

    async def waiters(self, store):
        """Whether nobody is written down as one who waits."""
        return await ask(store.pool, "select count(*) from commandbus.waiter") == [(0,)]

    async def replies(self, store, queue):
        table = sql.Identifier("pgmq", f"q_{queue}")
        rows = await ask(store.pool, sql.SQL("select message from {} order by msg_id").format(table))
        return [row[0] for row in rows]
