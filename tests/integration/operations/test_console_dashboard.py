"""The console's dashboard: what happened lately, who is at work, and what fsck says."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from mainstay import HandlerRegistry, SendRequest, Worker
from mainstay.operations.activity import INTERVALS, OVER, Span
from mainstay.operations.console import console
from mainstay.storage.postgres.activity import PostgresActivity
from tests.support.cli import run
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.waiting import eventually


async def counted(client):
    """The dashboard with its numbers, which it does not wait for."""
    await client.get("/api/overview")
    return (await client.get("/")).text


async def note(pool, trail):
    """Write what happened to commands: of each its subject, when, and what."""
    async with pool.connection() as conn, conn.cursor() as cursor:
        await cursor.executemany("insert into commandbus.audit (subject_no, ts, event_type) values (%s, %s, %s)", trail)


async def test_what_happened_is_counted_by_interval_and_read_once(operator, pool):
    """Three sent; two started after 2 s and handled for 4 s, one of them refused; the third is tried again."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    begun, now = minute - timedelta(minutes=3), minute + timedelta(minutes=2, seconds=OVER)
    trail = [
        (subject, begun + timedelta(seconds=after), kind)
        for subject, end in ((901, "COMPLETED"), (902, "BUSINESS_RULE_FAILED"), (903, "RETRY_SCHEDULED"))
        for after, kind in ((0, "SENT"), (2, "RECEIVED"), (6, end))
    ]
    await note(pool, [*trail, (904, minute + timedelta(seconds=90), "SENT"), (905, now, "SENT")])

    history = operator.activity.history(Span.HOUR)
    one = await history.look(budget=0, now=now)
    assert (len(one.intervals), one.missing, one.intervals[0].sent) == (1, INTERVALS - 1, 1)
    found = await history.look(budget=60, now=now)
    assert (len(found.intervals), found.missing, found.step, found.until) == (
        INTERVALS, 0, 60, minute + timedelta(minutes=2)
    )  # fmt: skip
    (busy,) = [each for each in found.intervals if each.completed]
    assert busy.at == begun
    assert (busy.sent, busy.completed, busy.failed, busy.retried) == (3, 1, 1, 1)
    assert (busy.waits, busy.handlings) == ((2, 2, 2), (4, 4, 4))
    assert sum(each.sent for each in found.intervals) == 4  # the fifth is in an interval that is not over

    async with pool.connection() as conn:
        await conn.execute("delete from commandbus.audit where subject_no between 901 and 905")
    hurried = await history.look(budget=0, now=now)
    assert (len(hurried.intervals), hurried.missing) == (INTERVALS, 0)  # what was read is shown, as it was
    again = await history.look(budget=60, now=now)
    assert sum(each.sent for each in again.intervals) == 4  # nothing is asked for again for nothing
    settled = await history.look(budget=60, now=now + timedelta(minutes=2))
    assert sum(each.sent for each in settled.intervals) == 3  # once more is the interval that was not settled
    later = await history.look(budget=60, now=now + timedelta(hours=2))
    assert sum(each.sent for each in later.intervals) == 0


async def test_what_is_over_is_settled_as_soon_as_no_transaction_of_then_lasts(operator, pool):
    now = datetime.now(UTC)
    await note(pool, [(901, now - timedelta(seconds=Span.QUARTER.step.total_seconds() + OVER), "SENT")])
    history, reads = operator.activity.history(Span.QUARTER), []
    history._store.interval = counting(history._store.interval, reads)
    assert sum(each.sent for each in (await history.look(budget=60, now=now)).intervals) == 1
    first = len(reads)
    assert sum(each.sent for each in (await history.look(budget=60, now=now)).intervals) == 1
    assert (first, len(reads)) == (INTERVALS, INTERVALS)

    store = PostgresActivity(pool)
    async with pool.connection() as reader, pool.connection() as writer:
        before = await store.settled_before()
        await reader.execute("select 1")
        await writer.execute("insert into commandbus.audit (subject_no, event_type) values (902, 'SENT')")
        began = (await (await writer.execute("select now()")).fetchone())[0]
        assert before < await store.settled_before() == began
        await writer.rollback()
        assert await store.settled_before() > began


def counting(function, calls):
    """The same function, which notes its calls."""

    async def counted_too(*given):
        calls.append(given)
        return await function(*given)

    return counted_too


