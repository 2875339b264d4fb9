"""The feed on PostgreSQL beyond the contract: what holds its horizon back, what does not, and what an append takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from mainstay import DomainEvent, EventRegistry, PostgreSQLEventStore
from mainstay.errors import InvalidInputError
from mainstay.events.log import Condition, NewEvent, Query, QueryItem, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.storage.postgres import horizon as publishing
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.doctor import CHECKS, Level, Limits, Patient
from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.template import install_schema
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.horizon import CHANNEL, HorizonPublisher
from mainstay.storage.postgres.notifications import Listener
from tests.scenarios.postgres import ask, run
from tests.support.servers import Server, open_pool
from tests.support.waiting import eventually

OUR_LOCKS = """
    select k.objsubid, k.mode, count(*) from pg_locks as k
    where k.locktype = 'advisory' and k.pid = pg_backend_pid()
      and k.database = (select oid from pg_database where datname = current_database())
    group by 1, 2 order by 1, 2
"""
FLOOR, KEY = 1, 2


def new(*tags: str, kind: str = "Placed") -> NewEvent:
    return NewEvent(uuid4(), kind, b'{"n": 1}', datetime.now(UTC), tags=tags)


def one(*events: NewEvent, stream: StreamId | None = None) -> list[StreamAppend]:
    return [StreamAppend(stream or StreamId("Order", uuid4()), events or (new(),))]


@pytest.fixture
def log(pool) -> PostgresEventLog:
    return PostgresEventLog(pool)


async def at(log: PostgresEventLog) -> int:
    return (await log.horizon()).position


async def locks(conn: Any) -> list[tuple[Any, ...]]:
    return await (await conn.execute(OUR_LOCKS)).fetchall()


async def test_a_store_on_a_pool_appends_and_reads_classes(pool):
    class Shipped(DomainEvent):
        crates: int

    store = PostgreSQLEventStore(pool, registry=EventRegistry([Shipped]))
    stream = StreamId("Order", uuid4())
    await store.append(stream, [Shipped(crates=3)])

    assert [envelope.event.crates async for envelope in store.read_all()] == [3]


# --- what an append takes ---------------------------------------------------------------------------------------------


async def test_an_append_takes_one_floor_however_often_its_transaction_appends(log):
    async with log.transaction() as tx:
        for _ in range(3):
            await log.append(one(), conn=tx)

        assert await locks(tx) == [(FLOOR, "ShareLock", 1), (KEY, "ShareLock", 1)]


async def test_an_append_locks_its_types_and_tags_and_waits_for_no_other_append(log):
    async with log.transaction() as first, log.transaction() as second:
        for tx in (first, second):
            await log.append(one(new("a", "b"), new("a", "c")), conn=tx)

            assert await locks(tx) == [(FLOOR, "ShareLock", 1), (KEY, "ShareLock", 4)]


async def test_a_condition_locks_one_tag_of_an_item_alone(log):
    condition = Condition(Query((QueryItem(frozenset({"Placed"}), frozenset({"a", "b"})),)), 0)
    async with log.transaction() as tx:
        await log.append(one(new("a", "b")), condition=condition, conn=tx)

        assert await locks(tx) == [(FLOOR, "ShareLock", 1), (KEY, "ExclusiveLock", 1), (KEY, "ShareLock", 2)]


async def test_an_event_has_three_index_entries(pool):
    indexes = await ask(
        pool,
        "select am.amname, count(*) from pg_index as i"
        " join pg_class as c on c.oid = i.indexrelid join pg_am as am on am.oid = c.relam"
        " where i.indrelid = 'eventsource.event'::regclass group by 1 order by 1",
    )

    assert indexes == [("brin", 1), ("btree", 3)]  # a BRIN index has no entry for a row


async def test_a_condition_needs_read_committed(log):
    async with log.transaction() as tx:
        await tx.execute("set transaction isolation level repeatable read")
        await log.append(one(), conn=tx)  # without a condition any level will do

        with pytest.raises(InvalidInputError, match="READ COMMITTED"):
            await log.append(one(), condition=Condition(Query(), 10**9), conn=tx)


async def test_a_condition_on_everything_keeps_all_appends_out(dsn, pool, log):
    async with log.transaction() as tx:
        await log.append(one(), condition=Condition(Query(), await at(log)), conn=tx)
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute("set lock_timeout = '1ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await other.execute("insert into eventsource.event select * from eventsource.event")


# --- the horizon ------------------------------------------------------------------------------------------------------


async def test_only_a_transaction_that_has_appended_holds_the_horizon_back(server: Server, dsn, pool, log):
    with server.database() as elsewhere:
        async with (
            await psycopg.AsyncConnection.connect(server.dsn(elsewhere)) as far,
            await psycopg.AsyncConnection.connect(dsn) as near,
            open_pool(server.dsn(elsewhere)) as other_pool,
        ):
            await far.execute("select pg_current_xact_id()")
            await near.execute("select pg_current_xact_id()")
            async with PostgresEventLog(other_pool).transaction() as tx:
                await PostgresEventLog(other_pool).append(one(), conn=tx)
                (answer,) = await log.append(one())

                assert await at(log) == answer.position


async def test_a_rollback_to_a_savepoint_lets_the_floor_go_and_the_next_append_holds_one_again(log):
    (before,) = await log.append(one())
    async with log.transaction() as tx:
        await tx.execute("savepoint here")
        await log.append(one(), conn=tx)
        assert await at(log) == before.position
        await tx.execute("rollback to here")
        (between,) = await log.append(one())
        assert await at(log) == between.position
        await log.append(one(), conn=tx)
        await log.append(one())

        assert await at(log) == between.position


async def test_the_horizon_is_a_position_that_no_crash_gives_out_again(log):
    """A number that only rolled back transactions have drawn is not on disk."""
    (kept,) = await log.append(one())
    with pytest.raises(ZeroDivisionError):
        await _roll_back(log)

    assert await at(log) == kept.position
    assert (await log.read_feed()).position == kept.position


async def _roll_back(log: PostgresEventLog) -> None:
    async with log.transaction() as tx:
        await log.append(one(*(new() for _ in range(100))), conn=tx)
        raise ZeroDivisionError


async def test_a_feed_in_an_older_snapshot_is_refused(pool):
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("set transaction isolation level repeatable read")

        with pytest.raises(psycopg.Error) as caught:
            await conn.execute("select from eventsource.read_feed(0, 10)")
    assert caught.value.sqlstate == "MS107"


@pytest.mark.thorough
async def test_a_prepared_transaction_holds_the_horizon_back_over_a_crash(data_dir):
    with EmbeddedServer(data_dir, port=0, settings={"max_prepared_transactions": "5"}) as server:
        dsn = server.dsn()
        install_schema(dsn)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn, open_pool(dsn) as pool:
            log = PostgresEventLog(pool)
            (before,) = await log.append(one())
            await conn.execute("begin")
            (prepared,) = await log.append(one(), conn=conn)
            await conn.execute("prepare transaction 'two'")
            (later,) = await log.append(one())
            assert await at(log) == before.position
        server.restart("immediate")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn, open_pool(dsn) as pool:
            log = PostgresEventLog(pool)
            assert await at(log) == before.position
            (found,) = await CHECKS["feed"](Patient(pool, Limits(held_feed=0.0)))
            assert found.subject == "two"
            await conn.execute("commit prepared 'two'")
            page = await log.read_feed()

    assert [event.position for event in page.events] == [before.position, prepared.position, later.position]


# --- events stay ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update eventsource.event set payload = '{}'",
        "update eventsource.event set payload = null",
        "delete from eventsource.event",
        "truncate eventsource.event",
    ],
)
async def test_events_are_never_changed_or_removed(pool, log, statement):
    await log.append(one())

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="never changed"):
        await run(pool, statement)


async def test_emptying_a_stream_does_not_open_the_others(pool, log):
    async with log.transaction() as tx:
        stream = StreamId("Order", uuid4())
        await log.append(one(stream=stream), conn=tx)
        await log.tombstone(stream, reason="asked to", actor="me", conn=tx)

        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            await tx.execute("update eventsource.event set payload = null, metadata = null, tags = null")


# --- an epoch ---------------------------------------------------------------------------------------------------------


async def test_a_new_epoch_begins_at_the_events_that_are_there(pool, log):
    await log.append(one())
    before = await log.horizon()
    await run(pool, "update eventsource.feed_horizon set position = 10 ^ 6")
    await run(pool, "select setval('eventsource.event_position', 1, false)")
    async with pool.connection() as conn:
        await conn.execute("select eventsource.renew_epoch()")
    after = await log.horizon()
    (answer,) = await log.append(one())

    assert after.epoch != before.epoch
    assert after.position == before.position
    assert answer.position == before.position + 1


# --- the publisher ----------------------------------------------------------------------------------------------------


async def published(pool) -> int:
    ((position,),) = await ask(pool, "select position from eventsource.feed_horizon")
    return int(position)


async def test_one_of_many_publishes_what_can_be_read_and_tells_who_listens(pool, log):
    async with Listener(pool, CHANNEL) as ear:
        publishers = [HorizonPublisher(pool) for _ in range(3)]
        for each in publishers:
            await each.start()
        (answer,) = await log.append(one())
        await eventually(lambda: ear.wait(0.01))
        while not ear.heard(str(answer.position)):
            await eventually(lambda: ear.wait(0.01))

        await eventually(lambda: _is_published(pool, answer.position))
        for each in publishers:
            await each.stop()


async def test_nothing_that_is_not_safe_is_published(pool, log):
    (safe,) = await log.append(one())
    async with log.transaction() as tx:
        await log.append(one(), conn=tx)
        await log.append(one())
        async with HorizonPublisher(pool):
            await eventually(lambda: _is_published(pool, safe.position))

    assert await published(pool) == safe.position


async def _is_published(pool, position: int) -> bool:
    return await published(pool) == position


async def test_who_stops_lets_another_publish_at_once(pool, log, monkeypatch):
    monkeypatch.setattr(publishing, "LEASE", 3600.0)
    async with HorizonPublisher(pool):
        (first,) = await log.append(one())
        await eventually(lambda: _is_published(pool, first.position))
    async with HorizonPublisher(pool):
        (second,) = await log.append(one())
        await eventually(lambda: _is_published(pool, second.position))


async def test_a_publisher_can_be_stopped_twice_and_unstarted_and_started_again(pool, log):
    publisher = HorizonPublisher(pool)
    await publisher.stop()
    await publisher.start()
    await publisher.start()
    await publisher.stop()
    await publisher.stop()
    await publisher.start()
    (answer,) = await log.append(one())
    await eventually(lambda: _is_published(pool, answer.position))
    await publisher.stop()

    assert not publisher.is_running


# --- the doctor and fsck ----------------------------------------------------------------------------------------------


async def test_the_doctor_names_who_holds_the_feed_back(dsn, pool, log):
    async with open_pool(dsn, kwargs={"application_name": "late biller"}) as theirs:
        other = PostgresEventLog(theirs)
        async with other.transaction() as tx:
            await other.append(one(), conn=tx)
            pid = tx.info.backend_pid
            (found,) = await CHECKS["feed"](Patient(pool, Limits(held_feed=0.0)))

    assert found.level == Level.FAULT
    assert found.subject == f"pid {pid}"
    assert "late biller" in found.seen
    assert [check.level for check in await CHECKS["feed"](Patient(pool, Limits(held_feed=0.0)))] == [Level.OK]


@pytest.mark.parametrize(
    "statement",
    ["select setval('eventsource.event_position', 1, false)", "alter sequence eventsource.event_position cache 20"],
)
async def test_the_doctor_sees_a_sequence_that_would_lose_events(pool, log, statement):
    await log.append(one(new(), new()))
    await run(pool, statement)
    (found,) = await CHECKS["feed"](Patient(pool))

    assert (found.level, found.subject) == (Level.FAULT, "eventsource.event_position")


@contextmanager
def by_hand(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        yield conn


@pytest.mark.parametrize(
    ("statement", "invariant"),
    [
        ("delete from eventsource.event where version = 1", "the events of a stream are numbered"),
        ("update eventsource.event set version = version + 10", "the events of a stream are numbered"),
        ("update eventsource.stream set category = 'Other'", "an event is of a kind"),
        ("delete from eventsource.event_tag", "an event is found by its tags"),
        ("insert into eventsource.event_tag values ('b', 1)", "an event is found by its tags"),
        ("update eventsource.event set payload = null where version = 1", "the events of a tombstoned stream"),
        ("select setval('eventsource.event_position', 1, false)", "positions are drawn"),
        ("delete from eventsource.feed_horizon", "positions are drawn"),
    ],
)
async def test_fsck_finds_what_must_never_be(dsn, pool, log, statement, invariant):
    await log.append(one(new("a"), new(), new()))
    await log.append(one(new("c", kind="Paid")))
    store = PostgresCommandStore(pool)
    assert (await store.fsck()).findings == ()
    with by_hand(dsn) as conn:
        conn.execute(statement)
    report = await store.fsck()

    assert report.findings
    assert {finding.invariant for finding in report.findings} <= set(report.checked)
    assert any(finding.invariant.startswith(invariant) for finding in report.findings)
