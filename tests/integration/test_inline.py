"""Inline projections on every engine: the append and what is projected are one COMMIT, or nothing."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from mainstay import (
    Append,
    ConfigurationError,
    DatabaseProjection,
    DomainEvent,
    EventRegistry,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidInputError,
    OptimisticLockError,
    PostgreSQLEventStore,
    ProjectionError,
    SQLiteEventStore,
    StorageUnavailableError,
    StreamId,
    UnknownEventTypeError,
    handles,
)
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.waiting import eventually

ANN, BEN = StreamId("InlineAccount", "ann"), StreamId("InlineAccount", "ben")


class InlinePaid(DomainEvent, event_type="InlinePaid"):
    amount: int

    def tags(self):
        return ["money"]


class InlineNoted(DomainEvent, event_type="InlineNoted"):
    text: str


class Seen(DatabaseProjection):
    """One row for each event that was handled; a negative amount is refused after the row was written."""

    insert = "insert into seen (account, amount, version) values (%s, %s, %s)"

    @handles(InlinePaid)
    async def paid(self, event, conn):
        await self.write(conn, (str(event.aggregate_id), event.amount, event.aggregate_version))
        if event.amount < 0:
            raise ValueError("less than nothing")

    async def write(self, conn, row):
        await conn.execute(self.insert, row)


class SeenInSQLite(Seen):
    insert = Seen.insert.replace("%s", "?")


class SeenInMemory(Seen):
    def __init__(self):
        self.rows = []

    async def write(self, conn, row):
        assert conn is None
        self.rows.append(row)


REGISTRY = EventRegistry([InlinePaid, InlineNoted])


class InlineContract:
    """What holds on every engine; ``rows`` asks for what was projected."""

    undone = True

    async def rows(self, store):
        raise NotImplementedError

    async def test_what_is_appended_is_projected_when_append_returns(self, store):
        await store.append(ANN, [InlinePaid(amount=1), InlineNoted(text="x"), InlinePaid(amount=2)])
        await store.append(ANN, [InlinePaid(amount=3)], expected=3)

        assert await self.rows(store) == [("ann", 1, 1), ("ann", 2, 3), ("ann", 3, 4)]

    async def test_an_append_to_several_streams_and_one_with_a_condition(self, store):
        await store.append_all(
            [
                Append(BEN, [InlinePaid(amount=1)]),
                Append(StreamId("InlineAccount", "never"), (), ExpectedVersion.no_stream()),
                Append(ANN, [InlinePaid(amount=2)]),
            ]
        )
        await store.append_if([InlinePaid(amount=3)], fail_if=store.query(InlineNoted), after=0, stream=BEN)

        assert await self.rows(store) == [("ben", 1, 1), ("ann", 2, 1), ("ben", 3, 2)]

    async def test_a_projection_that_raises_refuses_the_append(self, store):
        with pytest.raises(ProjectionError, match=r"Seen.* failed on .*ValueError: less than nothing.*nothing was app"):
            await store.append(ANN, [InlinePaid(amount=1), InlinePaid(amount=-1)])

        assert await store.stream_version(ANN) == 0
        if self.undone:
            assert await self.rows(store) == []

    async def test_a_refused_append_is_not_projected(self, store):
        await store.append(ANN, [InlinePaid(amount=1)])
        with pytest.raises(OptimisticLockError):
            await store.append(ANN, [InlinePaid(amount=2)], expected=0)

        assert await self.rows(store) == [("ann", 1, 1)]

    async def test_a_repeated_append_is_projected_once(self, store):
        event = InlinePaid(amount=1)
        await store.append(ANN, [event], expected=0)

        again = await store.append(ANN, [event], expected=0)

        assert again.repeated
        assert await self.rows(store) == [("ann", 1, 1)]

    async def test_a_callers_transaction_has_both_or_neither(self, store):
        with suppress(ZeroDivisionError):
            async with store.transaction() as conn:
                await store.append(ANN, [InlinePaid(amount=1)], conn=conn)
                raise ZeroDivisionError
        if self.undone:
            assert await self.rows(store) == []
        async with store.transaction() as conn:
            await store.append(BEN, [InlinePaid(amount=2)], conn=conn)

        assert (await self.rows(store))[-1] == ("ben", 2, 1)
        assert await store.stream_version(ANN) == 0

    async def test_a_callers_transaction_that_goes_on_after_a_refusal_has_nothing_of_it(self, store):
        async with store.transaction() as conn:
            await store.append(ANN, [InlinePaid(amount=1)], conn=conn)
            with pytest.raises(ProjectionError):
                await store.append(ANN, [InlinePaid(amount=-1)], conn=conn)
            await store.append(ANN, [InlinePaid(amount=2)], conn=conn)

        assert await store.stream_version(ANN) == 2
        if self.undone:
            assert await self.rows(store) == [("ann", 1, 1), ("ann", 2, 2)]

    async def test_an_import_is_refused_because_it_would_pass_by(self, store):
        with pytest.raises(ConfigurationError, match="an import would pass by the inline projections"):
            await store.import_events([(ANN, InlinePaid(amount=1))])


class TestInMemory(InlineContract):
    undone = False
    """What handlers change elsewhere in memory is nobody's to undo."""

    @pytest.fixture
    def store(self):
        self.seen = SeenInMemory()
        return InMemoryEventStore(registry=REGISTRY, inline=[self.seen])

    async def rows(self, store):
        return self.seen.rows


