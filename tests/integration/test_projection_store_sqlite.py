"""The projection store on SQLite: the contract, what only a file can show, and several processes on one file."""

import asyncio
import sqlite3
from datetime import timedelta
from importlib.resources import files

import aiosqlite
import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import ConfigurationError, DatabaseLockedError, StaleLeaseError, SubscriptionNotFoundError
from mainstay.events.log import StreamAppend
from mainstay.projections.store import Checkpoint, DeadLetterStatus
from mainstay.storage.sqlite.database import queries
from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.testing.contracts.events.base import new, stream
from mainstay.testing.contracts.projections import LEASE, NAME, ProjectionStoreContract, at, letter


class TestSQLiteProjectionStore(ProjectionStoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        self.clock = FrozenClock()
        async with SQLiteEventLog(tmp_path / "events.sqlite", clock=self.clock) as log:
            yield log.projections()

    async def expire_leases(self, store):
        self.clock.advance(timedelta(seconds=LEASE + 1))

    async def test_nobody_joins_a_batch_whose_lease_has_ended(self, store) -> None:
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await self.expire_leases(store)

            assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []
            await batch.advance(at(5))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
async def log(path):
    async with SQLiteEventLog(path, patience=0.2) as opened:
        async with opened.transaction() as tx:
            await tx.connection.execute("create table total (amount integer)")
        yield opened


@pytest.fixture
async def store(log):
    return log.projections()


@pytest.fixture
async def claim(store):
    await store.register(NAME)
    (taken,) = await store.claim(NAME, owner="a", seconds=LEASE, most=1)
    return taken


async def append(log, conn=None) -> None:
    await log.append([StreamAppend(stream(), (new(),))], conn=conn)


async def totals(log) -> list[int]:
    async with log.transaction() as tx:
        return [row[0] for row in await tx.connection.execute_fetchall("select amount from total order by rowid")]


async def position(store) -> int:
    return (await store.states(NAME))[0].checkpoint.position


async def in_a_batch(store, claim, *steps):
    """Write an amount and move on, and then do what the test wants."""
    async with store.batch(claim) as batch:
        await batch.conn.execute("insert into total values (1)")
        await batch.advance(at(5))
        for step in steps:
            await step(batch)


# -- one transaction ---------------------------------------------------------------------------------------------------


async def test_what_a_batch_writes_and_its_checkpoint_are_one_commit(log, store, claim) -> None:
    async def fail(batch):
        await append(log, conn=batch.conn)
        await batch.lay_down([letter(5)])
        await batch.conn.execute("insert into absent values (1)")

    with pytest.raises(sqlite3.OperationalError, match="no such table: absent"):
        await in_a_batch(store, claim, fail)
    assert (await totals(log), await position(store), (await log.horizon()).position) == ([], 0, 0)
    assert await store.dead_letters(NAME) == []

    await in_a_batch(store, claim, lambda batch: append(log, conn=batch.conn))
    assert (await totals(log), await position(store), (await log.horizon()).position) == ([1], 5, 1)


async def test_a_canceled_batch_leaves_nothing(log, store, claim) -> None:
    entered, never = asyncio.Event(), asyncio.Event()

    async def hang(_batch):
        entered.set()
        await never.wait()

    task = asyncio.create_task(in_a_batch(store, claim, hang))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await totals(log), await position(store)) == ([], 0)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_handler_that_ends_the_transaction_is_found_out_and_nothing_moves(store, claim, end) -> None:
    async def ended():
        async with store.batch(claim) as batch:
            await batch.conn.execute("insert into total values (1)")
            await getattr(batch.conn, end)()
            await batch.advance(at(5))

    with pytest.raises(ConfigurationError, match="ended from inside"):
        await ended()
    with pytest.raises(ConfigurationError, match="ended from inside"):
        await in_a_batch(store, claim, lambda batch: batch.conn.rollback())

    assert await position(store) == 0


async def test_a_handler_that_would_wait_for_its_own_batch_is_told(log, store, claim) -> None:
    with pytest.raises(ConfigurationError, match="pass what you have as conn="):
        await in_a_batch(store, claim, lambda _batch: append(log))
    with pytest.raises(ConfigurationError, match="pass what you have as conn="):
        await in_a_batch(store, claim, lambda _batch: store.pause(NAME, actor="ann"))

    assert (await totals(log), await position(store)) == ([], 0)


async def test_who_waits_for_a_long_batch_of_the_same_process_is_told_in_time(log, store, claim) -> None:
    async def beside(_batch):
        with pytest.raises(DatabaseLockedError, match="another transaction of this process"):
            await asyncio.create_task(append(log))

    await in_a_batch(store, claim, beside)

    assert await position(store) == 5


async def test_the_connection_of_a_batch_is_taken_in_its_own_task_only(log, store, claim) -> None:
    async def beside(batch):
        with pytest.raises(ConfigurationError, match="conn must be what transaction"):
            await asyncio.create_task(append(log, conn=batch.conn))

    await in_a_batch(store, claim, beside)


async def test_a_subscription_is_reset_and_forgotten_in_the_callers_transaction(log, store, claim) -> None:
    async def undone():
        async with log.transaction() as tx:
            await store.reset(NAME, Checkpoint(), actor="ann", conn=tx)
            await store.forget(NAME, conn=tx)
            raise LookupError

    await in_a_batch(store, claim)
    with pytest.raises(LookupError):
        await undone()

    assert await position(store) == 5
    async with log.transaction() as tx:
        await store.reset(NAME, Checkpoint(), actor="ann", conn=tx)
    assert await position(store) == 0


