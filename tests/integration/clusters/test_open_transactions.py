"""Of all transactions of a cluster only those that have appended to this database hold its feed back, and are named.

Open and prepared ones, in this database and in another, with and without rows of their own, on every version.
"""

from contextlib import AsyncExitStack

import psycopg
import pytest

from mainstay import PostgreSQLEventStore, SubscriptionManager
from mainstay.storage.postgres.doctor import CHECKS, Level, Limits, Patient
from mainstay.storage.postgres.embedded.template import install_schema
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.ledger import PATIENCE, QUICK, Ledger, enter, entries, make_table
from tests.support.servers import open_pool
from tests.support.waiting import eventually

pytestmark = pytest.mark.thorough

ANOTHER = "another"
AT_ONCE = Limits(held_feed=0.0)
IDLE = {
    "with a number": "select pg_current_xact_id()",
    "with an old snapshot": "set transaction isolation level repeatable read; select count(*) from eventsource.event",
    "that has written": "create table scratch (n int)",
    "with advisory locks": "select pg_advisory_xact_lock(28019, 5), pg_advisory_xact_lock_shared(1::bigint << 48)",
}


@pytest.fixture
def cluster(clusters):
    """With our schema in two databases."""
    made = clusters.primary()
    with psycopg.connect(made.dsn("postgres"), autocommit=True) as conn:
        conn.execute(f"create database {ANOTHER}")
    install_schema(made.dsn(ANOTHER))
    return made


async def connect(stack, dsn, name):
    return await stack.enter_async_context(
        await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name=name)
    )


async def doctors_word(dsn):
    """Level and subject of what the doctor says of the feed."""
    async with open_pool(dsn) as pool:
        return [(each.level, each.subject, each.seen) for each in await CHECKS["feed"](Patient(pool, AT_ONCE))]


async def reads_on(pool, *amounts):
    """Whether a subscription handles what is appended, and the horizon is where the events end."""
    store = PostgreSQLEventStore(pool)
    manager = SubscriptionManager(store, PostgresProjectionStore(pool))
    await manager.subscribe(Ledger(), QUICK)
    async with manager:
        last = await enter(store, *amounts)
        await manager.wait_until(last, timeout=PATIENCE)
    assert (await store.horizon()).position == last


async def test_transactions_that_have_not_appended_here_stall_nothing_and_nobody_names_them(cluster):
    async with AsyncExitStack() as stack:
        for number, (name, statements) in enumerate(IDLE.items()):
            for database in ("events", ANOTHER):
                open_one = await connect(stack, cluster.dsn(database), f"{name} in {database}")
                await open_one.execute(f"begin; {statements}")
                if "snapshot" not in name:  # what has done nothing, or has locked so, cannot be prepared
                    prepared = await connect(stack, cluster.dsn(database), name)
                    await prepared.execute("begin")
                    await prepared.execute(f"create table prepared_{number} (n int)")
                    await prepared.execute(f"prepare transaction '{database} {number}'")
        elsewhere = PostgreSQLEventStore(await stack.enter_async_context(open_pool(cluster.dsn(ANOTHER))))
        appending = await connect(stack, cluster.dsn(ANOTHER), "appends elsewhere")
        await appending.execute("begin")
        await enter(elsewhere, 1, conn=appending)
        two = await connect(stack, cluster.dsn(ANOTHER), "")
        await two.execute("begin")
        await enter(elsewhere, 1, stream="b", conn=two)
        await two.execute("prepare transaction 'appended elsewhere'")

        pool = await stack.enter_async_context(open_pool(cluster.dsn()))
        await make_table(pool)
        await reads_on(pool, *range(30))

        assert await entries(pool) == list(range(30))
        assert [level for level, _, _ in await doctors_word(cluster.dsn())] == [Level.OK]
        named = await doctors_word(cluster.dsn(ANOTHER))
        assert {subject for _, subject, _ in named} == {
            f"pid {appending.info.backend_pid}",
            "appended elsewhere",
        }
        assert any("appends elsewhere" in seen for _, _, seen in named)


async def test_those_that_have_appended_are_named_and_what_they_end_with_is_read(cluster):
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(cluster.dsn()))
        store = PostgreSQLEventStore(pool)
        await make_table(pool)
        before = await enter(store, 0)
        late = await connect(stack, cluster.dsn(), "late biller")
        await late.execute("begin")
        await enter(store, 1, stream="late", conn=late)
        two = await connect(stack, cluster.dsn(), "two phases")
        await two.execute("begin")
        await enter(store, 2, stream="two", conn=two)
        await two.execute("prepare transaction 'order''s 5'")
        behind = await enter(store, 3)

        assert (await store.horizon()).position == before
        by_subject = {subject: (level, seen) for level, subject, seen in await doctors_word(cluster.dsn())}
        assert set(by_subject) == {f"pid {late.info.backend_pid}", "order's 5"}
        assert {level for level, _ in by_subject.values()} == {Level.FAULT}
        assert "late biller" in by_subject[f"pid {late.info.backend_pid}"][1]

        (found,) = [each for each in await CHECKS["feed"](Patient(pool, AT_ONCE)) if each.subject == "order's 5"]
        commands = found.advice.split("`")
        assert commands[1] == "commit prepared 'order''s 5';"
        await two.execute(commands[1])
        assert (await store.horizon()).position == before
        (found,) = await CHECKS["feed"](Patient(pool, AT_ONCE))
        await two.execute(found.advice.split("`")[1])  # ends the late biller, who has not committed
        await late.close()

        async def is_free():
            return (await store.horizon()).position == behind

        await eventually(is_free, timeout=PATIENCE)
        await reads_on(pool, 4)
        assert await entries(pool) == [0, 2, 3, 4]
        assert [level for level, _, _ in await doctors_word(cluster.dsn())] == [Level.OK]
