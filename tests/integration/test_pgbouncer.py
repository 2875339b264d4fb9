"""Everything behind PgBouncer in transaction mode, which hands out its server connections in turn.

Pools prepare nothing there (`prepare_threshold=None`). LISTEN is not heard through it: workers poll, or listen on a
direct connection.
"""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from mainstay import CommandBus, HandlerRegistry, PostgreSQLEventStore, Worker
from mainstay.commands import waiting
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.doctor import CHECKS, Level, Limits, Patient
from tests.scenarios.aggregates import AggregateScenarios
from tests.scenarios.breakers import BreakerScenarios
from tests.scenarios.limits import LimitScenarios
from tests.scenarios.order import OrderScenarios
from tests.scenarios.outcomes import OutcomeScenarios
from tests.scenarios.plain import PlainScenarios
from tests.scenarios.postgres import OnPostgres
from tests.scenarios.processes import ProcessScenarios
from tests.scenarios.requesting import RequestingScenarios
from tests.scenarios.running import AGES, RunningScenarios
from tests.scenarios.sending_on import SendingOnScenarios
from tests.scenarios.tracing import TracingScenarios
from tests.scenarios.typed import TypedScenarios
from tests.scenarios.world import PATIENCE
from tests.support.cli import run
from tests.support.pgbouncer import pgbouncer
from tests.support.servers import open_pool
from tests.support.waiting import eventually

pytestmark = pytest.mark.thorough

NOTHING_PREPARED = {"prepare_threshold": None}


@pytest.fixture(scope="module")
def between(server):
    """A PgBouncer in transaction mode in front of the server."""
    with pgbouncer(server.admin_dsn) as one:
        yield one


@pytest.fixture
def dsn(between, database):
    """How to connect to `database`, through PgBouncer."""
    return between.dsn(database)


@pytest.fixture
async def pool(dsn):
    async with open_pool(dsn, kwargs=NOTHING_PREPARED) as opened:
        yield opened


class BehindPgBouncer(OnPostgres):
    """Workers listen on a direct connection, so that what is told of waking holds here, too."""

    @pytest.fixture
    async def store(self, pool, server, database):
        return PostgresCommandStore(pool, listen_dsn=server.dsn(database))


class TestOutcomes(BehindPgBouncer, OutcomeScenarios):
    pass


class TestRunning(BehindPgBouncer, RunningScenarios):
    pass


class TestSendingOn(BehindPgBouncer, SendingOnScenarios):
    pass


class TestPlain(BehindPgBouncer, PlainScenarios):
    pass


class TestTypes(BehindPgBouncer, TypedScenarios):
    pass


class TestAggregates(BehindPgBouncer, AggregateScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)


class TestTracing(BehindPgBouncer, TracingScenarios):
    pass


class TestRequesting(BehindPgBouncer, RequestingScenarios):
    pass


class TestOrder(BehindPgBouncer, OrderScenarios):
    pass


class TestLimits(BehindPgBouncer, LimitScenarios):
    pass


class TestBreakers(BehindPgBouncer, BreakerScenarios):
    pass


class TestProcesses(BehindPgBouncer, ProcessScenarios):
    pass


async def test_a_bus_and_a_worker_that_listen_past_it_are_woken(pool, server, database, monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_LOOK", AGES)
    monkeypatch.setattr(waiting, "LONGEST_PAUSE", AGES)
    past_it = server.dsn(database)
    registry = HandlerRegistry()
    registry.register("orders", "Do", lambda command, context: "done")
    worker = Worker(pool, "orders", registry, listen_dsn=past_it)
    bus = CommandBus(pool, listen_dsn=past_it)
    running = asyncio.create_task(worker.run(concurrency=2, poll_interval=AGES))
    await eventually(lambda: worker.is_running)

    replies = [await bus.request("orders", "Do", None, {}, timeout=PATIENCE) for _ in range(3)]
    await worker.stop()
    await running
    await bus.close()

    assert [reply.data for reply in replies] == ["done"] * 3


async def test_a_worker_that_cannot_listen_polls(pool):
    handled = []
    registry = HandlerRegistry()
    registry.register("orders", "Do", lambda command, context: handled.append(command.command_id))
    worker = Worker(pool, "orders", registry, use_notify=False)
    running = asyncio.create_task(worker.run(concurrency=2, poll_interval=0.05))
    await eventually(lambda: worker.is_running)
    sent = [(await CommandBus(pool).send("orders", "Do", uuid4(), {})).command_id for _ in range(5)]

    await eventually(lambda: len(handled) == 5)
    await worker.stop()
    await running

    assert sorted(handled) == sorted(sent)


def test_prepared_statements_meet_those_of_others(dsn):
    """The naive way, which `prepare_threshold=None` is there against: each client numbers its own from 0."""
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as one,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as other,
    ):
        one.execute("select 1")

        with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
            other.execute("select 1")


def test_the_command_line_works(dsn):
    command_id = str(uuid4())

    async def send():
        async with open_pool(dsn, kwargs=NOTHING_PREPARED) as pool:
            await CommandBus(pool).send("orders", "Do", command_id, {})

    asyncio.run(send())

    commands = (
        "stats",
        "commands list",
        f"commands show {command_id}",
        "tsq list",
        "events streams",
        "events tail --no-follow",
        "projections list",
        "batches list",
        "fsck",
        "schema status",
    )
    for command in commands:
        done = run(*command.split(), "--dsn", dsn)
        assert done.code == 0, (command, done.err)


@pytest.mark.parametrize(
    ("mode", "level", "seen"),
    [
        ("session", Level.OK, "session mode"),
        ("transaction", Level.OK, "transaction mode"),
        ("statement", Level.FAULT, "statement mode"),
    ],
)
async def test_the_doctor_recognizes_a_pooler_and_its_mode(server, database, mode, level, seen):
    with pgbouncer(server.admin_dsn, mode=mode) as one:
        async with open_pool(one.dsn(database), kwargs=NOTHING_PREPARED) as pool:
            (found,) = await CHECKS["pooler"](Patient(pool))

    assert (found.level, seen in found.seen) == (level, True)


async def test_the_doctor_is_not_misled_by_a_pooler_that_takes_its_connections_in_turn(server, database):
    with pgbouncer(server.admin_dsn, connections=2) as one:
        async with open_pool(one.dsn(database), kwargs=NOTHING_PREPARED) as pool:
            async with pool.connection() as first, pool.connection() as second:
                await first.execute("select 1")  # two that are in use at once make it open two of its own
                await second.execute("select 1")
            (found,) = await CHECKS["pooler"](Patient(pool))

    assert "transaction mode" in found.seen


async def test_the_doctor_warns_of_a_pool_that_prepares_statements(dsn):
    async with open_pool(dsn) as pool:
        (found,) = await CHECKS["pooler"](Patient(pool, Limits()))

    assert found.level is Level.WARNING
    assert "prepare_threshold" in found.advice
