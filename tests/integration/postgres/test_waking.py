"""How those who wait for the feed are woken on PostgreSQL, and that nothing but time is lost when they are not."""

import asyncio
import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from mainstay.errors import PermissionDeniedError, StorageUnavailableError
from mainstay.events.event import DomainEvent
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.projection import Projection
from mainstay.projections.shard import RunState
from mainstay.projections.subscription import SubscriptionManager
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.horizon import CHANNEL, HorizonPublisher
from mainstay.storage.postgres.notifications import Listener, notify
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.scenarios.postgres import ask, run
from tests.support.pgbouncer import pgbouncer
from tests.support.servers import open_pool
from tests.support.telemetry import recorded_spans
from tests.support.waiting import eventually

NEVER = 3600.0
"""Seconds between looks, where nothing but being woken shall help."""
PATIENCE = 60.0
PUBLISH = "select * from eventsource.publish_horizon(%s, %s, %s)"
HOLDER = "select holder from eventsource.feed_horizon"


class Rung(DomainEvent, aggregate_type="TestBell", event_type="TestRung"):
    number: int


class Heard(Projection):
    name = "heard"

    def __init__(self):
        self.numbers = []

    async def handle(self, envelope, conn):
        self.numbers.append(envelope.event.number)


@asynccontextmanager
async def hearing(pool, *, shards=1, poll=NEVER, **options):
    """A manager whose shards have read everything and wait; what it has heard, and its log."""
    log = PostgresEventLog(pool, **options)
    heard = Heard()
    manager = SubscriptionManager(EventStore(log), PostgresProjectionStore(pool))
    await manager.subscribe(heard, SubscriptionConfig(shards=shards, poll=poll, lease=NEVER))
    async with manager:
        mine = manager.subscriptions["heard"]
        await eventually(lambda: list(mine.states.values()) == [RunState.LIVE] * shards)
        yield heard, log


async def ring(pool, *numbers, stream="bell") -> None:
    """Append with a store that nobody waits at, as another process would."""
    for number in numbers:
        await EventStore(PostgresEventLog(pool)).append(StreamId("TestBell", stream), [Rung(number=number)])


async def test_who_waits_is_woken_by_what_others_append(pool) -> None:
    async with hearing(pool) as (heard, _):
        for number in range(3):
            await ring(pool, number)
            await eventually(lambda number=number: heard.numbers == list(range(number + 1)), timeout=PATIENCE)


async def test_shards_that_wait_ask_nothing(pool, monkeypatch) -> None:
    asked = []
    ask_log = PostgresEventLog._ask

    async def counted(self, query, *args, **options):
        asked.append(query)
        return await ask_log(self, query, *args, **options)

    turns = []
    publish = HorizonPublisher._publish

    async def turned(self):
        turns.append(self)
        return await publish(self)

    monkeypatch.setattr(PostgresEventLog, "_ask", counted)
    monkeypatch.setattr(HorizonPublisher, "_publish", turned)
    async with hearing(pool, shards=16) as (heard, _):
        await ring(pool, 1)
        await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)

        async def nothing_is_asked_for_twenty_turns():
            """Once all shards have read to the end; that may take some, on a machine that has much else to do."""
            asked.clear()
            turns.clear()
            await eventually(lambda: len(turns) > 20, timeout=PATIENCE)
            return asked == []

        await eventually(nothing_is_asked_for_twenty_turns, timeout=PATIENCE)


async def test_a_look_that_finds_nothing_writes_nothing(pool) -> None:
    await ring(pool, 1)
    await run(pool, PUBLISH, "one", 60, 0)
    async with pool.connection() as conn:
        await conn.execute(PUBLISH, ["one", 60, 0])
        cursor = await conn.execute("select txid_current_if_assigned()")
        assert await cursor.fetchone() == (None,)


