"""Dry runs on PostgreSQL: not one row is changed, and what inline projections would change is told."""

from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay import (
    Command,
    DatabaseProjection,
    HandlerContext,
    InvalidOperationError,
    PostgreSQLEventStore,
    ReadModel,
    ReadModelProjection,
    ReadModels,
    Rehearsal,
    SnapshotPolicy,
    StorageUnavailableError,
    handles,
)
from mainstay.commands import trying
from tests.scenarios.aggregates import Account, Basket, BasketFilled, Deposit, Deposited
from tests.scenarios.dry_runs import DryRunScenarios
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.world import DOMAIN, REPLIES
from tests.support.dumps import dump
from tests.support.servers import open_pool

ACCOUNT = UUID("00000000-0000-4000-8000-00000000000b")


class Items(ReadModel):
    __table_name__ = "dry_run_items"

    items: int = 0


class ItemsOfBaskets(ReadModelProjection[Items]):
    @handles(BasketFilled)
    async def filled(self, event, models):
        found = await models.get(event.aggregate_id) or Items(id=event.aggregate_id)
        await models.save(found.model_copy(update={"items": found.items + 1}))


class Totals(DatabaseProjection):
    @handles(Deposited)
    async def deposited(self, event, conn):
        async with conn.transaction():
            await conn.execute(
                "insert into dry_run_total values ('all', %s) on conflict (id)"
                " do update set total = dry_run_total.total + excluded.total",
                (event.amount,),
            )
        await conn.execute("delete from dry_run_old")
        await conn.execute("insert into dry_run_log values (%s)", (event.amount,))


@pytest.fixture
async def totals(pool):
    await run(pool, "create table dry_run_total (id text primary key, total int)")
    await run(pool, "create table dry_run_log (amount int)")
    await run(pool, "create table dry_run_old (n int)")
    await run(pool, "insert into dry_run_old select * from generate_series(1, 3)")


