"""The state machine of a log of events, on every engine.

Examples are the same in every run; `MAINSTAY_TEST_EXAMPLES` makes more of them, drawn at random, and prints what
failed so that it can be repeated.
"""

import os

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from mainstay.events.memory import MemoryEventLog
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.sqlite.events import SQLiteEventLog
from tests.scenarios.event_machine import EventMachine
from tests.support.thorough import thorough

LONG = int(os.environ.get("MAINSTAY_TEST_EXAMPLES", "0"))


def drawn(examples: int, steps: int) -> settings:
    return settings(
        max_examples=LONG or examples,
        stateful_step_count=steps,
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


class OnMemory(EventMachine):
    engine = MemoryEventLog

    async def open(self):
        return self.engine()


class OnSQLite(EventMachine):
    side_by_side = False

    async def open(self):
        return SQLiteEventLog(":memory:")

    async def close(self):
        await self.log.close()


def machine_on(dsn):
    """A machine whose every example begins with an empty log."""

    class OnPostgres(EventMachine):
        async def open(self):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("set session_replication_role = replica")
                for table in TABLES:
                    conn.execute(sql.SQL("delete from {}").format(sql.Identifier("eventsource", table)))
                conn.execute("update eventsource.feed_horizon set position = 0")
            self.pool = AsyncConnectionPool(dsn, min_size=1, max_size=6, open=False)
            await self.pool.open()
            return PostgresEventLog(self.pool)

        async def close(self):
            await self.pool.close()

    return OnPostgres


TABLES = ("event", "event_tag", "kind", "stream")


def test_any_sequence_in_memory_ends_as_the_model_says():
    run_state_machine_as_test(OnMemory, settings=drawn(25, 40))


def test_any_sequence_on_sqlite_ends_as_the_model_says():
    run_state_machine_as_test(OnSQLite, settings=drawn(5, 40))


def test_any_sequence_on_postgresql_ends_as_the_model_says(dsn):
    run_state_machine_as_test(machine_on(dsn), settings=drawn(5, 40))


class Impatient(MemoryEventLog):
    """Gives out whatever is committed, as if nobody could still commit a lower position."""

    def _horizon(self):
        return self._last


class Careless(MemoryEventLog):
    """Appends whatever the condition says."""

    def _refuse_forbidden(self, condition, mine):
        pass


@pytest.mark.parametrize("wrong", [thorough(Impatient), Careless])
def test_a_log_that_is_wrong_is_found_out(wrong):
    class OnWrong(OnMemory):
        engine = wrong

    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(OnWrong, settings=drawn(60, 40))
