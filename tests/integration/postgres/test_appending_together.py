"""Appends that come at the same time go in one statement: each is still written or refused by itself."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mainstay.errors import OptimisticLockError, StreamArchivedError
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.storage.postgres.appending import MOST_EVENTS, Appending
from mainstay.storage.postgres.events import PostgresEventLog
from tests.scenarios.postgres import ask
from tests.support.servers import open_pool
from tests.support.waiting import eventually

WAITING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%append_one%'
"""
TOGETHER = "select count(distinct xmin::text) from eventsource.event"


def new_event() -> NewEvent:
    return NewEvent(uuid4(), "Tolled", b'{"note": "\\u00fc"}', datetime.now(UTC), actor_id="Zo\u00eb", tags=("a b",))


def an_append(stream: StreamId, version: int, events: int = 1) -> StreamAppend:
    return StreamAppend(stream, tuple(new_event() for _ in range(events)), ExpectedVersion.exact(version))


def some_streams(count: int) -> list[StreamId]:
    return [StreamId("Belfry", uuid4()) for _ in range(count)]


@pytest.fixture
def log(pool) -> PostgresEventLog:
    return PostgresEventLog(pool)


async def together(log: PostgresEventLog, appends: list[StreamAppend]) -> list:
    """What each append answered or raised, of appends that are asked for in one turn of the event loop."""
    answers = await asyncio.gather(*(log.append([each]) for each in appends), return_exceptions=True)
    return [each if isinstance(each, BaseException) else each[0] for each in answers]


async def test_many_appends_at_once_take_few_transactions_and_are_all_there(pool, log):
    streams = some_streams(50)

    first = await together(log, [an_append(stream, 0, events=2) for stream in streams])
    second = await together(log, [an_append(stream, 2) for stream in streams])

    assert [each.version for each in first + second] == [2] * 50 + [3] * 50
    assert [each.stream for each in first] == streams
    [(transactions,)] = await ask(pool, TOGETHER)
    assert transactions <= 10
    page = await log.read_feed()
    assert sorted(each.position for each in first + second) == sorted(
        {event.stream: event.position for event in page.events if event.version == 2}[stream] for stream in streams
    ) + sorted(event.position for event in page.events if event.version == 3)
    assert page.events[0].event.tags == ("a b",)
    assert page.events[0].event.actor_id == "Zo\u00eb"


async def test_nobody_goes_alone_beside_a_group(pool, log):
    async def write(stream: StreamId) -> None:
        for version in range(20):
            await log.append([an_append(stream, version)])

    await asyncio.gather(*(write(stream) for stream in some_streams(8)))

    [(transactions,)] = await ask(pool, TOGETHER)
    assert transactions <= 30  # 20 rounds, of which the first takes two; 40, if one of eight goes alone each time


async def test_who_is_refused_is_refused_alone(log):
    fresh, moved, closed, *rest = some_streams(12)
    await log.append([an_append(moved, 0)])
    await log.append([an_append(closed, 0)])
    await log.archive(closed)
    wrong = [an_append(moved, 0), an_append(closed, 1), an_append(fresh, 7)]

    *others, late, shut, absent = await together(log, [an_append(stream, 0) for stream in rest] + wrong)

    assert [each.version for each in others] == [1] * len(rest)
    assert isinstance(late, OptimisticLockError)
    assert isinstance(shut, StreamArchivedError)
    assert isinstance(absent, OptimisticLockError)
    assert (late.stream, late.expected_version, late.actual_version) == (moved, 0, 1)


async def test_an_append_repeated_among_others_is_told_what_the_first_was(log):
    known, *rest = some_streams(6)
    repeated = an_append(known, 0, events=3)
    (before,) = await log.append([repeated])

    *_, again = await together(log, [*(an_append(stream, 0) for stream in rest), repeated])

    assert (again.version, again.position, again.repeated) == (3, before.position, True)


async def test_of_two_that_expect_one_version_at_once_one_is_refused(log):
    stream, *rest = some_streams(6)

    answers = await together(log, [an_append(each, 0) for each in (stream, stream, *rest, stream)])

    assert sum(isinstance(each, OptimisticLockError) for each in answers) == 2
    assert await log.stream_state(stream) is not None
    assert (await log.stream_state(stream)).version == 1


async def test_who_waits_for_strangers_holds_up_nobody(dsn):
    locked, free = some_streams(6), some_streams(30)
    async with open_pool(dsn, max_size=20) as pool:
        log = PostgresEventLog(pool)
        await log.append([an_append(stream, 0) for stream in locked[:3]])
        async with log.transaction() as conn:  # it holds three streams, and makes three new ones
            await log.append([an_append(stream, 1) for stream in locked[:3]], conn=conn)
            await log.append([an_append(stream, 0) for stream in locked[3:]], conn=conn)
            held = [an_append(stream, int(place < 3)) for place, stream in enumerate(locked)]
            waiting = [asyncio.create_task(log.append([each])) for each in held]

            async def all_wait() -> bool:
                return (await ask(pool, WAITING))[0][0] == len(held)

            await eventually(all_wait)
            answers = await together(log, [an_append(stream, 0) for stream in free])
            assert [each.version for each in answers] == [1] * len(free)
            assert not any(task.done() for task in waiting)
        refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in refused] == [OptimisticLockError] * len(held)


async def test_what_the_database_refuses_takes_nothing_else_with_it(pool, log):
    streams = some_streams(8)
    async with pool.connection() as conn:
        await conn.execute("alter table eventsource.event add constraint not_five check (event_version <> 5)")
    bad = StreamAppend(streams[5], (replace(new_event(), event_version=5),), ExpectedVersion.exact(0))

    answers = await together(log, [an_append(stream, 0) if stream != streams[5] else bad for stream in streams])

    assert [isinstance(each, Exception) for each in answers] == [stream == streams[5] for stream in streams]
    assert "not_five" in str(answers[5])


async def test_a_large_append_goes_alone(pool, monkeypatch):
    joined = []
    serve = Appending._serve

    async def watched(self, appends):
        joined.extend(len(each.events) for each in appends)
        return await serve(self, appends)

    monkeypatch.setattr(Appending, "_serve", watched)
    sizes = [1, MOST_EVENTS + 1, MOST_EVENTS, 2]

    answers = await together(
        PostgresEventLog(pool),
        [an_append(stream, 0, size) for stream, size in zip(some_streams(4), sizes, strict=True)],
    )

    assert [each.version for each in answers] == sizes
    assert sorted(joined) == [2, MOST_EVENTS]
