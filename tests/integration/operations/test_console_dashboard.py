"""The console's dashboard: what happened lately, who is at work, and what fsck says."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg

from mainstay import HandlerRegistry, SendRequest, Worker
from mainstay.operations.activity import INTERVALS, Span
from mainstay.operations.console import console
from tests.support.cli import run
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.waiting import eventually


async def counted(client):
    """The dashboard with its numbers, which it does not wait for."""
    await client.get("/api/overview")
    return (await client.get("/")).text


async def test_what_happened_is_counted_by_interval_and_read_once(operator, pool):
    """Three sent; two started after 2 s and handled for 4 s, one of them refused; the third is tried again."""
    now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(seconds=50)
    begun = now - timedelta(minutes=5)
    trail = [
        (subject, begun + timedelta(seconds=after), kind)
        for subject, end in ((901, "COMPLETED"), (902, "BUSINESS_RULE_FAILED"), (903, "RETRY_SCHEDULED"))
        for after, kind in ((0, "SENT"), (2, "RECEIVED"), (6, end))
    ]
    async with pool.connection() as conn:
        for subject, at, kind in trail:
            await conn.execute(
                "insert into commandbus.audit (subject_no, ts, event_type) values (%s, %s, %s)", (subject, at, kind)
            )
        await conn.execute("insert into commandbus.audit (subject_no, ts, event_type) values (904, %s, 'SENT')", [now])

    history = operator.activity.history(Span.HOUR)
    one = await history.look(budget=0, now=now)
    assert (len(one.intervals), one.missing, one.intervals[0].sent) == (1, INTERVALS - 1, 1)
    found = await history.look(budget=60, now=now)
    assert (len(found.intervals), found.missing, found.step) == (INTERVALS, 0, 60)
    (busy,) = [each for each in found.intervals if each.completed]
    assert busy.at == begun.replace(second=0)
    assert (busy.sent, busy.completed, busy.failed, busy.retried) == (3, 1, 1, 1)
    assert (busy.waits, busy.handlings) == ((2, 2, 2), (4, 4, 4))
    assert sum(each.sent for each in found.intervals) == 4

    async with pool.connection() as conn:
        await conn.execute("delete from commandbus.audit where subject_no between 901 and 904")
    again = await history.look(budget=60, now=now)
    assert sum(each.sent for each in again.intervals) == 3  # what is settled is not asked for again
    later = await history.look(budget=60, now=now + timedelta(hours=2))
    assert sum(each.sent for each in later.intervals) == 0


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
