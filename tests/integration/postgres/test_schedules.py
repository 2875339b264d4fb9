"""Schedules when several fire them, change them, and die of it."""

import asyncio
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from mainstay import CommandBus, HandlerRegistry, ScheduleNotFoundError, Worker
from mainstay.commands import schedules as schedules_module
from mainstay.commands.schedule import due_id
from mainstay.testing.contracts.commands.base import DOMAIN
from tests.support.waiting import eventually

NAME = "nightly"
HOUR = timedelta(hours=1)
AGES = 3600.0

#: Fires as a worker does, and stops, before its COMMIT or after it, until it is killed.
DYING = """
    import sys
    import psycopg

    dsn, when, key = sys.argv[1:]
    conn = psycopg.connect(dsn)
    name, due = conn.execute("select name, next_due_at from commandbus.take_schedule('orders', '{}')").fetchone()
    fire = "select commandbus.fire_schedule(%s, %s, %s::uuid[], array['{}']::jsonb[], %s + interval '1 h')"
    conn.execute(fire, (name, [due], [key], due))
    if when == "after":
        conn.commit()
    print("fired", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
async def bus(pool):
    made = CommandBus(pool)
    yield made
    await made.close()


@pytest.fixture
async def due(bus, pool):
    """When the schedule that every test begins with was due: a minute ago."""
    await bus.schedules.set(NAME, DOMAIN, "Report", every=HOUR)
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "update commandbus.schedule set next_due_at = x, counts_from = x - interval '1 h' "
            "from (select clock_timestamp() - interval '1 min' as x) as at returning next_due_at"
        )
        return (await cursor.fetchone())[0]


@pytest.fixture
async def other(dsn):
    """A worker's session that is in the middle of firing."""
    async with await AsyncConnection.connect(dsn) as conn:
        yield conn


async def begin_to_fire(conn, due):
    cursor = await conn.execute("select name from commandbus.take_schedule(%s, '{}')", [DOMAIN])
    assert await cursor.fetchone() == (NAME,)
    await conn.execute(
        "select commandbus.fire_schedule(%s, %s, %s, %s, %s)",
        [NAME, [due], [due_id(NAME, due)], [Jsonb({})], due + HOUR],
    )


async def fire(bus):
    return await bus._store.schedules.fire(DOMAIN)


async def sent(bus):
    return [each.command_id for each in await bus.query_commands(domain=DOMAIN)]


async def test_what_somebody_else_fires_is_passed_by_without_waiting(bus, due, other):
    await begin_to_fire(other, due)
    async with asyncio.timeout(120):
        assert await fire(bus) == (0, 0)
    await other.commit()

    assert (await fire(bus)).sent == 0
    assert await sent(bus) == [due_id(NAME, due)]


async def test_what_was_not_committed_is_fired_by_the_next(bus, due, other):
    await begin_to_fire(other, due)
    await other.rollback()

    assert (await fire(bus)).sent == 1
    assert await sent(bus) == [due_id(NAME, due)]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_that_is_killed_around_its_commit_fires_nothing_twice_or_not_at_all(bus, due, dsn, when):
    command = [sys.executable, "-c", textwrap.dedent(DYING), dsn, when, str(due_id(NAME, due))]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert await process.stdout.readline() == b"fired\n"
    finally:
        process.kill()
        await process.communicate()

    if when == "before":
        await eventually(lambda: _fires(bus, 1), timeout=90)
    assert (await fire(bus)).sent == 0
    assert await sent(bus) == [due_id(NAME, due)]


async def _fires(bus, count):
    return (await fire(bus)).sent == count


async def test_a_change_waits_for_the_firing_under_way(bus, due, other, pool):
    await begin_to_fire(other, due)
    changing = asyncio.create_task(bus.schedules.set(NAME, DOMAIN, "Report", {"n": 2}, every=2 * HOUR))
    await eventually(lambda: _waits(pool), timeout=90)
    await other.commit()
    changed = await changing

    assert (changed.sent_count, changed.last_due_at, changed.every) == (1, due, 2 * HOUR)
    assert changed.next_due_at > due + HOUR
    assert (await fire(bus)).sent == 0
    assert await sent(bus) == [due_id(NAME, due)]


async def test_a_change_under_way_is_passed_by_and_then_obeyed(bus, due, other):
    await other.execute("update commandbus.schedule set is_paused = true where name = %s", [NAME])

    assert await fire(bus) == (0, 0)
    await other.commit()
    assert await fire(bus) == (0, None)
    assert await sent(bus) == []


async def test_removing_waits_too(bus, due, other, pool):
    await begin_to_fire(other, due)
    removing = asyncio.create_task(bus.schedules.remove(NAME))
    await eventually(lambda: _waits(pool), timeout=90)
    await other.commit()
    await removing

    assert await sent(bus) == [due_id(NAME, due)]
    with pytest.raises(ScheduleNotFoundError):
        await bus.schedules.remove(NAME)


async def _waits(pool):
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return cursor.rowcount == 1


async def test_sleeping_workers_fire_each_due_time_once(bus, pool):
    """Well below any polling interval: a worker wakes for its schedules by itself."""
    handled = []
    registry = HandlerRegistry()

    @registry.handler(DOMAIN, "Tick")
    async def tick(command, context):
        handled.append((command.command_id, command.headers["due_at"]))

    began = await bus.schedules.set("tick", DOMAIN, "Tick", every=1)
    workers = [Worker(pool, DOMAIN, registry) for _ in range(2)]
    running = [asyncio.create_task(worker.run(poll_interval=AGES)) for worker in workers]
    await eventually(lambda: len(handled) >= 2, timeout=90)
    await asyncio.gather(*(worker.stop() for worker in workers))
    await asyncio.gather(*running)

    schedule = await bus.schedules.get("tick")
    keys = await sent(bus)
    dues = [due_id("tick", began.counts_from + timedelta(seconds=n)) for n in range(1, 100)]
    assert len(handled) == len(set(handled))
    assert {key for key, _ in handled} <= set(keys) <= set(dues)
    assert schedule.sent_count == len(keys)


async def test_a_worker_learns_of_a_schedule_that_is_set_while_it_sleeps(bus, pool, monkeypatch):
    monkeypatch.setattr(schedules_module, "FIRE_INTERVAL", 0.05)
    handled = []
    registry = HandlerRegistry()

    @registry.handler(DOMAIN, "Tick")
    async def tick(command, context):
        handled.append(command.headers["schedule"])

    worker = Worker(pool, DOMAIN, registry)
    running = asyncio.create_task(worker.run(poll_interval=AGES))
    await eventually(lambda: worker.is_running)
    await bus.schedules.set("tick", DOMAIN, "Tick", every=1)
    await eventually(lambda: handled, timeout=90)
    await worker.stop()
    await running

    assert set(handled) == {"tick"}


async def test_an_idle_domain_costs_one_index_lookup(bus, pool):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into commandbus.schedule (name, domain, command, every, timezone, catch_up, catch_up_limit, "
            "next_due_at, counts_from) select n::text, 'd' || n % 50, '{}', '1 h', 'UTC', 'ONE', 1, now() + "
            "interval '1 h', now() from generate_series(1, 20000) as n"
        )
        await conn.execute("analyze commandbus.schedule")
        question = bus._store.schedules._sql["due_in"]
        cursor = await conn.execute("explain " + question, {"domain": "d7", "except": []})
        plan = "\n".join(row[0] for row in await cursor.fetchall())

    assert "schedule_due" in plan
    assert "Sort" not in plan
