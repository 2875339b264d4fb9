"""Rebuilds in a SQLite file."""

import asyncio

import pytest

from mainstay import DatabaseProjection, DomainEvent, SQLiteEventStore, StreamId, SubscriptionConfig, handles
from mainstay import SubscriptionManager as Manager
from mainstay.errors import RebuildError, StorageError

QUICK = SubscriptionConfig(poll=0.05, batch_size=10)


class Stored(DomainEvent, aggregate_type="RebuiltShelf", event_type="RebuiltStored"):
    amount: int


class Shelf(DatabaseProjection):
    name = "shelf"
    tables = ("item", "total")

    @handles(Stored)
    async def stored(self, event, conn):
        shelf = str(event.aggregate_id)
        await conn.execute(f"insert into {self.table('item')} (shelf, amount) values (?, ?)", (shelf, event.amount))
        await conn.execute(
            f"insert into {self.table('total')} values (?, ?) "
            "on conflict (shelf) do update set amount = amount + excluded.amount",
            (shelf, event.amount),
        )


TABLES = [
    "create table item (number integer primary key autoincrement, shelf text not null, amount integer)",
    "create index item_by_shelf on item (shelf)",
    "create table total (shelf text primary key, amount integer)",
]


@pytest.fixture
async def store(tmp_path):
    async with SQLiteEventStore(tmp_path / "events.sqlite") as opened:
        async with opened.transaction() as mine:
            for statement in TABLES:
                await mine.connection.execute(statement)
        yield opened


async def rows(store, statement):
    async with store.transaction() as mine:
        return list(await mine.connection.execute_fetchall(statement))


async def put(store, *amounts, shelf="a") -> int:
    done = None
    for amount in amounts:
        done = await store.append(StreamId("RebuiltShelf", shelf), [Stored(amount=amount)])
    return done.position


async def test_each_event_is_there_once_after_a_rebuild_while_others_append(store) -> None:
    manager = Manager(store)
    await manager.subscribe(Shelf(), QUICK)
    await put(store, *range(30))
    async with manager:
        await manager.wait_until(30)
        async with store.transaction() as mine:
            await mine.connection.execute("update total set amount = 1")
        appending = asyncio.create_task(put(store, *range(40), shelf="b"))
        done = await manager.rebuild("shelf", actor="ann", keep=True)
        again = await manager.rebuild("shelf", actor="ann", config=SubscriptionConfig(poll=0.05, shards=3))
        await appending
        await manager.wait_until(70)

    item, total = done.tables
    assert (done.swapped, item.is_same, total.is_same, again.is_same) == (True, True, False, True)
    assert total.gone_rows[0] == {"shelf": "a", "amount": 1}
    assert await rows(store, "select amount from item where shelf = 'a' order by number") == [(n,) for n in range(30)]
    assert await rows(store, "select amount from item where shelf = 'b' order by number") == [(n,) for n in range(40)]
    assert await rows(store, "select * from total order by shelf") == [("a", 435), ("b", 780)]
    tables = [name for (name,) in await rows(store, "select name from sqlite_master where type = 'table'")]
    assert {"item", "total", "item__old", "total__old"} <= set(tables)
    assert [name for name in tables if "rebuild" in name] == []
    indexes = await rows(store, "select tbl_name from sqlite_master where name like 'item_by_shelf%' order by 1")
    assert indexes == [("item",), ("item__old",)]


async def test_a_canceled_rebuild_leaves_nothing(store) -> None:
    manager = Manager(store)
    await manager.subscribe(Shelf(), QUICK)
    async with manager:
        await manager.wait_until(await put(store, 1))
        await manager.rebuild("shelf", actor="ann", accept=lambda _found: False)
        assert await manager.cancel_rebuild("shelf")

    assert await rows(store, "select name from sqlite_master where name like '%__rebuild%'") == []


@pytest.mark.parametrize(
    ("obstacle", "said"),
    [
        ("create view balance as select * from total", "the view balance hangs on table total"),
        ("create table loan (shelf text references total)", "the foreign key of loan hangs on table total"),
        ("drop table total", "there is no table total"),
    ],
)
async def test_what_would_not_follow_in_a_swap_is_refused_at_the_beginning(store, obstacle, said) -> None:
    async with store.transaction() as mine:
        await mine.connection.execute(obstacle)
        await mine.connection.execute("create view unrelated as select 1 as subtotal")
    manager = Manager(store)
    await manager.subscribe(Shelf(), QUICK)

    with pytest.raises(StorageError, match=said):
        await manager.rebuild("shelf", actor="ann")


class Careless(Shelf):
    name = "shelf"

    @handles(Stored)
    async def stored(self, event, conn):
        await conn.execute("insert into item (shelf, amount) values ('a', ?)", (event.amount,))


async def test_a_projection_that_writes_to_what_serves_is_stopped_before_it_does(store) -> None:
    manager = Manager(store)
    await manager.subscribe(Careless(), QUICK)
    async with manager:
        await manager.wait_until(await put(store, 1, 2))
        with pytest.raises(RebuildError, match="it wrote to item, which serves"):
            await manager.rebuild("shelf", actor="ann")
        await manager.wait_until(await put(store, 3))

    assert await rows(store, "select amount from item order by number") == [(1,), (2,), (3,)]