class TestOnPostgres(OnPostgres, DryRunScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)

    async def everything(self, world, pool) -> Rehearsal:
        """A rehearsal of a handler that does all that a handler can."""

        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            await context.conn.execute("insert into dry_run_log values (7)")
            await context.conn.execute("notify anybody")
            async with context.session() as session:
                await session.connection()
            await context.send(DOMAIN, "Next", {}, key="k", unique_key="u")
            await context.send(DOMAIN, "Later", {}, delay=60, reply_to=REPLIES)
            await context.send("nowhere", "Far", {})

        world.registry.register_decider(domain=DOMAIN, decider=Account)
        await world.bus.send(Deposit(account_id=ACCOUNT, amount=10))
        events = PostgreSQLEventStore(pool, inline=[Totals()])
        async with world.working(event_store=events, snapshots=SnapshotPolicy.every(1)):
            await world.settled((await world.bus.query_commands())[0].command_id)
        await world.store.about_to_sleep(DOMAIN, "sleeper")
        return Rehearsal(pool, world.registry, event_store=PostgreSQLEventStore(pool, inline=[Totals()]))

    async def test_not_one_row_is_changed(self, world, pool, totals):
        rehearsal = await self.everything(world, pool)
        before = await dump(pool)
        await rehearsal.dry_run(DOMAIN, "Fill", {"basket_id": "b"}, reply_to=REPLIES)
        await rehearsal.dry_run(Deposit(account_id=ACCOUNT, amount=1))
        await rehearsal.dry_run_again(DOMAIN, (await world.bus.query_commands())[0].command_id)

        assert sum(map(len, before.values())) > 50
        assert await dump(pool) == before

    async def test_a_dump_tells_of_a_run_that_is_committed(self, world, pool, totals, monkeypatch):
        rehearsal = await self.everything(world, pool)
        before = await dump(pool)

        @asynccontextmanager
        async def committed(store):
            async with store.transaction() as conn:
                yield conn

        monkeypatch.setattr(trying, "undone", committed)
        await rehearsal.dry_run(Deposit(account_id=ACCOUNT, amount=1))
        after = await dump(pool)

        assert {name for name in before if before[name] != after[name]} == {
            "eventsource.event",
            "eventsource.stream",
            "dry_run_total",
            "dry_run_log",
        }

    async def test_what_projections_and_the_handler_would_change_is_told(self, world, pool, totals):
        rehearsal = await self.everything(world, pool)
        await run(pool, "insert into dry_run_old values (1)")
        deposit = await rehearsal.dry_run(Deposit(account_id=ACCOUNT, amount=5))
        fill = await rehearsal.dry_run(DOMAIN, "Fill", {"basket_id": "b"})
        log, old, total = deposit.changes

        assert [each.table for each in deposit.changes] == [
            "public.dry_run_log", "public.dry_run_old", "public.dry_run_total"
        ]  # fmt: skip
        assert (log.inserted, [(each.before, each.after) for each in log.rows]) == (1, [(None, {"amount": 5})])
        assert (old.deleted, old.rows) == (1, ())
        assert (total.updated, total.inserted) == (1, 0)
        assert [(each.before, each.after) for each in total.rows] == [
            ({"id": "all", "total": 10}, {"id": "all", "total": 15})
        ]
        assert [(each.table, each.inserted) for each in fill.changes] == [("public.dry_run_log", 1)]

    async def test_a_table_that_the_handler_makes_is_told_as_one_without_rows(self, world, pool):
        @world.handles(DOMAIN, "Make", transactional=True)
        async def make(command: Command, context: HandlerContext) -> None:
            await context.conn.execute('create table public."dry run made" (id int primary key)')
            await context.conn.execute('insert into public."dry run made" values (1)')

        made = await Rehearsal(pool, world.registry).dry_run(DOMAIN, "Make", {})

        assert made.verb == "COMPLETE", made.error_message
        (change,) = made.changes
        assert (change.inserted, [(each.before, each.after) for each in change.rows]) == (1, [(None, {"id": 1})])

    async def test_the_rows_of_a_large_table_are_counted_only(self, world, pool, totals, monkeypatch):
        rehearsal = await self.everything(world, pool)
        monkeypatch.setattr("mainstay.storage.postgres.watching.LARGEST", 0)
        deposit = await rehearsal.dry_run(Deposit(account_id=ACCOUNT, amount=5))

        assert [(each.table, each.inserted, each.rows) for each in deposit.changes] == [
            ("public.dry_run_log", 1, ()), ("public.dry_run_total", 0, ())
        ]  # fmt: skip

    async def test_what_others_write_meanwhile_is_not_told(self, world, pool, totals):
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command: Command, context: HandlerContext) -> None:
            await context.conn.execute("insert into dry_run_log values (1)")
            await run(pool, "insert into dry_run_log values (2)")
            await run(pool, "insert into dry_run_total values ('other', 2)")

        found = await Rehearsal(pool, world.registry).dry_run(DOMAIN, "Do", {})

        assert [(each.table, each.inserted) for each in found.changes] == [("public.dry_run_log", 1)]
        assert [each.after for each in found.changes[0].rows] == [{"amount": 1}]

    async def test_a_read_model_is_shown_before_and_after(self, world, pool):
        projection = ItemsOfBaskets()
        await ReadModels(pool).prepare(projection)
        events = PostgreSQLEventStore(pool, inline=[projection])

        @world.handles(DOMAIN, "Fill", aggregate=Basket, stream="basket_id")
        async def fill(basket: Basket, command: Command, context: HandlerContext) -> None:
            basket.fill("tea")
            basket.fill("milk")

        basket_id = uuid4()
        command_id = await world.send("Fill", {"basket_id": basket_id})
        async with world.working(event_store=events):
            await world.settled(command_id)
        before = await dump(pool)
        found = await Rehearsal(pool, world.registry, event_store=events).dry_run_again(DOMAIN, command_id)
        (change,) = found.changes

        assert await dump(pool) == before
        assert change.table.endswith("dry_run_items")
        assert [(row.before["items"], row.after["items"]) for row in change.rows] == [(2, 4)]

    async def test_a_handler_that_ends_its_transaction_by_itself_is_told_of(self, world, pool):
        @world.handles(DOMAIN, "Do", transactional=True)
        async def do(command: Command, context: HandlerContext) -> None:
            await context.conn.execute("commit")
            if command.data["begins"]:
                await context.conn.execute("begin")

        for begins in (False, True):
            with pytest.raises(InvalidOperationError, match="ended its transaction by itself"):
                await Rehearsal(pool, world.registry).dry_run(DOMAIN, "Do", {"begins": begins})

    async def test_nobody_is_told_or_woken(self, world, pool, dsn, totals):
        rehearsal = await self.everything(world, pool)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener:
            for channel in ("anybody", '"mainstay.sleeper"'):
                await listener.execute(f"listen {channel}")
            await rehearsal.dry_run(DOMAIN, "Fill", {"basket_id": "b"})
            await run(pool, "notify anybody, 'the end'")
            heard = [each.payload async for each in listener.notifies(stop_after=1)]

        assert heard == ["the end"]
        assert await ask(pool, "select worker from commandbus.sleeper") == [("sleeper",)]

    async def test_a_database_that_cannot_be_reached_is_an_error(self, world, dsn):
        world.registry.register_decider(domain=DOMAIN, decider=Account)
        async with open_pool(dsn) as closed:
            rehearsal = Rehearsal(closed, world.registry)

        with pytest.raises(StorageUnavailableError):
            await rehearsal.dry_run(Deposit(account_id=ACCOUNT, amount=5))
