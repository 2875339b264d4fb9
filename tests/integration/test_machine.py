"""The state machine of commands, on PostgreSQL and in memory.

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

from mainstay import MemoryCommandStore
from mainstay.clock import FrozenClock
from mainstay.commands.store import Verdict
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.machine import DOMAIN, SUPPLIED, CommandMachine

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


class MemoryEngine:
    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.store = MemoryCommandStore(self.clock)

    async def expire_leases(self) -> None:
        for row in self.store._state.rows.values():
            if row.lease_until is not None:
                row.lease_until = self.clock.now()

    async def make_due(self) -> None:
        self.clock.advance(61.0)


class OnMemory(CommandMachine):
    async def open(self) -> MemoryEngine:
        engine = MemoryEngine()
        await engine.store.ensure_queue(DOMAIN)
        return engine


class PostgresEngine:
    def __init__(self, pool: AsyncConnectionPool) -> None:
        self.pool = pool
        self.store = PostgresCommandStore(pool)

    async def expire_leases(self) -> None:
        for domain in (DOMAIN, SUPPLIED):
            await self.do(
                f"update pgmq.\"q_{domain}__commands\" set vt = clock_timestamp() - interval '1 s' where read_ct > 0"
            )

    async def make_due(self) -> None:
        await self.do("update commandbus.deferred set due_at = clock_timestamp() - interval '1 s'")
        await self.do("update commandbus.breaker set next_at = clock_timestamp() - interval '1 s'")

    async def do(self, statement: str) -> None:
        async with self.pool.connection() as conn:
            await conn.execute(statement)


def machine_on(dsn: str, store: type[PostgresCommandStore] = PostgresCommandStore) -> type[CommandMachine]:
    """A machine whose every example begins with empty tables."""

    class OnPostgres(CommandMachine):
        async def open(self) -> PostgresEngine:
            with psycopg.connect(dsn, autocommit=True) as conn:
                names = conn.execute("select tablename from pg_tables where schemaname = 'commandbus'").fetchall()
                conn.execute("select pgmq.drop_queue(queue_name) from pgmq.meta")
                conn.execute("set mainstay.may_prune = on")
                for (name,) in names:
                    if name not in KEPT:
                        conn.execute(sql.SQL("delete from {}").format(sql.Identifier("commandbus", name)))
            self.pool = AsyncConnectionPool(dsn, min_size=1, max_size=6, open=False)
            await self.pool.open()
            engine = PostgresEngine(self.pool)
            engine.store = store(self.pool)
            await engine.store.ensure_queue(DOMAIN)
            return engine

        async def close(self) -> None:
            await self.pool.close()

    return OnPostgres


KEPT = {"audit_path"}


def test_any_sequence_in_memory_ends_as_the_model_says() -> None:
    run_state_machine_as_test(OnMemory, settings=drawn(40, 40))


def test_any_sequence_on_postgresql_ends_as_the_model_says(dsn: str) -> None:
    run_state_machine_as_test(machine_on(dsn), settings=drawn(8, 30))


class Hasty(MemoryCommandStore):
    """Lets go another probe whenever somebody receives."""

    async def receive(self, domain, **options):
        for breaker in self.breakers._breakers.values():
            breaker.probe_id, breaker.next_at = None, self._state.clock.now()
        return await super().receive(domain, **options)


class OnHastyMemory(OnMemory):
    async def open(self) -> MemoryEngine:
        engine = MemoryEngine()
        engine.store = Hasty(engine.clock)
        await engine.store.ensure_queue(DOMAIN)
        return engine


def test_a_store_that_sends_one_probe_after_another_is_found_out() -> None:
    with pytest.raises(AssertionError, match="let go at once"):
        run_state_machine_as_test(OnHastyMemory, settings=drawn(60, 40))


class Forgetful(PostgresCommandStore):
    """Says that everything was written."""

    async def complete(self, domain, outcomes, *, conn=None):
        await super().complete(domain, outcomes, conn=conn)
        return [Verdict.APPLIED for _ in outcomes]


def test_a_store_that_lies_is_found_out(dsn: str) -> None:
    with pytest.raises((AssertionError, BaseExceptionGroup)):  # a group, if what lied once does not lie again
        run_state_machine_as_test(machine_on(dsn, Forgetful), settings=drawn(12, 30))