class TestSQLite(InlineContract):
    @pytest.fixture
    async def store(self, tmp_path):
        path = tmp_path / "events.sqlite"
        async with SQLiteEventStore(path, registry=REGISTRY, inline=[SeenInSQLite()]) as store:
            async with store.transaction() as mine:
                await mine.connection.execute("create table seen (account text, amount int, version int)")
            yield store

    async def rows(self, store):
        async with store.transaction() as mine:
            return list(await mine.connection.execute_fetchall("select * from seen order by rowid"))


class TestPostgreSQL(InlineContract):
    @pytest.fixture
    async def store(self, pool):
        async with pool.connection() as conn:
            await conn.execute(
                "create table seen (n int generated always as identity, account text, amount int, version int)"
            )
        return PostgreSQLEventStore(pool, registry=REGISTRY, inline=[Seen()])

    async def rows(self, store):
        async with store.transaction() as conn:
            cursor = await conn.execute("select account, amount, version from seen order by n")
            return await cursor.fetchall()

    async def test_a_connection_of_the_callers_that_begins_with_the_append(self, store, dsn):
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            await store.append(ANN, [InlinePaid(amount=1)], conn=conn)
            await conn.rollback()
            await store.append(BEN, [InlinePaid(amount=2)], conn=conn)

        assert await self.rows(store) == [("ben", 2, 1)]

    async def test_a_transaction_of_sqlalchemys(self, store, dsn):
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        engine = create_async_engine("postgresql+psycopg://", connect_args=parts)
        async with engine.connect() as conn:
            await store.append(ANN, [InlinePaid(amount=1)], conn=conn)
            await conn.rollback()
            await store.append(BEN, [InlinePaid(amount=2)], conn=conn)
            await conn.commit()
        await engine.dispose()

        assert await self.rows(store) == [("ben", 2, 1)]

    async def test_a_connection_that_blocks_is_refused(self, store, dsn):
        with (
            psycopg.connect(dsn) as conn,
            pytest.raises(InvalidInputError, match=r"must be a psycopg\.AsyncConnection"),
        ):
            await store.append(ANN, [InlinePaid(amount=1)], conn=conn)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("statement", ["begin", "select version, position", "insert into seen", "commit"])
    async def test_a_connection_cut_at_any_statement_leaves_both_or_neither(self, store, dsn, statement, when):
        event = InlinePaid(amount=1)
        with Proxy(dsn) as proxy:
            async with open_pool(proxy.dsn) as cut_pool:
                cut_store = PostgreSQLEventStore(cut_pool, registry=REGISTRY, inline=[Seen()])
                cut = proxy.cut_before(statement) if when == "before" else proxy.cut_after(statement)
                with pytest.raises((StorageUnavailableError, ProjectionError)):
                    await cut_store.append(ANN, [event], expected=0)
        assert cut.happened.is_set()
        assert len(await self.rows(store)) == await store.stream_version(ANN)

        await store.append(ANN, [event], expected=0)

        assert await self.rows(store) == [("ann", 1, 1)]

    @pytest.mark.thorough
    async def test_writers_side_by_side_and_one_that_is_killed_leave_as_many_rows_as_events(self, store, dsn):
        async with killed_writer(dsn) as process:

            async def begun():
                return len(await self.rows(store)) > 5

            await eventually(begun)
            for amount in range(10):
                await store.append(ANN, [InlinePaid(amount=amount)])
            process.kill()

        for stream in (ANN, BEN):
            written = [e.event.amount async for e in store.read_stream(stream)]
            assert [amount for account, amount, _ in await self.rows(store) if account == stream.id] == written

    async def test_a_projection_beside_the_append_would_leave_one_without_the_other(self, store, pool, dsn):
        """The negative control: the same cut, with the projection in a transaction of its own."""
        with Proxy(dsn) as proxy:
            async with open_pool(proxy.dsn) as cut_pool:
                naive = PostgreSQLEventStore(cut_pool, registry=REGISTRY)
                proxy.cut_before("insert into seen")
                done = await naive.append(ANN, [InlinePaid(amount=1)])
                with pytest.raises(psycopg.OperationalError):
                    async with cut_pool.connection() as conn:
                        await Seen().write(conn, ("ann", 1, done.version))

        assert await store.stream_version(ANN) == 1
        assert await self.rows(store) == []


WRITER = """
import asyncio, sys
from mainstay import PostgreSQLEventStore
from mainstay.storage.postgres.database import open_pool
from tests.integration.test_inline import BEN, REGISTRY, InlinePaid, Seen

async def main():
    async with open_pool(sys.argv[1]) as pool:
        store = PostgreSQLEventStore(pool, registry=REGISTRY, inline=[Seen()])
        amount = 0
        while True:
            await store.append(BEN, [InlinePaid(amount=amount), InlinePaid(amount=amount + 1)])
            amount += 2

asyncio.run(main())
"""


@asynccontextmanager
async def killed_writer(dsn):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, dsn, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_what_is_no_projection_is_refused_when_the_store_is_made() -> None:
    class Nothing(DatabaseProjection):
        pass

    with pytest.raises(ConfigurationError, match="inline takes projections, instances of Projection"):
        InMemoryEventStore(inline=[Seen])  # type: ignore[list-item] # on purpose
    with pytest.raises(ConfigurationError, match="Nothing handles no event"):
        InMemoryEventStore(inline=[Nothing()])
    with pytest.raises(UnknownEventTypeError, match="InlinePaid"):
        InMemoryEventStore(registry=EventRegistry([InlineNoted]), inline=[Seen()])
