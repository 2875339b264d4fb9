"""Read models in a SQLite file: rows and checkpoint are one COMMIT, wherever the process is killed."""

import asyncio
import signal
import sqlite3
from decimal import Decimal

import aiosqlite
import pytest

from mainstay import (
    Filter,
    ReadModelConflictError,
    ReadModelQuery,
    ReadModels,
    SQLiteEventStore,
    StreamId,
    SubscriptionManager,
)
from mainstay.errors import SchemaOutdatedError
from mainstay.projections.read_model import ReadModel
from mainstay.storage.sqlite.read_models import decimal_key
from tests.support.spending import Bought, Everything, Spending, Spendings, buy, config, expected, keeping, spent
from tests.support.thorough import thorough

PATIENCE = 90.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
async def store(path):
    async with SQLiteEventStore(path) as opened:
        yield opened


async def finish(store, projection, last, shards=1) -> None:
    manager = SubscriptionManager(store)
    await manager.subscribe(projection, config(shards))
    async with manager:
        await manager.wait_until(last, timeout=PATIENCE)


@pytest.mark.parametrize("when", [thorough("before"), "after"])
@pytest.mark.parametrize(
    ("nth", "statement"),
    [
        thorough(1, 'SELECT "spendings"'),
        thorough(1, 'INSERT INTO "spendings"'),
        thorough(1, 'UPDATE "spendings"'),
        thorough(1, "update mainstay_shard\nset position"),
        (4, "commit"),
        thorough(5, "commit"),
        thorough(6, "commit"),
    ],
)
async def test_a_process_killed_at_any_statement_of_a_batch_is_gone_on_from(path, store, when, nth, statement) -> None:
    last = await buy(store, 9)
    async with keeping(str(path), 1, when, str(nth), statement) as process:
        assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL

    await finish(store, Spendings(), last)

    assert await spent(ReadModels(store)) == expected(9)


@pytest.mark.thorough
async def test_shards_and_processes_that_write_to_one_row_lose_nothing(path, store) -> None:
    last = await buy(store, 10, customers=6)
    async with keeping(str(path), 2):
        await finish(store, Everything(), last, 3)
        await finish(store, Spendings(), last, 2)

    found = await spent(ReadModels(store))
    assert found.pop("all") == (Decimal(6 * 55), 60, 60)
    assert found == expected(10, customers=6)


async def test_writers_that_check_the_version_lose_nothing(path, store) -> None:
    read_models = ReadModels(store)
    await read_models.create_table(Spending)
    await read_models.of(Spending).save(Spending(id="a"))

    async with SQLiteEventStore(path) as other:

        async def add(repo, times: int) -> None:
            while times:
                mine = await repo.get("a")
                mine.count += 1
                try:
                    await repo.save_with_version_check(mine)
                except ReadModelConflictError:
                    continue
                times -= 1

        await asyncio.gather(*(add(ReadModels(each).of(Spending), 5) for each in (store, other, store, other)))

    assert await spent(read_models) == {"a": (Decimal(0), 20, 21)}


async def test_rows_join_a_transaction_of_the_callers_own_connection(path, store) -> None:
    read_models = ReadModels(store)
    await read_models.create_table(Spending)
    async with aiosqlite.connect(path, isolation_level=None) as mine:
        await mine.execute("begin immediate")
        repo = read_models.of(Spending, conn=mine)
        await repo.save(Spending(id="a", total=Decimal("1.5")))
        assert [each.id for each in await repo.find(ReadModelQuery(filters=[Filter.gt("total", 1)]))] == ["a"]
        assert await spent(read_models) == {}
        await mine.rollback()

    assert await spent(read_models) == {}


async def test_a_column_of_another_type_needs_a_rebuild(path, store) -> None:
    class OddFileRow(ReadModel):
        name: str = ""

    for odd in (
        "create table odd_file_rows (id text primary key)",
        "create table odd_file_rows (id text not null primary key, created_at TEXT not null, name INTEGER not null)",
        "create table odd_file_rows (id TEXT not null primary key, mine INTEGER not null)",
    ):
        async with store.transaction() as tx:
            await tx.connection.execute("drop table if exists odd_file_rows")
            await tx.connection.execute(odd)
        with pytest.raises(SchemaOutdatedError, match="rebuild the projection"):
            await ReadModels(store).create_table(OddFileRow)


async def test_other_programs_can_read_and_write_the_table(path, store) -> None:
    read_models = ReadModels(store)
    await read_models.create_table(Spending)
    await read_models.of(Spending).save(Spending(id="a", total=Decimal("10.50")))

    with sqlite3.connect(path) as other:
        assert other.execute("select id, total from spendings order by total").fetchall() == [("a", "10.50")]
        other.execute("update spendings set count = 7")

    assert (await read_models.of(Spending).get("a")).count == 7


def test_keys_of_decimals_are_in_the_order_of_their_values() -> None:
    texts = [
        "-1E+1000",
        "-10",
        "-9.99",
        "-9.9",
        "-1",
        "-0.01",
        "-1E-1000",
        "0",
        "1E-1000",
        "0.01",
        "0.1",
        "1",
        "9",
        "10",
    ]
    keys = [decimal_key(text) for text in texts]

    assert keys == sorted(keys)
    assert decimal_key("1.50") == decimal_key("1.5") == decimal_key("150E-2")
    assert decimal_key("-0.0") == decimal_key("0")
    assert decimal_key(None) is None


async def test_an_inline_projection_keeps_its_rows_in_the_transaction_that_appends(path, store) -> None:
    inline = Spendings()
    await ReadModels(store).prepare(inline)
    async with SQLiteEventStore(path, inline=[inline]) as appending:
        await ReadModels(appending).prepare(inline)
        await buy(appending, 3)

        async with appending.transaction() as tx:
            await appending.append(StreamId("RmCustomer", "c0"), [Bought(price=Decimal(9))], conn=tx)
            assert (await ReadModels(appending).of(Spending, conn=tx).get("c0")).count == 4
            assert (await ReadModels(store).of(Spending).get("c0")).count == 3

    assert (await spent(ReadModels(store)))["c0"] == (Decimal(15), 4, 4)
