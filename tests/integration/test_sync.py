"""The blocking calls on PostgreSQL: a pool for each process, whatever forks."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from mainstay import (
    CommandStatus,
    DuplicateCommandError,
    HandlerRegistry,
    SchemaError,
    StorageUnavailableError,
    SyncCommandBus,
    SyncMainstay,
    SyncWorker,
)
from tests.support.backends import KEEPER
from tests.support.waiting import eventually_sync

OTHERS = f"""
    select count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name <> '{KEEPER}'
"""
FORKING = """
    import os, sys
    from uuid import uuid4
    from mainstay import SyncCommandBus

    bus = SyncCommandBus(sys.argv[1])
    bus.send("orders", "Parent", uuid4(), {})
    child = os.fork()
    if not child:
        bus.send("orders", "Child", uuid4(), {})
        grandchild = os.fork()
        if not grandchild:
            bus.send("orders", "Grandchild", uuid4(), {})
            sys.exit(0)  # an exit that cleans up, and must leave the others' connections alone
        _, status = os.waitpid(grandchild, 0)
        bus.send("orders", "Child", uuid4(), {})
        bus.close()
        sys.exit(os.waitstatus_to_exitcode(status))
    _, status = os.waitpid(child, 0)
    bus.send("orders", "Parent", uuid4(), {})
    bus.close()
    sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_bus_is_connected_when_first_needed_and_checks_the_schema(empty_dsn, dsn):
    with SyncCommandBus(empty_dsn) as bus, pytest.raises(SchemaError):
        bus.command_exists("orders", uuid4())
    with pytest.raises(StorageUnavailableError):
        SyncMainstay.connect("postgresql://postgres@127.0.0.1:1/nowhere")
    with SyncMainstay.connect(dsn) as app:
        assert app.bus.send("orders", "Do", uuid4(), {}).msg_id == 1


def test_each_process_that_forks_has_a_pool_of_its_own(dsn):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKING), dsn],  # newer Pythons warn of forks
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    with SyncCommandBus(dsn) as bus:
        types = sorted(each.command_type for each in bus.query_commands())
    assert types == ["Child", "Child", "Grandchild", "Parent", "Parent"]


def test_threads_share_a_bus_and_its_connections(dsn):
    keys = [uuid4() for _ in range(100)]
    with SyncMainstay(dsn, max_size=3) as app, ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: app.bus.send("orders", "Do", key, {}), keys))
        found = app.bus.query_commands(limit=1000)
        with psycopg.connect(dsn) as conn:
            open_now = conn.execute(OTHERS).fetchone()

    assert {each.command_id for each in found} == set(keys)
    assert open_now[0] <= 3


def test_closing_gives_every_connection_back(dsn):
    with SyncMainstay.connect(dsn) as app:
        app.bus.send("orders", "Do", uuid4(), {})

    with psycopg.connect(dsn, autocommit=True) as conn:
        eventually_sync(lambda: conn.execute(OTHERS).fetchone() == (0,))


def test_a_worker_handles_what_is_sent(dsn):
    registry = HandlerRegistry()

    @registry.handler("orders", "Plain")
    def plain(command, context):
        return {"attempt": context.attempt}

    @registry.handler("orders", "Whole", transactional=True)
    async def whole(command, context):
        await context.conn.execute("create table made (n integer)")

    keys = [uuid4(), uuid4()]
    worker = SyncWorker(dsn, "orders", registry, name="blocking")
    with SyncCommandBus(dsn) as bus, ThreadPoolExecutor(1) as threads:
        for key, command_type in zip(keys, ("Plain", "Whole"), strict=True):
            bus.send("orders", command_type, key, {})
        run = threads.submit(worker.run)
        eventually_sync(
            lambda: all(bus.get_command("orders", key).status is CommandStatus.COMPLETED for key in keys), timeout=30
        )
        worker.stop()
        run.result(30)
        assert bus.get_audit_trail(keys[0])[1].details["worker"] == "blocking"
    worker.close()


# --- in the caller's transaction --------------------------------------------------------------------------------------


@contextmanager
def _psycopg(dsn):
    with psycopg.connect(dsn) as conn:
        yield conn


@contextmanager
def _scoped(dsn):
    """A session that belongs to this thread: from another one, the same name stands for another session."""
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    sessions = scoped_session(sessionmaker(engine))
    with sessions.begin():
        yield sessions
    sessions.remove()


@pytest.mark.parametrize("connection", [_psycopg, _scoped], ids=["psycopg", "scoped session"])
def test_what_is_sent_in_the_callers_transaction_shares_its_fate(dsn, connection):
    kept, lost = uuid4(), uuid4()
    with SyncCommandBus(dsn) as bus:
        with connection(dsn) as conn:
            bus.send("orders", "Do", kept, {}, conn=conn)
            assert not bus.command_exists("orders", kept)
        with suppress(LookupError), connection(dsn) as conn:
            bus.send("orders", "Do", lost, {}, conn=conn)
            raise LookupError
        bus.wake("orders")

        assert bus.command_exists("orders", kept)
        assert not bus.command_exists("orders", lost)


def test_a_statement_that_waits_holds_up_no_other_thread(dsn):
    same = uuid4()
    with SyncCommandBus(dsn) as bus, ThreadPoolExecutor(1) as threads, psycopg.connect(dsn) as first:
        bus.send("orders", "Do", same, {}, conn=first)

        def second():
            with psycopg.connect(dsn) as conn:
                bus.send("orders", "Do", same, {}, conn=conn)

        waiting = threads.submit(second)
        with psycopg.connect(dsn, autocommit=True) as conn:
            locked = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            eventually_sync(lambda: conn.execute(locked).rowcount == 1)
        assert not bus.command_exists("orders", same)
        assert not waiting.done()
        first.commit()
        with pytest.raises(DuplicateCommandError):
            waiting.result(30)
