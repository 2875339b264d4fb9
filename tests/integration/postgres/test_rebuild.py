"""Rebuilds on PostgreSQL: what is built, compared, swapped and refused; `test_rebuild_crashes` has the accidents."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mainstay.errors import ConfigurationError, InvalidOperationError, RebuildError, StorageError
from mainstay.events.handles import handles
from mainstay.projections.declarative import DatabaseProjection, DeclarativeProjection
from mainstay.projections.store import DeadLetterStatus, ShardStatus
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.savings import (
    PATIENCE,
    QUICK,
    Saved,
    Savings,
    caught_up,
    caught_up_alone,
    is_each_event_once,
    manager_of,
    rows,
    save,
    store_with_tables,
    subscribed,
)
from tests.support.thorough import thorough
from tests.support.waiting import eventually


class Doubled(Savings):
    """The next version: it counts twice, in a table of another form."""

    name = "savings"
    version = 2

    async def create_tables(self, tables):
        await tables.create_like("entry", self.table("entry"))
        await tables.conn.execute(
            f"create table {self.table('total')} (account text primary key, amount int, note text default '')"
        )

    @handles(Saved)
    async def saved(self, event, conn):
        await super().saved(event.model_copy(update={"amount": event.amount * 2}), conn)


@pytest.fixture
async def store(pool):
    return await store_with_tables(pool)


# --- the plain case ---------------------------------------------------------------------------------------------------


async def test_what_is_rebuilt_is_the_same_and_is_followed_on(store, pool) -> None:
    await save(store, *range(25))
    manager = await subscribed(store, pool)
    async with manager:
        await caught_up(manager, store)
        done = await manager.rebuild("savings", actor="ann")
        await save(store, *range(25, 30))
        await caught_up(manager, store)

    assert (done.swapped, done.is_same, done.settled) == (True, True, 0)
    assert [(each.table, each.serving, each.rebuilt) for each in done.tables] == [("entry", 25, 25), ("total", 1, 1)]
    await is_each_event_once(store, pool)
    names = [name for (name,) in await rows(pool, "select tablename from pg_tables where schemaname = 'public'")]
    assert sorted(names) == ["entry", "mail", "total"]
    indexes = [name for (name,) in await rows(pool, "select indexname from pg_indexes where schemaname = 'public'")]
    assert sorted(indexes) == ["entry_account_idx", "entry_pkey", "total_pkey"]


async def test_it_can_be_done_again_and_again(store, pool) -> None:
    await save(store, *range(5))
    manager = await subscribed(store, pool)
    async with manager:
        for _ in range(3):
            assert (await manager.rebuild("savings", actor="ann")).swapped

    (state,) = await PostgresProjectionStore(pool).states("savings")
    assert state.generation == 4
    await caught_up_alone(store, pool)
    await is_each_event_once(store, pool)


async def test_a_planted_difference_is_found_and_not_accepted(store, pool) -> None:
    await save(store, 1, 2, 3)
    manager = await subscribed(store, pool)
    async with manager:
        await caught_up(manager, store)
        async with pool.connection() as conn:
            await conn.execute("update total set amount = 7; delete from entry where amount = 2")
        refused = await manager.rebuild("savings", actor="ann", accept=lambda found: found.is_same)
        before = await rows(pool, "select * from total")
        accepted = await manager.rebuild("savings", actor="ann")

    entry, total = refused.tables
    assert (refused.swapped, refused.is_same, before) == (False, False, [("ann", 7)])
    assert (entry.serving, entry.rebuilt, entry.gone, entry.come) == (2, 3, 0, 1)
    assert entry.come_rows == [{"account": "ann", "amount": 2}]
    assert (total.gone_rows, total.come_rows) == (
        [{"account": "ann", "amount": 7}],
        [{"account": "ann", "amount": 6}],
    )
    assert accepted.swapped
    await is_each_event_once(store, pool)


async def test_old_tables_can_be_kept(store, pool) -> None:
    await save(store, 1, 2)
    manager = await subscribed(store, pool)
    async with manager:
        await caught_up(manager, store)
        await manager.rebuild("savings", actor="ann", keep=True)
        await save(store, 3)
        await caught_up(manager, store)
        with pytest.raises(StorageError, match="a table entry__old already, kept by an earlier rebuild"):
            await manager.rebuild("savings", actor="ann", keep=True)
        assert (await manager.rebuild("savings", actor="ann")).swapped

    assert await rows(pool, "select * from total__old") == [("ann", 3)]
    await is_each_event_once(store, pool)


async def test_the_number_of_shards_is_changed_by_a_rebuild(store, pool) -> None:
    for account in ("ann", "ben", "cay", "dan", "eve"):
        await save(store, 1, 2, account=account)
    manager = await subscribed(store, pool, replace(QUICK, shards=3))
    async with manager:
        await caught_up(manager, store)
        for shards in (1, 4):
            done = await manager.rebuild("savings", actor="ann", config=replace(QUICK, shards=shards))
            await save(store, shards, account="ben")
            await caught_up(manager, store)
            assert (done.swapped, done.is_same) == (True, True)
            assert len(await PostgresProjectionStore(pool).states("savings")) == shards

    with pytest.raises(InvalidOperationError, match="4 shards, not 3: keep them, or rebuild it with 3"):
        await subscribed(store, pool, replace(QUICK, shards=3))
    await is_each_event_once(store, pool)


async def test_rights_on_a_table_are_there_after_the_swap(store, pool) -> None:
    await save(store, 1)
    async with pool.connection() as conn:
        await conn.execute("grant select on total to public; grant insert, update on entry to pg_monitor")
    before = await rights(pool)
    manager = await subscribed(store, pool)
    async with manager:
        await manager.rebuild("savings", actor="ann")

    assert await rights(pool) == before


async def rights(pool):
    query = """select c.relname, a.grantee, a.privilege_type from pg_class as c, aclexplode(c.relacl) as a
        where c.relname in ('total', 'entry') and a.grantee <> c.relowner order by 1, 2, 3"""
    return await rows(pool, query)


# --- versions: new code beside old ------------------------------------------------------------------------------------


async def test_old_code_serves_until_new_code_has_rebuilt_and_then_leaves_the_tables_alone(store, pool) -> None:
    await save(store, 1, 2)
    old, new = await subscribed(store, pool), manager_of(store, pool)
    async with old, new:
        await new.subscribe(Doubled(), QUICK)
        await old.wait_until(await save(store, 3), timeout=PATIENCE)
        before = await rows(pool, "select * from total")
        done = await new.rebuild("savings", actor="ann")
        await new.wait_until(await save(store, 4), timeout=PATIENCE)
        await caught_up(new, store)

    assert before == [("ann", 6)]
    assert (done.swapped, done.is_same) == (True, False)
    assert await rows(pool, "select * from total") == [("ann", 20, "")]
    assert [amount for (amount,) in await rows(pool, "select amount from entry order by number")] == [2, 4, 6, 8]


# --- canceling --------------------------------------------------------------------------------------------------------


async def test_a_rebuild_is_canceled_and_leaves_nothing(store, pool) -> None:
    await save(store, *range(25))
    manager = await subscribed(store, pool)
    async with manager:
        await caught_up(manager, store)
        assert not (await manager.rebuild("savings", actor="ann", accept=lambda _found: False)).swapped

        assert await manager.cancel_rebuild("savings")
        assert not await manager.cancel_rebuild("savings")

        await save(store, 1)
        await caught_up(manager, store)
    assert await rows(pool, "select to_regclass('entry__rebuild'), to_regclass('total__rebuild')") == [(None, None)]
    assert [each.subscription for each in await PostgresProjectionStore(pool).states()] == ["savings"]
    await is_each_event_once(store, pool)


# --- paused, stopped, laid apart --------------------------------------------------------------------------------------


class Picky(Savings):
    """Fails on an amount."""

    name = "savings"
    unwanted = 3

    @handles(Saved)
    async def saved(self, event, conn):
        if event.amount == self.unwanted:
            raise ValueError("three is too many")
        await super().saved(event, conn)


class Lenient(Picky):
    name = "savings"
    on_error = "dead_letter"


async def stopped(pool, name="savings") -> bool:
    return (await PostgresProjectionStore(pool).states(name))[0].status is ShardStatus.STOPPED


async def test_one_that_had_stopped_goes_on_after_the_rebuild_with_mended_code(store, pool) -> None:
    await save(store, 1, 2, 3, 4)
    broken = await subscribed(store, pool, projection=Picky())
    async with broken:
        await eventually(lambda: stopped(pool), timeout=PATIENCE)
    mended = await subscribed(store, pool)
    async with mended:
        done = await mended.rebuild("savings", actor="ann")
        await caught_up(mended, store)

    assert (done.swapped, done.is_same, done.position) == (True, True, 2)
    await is_each_event_once(store, pool)


async def test_one_that_is_paused_is_rebuilt_where_it_stands_and_stays_paused(store, pool) -> None:
    await save(store, 1, 2)
    manager = await subscribed(store, pool)
    async with manager:
        await caught_up(manager, store)
        await manager.pause("savings", actor="ann")
        await save(store, 3)
        done = await manager.rebuild("savings", actor="ben")
        (state,) = await PostgresProjectionStore(pool).states("savings")
        assert (state.status, state.checkpoint.position, done.position) == (ShardStatus.PAUSED, 2, 2)
        await manager.resume("savings", actor="ann")
        await caught_up(manager, store)

    await is_each_event_once(store, pool)


async def test_a_rebuild_that_stops_says_why_and_goes_on_when_the_cause_is_mended(store, pool) -> None:
    await save(store, 1, 2, 3, 4)
    await caught_up_alone(store, pool)
    broken = await subscribed(store, pool, projection=Picky())
    with pytest.raises(RebuildError, match=r"at position 3 .*ValueError: three is too many.*serves as before"):
        await broken.rebuild("savings", actor="ann")
    await caught_up_alone(store, pool)
    await is_each_event_once(store, pool)

    done = await (await subscribed(store, pool)).rebuild("savings", actor="ann")

    assert (done.swapped, done.is_same) == (True, True)


async def test_what_a_rebuild_lays_apart_waits_after_the_swap_and_what_the_old_one_had_is_settled(store, pool) -> None:
    await save(store, 1, 3, 4, account="ann")
    await save(store, 5, account="ben")
    first = Lenient()
    first.unwanted = 5
    await caught_up_alone(store, pool, projection=first)
    manager = await subscribed(store, pool, projection=Lenient())
    async with manager:
        done = await manager.rebuild("savings", actor="ann")
        await caught_up(manager, store)
    checkpoints = PostgresProjectionStore(pool)

    assert (done.swapped, done.settled) == (True, 1)
    assert [(each.position, each.error) for each in await checkpoints.dead_letters("savings")] == [
        (2, "three is too many"),
        (3, None),
    ]
    (settled,) = await checkpoints.dead_letters("savings", status=DeadLetterStatus.HANDLED)
    assert (settled.position, settled.reason) == (4, "rebuilt, without side effects")
    assert await rows(pool, "select account, amount from entry order by 1, 2") == [("ann", 1), ("ben", 5)]


@pytest.mark.thorough
async def test_an_event_that_fails_only_in_the_last_step_is_tried_and_laid_apart(store, pool) -> None:
    """A slow shard's events beyond the others are handled in the transaction that swaps."""
    accounts = [f"account {number}" for number in range(8)]
    for account in accounts:
        await save(store, 1, account=account)
    two = replace(QUICK, shards=2)
    await caught_up_alone(store, pool, two, Lenient())
    async with pool.connection() as conn:
        await conn.execute("update eventsource.shard set status = 'STOPPED' where shard = 0")
    for account in accounts:
        await save(store, 3, 4, account=account)
    manager = await subscribed(store, pool, two, Lenient())
    async with manager:
        one = PostgresProjectionStore(pool)

        async def level():
            return (await one.states("savings"))[1].checkpoint.position == 24

        await eventually(level, timeout=PATIENCE)
        done = await manager.rebuild("savings", actor="ann")

    assert (done.swapped, done.is_same, done.position) == (True, True, 24)
    letters = await one.dead_letters("savings")
    assert sorted(each.position for each in letters) == list(range(9, 25))
    assert {each.checkpoint.position for each in await one.states("savings")} == {24}
    assert len(await rows(pool, "select * from mail")) == 8


