"""Events for code that blocks, on every engine: the same calls, in pages, from many threads, and in a running loop."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from mainstay import (
    AggregateNotFoundError,
    Append,
    AppendConditionError,
    ConfigurationError,
    DatabaseProjection,
    DeciderAggregate,
    DeclarativeAggregate,
    DeclarativeProjection,
    DomainEvent,
    EventRegistry,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    OptimisticLockError,
    PostgreSQLEventStore,
    SnapshotPolicy,
    SQLiteEventStore,
    StreamArchivedError,
    StreamId,
    StreamTombstonedError,
    SubscriptionConfig,
    SyncAggregateRepository,
    SyncEventStoreAdapter,
    SyncMainstay,
    SyncSubscriptionManager,
    UnknownEventTypeError,
    handles,
)
from tests.support.thorough import thorough

PATIENCE = 90.0
CONFIG = SubscriptionConfig(poll=0.05, lease=5.0)


class Counted(DomainEvent, aggregate_type="TestSyncCounter", event_type="TestSyncCounted"):
    by: int = 1


class Renamed(DomainEvent, aggregate_type="TestSyncCounter", event_type="TestSyncRenamed"):
    name: str


EVENTS = EventRegistry([Counted, Renamed])


class Sum(BaseModel):
    total: int = 0


class Counter(DeclarativeAggregate[Sum]):
    aggregate_type = "TestSyncCounter"

    def count(self, by):
        self.raise_event(Counted, by=by)

    @handles(Counted)
    def _counted(self, event):
        self._state = Sum(total=self._state.total + event.by)


class Limited(DeciderAggregate[Sum, int]):
    aggregate_type = "TestSyncCounter"

    @staticmethod
    def initial_state():
        return Sum()

    @staticmethod
    def decide(state, command):
        return [Counted(by=command)]

    @staticmethod
    def evolve(state, event):
        return Sum(total=state.total + event.by)


def stream(name="a"):
    return StreamId("TestSyncCounter", name)


def counted(*numbers):
    return [Counted(by=each) for each in numbers]


def numbers(envelopes):
    return [each.event.by for each in envelopes]


class RolledError(Exception):
    """Ends a transaction."""


class SyncEventsContract:
    """What holds on every engine; `store` is a `SyncEventStoreAdapter`."""

    def test_what_is_appended_is_read(self, store) -> None:
        done = store.append(stream(), counted(1, 2, 3), expected=ExpectedVersion.no_stream())
        store.append_all([Append(stream("b"), counted(4)), Append(stream(), counted(5), 3)])
        condition = store.query(Counted)

        assert (done.version, store.stream_version(stream()), store.stream_version(stream("c"))) == (3, 4, 0)
        assert numbers(store.read_stream(stream(), after_version=1)) == [2, 3, 5]
        assert numbers(store.read_stream(stream(), backwards=True, limit=2)) == [5, 3]
        assert numbers(store.read_all()) == [1, 2, 3, 4, 5]
        assert numbers(store.read_category("TestSyncCounter", after=3)) == [4, 5]
        assert [each.stream for each in store.streams()] == [stream(), stream("b")]
        assert len(store.load_stream(stream()).events) == 4
        assert len(store.read_page(wanted=store.filter(types=[Renamed])).events) == 0
        with pytest.raises(OptimisticLockError):
            store.append(stream(), counted(6), expected=1)
        with pytest.raises(AppendConditionError):
            store.append_if(counted(6), fail_if=condition, after=0, stream=stream())
        after = store.horizon().position
        assert store.append_if(counted(6), fail_if=condition, after=after, stream=stream())[0].version == 5
        assert store.wait(after, timeout=5.0) > after
        assert store.import_events((stream("d"), each) for each in counted(7, 8)) == 2

    def test_each_call_is_there_by_the_name_that_it_once_had(self, store) -> None:
        done = store.append_events_sync("a", "TestSyncCounter", counted(1), expected_version=0)

        assert done.new_version == 1
        assert numbers(store.read_all_sync()) == [1]
        assert store.get_stream_version_sync("a", "TestSyncCounter") == 1
        assert [each.by for each in store.get_events_sync("a", "TestSyncCounter").events] == [1]
        with pytest.raises(AttributeError):
            store.nothing_sync()

    def test_events_are_read_a_page_at_a_time(self, store) -> None:
        store.append(stream(), counted(*range(7)))
        reading = store.read_all(page=3)
        first = list(islice(reading, 2))
        store.append(stream(), counted(7))

        assert numbers(first) == [0, 1]
        assert numbers(reading) == [2, 3, 4, 5, 6, 7]

    def test_what_precedes_an_event_that_cannot_be_read_is_read(self, store, ignorant) -> None:
        store.append(stream(), counted(1, 2))
        store.append(stream(), [Renamed(name="x")])
        reading = ignorant.read_stream(stream())

        assert numbers(islice(reading, 2)) == [1, 2]
        with pytest.raises(UnknownEventTypeError):
            next(reading)

    def test_streams_end(self, store) -> None:
        store.append(stream(), counted(1))
        store.archive(stream())
        with pytest.raises(StreamArchivedError):
            store.append(stream(), counted(2))
        store.archive(stream(), archived=False)
        store.tombstone(stream(), reason="asked for", actor="ann")
        with pytest.raises(StreamTombstonedError):
            list(store.read_stream(stream()))

    def test_a_transaction_of_the_store_is_committed_or_rolled_back(self, store) -> None:
        with store.transaction() as conn:
            store.append(stream(), counted(1), conn=conn)
            store.append(stream("b"), counted(2), conn=conn)
            assert numbers(store.read_stream(stream(), conn=conn)) == [1]
        with suppress(RolledError), store.transaction() as conn:
            store.append(stream(), counted(3), conn=conn)
            raise RolledError

        assert numbers(store.read_all()) == [1, 2]

    def test_threads_that_append_to_one_stream_win_each_version_once(self, store) -> None:
        def work(by):
            won = 0
            while won < 5:
                with suppress(OptimisticLockError):
                    store.append(stream(), counted(by), expected=store.stream_version(stream()))
                    won += 1

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, range(6)))

        found = list(store.read_stream(stream()))
        assert [each.version for each in found] == list(range(1, 31))
        assert sorted(numbers(found)) == sorted(by for by in range(6) for _ in range(5))

    def test_aggregates_are_loaded_and_saved(self, store) -> None:
        repo = SyncAggregateRepository(store, Counter, snapshots=SnapshotPolicy.every(2))
        with pytest.raises(AggregateNotFoundError):
            repo.load("a")
        counter = repo.create_new("a")
        counter.count(2)
        assert repo.save(counter).version == 1
        other = repo.load("a")
        repo.execute("a", lambda each: each.count(3))
        other.count(9)
        with pytest.raises(OptimisticLockError):
            repo.save(other)

        assert (repo.load("a").state.total, repo.load("a", version=1).state.total) == (5, 2)
        assert (repo.exists("a"), repo.exists("b"), repo.get_version("a")) == (True, False, 2)
        assert repo.get_or_none("b") is None
        assert repo.load_or_create("b").version == 0
        assert repo.create_snapshot(repo.load("a"))
        assert SyncAggregateRepository(store, Limited).execute("a", 4).state.total == 9

    def test_a_command_runs_in_the_thread_that_gave_it_and_may_block(self, store) -> None:
        repo = SyncAggregateRepository(store, Counter)
        store.append(stream("b"), counted(40))

        def decide(counter):
            assert threading.current_thread() is threading.main_thread()
            counter.count(*numbers(store.read_stream(stream("b"))))

        async def decide_there(counter):
            counter.count(2)

        repo.execute("a", decide)
        assert repo.execute("a", decide_there).state.total == 42

    def test_commands_from_many_threads_are_all_kept(self, store) -> None:
        repo = SyncAggregateRepository(store, Counter, attempts=200)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda _: repo.execute("a", lambda each: each.count(1)), range(20)))

        assert repo.load("a").state.total == 20

    def test_a_subscription_is_started_and_stopped(self, store) -> None:
        handled = []

        class Seen(DeclarativeProjection):
            name = "seen"

            @handles(Counted)
            async def counted(self, event):
                handled.append(event.by)

        manager = SyncSubscriptionManager(store)
        manager.subscribe(Seen(), CONFIG)
        with manager:
            manager.wait_until(store.append(stream(), counted(1, 2)).position, timeout=PATIENCE)
            assert manager.is_healthy()
            assert [each.position for each in manager.lag()] == [store.horizon().position]
            manager.pause("seen", actor="ann")
        store.append(stream(), counted(3))
        manager.stop()
        manager.resume("seen", actor="ann")
        manager.start()
        manager.wait_until(store.horizon().position, timeout=PATIENCE)

        assert handled == [1, 2, 3]

    async def test_in_a_running_loop_a_call_blocks_it_and_is_done(self, store) -> None:
        store.append(stream(), counted(1, 2))

        assert numbers(store.read_stream(stream())) == [1, 2]
        assert SyncAggregateRepository(store, Counter).load("a").state.total == 3
        await asyncio.to_thread(store.append, stream(), counted(3))
        assert store.stream_version(stream()) == 3

    def test_in_the_loop_behind_it_a_call_is_refused(self, store) -> None:
        async def decide(_counter):
            store.stream_version(stream())

        with pytest.raises(ConfigurationError, match="would block it"):
            SyncAggregateRepository(store, Counter).execute("a", decide)

    def test_a_call_that_takes_too_long_is_given_up(self, source) -> None:
        with SyncEventStoreAdapter(source, timeout=0.05) as store:
            with suppress(TimeoutError):  # opening may take as long
                store.horizon()
            with pytest.raises(TimeoutError):
                store.wait(10_000, timeout=PATIENCE)


class TestMemory(SyncEventsContract):
    @pytest.fixture
    def source(self):
        return InMemoryEventStore(registry=EVENTS)

    @pytest.fixture
    def store(self, source):
        with SyncEventStoreAdapter(source) as adapter:
            yield adapter

    @pytest.fixture
    def ignorant(self, source):
        with SyncEventStoreAdapter(EventStore(source.log, registry=EventRegistry([Counted]))) as adapter:
            yield adapter


class TestSQLite(SyncEventsContract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "events.sqlite"

    @pytest.fixture
    def source(self, path):
        return lambda: SQLiteEventStore(path, registry=EVENTS)

    @pytest.fixture
    def store(self, source):
        with SyncEventStoreAdapter(source) as adapter:
            yield adapter

    @pytest.fixture
    def ignorant(self, path):
        with SyncEventStoreAdapter(SQLiteEventStore(path, registry=EventRegistry([Counted]))) as adapter:
            yield adapter

    async def test_a_store_that_is_open_elsewhere_is_refused(self, path) -> None:
        async with SQLiteEventStore(path) as opened:
            with SyncEventStoreAdapter(opened) as store, pytest.raises(ConfigurationError, match="open already"):
                store.horizon()

    @pytest.fixture
    def mine(self, store, path):
        """A connection of the caller's own, with a table of theirs, that makes something else of rows."""
        store.horizon()
        with closing(sqlite3.connect(path, timeout=0.1)) as conn:
            conn.row_factory = sqlite3.Row
            conn.execute("create table total (amount integer)")
            yield conn

    def test_what_is_appended_in_the_callers_transaction_shares_its_fate(self, store, mine) -> None:
        repo = SyncAggregateRepository(store, Counter)
        with mine:
            mine.execute("insert into total values (1)")
            store.append(stream(), counted(1), conn=mine)
            repo.execute("b", lambda counter: counter.count(2), conn=mine)
            assert numbers(store.read_stream(stream(), conn=mine)) == [1]
            assert store.stream_version(stream()) == 0
        with suppress(RolledError), mine:
            mine.execute("insert into total values (2)")
            store.append(stream(), counted(3), conn=mine)
            with pytest.raises(OptimisticLockError):
                store.append(stream("b"), counted(4), expected=7, conn=mine)
            store.tombstone(stream("b"), reason="a test", actor="ann", conn=mine)
            raise RolledError

        assert numbers(store.read_all()) == [1, 2]
        assert [row["amount"] for row in mine.execute("select amount from total")] == [1]

    async def test_a_blocking_connection_is_taken_from_blocking_code_only(self, store, mine, path) -> None:
        with mine:
            mine.execute("insert into total values (1)")
            store.append(stream(), counted(1), conn=mine)
        with pytest.raises(ConfigurationError, match="in no transaction"):
            store.append(stream(), counted(2), conn=mine)
        async with SQLiteEventStore(path) as other, other.transaction():
            with pytest.raises(ConfigurationError, match="for code that blocks sqlite3's"):
                await other.append(stream(), counted(3), conn=mine)
        with closing(sqlite3.connect(":memory:")) as elsewhere:
            elsewhere.execute("begin")
            with pytest.raises(ConfigurationError, match="connection to"):
                store.append(stream(), counted(4), conn=elsewhere)


