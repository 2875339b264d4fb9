"""Read models on PostgreSQL: rows and checkpoint are one COMMIT, wherever the connection breaks; few round trips."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.numeric import FloatLoader
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from mainstay.app import PostgreSQLEventStore, ReadModels, SubscriptionManager
from mainstay.errors import (
    ConfigurationError,
    InvalidInputError,
    ProjectionError,
    ReadModelConflictError,
    ReadModelTableNotFoundError,
    SchemaOutdatedError,
    StorageUnavailableError,
)
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.read_model import ReadModel, table_of
from mainstay.projections.read_model_query import ReadModelQuery, selection_of
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.spending import Bought, Everything, Spending, Spendings, buy, config, expected, keeping, spent
from tests.support.thorough import thorough
from tests.support.waiting import eventually

PATIENCE = 90.0
QUICK = SubscriptionConfig(batch_size=10, poll=0.05, lease=5.0)


@pytest.fixture
def store(pool):
    return PostgreSQLEventStore(pool)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "statement",
    [
        thorough("begin"),
        thorough('select "spendings'),
        thorough('insert into "spendings'),
        'update "spendings',
        "commit",
    ],
)
async def test_a_connection_cut_at_any_statement_of_a_batch_is_gone_on_from(store, pool, dsn, statement, when) -> None:
    last = await buy(store, 9)
    with Proxy(dsn) as proxy:
        async with open_pool(proxy.dsn) as cut_pool:
            manager = SubscriptionManager(store, cut_pool)
            await manager.subscribe(Spendings(), QUICK)
            cut = proxy.cut_before(statement, times=2) if when == "before" else proxy.cut_after(statement, times=2)
            async with manager:
                await manager.wait_until(last, timeout=PATIENCE)

    assert cut.happened.is_set()
    assert await spent(ReadModels(pool)) == expected(9)


@pytest.mark.thorough
async def test_processes_killed_one_after_another_count_each_event_once(store, pool, dsn) -> None:
    async def counted():
        return sum(count for _, count, _ in (await spent(ReadModels(pool))).values())

    await ReadModels(pool).create_table(Spending)
    for _ in range(3):
        before = await counted()
        async with keeping(dsn, 3):
            buying = asyncio.create_task(buy(store, 15))

            async def more(before=before):
                return await counted() > before

            await eventually(more, timeout=PATIENCE)
        last = await buying
    manager = SubscriptionManager(store)
    await manager.subscribe(Spendings(), config(3))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)

    assert await spent(ReadModels(pool)) == {each: (Decimal(3 * 120), 45, 45) for each in expected(15)}


async def test_shards_that_write_to_one_row_lose_nothing(store, pool) -> None:
    last = await buy(store, 20, customers=6)
    manager = SubscriptionManager(store)
    await manager.subscribe(Everything(), config(3))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)

    assert await spent(ReadModels(pool)) == {"all": (Decimal(6 * 210), 120, 120)}


async def test_writers_that_check_the_version_lose_nothing(pool) -> None:
    read_models = ReadModels(pool)
    await read_models.create_table(Spending)
    repo = read_models.of(Spending)
    await repo.save(Spending(id="a"))

    async def add(times: int) -> None:
        while times:
            mine = await repo.get("a")
            mine.count += 1
            try:
                await repo.save_with_version_check(mine)
            except ReadModelConflictError:
                continue
            times -= 1

    await asyncio.gather(*(add(10) for _ in range(4)))

    assert await spent(read_models) == {"a": (Decimal(0), 40, 41)}


async def test_writers_that_do_not_check_lose_something(pool) -> None:
    """What the one above would be if checking did nothing."""
    read_models = ReadModels(pool)
    await read_models.create_table(Spending)
    repo = read_models.of(Spending)
    await repo.save(Spending(id="a"))
    mine, theirs = await repo.get("a"), await repo.get("a")
    mine.count, theirs.count = 1, 1
    await repo.save(mine)
    await repo.save(theirs)

    assert await spent(read_models) == {"a": (Decimal(0), 1, 3)}


async def test_a_batch_takes_one_read_and_two_writes_however_many_rows_it_has(store, pool, monkeypatch) -> None:
    async with pool.connection() as conn:  # half of the rows are there
        await ReadModels(pool).create_table(Spending)
        await ReadModels(pool).of(Spending, conn=conn).save_many([Spending(id=f"c{n}") for n in range(15)])
    last = await buy(store, 3, customers=30)
    asked: list[str] = []
    execute = psycopg.AsyncCursor.execute

    async def counted(cursor, query, *arguments, **options):
        asked.append(query.decode() if isinstance(query, bytes) else str(query))
        return await execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    manager = SubscriptionManager(store)
    await manager.subscribe(Spendings(), SubscriptionConfig(batch_size=1000, poll=0.05))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)

    about_rows = [text.split()[0] for text in asked if '"spendings"' in text and "pg_" not in text]
    assert about_rows == ["SELECT", "INSERT", "UPDATE"]
    assert (await spent(ReadModels(pool)))["c29"] == (Decimal(6), 3, 3)


async def test_a_table_is_made_once_though_many_begin_at_once(pool) -> None:
    read_models = ReadModels(pool)

    changes = await asyncio.gather(*(read_models.create_table(Spending) for _ in range(4)))

    assert sorted(change.created for change in changes) == [False, False, False, True]
    assert sum(change.indexes for change in changes) == 1


async def test_a_column_of_another_type_needs_a_rebuild(pool) -> None:
    for odd in (
        "create table odd_rows (id text)",
        "create table odd_rows (id text primary key, created_at timestamptz not null, name varchar(10) not null)",
        "create table odd_rows (id text primary key, mine int not null)",
        "create table odd_rows (id text primary key, name text)",
    ):
        async with pool.connection() as conn:
            await conn.execute("drop table if exists odd_rows")
            await conn.execute(odd.encode())

        class OddRow(ReadModel):
            name: str = ""

        with pytest.raises(SchemaOutdatedError, match=r"table 'odd_rows'.*rebuild the projection"):
            await ReadModels(pool).create_table(OddRow)


async def test_the_statements_for_migrations_make_what_is_made_otherwise(pool) -> None:
    read_models = ReadModels(pool)
    async with pool.connection() as conn:
        await conn.execute(read_models.schema_sql(Spending).encode())

    change = await read_models.create_table(Spending)

    assert (change.created, change.columns, change.indexes) == (False, (), 0)


async def test_a_deadlock_is_an_outage_that_wrote_nothing(pool) -> None:
    read_models = ReadModels(pool)
    await read_models.create_table(Spending)
    await read_models.of(Spending).save_many([Spending(id="a"), Spending(id="b")])
    met = asyncio.Barrier(2)

    async def write(*ids: str) -> None:
        async with read_models.transaction() as conn:
            repo = read_models.of(Spending, conn=conn)
            for place, each in enumerate(ids):
                await repo.save(Spending(id=each, count=1))
                if not place:
                    await met.wait()

    done = await asyncio.gather(write("a", "b"), write("b", "a"), return_exceptions=True)

    assert sorted(type(each) for each in done if each) == [StorageUnavailableError]
    assert {count for _, count, _ in (await spent(read_models)).values()} == {1}


async def test_rows_can_be_written_in_a_transaction_of_ones_own(pool) -> None:
    read_models = ReadModels(pool)
    await read_models.create_table(Spending)
    async with pool.connection() as conn:
        await read_models.of(Spending, conn=conn).save(Spending(id="a"))
        assert await spent(read_models) == {}

    assert set(await spent(read_models)) == {"a"}
    with pytest.raises(InvalidInputError, match="AsyncConnection"):
        await read_models.of(Spending, conn=object()).save(Spending(id="b"))


async def test_a_page_in_the_order_of_an_index_reads_as_many_rows_as_it_gives(pool) -> None:
    read_models = ReadModels(pool)
    await read_models.create_table(Spending)
    many = [Spending(id=f"{number:06}", total=Decimal(number % 997)) for number in range(10_000)]
    await read_models.of(Spending).save_many(many)
    table = table_of(Spending)
    first = await read_models.of(Spending).find_page(ReadModelQuery(order_by="total", limit=5000))
    assert first.cursor is not None
    query = ReadModelQuery(order_by="total", limit=10, after=first.cursor)
    statement, asked = read_models.store.statements(table).find(selection_of(table, query))
    async with pool.connection() as conn:
        await conn.execute("analyze spendings")
        cursor = await conn.execute(b"explain (analyze, format json) " + statement.sql.encode(), asked)
        plan = (await cursor.fetchone())[0][0]["Plan"]

    def nodes(node):
        yield node
        for each in node.get("Plans", []):
            yield from nodes(each)

    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    assert scans[0]["Node Type"] == "Index Scan"
    assert scans[0]["Actual Rows"] + scans[0].get("Rows Removed by Filter", 0) < 60


async def test_a_pool_that_reads_and_writes_values_its_own_way_changes_nothing(dsn) -> None:
    async def configure(conn) -> None:
        conn.adapters.register_loader("numeric", FloatLoader)
        conn.adapters.register_loader("timestamptz", TextLoader)
        conn.adapters.register_loader("uuid", TextLoader)
        conn.row_factory = dict_row
        await conn.execute("set timezone = 'America/New_York'")
        await conn.commit()

    exact = Spending(
        id=uuid4(), total=Decimal("0.1000000000000000055511151231257827"), deleted_at=datetime.max.replace(tzinfo=UTC)
    )
    async with AsyncConnectionPool(dsn, configure=configure, open=False) as pool:
        read_models = ReadModels(pool)
        await read_models.create_table(Spending)
        await read_models.of(Spending).save(exact)
        found = await read_models.of(Spending).get_deleted(exact.id)

    assert found == exact
    assert str(found.total) == str(exact.total)


async def test_read_models_are_somewhere(pool) -> None:
    with pytest.raises(ConfigurationError, match="read models are in a pool"):
        ReadModels("postgresql://")
    with pytest.raises(ReadModelTableNotFoundError):
        await ReadModels(pool).of(Spending).find()


async def test_an_inline_projection_keeps_its_rows_in_the_transaction_that_appends(pool) -> None:
    class Picky(Spendings):
        async def handle(self, envelope, conn):
            await super().handle(envelope, conn)
            if envelope.event.price == 13:
                raise ValueError("not thirteen")

    inline, read_models = Picky(), ReadModels(pool)
    await read_models.prepare(inline)
    store = PostgreSQLEventStore(pool, inline=[inline])
    ann = StreamId("RmCustomer", "ann")
    await store.append(ann, [Bought(price=Decimal(price)) for price in (1, 2, 3)])
    with pytest.raises(ProjectionError, match="not thirteen"):
        await store.append(ann, [Bought(price=Decimal(4)), Bought(price=Decimal(13))])
    async with pool.connection() as conn:
        await store.append(ann, [Bought(price=Decimal(5))], conn=conn)
        assert (await read_models.of(Spending, conn=conn).get("ann")).count == 4
        assert (await read_models.of(Spending).get("ann")).count == 3
        await conn.rollback()

    assert await spent(read_models) == {"ann": (Decimal(6), 3, 3)}
    assert await store.stream_version(ann) == 3


async def test_an_error_when_rows_are_written_refuses_the_append(pool) -> None:
    class Unwritable(Spendings):
        @asynccontextmanager
        async def batch(self, conn, events):
            async with super().batch(conn, events) as rows:
                yield rows
            raise ValueError("no room")

    inline = Unwritable()
    await ReadModels(pool).prepare(inline)
    store = PostgreSQLEventStore(pool, inline=[inline])

    with pytest.raises(ProjectionError, match="no room"):
        await store.append(StreamId("RmCustomer", "ann"), [Bought(price=Decimal(1))])

    assert await spent(ReadModels(pool)) == {}
    assert await store.stream_version(StreamId("RmCustomer", "ann")) == 0