async def test_events_that_only_some_shards_had_seen_are_handled_with_their_side_effects(store, pool) -> None:
    accounts = [f"account {number}" for number in range(8)]
    for account in accounts:
        await save(store, 1, account=account)
    two = replace(QUICK, shards=2)
    await caught_up_alone(store, pool, two)
    async with pool.connection() as conn:
        await conn.execute("update eventsource.shard set status = 'STOPPED' where shard = 0")
    for account in accounts:
        await save(store, 2, account=account)
    manager = await subscribed(store, pool, two)
    async with manager:

        async def level():
            return (await PostgresProjectionStore(pool).states("savings"))[1].checkpoint.position == 16

        await eventually(level, timeout=PATIENCE)
        done = await manager.rebuild("savings", actor="ann", config=replace(QUICK, shards=3))

    assert (done.swapped, done.is_same, done.position) == (True, True, 16)
    await is_each_event_once(store, pool)


# --- mistakes ---------------------------------------------------------------------------------------------------------


class Careless(Savings):
    """Writes to the table by its name, also in a rebuild."""

    name = "savings"

    @handles(Saved)
    async def saved(self, event, conn):
        await conn.execute("insert into entry (account, amount) values (%s, %s)", ["ann", event.amount])


@pytest.mark.parametrize("on_error", ["stop", thorough("dead_letter")])
async def test_a_projection_that_writes_to_what_serves_is_stopped_before_it_does(store, pool, on_error) -> None:
    await save(store, 1, 2)
    await caught_up_alone(store, pool, projection=Careless())
    careless = Careless()
    careless.on_error = on_error
    manager = await subscribed(store, pool, projection=careless)

    with pytest.raises(RebuildError, match=r"it wrote to entry, which serves: .* must write to self\.table\('entry'\)"):
        await manager.rebuild("savings", actor="ann")

    assert len(await rows(pool, "select * from entry")) == 2
    assert await PostgresProjectionStore(pool).dead_letters("savings~rebuild") == []
    assert (await (await subscribed(store, pool)).rebuild("savings", actor="ann")).swapped