class TestPostgreSQL(SyncEventsContract):
    @pytest.fixture
    def source(self, dsn):
        return dsn

    @pytest.fixture
    def store(self, dsn):
        with SyncEventStoreAdapter(dsn, registry=EVENTS) as adapter:
            yield adapter

    @pytest.fixture
    def ignorant(self, dsn):
        pool = AsyncConnectionPool(dsn, min_size=1, open=False)
        with SyncEventStoreAdapter(PostgreSQLEventStore(pool, registry=EventRegistry([Counted]))) as adapter:
            yield adapter

    async def test_a_pool_that_is_open_elsewhere_is_refused(self, pool) -> None:
        with (
            SyncEventStoreAdapter(PostgreSQLEventStore(pool)) as store,
            pytest.raises(ConfigurationError, match="open already"),
        ):
            store.horizon()

    def test_a_pool_is_shared(self, dsn) -> None:
        with SyncMainstay(dsn, max_size=2) as app:
            store = SyncEventStoreAdapter(app, registry=EVENTS)
            store.append(stream(), counted(1))
            store.close()
            assert not app.bus.command_exists("orders", uuid4())
            assert store.stream_version(stream()) == 1

    @pytest.mark.parametrize("kind", ["psycopg", "session"])
    def test_what_is_appended_in_the_callers_transaction_shares_its_fate(self, store, dsn, kind) -> None:
        def transaction():
            if kind == "psycopg":
                return psycopg.connect(dsn)
            engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
            return sessionmaker(engine).begin()

        repo = SyncAggregateRepository(store, Counter)
        with transaction() as conn:
            store.append(stream(), counted(1), conn=conn)
            repo.execute("b", lambda counter: counter.count(2), conn=conn)
            assert numbers(store.read_stream(stream(), conn=conn)) == [1]
            assert store.stream_version(stream()) == 0
        with suppress(RolledError), transaction() as conn:
            store.append(stream(), counted(3), conn=conn)
            repo.execute("b", lambda counter: counter.count(4), conn=conn)
            raise RolledError

        assert numbers(store.read_all()) == [1, 2]

    async def test_in_a_running_loop_the_callers_transaction_is_joined_too(self, store, dsn) -> None:
        with psycopg.connect(dsn) as conn:
            store.append(stream(), counted(1), conn=conn)
            conn.rollback()

        assert store.stream_version(stream()) == 0

    def test_a_statement_that_waits_holds_up_no_other_thread(self, store, dsn) -> None:
        with psycopg.connect(dsn) as first, ThreadPoolExecutor(1) as threads:
            store.append(stream(), counted(1), expected=0, conn=first)
            waiting = threads.submit(store.append, stream(), counted(2), expected=0)
            assert store.append(stream("b"), counted(3)).version == 1
            assert not waiting.done()
            first.commit()
            with pytest.raises(OptimisticLockError):
                waiting.result(PATIENCE)

    def test_what_a_projection_writes_is_there_once(self, store, dsn) -> None:
        class Totals(DatabaseProjection):
            name = "totals"

            @handles(Counted)
            async def counted(self, event, conn):
                await conn.execute("insert into total values (%s)", [event.by])

        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("create table total (amount integer)")
            manager = SyncSubscriptionManager(store)
            manager.subscribe(Totals(), CONFIG)
            with manager:
                manager.wait_until(store.append(stream(), counted(1, 2)).position, timeout=PATIENCE)
            assert conn.execute("select amount from total order by 1").fetchall() == [(1,), (2,)]

    @pytest.mark.parametrize("source", ["a connection string", thorough("a SQLite store")])
    @pytest.mark.thorough
    def test_each_process_that_forks_opens_its_own(self, dsn, tmp_path, source) -> None:
        given = repr(dsn) if source == "a connection string" else f"lambda: SQLiteEventStore({str(tmp_path / 'e')!r})"
        program = f"""
            import os, sys
            from mainstay import DomainEvent, SQLiteEventStore, StreamId, SyncEventStoreAdapter

            class Counted(DomainEvent): ...

            store = SyncEventStoreAdapter({given})
            store.append(StreamId("Counter", "a"), [Counted()])
            child = os.fork()
            store.append(StreamId("Counter", "a"), [Counted()])
            if not child:
                store.close()
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            assert store.stream_version(StreamId("Counter", "a")) == 3
            store.close()
            sys.exit(os.waitstatus_to_exitcode(status))
        """
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]  # newer Pythons warn of forks
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

        assert (done.returncode, done.stderr) == (0, "")