async def test_lengths_are_drawn_from_many_commands_in_the_pass_that_counts_them(pool):
    """A hundred commands, the n-th waiting n ms and handled for 2n; every 16th is drawn where there are so many."""
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    await note(
        pool,
        [
            (subject, begun + timedelta(milliseconds=subject * after), kind)
            for subject in range(1, 101)
            for after, kind in ((0, "SENT"), (1, "RECEIVED"), (3, "COMPLETED"))
        ],
    )
    until, asked = begun + timedelta(seconds=15), "select * from commandbus.traffic(%s, %s, %s)"
    async with pool.connection() as conn:
        few = await (await conn.execute(asked, [begun, until, 3])).fetchone()
        all_of_them = await (await conn.execute(asked, [begun, until, 100])).fetchone()
    assert few[:4] == all_of_them[:4] == (100, 100, 0, 0)
    assert (few[4][0], few[5][0]) == pytest.approx((0.064, 0.128))  # the median of 32, 64 and 96
    assert (all_of_them[4][0], all_of_them[5][0]) == pytest.approx((0.0505, 0.101))


async def test_workers_are_seen_asleep_and_at_work(operator, pool, dsn):
    registry, goes_on = HandlerRegistry(), asyncio.Event()

    @registry.handler("shop", "Long")
    async def long(command, context):
        await goes_on.wait()

    worker = Worker(pool, "shop", registry, name="w1")
    running = asyncio.create_task(worker.run(concurrency=2, poll_interval=5))

    async def asleep():
        return [each.asleep_until is not None for each in await operator.activity.workers()] == [True]

    await eventually(asleep)
    assert "waits for commands" in (await asyncio.to_thread(run, "workers", "--dsn", dsn)).out
    command_id = uuid4()
    await operator.send([SendRequest("shop", "Long", command_id, {})])

    async def at_work():
        return any(each.handles for each in await operator.activity.workers())

    await eventually(at_work)
    (seen,) = (await asyncio.to_thread(run, "workers", "--dsn", dsn, "--json")).json
    assert (seen["name"], seen["domain"], seen["handles"][0]["command_id"]) == ("w1", "shop", str(command_id))
    async with browser(console(operator, auth=tokens()), VIEWER) as client:
        page = await counted(client)
        assert "w1" in page
        assert f"/commands/shop/{command_id}" in page
        assert (await client.get("/api/workers")).json()[0]["handles"][0]["attempt"] == 1
    goes_on.set()
    await worker.stop()
    await running


async def test_the_dashboard_draws_what_happened_and_runs_fsck_when_asked(operator, pool, dsn):
    async with browser(console(operator, auth=tokens()), OPERATOR) as client:
        assert "No worker is alive" in await counted(client)
        for span in Span:
            assert (await client.get(f"/api/traffic?span={span}")).json()["span"] == span
            page = (await client.get(f"/?span={span}")).text
            assert page.count("<svg viewBox") == 3, span
        assert (await client.get("/?span=year")).status_code == 400

        page = await client.get("/")
        assert "Fsck was not run" in page.text
        assert (await client.get("/api/fsck")).json() is None
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(
                "insert into commandbus.troubleshooting (command_id, domain, command_type, since, fingerprint,"
                " group_id) values (gen_random_uuid(), 'shop', 'Bad', now(), 'f', 'g')"
            )
        assert (await client.post("/fsck", data={"csrf": csrf_in(page)})).status_code == 303

        async def ended():
            return (await client.get("/api/fsck")).json()["ended_at"]

        await eventually(ended)
        checked = (await client.get("/api/fsck")).json()
        assert (checked["by"], checked["found"] > 0, checked["problem"]) == ("Olga", True, None)
        assert "mainstay fsck --repair" in (await client.get("/")).text
    async with browser(console(operator, auth=tokens()), VIEWER) as viewer:
        assert (await viewer.post("/fsck", data={"csrf": csrf_in(await viewer.get("/login"))})).status_code == 403


async def test_the_dashboard_is_there_while_its_numbers_are_counted(operator, pool):
    async with browser(console(operator, auth=tokens()), VIEWER) as client, pool.connection() as conn:
        async with conn.transaction():
            await conn.execute("lock table commandbus.command in access exclusive mode")
            page = await client.get("/")
            assert (page.status_code, "Counting" in page.text, "No worker is alive" in page.text) == (200, True, False)
            assert 'data-live="/live/dashboard?span=15m"' in page.text
            assert "Fsck was not run" in page.text

        assert "No worker is alive" in await counted(client)
        assert "As of" in (await client.get("/")).text