async def test_without_that_guard_it_would_be_there_twice(store, pool, monkeypatch) -> None:
    """The negative control."""

    @asynccontextmanager
    async def unwatched(*_):
        yield []

    monkeypatch.setattr("mainstay.storage.postgres.rebuilding.PostgresTables.watching", unwatched)
    await save(store, 1, 2)
    await caught_up_alone(store, pool, projection=Careless())
    manager = await subscribed(store, pool, projection=Careless())
    await manager.rebuild("savings", actor="ann", accept=lambda _found: False)

    assert len(await rows(pool, "select * from entry")) == 4


async def test_what_cannot_be_rebuilt_says_so(store, pool) -> None:
    class Nameless(DatabaseProjection):
        @handles(Saved)
        async def saved(self, event, conn): ...

    class Elsewhere(DeclarativeProjection):
        @handles(Saved)
        async def saved(self, event): ...

    manager = manager_of(store, pool)
    await manager.subscribe(Nameless())
    await manager.subscribe(Elsewhere())

    with pytest.raises(ConfigurationError, match=r"Nameless cannot be rebuilt because it names no tables: give it tab"):
        await manager.rebuild("Nameless", actor="ann")
    with pytest.raises(InvalidOperationError, match="Elsewhere cannot be rebuilt beside itself"):
        await manager.rebuild("Elsewhere", actor="ann")