async def test_what_a_handler_makes_of_rows_does_not_reach_the_next_batch(store, claim) -> None:
    async def set_factory(batch):
        batch.conn.row_factory = aiosqlite.Row

    async def look(batch):
        assert batch.conn.row_factory is None

    await in_a_batch(store, claim, set_factory)
    await in_a_batch(store, claim, look)


async def test_text_that_no_database_holds_is_laid_down_readably(store, claim) -> None:
    async with store.batch(claim) as batch:
        await batch.lay_down([letter(5, key="a\x00b", error="\ud800 \x00")])
        assert await batch.blocked(["a\x00b", "c"]) == {"a\x00b"}
        await batch.tried(5, error="\udfff", error_type="Error")
        done = DeadLetterStatus.HANDLED
        assert await batch.settle([5], done, actor="\x00", reason="\ud800") == 1

    (found,) = await store.dead_letters(NAME, key="a\x00b", status=DeadLetterStatus.HANDLED)
    assert (found.error, found.actor) == ("\\udfff", "\\x00")


# -- one file, several connections -------------------------------------------------------------------------------------


async def test_while_a_batch_runs_another_process_can_claim_nothing(path, store, claim) -> None:
    await store.renew([claim], seconds=0.0)
    async with SQLiteEventLog(path, patience=0.2) as other:
        theirs = other.projections()

        async def beside(_batch):
            with pytest.raises(DatabaseLockedError, match="another process"):
                await theirs.claim(NAME, owner="b", seconds=LEASE, most=1)

        await in_a_batch(store, claim, beside)
        (again,) = await theirs.claim(NAME, owner="b", seconds=LEASE, most=1)

    assert again.checkpoint.position == 5
    with pytest.raises(StaleLeaseError, match="somebody else's by now"):
        await in_a_batch(store, claim)


async def test_a_file_that_another_holds_for_too_long_moves_nothing(path, store, claim) -> None:
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        for doing in (
            in_a_batch(store, claim),
            store.register("another"),
            store.renew([claim], seconds=LEASE),
            store.release([claim]),
            store.stop(claim, reason="because"),
            store.pause(NAME, actor="ann"),
            store.reset(NAME, Checkpoint(), actor="ann"),
            store.forget(NAME),
        ):
            with pytest.raises(DatabaseLockedError, match=r"events\.sqlite"):
                await doing
        assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []
        assert [each.owner for each in await store.states()] == ["a"]
        other.execute("rollback")
    other.close()

    await in_a_batch(store, claim)
    assert await position(store) == 5


async def test_many_owners_never_hold_one_shard_at_once(path, log) -> None:
    await log.projections().register(NAME, shards=2)
    inside: set[str] = set()
    positions = {0: 0, 1: 0}

    async def work(owner: str) -> None:
        async with SQLiteEventLog(path) as mine:
            store = mine.projections()
            for _ in range(10):
                for claim in await store.claim(NAME, owner=owner, seconds=0.0, most=1):
                    try:
                        async with store.batch(claim) as batch:
                            assert not inside
                            inside.add(owner)
                            await store.states(NAME)
                            await batch.advance(at(positions[claim.shard] + 1))
                            positions[claim.shard] += 1
                            inside.discard(owner)
                    except StaleLeaseError:
                        continue

    await asyncio.gather(*(work(f"owner {each}") for each in range(4)))

    assert {each.shard: each.checkpoint.position for each in await log.projections().states(NAME)} == positions
    assert sum(positions.values()) > 0


async def test_many_who_register_at_once_on_several_connections_find_one_subscription(path) -> None:
    logs = [SQLiteEventLog(path) for _ in range(4)]
    try:
        await asyncio.gather(*(log.projections().register(NAME, shards=3) for log in logs))
        assert len(await logs[0].projections().states()) == 3
    finally:
        for log in logs:
            await log.close()


# -- the file ----------------------------------------------------------------------------------------------------------


async def test_a_file_of_events_alone_is_given_what_subscriptions_need(path) -> None:
    schema = files("mainstay.storage.sqlite") / "schema" / "0001_events.sql"
    with sqlite3.connect(path) as conn:
        conn.executescript(schema.read_text(encoding="utf-8"))
    conn.close()

    async with SQLiteEventLog(path) as log:
        await append(log)
        await log.projections().register(NAME)
        with pytest.raises(SubscriptionNotFoundError):
            await log.projections().pause("another", actor="ann")


@pytest.mark.parametrize(
    ("query", "parameters", "step"),
    [
        ("begin_batch", {"subscription": "a", "shard": 0, "token": 1}, "PRIMARY KEY (subscription=? AND shard=?)"),
        (
            "blocked",
            {"subscription": "a", "shard": 0, "keys": '["a"]'},
            "mainstay_dead_letter_waiting (subscription=? AND shard=? AND key=?)",
        ),
        (
            "dead_letters",
            {"subscription": "a", "after": 5, "key": None, "status": None, "limit": 5},
            "PRIMARY KEY (subscription=? AND position>?)",
        ),
    ],
)
async def test_what_each_batch_asks_looks_only_where_the_answer_is(path, store, query, parameters, step) -> None:
    await store.states()
    with sqlite3.connect(path) as conn:
        plan = [
            row[3] for row in conn.execute(f"explain query plan {queries('projections')[query]}", parameters).fetchall()
        ]
    conn.close()

    assert any(step in each for each in plan), plan
    assert not [each for each in plan if each.startswith("SCAN") and "VIRTUAL TABLE" not in each], plan