PUBLISHER = """
import asyncio, sys
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.horizon import HorizonPublisher
from mainstay.testing.waiting import eventually

async def main():
    async with open_pool(sys.argv[1]) as pool, HorizonPublisher(pool) as publisher:
        await eventually(lambda: publisher.is_publishing)
        print("publishing", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_another_publishes_soon_after_the_publisher_was_killed(pool, dsn) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUBLISHER, dsn, stdout=subprocess.PIPE)
    try:
        assert await process.stdout.readline() == b"publishing\n"
        holder = await ask(pool, HOLDER)
        async with hearing(pool) as (heard, _):
            await ring(pool, 1)
            await eventually(lambda: heard.numbers == [1])
            assert await ask(pool, HOLDER) == holder
            process.kill()
            await process.wait()

            await ring(pool, 2)
            await eventually(lambda: heard.numbers == [1, 2], timeout=PATIENCE)
            assert await ask(pool, HOLDER) != holder
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_connections_that_are_cut_are_made_again(dsn, pool) -> None:
    async with open_pool(dsn, kwargs={"application_name": "to be cut"}) as cut, hearing(cut) as (heard, log):
        await run(pool, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'to be cut'")
        await ring(pool, 1)
        await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)
        await eventually(log._watch._hears, timeout=PATIENCE)


@pytest.mark.thorough
async def test_a_server_that_was_restarted_is_gone_on_with(restartable_server, restartable_dsn) -> None:
    async with open_pool(restartable_dsn) as pool, hearing(pool) as (heard, _):
        await ring(pool, 1)
        await eventually(lambda: heard.numbers == [1])
        await asyncio.to_thread(restartable_server.stop)
        await asyncio.to_thread(restartable_server.start)

        async def rung():
            try:
                await ring(pool, 2)
            except StorageUnavailableError:
                return False
            return True

        await eventually(rung, timeout=PATIENCE)
        await eventually(lambda: heard.numbers[-1] == 2, timeout=PATIENCE)


async def test_with_nobody_who_publishes_everything_is_seen_all_the_same(pool) -> None:
    await run(pool, "update eventsource.feed_horizon set holder = 'nobody', until = 'infinity'")
    async with hearing(pool, poll=0.05) as (heard, _):
        for number in range(5):
            await ring(pool, number)
            await eventually(lambda number=number: heard.numbers == list(range(number + 1)), timeout=PATIENCE)


async def test_what_this_process_appends_is_seen_at_once_though_another_publishes(pool) -> None:
    await run(pool, "update eventsource.feed_horizon set holder = 'another', until = now() + interval '1 hour'")
    async with hearing(pool) as (heard, log):
        await EventStore(log).append(StreamId("TestBell", "bell"), [Rung(number=1)])
        await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)
        async with log.transaction() as conn:
            await EventStore(log).append(StreamId("TestBell", "bell"), [Rung(number=2)], conn=conn)
        await eventually(lambda: heard.numbers == [1, 2], timeout=PATIENCE)


async def test_what_is_appended_during_a_look_is_looked_for_again(pool, dsn) -> None:
    await run(pool, "update eventsource.feed_horizon set holder = 'another', until = now() + interval '1 hour'")
    told = []

    async def ring_elsewhere() -> None:
        async with open_pool(dsn) as other:
            await ring(other, 2)

    def tell(position: int) -> None:  # the look is done, but not yet over
        told.append(position)
        if len(told) == 1:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, ring_elsewhere()).result()
            publisher.nudge()

    async with HorizonPublisher(pool, tell=tell) as publisher:
        await ring(pool, 1)
        publisher.nudge()
        await eventually(lambda: told == [1, 2], timeout=PATIENCE)


async def test_a_process_that_cannot_listen_looks_at_what_another_publishes(pool) -> None:
    async with HorizonPublisher(pool) as publisher:
        await eventually(lambda: publisher.is_publishing)
        async with hearing(pool, use_notify=False) as (heard, log):
            await ring(pool, 1)
            await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)
            assert not log._watch._publisher.is_publishing


@pytest.mark.parametrize("listens", [True, False])
async def test_behind_a_pooler_who_waits_is_woken(server, database, dsn, pool, listens) -> None:
    options = {"listen_dsn": dsn} if listens else {"use_notify": False}
    with pgbouncer(server.dsn("postgres")) as pooler:
        async with (
            open_pool(pooler.dsn(database), kwargs={"prepare_threshold": None}) as through,
            hearing(through, **options) as (heard, _),
        ):
            await ring(pool, 1)
            await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)


async def test_the_row_is_written_seldom_and_the_notification_is_sent_each_time(pool) -> None:
    row = "select position from eventsource.feed_horizon"
    await run(pool, PUBLISH, "one", 60, 0)
    async with Listener(pool, CHANNEL) as ear:
        for number in (1, 2, 3):
            await ring(pool, number)
            horizon = (await PostgresEventLog(pool).horizon()).position
            await run(pool, "update eventsource.feed_horizon set until = clock_timestamp() + interval '60 s'")
            assert await ask(pool, PUBLISH, "one", 60, 0) == [(horizon, None)]
            await eventually(lambda: ear.wait(0.01))
            assert ear.heard(str(horizon))
            assert await ask(pool, row) == [(0,)], "it was written less than a tenth of a second ago"
        assert await ask(pool, PUBLISH, "one", 60, horizon) == [(horizon, None)]
        assert not await ear.wait(0.01)
        await run(pool, "update eventsource.feed_horizon set until = clock_timestamp() + interval '59 s'")
        assert await ask(pool, PUBLISH, "one", 60, horizon) == [(horizon, None)]
        assert await ask(pool, row) == [(horizon,)]
        assert not await ear.wait(0.01)


async def test_what_is_published_never_goes_back(pool) -> None:
    await run(pool, "create table published (number int generated always as identity, position bigint, holder text)")
    await run(
        pool,
        """
        create function note() returns trigger language plpgsql as
            $$ begin insert into published (position, holder) values (new.position, new.holder); return null; end $$
        """,
    )
    await run(pool, "create trigger note after update on eventsource.feed_horizon for each row execute function note()")

    async def publish(name):
        for _ in range(30):
            await run(pool, PUBLISH, name, 0.0, 0)  # a lease that is over at once

    async def append(name):
        await ring(pool, *range(15), stream=name)

    await asyncio.gather(*map(publish, "abc"), *map(append, "de"))

    positions = [position for (position,) in await ask(pool, "select position from published order by number")]
    assert len(await ask(pool, "select distinct holder from published")) == 3
    assert all(before <= after for before, after in pairwise(positions))


async def test_a_horizon_found_long_ago_does_not_take_back_what_was_published_since(pool, dsn) -> None:
    """One who is about to publish is overtaken by another, whose lease is over when he goes on."""
    await run(
        pool,
        """
        create function eventsource.horizon_then() returns bigint language sql as 'select 7::bigint';
        update eventsource.feed_horizon set position = 9, holder = 'two', until = now() - interval '1 s';
        alter function eventsource.horizon() rename to horizon_now;
        alter function eventsource.horizon_then() rename to horizon;
        """,
    )
    await run(pool, PUBLISH, "one", 60, 0)

    assert await ask(pool, "select position, holder from eventsource.feed_horizon") == [(9, "one")]


async def test_a_notification_that_is_not_true_is_found_out_and_does_no_harm(pool, monkeypatch) -> None:
    reads = []
    read = PostgresEventLog.read_feed

    async def counted(self, **options):
        reads.append(options)
        return await read(self, **options)

    monkeypatch.setattr(PostgresEventLog, "read_feed", counted)
    async with hearing(pool) as (heard, log):
        before = len(reads)
        for payload in ("999999999999", "9" * 5000, "-1", "x", "٣"):
            await notify(pool, CHANNEL, payload)
        await eventually(lambda: log._watch._position == 999999999999 or len(reads) > before)
        await ring(pool, 1)
        await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)
        assert len(reads) - before < 10


async def test_who_appends_waits_for_a_projection_that_runs_elsewhere(pool, dsn) -> None:
    async with hearing(pool, shards=3) as (heard, _), open_pool(dsn) as other:
        store = EventStore(PostgresEventLog(other))
        web = SubscriptionManager(store, PostgresProjectionStore(other))
        for number in range(5):
            done = await store.append(StreamId("TestBell", f"bell {number}"), [Rung(number=number)])
            await web.wait_until(done.position, subscription="heard", timeout=PATIENCE)
            assert heard.numbers[-1:] == [number]


async def test_one_who_may_not_publish_leaves_it_and_sees_everything(pool, monkeypatch, caplog) -> None:
    async def refused(self):
        raise PermissionDeniedError("permission denied for function publish_horizon")

    monkeypatch.setattr(HorizonPublisher, "_publish", refused)
    async with hearing(pool, poll=0.05) as (heard, _):
        await ring(pool, 1)
        await eventually(lambda: heard.numbers == [1], timeout=PATIENCE)

    assert caplog.text.count("could not publish the horizon; will try again in 30 s") == 1


async def test_a_projections_span_links_to_an_append_in_another_process(pool, dsn) -> None:
    with recorded_spans() as spans:
        async with hearing(pool) as (heard, _), open_pool(dsn) as other:
            await ring(other, 1, 2)
            await eventually(lambda: heard.numbers == [1, 2])
        appends = [span.context.span_id for span in spans.named("append TestBell")]
        linked = [link.context.span_id for span in spans.named("project heard") for link in span.links]

    assert len(appends) == 2
    assert linked == appends