@pytest.mark.parametrize(
    ("obstacle", "said"),
    [
        ("create view balance as select * from total", "the view balance hangs on table total"),
        (
            "create table loan (account text references total)",
            "the foreign key loan_account_fkey of loan hangs on table total",
        ),
        ("alter table total enable row level security", "table total has triggers or row-level security"),
        ("drop table total", "there is no table total"),
        ("create table total__rebuild (a int)", 'relation "total__rebuild" already exists'),
    ],
)
async def test_what_would_not_follow_in_a_swap_is_refused_at_the_beginning(store, pool, obstacle, said) -> None:
    async with pool.connection() as conn:
        await conn.execute(obstacle)
    manager = await subscribed(store, pool)

    with pytest.raises(StorageError, match=said):
        await manager.rebuild("savings", actor="ann")

    assert [each.subscription for each in await PostgresProjectionStore(pool).states()] == ["savings"]


async def test_a_rebuild_of_another_form_than_the_one_under_way_is_refused(store, pool) -> None:
    await save(store, 1)
    manager = await subscribed(store, pool)
    async with manager:
        await manager.rebuild("savings", actor="ann", accept=lambda _found: False)

        with pytest.raises(
            InvalidOperationError, match="with 1 shards in version 1 is under way, not with 2 in version 1"
        ):
            await manager.rebuild("savings", actor="ann", config=replace(QUICK, shards=2))


async def test_readers_that_stay_long_are_waited_for_without_holding_up_others(store, pool) -> None:
    await save(store, 1)
    manager = await subscribed(store, pool)
    async with manager:
        await caught_up(manager, store)
        async with pool.connection() as reader:
            await reader.execute("select * from total")
            rebuilding = asyncio.create_task(manager.rebuild("savings", actor="ann"))

            async def waits():
                return await rows(
                    pool, "select 1 from pg_stat_activity where query like 'select eventsource.swap_tables%'"
                )

            await eventually(waits, timeout=PATIENCE)
            for _ in range(5):
                await rows(pool, "select * from total")
            assert not rebuilding.done()
        assert (await rebuilding).swapped


async def test_a_name_of_rebuilds_is_not_a_subscriptions(store, pool) -> None:
    class Odd(Savings):
        name = "savings~rebuild"

    with pytest.raises(ConfigurationError, match="names that end in ~rebuild are those of rebuilds"):
        await manager_of(store, pool).subscribe(Odd())
