"""Every check of the doctor is seen to fire, on what it is there for."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from mainstay import CommandBus, ProcessManager
from mainstay.clock import FrozenClock
from mainstay.commands.store import Outcome, Verb
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.projections.store import Checkpoint
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import autocommit
from mainstay.storage.postgres.doctor import CHECKS, Level, Limits, Patient, examine
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.scenarios.processes import Buy, Purchase
from tests.support import cli
from tests.support.servers import open_pool

FAR = Limits(unread=1e9, long_transaction=1e9)
AT_ONCE = Limits(
    long_transaction=0.0,
    dead_rows=100,
    since_vacuum=0.0,
    unread=0.0,
    connections=0.0,
    bloat_bytes=100_000,
    wraparound=0.0,
)


async def look(pool, name, limits=None, **options):
    """What the check of this name says."""
    check = CHECKS["durability" if name == "transactions" else name]
    return [found for found in await check(Patient(pool, limits or Limits(), **options)) if found.name == name]


async def the(pool, name, subject, limits=None):
    """The one line about something."""
    (found,) = [check for check in await look(pool, name, limits) if check.subject == subject]
    return found


async def run(pool, statement):
    async with pool.connection() as conn:
        await conn.execute(statement)


@pytest.fixture
async def bus(pool):
    made = CommandBus(pool)
    yield made
    await made.close()


@asynccontextmanager
async def configured(dsn, options):
    """A pool whose sessions have settings of their own."""
    async with open_pool(dsn, max_size=3, kwargs={"options": options}) as other:
        yield other


@pytest.fixture
async def stranger(server, dsn):
    """The name of a role that was granted nothing."""
    name = f"stranger_{uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(server.admin_dsn, autocommit=True) as conn:
        await conn.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
        yield name
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as inside:
            await inside.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        await conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


async def test_every_check_says_something_and_a_healthy_database_has_only_the_faults_of_a_test_server(pool, bus):
    await bus.send("shop", "Order", uuid4(), {})

    found = await examine(pool)

    assert {check.name for check in found} >= set(CHECKS)
    unfit = {check.subject for check in found if check.level is not Level.OK}
    assert unfit <= {"fsync", "full_page_writes", "synchronous_commit", "autovacuum"}
    assert all(check.seen.endswith(".") for check in found)
    assert all(check.advice for check in found if check.level is not Level.OK)


async def test_what_the_server_is_set_to_is_told(pool):
    async with pool.connection() as conn:
        cursor = await conn.execute("select current_setting('fsync'), current_setting('autovacuum')")
        fsync, autovacuum = await cursor.fetchone()

    told = {check.subject for check in await examine(pool) if check.level is Level.FAULT}

    assert ("fsync" in told, "autovacuum" in told) == (fsync == "off", autovacuum == "off")


async def test_settings_that_break_promises_are_faults(dsn):
    settings = (
        "-c synchronous_commit=off -c default_transaction_read_only=on -c default_transaction_isolation=serializable"
    )
    async with configured(dsn, settings) as other:
        lasting = await the(other, "durability", "synchronous_commit")
        writing, isolation = await look(other, "transactions")

    assert lasting.level is writing.level is isolation.level is Level.FAULT
    assert "lost" in lasting.seen
    assert "nothing can be written" in writing.seen
    assert "SERIALIZABLE" in isolation.seen


async def test_a_database_without_mainstay_is_examined_all_the_same(empty_pool):
    found = await examine(empty_pool)

    assert {check.name for check in found} >= set(CHECKS)
    (schema,) = [check for check in found if check.name == "schema"]
    assert schema.level is Level.FAULT
    assert "mainstay schema upgrade" in schema.advice
    (queues,) = [check for check in found if check.name == "queues"]
    assert queues.level is Level.FAULT
    assert (queues.seen, queues.advice) == (
        "This could not be looked at: it needs mainstay's schema.",
        "Run `mainstay schema upgrade`, and look again.",
    )


async def test_a_schema_that_was_edited_is_a_fault(pool):
    await run(pool, "drop function commandbus.promote")

    (schema,) = await look(pool, "schema")

    assert schema.level is Level.FAULT
    assert "commandbus.promote is missing" in schema.seen


ALTERED = {
    "table commandbus.waiter": ("drop table commandbus.waiter", "is missing"),
    "column actor_id of commandbus.process": (
        "alter table commandbus.process drop column actor_id",
        "is missing",
    ),
    "column name of commandbus.batch": ("alter table commandbus.batch alter column name set default 'none'", "text"),
    "constraint command_sound of commandbus.command": (
        "alter table commandbus.command drop constraint command_sound",
        "is missing",
    ),
    "constraint decision_events_count of commandbus.decision": (
        """alter table commandbus.decision drop constraint decision_events_count,
            add constraint decision_events_count check (events >= -1)""",
        "-1",
    ),
    "constraint shard_of_subscription of eventsource.shard": (
        "alter table eventsource.shard drop constraint shard_of_subscription",
        "is missing",
    ),
    "index command_conversation of commandbus.command": ("drop index commandbus.command_conversation", "is missing"),
    "index event_kind of eventsource.event": (
        "drop index eventsource.event_kind; create index event_kind on eventsource.event (kind_no)",
        "(kind_no)",
    ),
    "trigger event_immutable of eventsource.event": (
        "alter table eventsource.event disable trigger event_immutable",
        "is disabled",
    ),
    "trigger event_kept of eventsource.event": ("drop trigger event_kept on eventsource.event", "is missing"),
    "sequence eventsource.event_position": ("alter sequence eventsource.event_position cache 10", "cache 10"),
    "view commandbus.command_bus_audit": ("drop view commandbus.command_bus_audit", "is missing"),
}


async def test_what_was_dropped_or_altered_is_named_and_its_advice_puts_it_back(pool, dsn):
    await run(pool, "create index my_own on commandbus.command (domain); alter table commandbus.batch add mine int")
    assert [check.level for check in await look(pool, "schema")] == [Level.OK]
    for statement, _ in ALTERED.values():
        await run(pool, statement)

    found = {check.subject: check for check in await look(pool, "schema")}
    said = await asyncio.to_thread(cli.run, "schema", "status", "--dsn", dsn)

    assert said.code == 4
    assert "enable trigger event_immutable" in " ".join(said.out.split())
    assert found.keys() == ALTERED.keys()
    assert [subject for subject, check in found.items() if ALTERED[subject][1] not in check.seen] == []
    async with autocommit(pool) as conn:
        for check in found.values():
            for statement in check.advice.split("`")[1::2]:
                if check.advice.startswith("Run"):
                    await conn.execute(statement)
    assert {check.subject for check in await look(pool, "schema")} == {
        "table commandbus.waiter",
        "column name of commandbus.batch",
        "view commandbus.command_bus_audit",
    }


async def work_with_events(pool):
    """Append, read, empty a stream, and keep a checkpoint."""
    log, store = PostgresEventLog(pool), PostgresProjectionStore(pool)
    event = NewEvent(uuid4(), "Placed", b"{}", datetime.now(UTC), tags=("a",))
    await log.append([StreamAppend(StreamId("Order", "1"), (event,))])
    assert len((await log.read_feed()).events) == 1
    await log.tombstone(StreamId("Order", "1"), reason="asked to", actor="me")
    await store.register("totals")
    (claim,) = await store.claim("totals", owner="me", seconds=5.0, most=1)
    async with store.batch(claim) as batch:
        await batch.advance(Checkpoint(1))
    await store.forget("totals")


async def test_a_role_without_rights_is_told_what_to_grant_until_it_lacks_nothing(pool, dsn, stranger, bus):
    await bus.send("shop", "Order", uuid4(), {})
    async with configured(dsn, f"-c role={stranger}") as other:
        before = await look(other, "rights")
        async with pool.connection() as conn:
            for check in before:
                await conn.execute(check.advice.split("`")[1])
        after = await look(other, "rights")
        await CommandBus(other).send("shop", "Order", uuid4(), {})
        await work_with_events(other)

    assert {check.level for check in before} == {Level.FAULT, Level.WARNING}
    assert any("schema" in check.subject and "commandbus" in check.seen for check in before)
    assert [check.level for check in after] == [Level.OK]


async def test_a_table_without_autovacuum_is_a_fault_that_its_advice_mends(pool):
    await run(pool, "alter table commandbus.deferred set (autovacuum_enabled = off)")

    found = await the(pool, "autovacuum", "commandbus.deferred")

    assert found.level is Level.FAULT
    await run(pool, found.advice.split("`")[1])
    assert [each for each in await look(pool, "autovacuum") if each.subject == "commandbus.deferred"] == []


async def test_dead_rows_that_vacuum_does_not_remove_are_seen(pool):
    async with pool.connection() as holder, pool.connection() as conn:
        await holder.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await holder.execute("select count(*) from commandbus.sleeper")  # vacuum cannot remove what dies from now on
        await conn.set_autocommit(True)
        await conn.execute(
            "insert into commandbus.sleeper select 'w' || n, 'shop', now() from generate_series(1, 2000) as n"
        )
        await conn.execute("delete from commandbus.sleeper")
        await conn.execute("select pg_stat_force_next_flush()")
        await conn.execute("select 1")

        found = await the(pool, "autovacuum", "commandbus.sleeper", AT_ONCE)

        await holder.rollback()
        await holder.set_isolation_level(None)
        await conn.set_autocommit(False)
    assert found.level is Level.WARNING
    assert "2,000 dead rows" in found.seen
    assert "vacuum commandbus.sleeper;" in found.advice


async def test_a_session_that_pins_vacuum_is_named(pool, dsn):
    async with await psycopg.AsyncConnection.connect(dsn, application_name="nightly report") as other:
        await other.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await other.execute("select count(*) from commandbus.command")
        pid = other.info.backend_pid

        found = await the(pool, "long transactions", f"pid {pid}", AT_ONCE)
        calm = await look(pool, "long transactions", FAR)

        assert found.level is Level.FAULT
        for part in (str(pid), "nightly report", "idle in transaction", "count(*)", "vacuum cannot remove"):
            assert part in found.seen
        assert [check.level for check in calm] == [Level.OK]
        await run(pool, found.advice.split("`")[1])
        with pytest.raises(psycopg.OperationalError):
            await other.execute("select 1")


async def test_sessions_that_cannot_be_looked_into_are_told_of(pool, dsn, stranger):
    async with configured(dsn, f"-c role={stranger}") as other, pool.connection() as conn:
        await conn.execute("select 1")

        found = await the(other, "long transactions", "hidden sessions")

    assert found.level is Level.WARNING
    assert "pg_read_all_stats" in found.advice


async def test_a_queue_that_nobody_receives_from_is_a_fault(pool, bus):
    for _ in range(2):
        await bus.send("shop", "Order", uuid4(), {})

    idle = await the(pool, "queues", "shop", AT_ONCE)
    await PostgresCommandStore(pool).receive("shop", limit=1, lease_seconds=30, worker="w")
    busy = await the(pool, "queues", "shop", AT_ONCE)

    assert (idle.level, busy.level) == (Level.FAULT, Level.WARNING)
    assert "2 ready, 0 leased" in idle.seen
    assert "1 ready, 1 leased" in busy.seen


async def test_overdue_commands_and_strays_are_seen(pool, bus):
    await bus.send("late", "Order", uuid4(), {}, delay=3600)
    await run(pool, "update commandbus.deferred set due_at = now() - interval '1 hour'")
    await bus.send("odd", "Order", uuid4(), {})
    await run(pool, "select pgmq.send('odd__commands', '{}')")

    late = await the(pool, "queues", "late")
    odd = await the(pool, "queues", "odd")

    assert late.level is Level.FAULT
    assert "overdue" in late.seen
    assert odd.level is Level.WARNING
    assert "1 messages stand for no waiting command" in odd.seen


@pytest.mark.parametrize(("hours", "seen"), [(-1, "ahead of this host"), (1, "behind this host")])
async def test_a_clock_that_differs_is_told(pool, hours, seen):
    async with pool.connection() as conn:
        ((now,),) = await (await conn.execute("select clock_timestamp()")).fetchall()
    clock = FrozenClock(now + timedelta(hours=hours))

    (near,) = await look(pool, "clock", Limits(clock=7200.0), clock=clock)
    (off,) = await look(pool, "clock", clock=clock)

    assert (near.level, off.level) == (Level.OK, Level.WARNING)
    assert seen in off.seen


async def test_few_connections_left_are_told(server, pool, database):
    async with await psycopg.AsyncConnection.connect(server.admin_dsn, autocommit=True) as conn:
        await conn.execute(sql.SQL("alter database {} connection limit 1").format(sql.Identifier(database)))

    found = await the(pool, "connections", f"database {database}")

    assert found.level is Level.FAULT
    assert "of 1 connections" in found.seen
    assert "connection limit -1" in found.advice


async def test_an_index_whose_build_failed_is_a_fault_until_its_advice_is_followed(pool):
    await run(pool, "insert into commandbus.sleeper values ('a', 'shop', now()), ('b', 'shop', now())")
    async with pool.connection() as conn:
        await conn.set_autocommit(True)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await conn.execute("create unique index concurrently only_one on commandbus.sleeper (domain)")
        await conn.execute("delete from commandbus.sleeper")

        found = await the(pool, "indexes", "commandbus.only_one")
        await conn.execute(found.advice.split("`")[1])

        assert found.level is Level.FAULT
        assert [check.level for check in await look(pool, "indexes")] == [Level.OK]
        await conn.set_autocommit(False)


async def test_old_transaction_ids_are_told(pool):
    (found,) = await look(pool, "wraparound", AT_ONCE)

    assert found.level is Level.FAULT
    assert "vacuum freeze" in found.advice


async def test_a_bloated_queue_is_seen(pool, bus):
    await bus.send("shop", "Order", uuid4(), {})
    async with pool.connection() as conn:
        await conn.set_autocommit(True)
        await conn.execute("alter table pgmq.q_shop__commands set (autovacuum_enabled = off)")
        await conn.execute("select pgmq.send('shop__commands', '{}') from generate_series(1, 5000)")
        await conn.execute("delete from pgmq.q_shop__commands where message = '{}'")
        await conn.execute("select pg_stat_force_next_flush()")
        await conn.execute("select 1")
        await conn.set_autocommit(False)

    found = await the(pool, "sizes", "pgmq.q_shop__commands", AT_ONCE)

    assert found.level is Level.WARNING
    assert "vacuum (full) pgmq.q_shop__commands" in found.advice


async def test_processes_that_wait_for_an_operator_are_told_by_what_holds_them(pool, bus):
    store = PostgresCommandStore(pool)
    await ProcessManager(pool).start(Buy(), Purchase())
    await bus.send("buying", "Reply", uuid4(), {})
    await bus.send("shop", "Order", uuid4(), {})
    (healthy,) = await look(pool, "processes")
    assert healthy.level is Level.OK

    for domain in ("orders", "buying", "shop"):
        (one,) = await store.receive(domain, limit=1, lease_seconds=30, worker="w")
        await store.complete(domain, [Outcome(one.lease, Verb.TROUBLESHOOT, error_code="BROKEN")])

    step, reply = await the(pool, "processes", "orders"), await the(pool, "processes", "buying")
    assert {step.level, reply.level} == {Level.WARNING}
    assert "1 of their steps" in step.seen
    assert "tsq list --domain orders" in step.advice
    assert "their code failed" in reply.seen
    assert "tsq retry --all --domain buying" in reply.advice
    assert len(await look(pool, "processes")) == 2
