"""The command store on PostgreSQL: the contract, on every version."""

import pytest
from psycopg import sql

from mainstay.commands.lifecycle import AUDIT_PATH, AuditEventType
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.testing.contracts.commands import CommandStoreContract


class TestPostgresCommandStore(CommandStoreContract):
    @pytest.fixture
    async def store(self, postgres_server, pool):
        return PostgresCommandStore(pool)

    async def create_queue(self, store, name):
        await self._run(store, "select pgmq.create(%s)", name)

    async def replies(self, store, queue):
        return await self._queued(store, queue)

    async def messages(self, store, domain):
        return await self._queued(store, f"{domain}__commands")

    async def expire_leases(self, store):
        await self._run(store, "update pgmq.\"q_orders__commands\" set vt = clock_timestamp() - interval '1 s'")

    async def make_due(self, store):
        await self._run(store, "update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")

    async def let_time_pass(self, store, passed):
        older = "next_due_at = next_due_at - %s::interval, counts_from = counts_from - %s::interval"
        await self._run(store, f"update commandbus.schedule set {older}", passed, passed)

    async def test_the_database_knows_the_same_lifecycle(self, store):
        async with store.pool.connection() as conn:
            cursor = await conn.execute("select before, event_type, after from commandbus.audit_path")
            known = {(before, event): after for before, event, after in await cursor.fetchall()}

        assert known == {
            (str(before or "NONE"), str(event)): str(after)
            for (before, event), after in AUDIT_PATH.items()
            if event not in (AuditEventType.STALE_REFUSED, AuditEventType.REPAIRED)
        }

    async def _queued(self, store, queue):
        table = sql.Identifier("pgmq", f"q_{queue}")
        async with store.pool.connection() as conn:
            cursor = await conn.execute(sql.SQL("select message from {} order by msg_id").format(table))
            return [row[0] for row in await cursor.fetchall()]

    async def _run(self, store, statement, *parameters):
        async with store.pool.connection() as conn:
            await conn.execute(statement, parameters)
