"""The state machine of aggregates, on every engine. `MAINSTAY_TEST_EXAMPLES` makes more examples, drawn at random."""

import psycopg
import pytest
from hypothesis.stateful import run_state_machine_as_test
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from mainstay import InMemoryEventStore, PostgreSQLEventStore, SQLiteEventStore
from mainstay.events.repository import KnownState, _Snapshots
from tests.integration.test_event_machine import TABLES, drawn
from tests.scenarios.fold_machine import FoldMachine, registry


class OnMemory(FoldMachine):
    async def open(self):
        return InMemoryEventStore(registry=registry())


class OnSQLite(FoldMachine):
    async def open(self):
        return SQLiteEventStore(":memory:", registry=registry())

    async def close(self):
        await self.store.close()


def machine_on(dsn):
    """A machine whose every example begins with an empty log."""

    class OnPostgres(FoldMachine):
        async def open(self):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("set session_replication_role = replica")
                for table in (*TABLES, "snapshot"):
                    conn.execute(sql.SQL("delete from {}").format(sql.Identifier("eventsource", table)))
                conn.execute("update eventsource.feed_horizon set position = 0")
            self.pool = AsyncConnectionPool(dsn, min_size=1, max_size=6, open=False)
            await self.pool.open()
            return PostgreSQLEventStore(self.pool, registry=registry())

        async def close(self):
            await self.pool.close()

    return OnPostgres


def test_any_sequence_folds_in_memory_as_the_model_says():
    run_state_machine_as_test(OnMemory, settings=drawn(15, 30))


def test_any_sequence_folds_on_sqlite_as_the_model_says():
    run_state_machine_as_test(OnSQLite, settings=drawn(2, 30))


def test_any_sequence_folds_on_postgresql_as_the_model_says(postgres_server, dsn):
    run_state_machine_as_test(machine_on(dsn), settings=drawn(2, 30))


def test_a_repository_that_trusts_any_snapshot_is_found_out(monkeypatch):
    """The control: snapshots of other events are taken for true."""

    async def trusting(self, stream, version, conn):
        found = await self._store.load(stream, conn=conn)
        return None if found is None else KnownState(found, self._adapter.validate_json(found.state))

    monkeypatch.setattr(_Snapshots, "load", trusting)
    with pytest.raises((AssertionError, BaseExceptionGroup, ValueError)):
        run_state_machine_as_test(OnMemory, settings=drawn(60, 40))
