"""One event is appended past the driver's cursors, on a connection that is passed on: what that must not change."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mainstay.errors import OptimisticLockError, StorageUnavailableError
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.storage.postgres.events import PostgresEventLog
from tests.scenarios.postgres import ask
from tests.support.servers import open_pool
from tests.support.waiting import eventually

WAITING = """
    select pid from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%append_one%'
"""


def one(stream: StreamId, version: int | None = None) -> list[StreamAppend]:
    expected = ExpectedVersion.any() if version is None else ExpectedVersion.exact(version)
    event = NewEvent(uuid4(), "Rang", '{"note": "a \\"quoted\\" ü"}'.encode(), datetime.now(UTC), actor_id="Zoë")
    return [StreamAppend(stream, (event,), expected)]


@pytest.fixture
def stream() -> StreamId:
    return StreamId("Bell", uuid4())


async def blocked(log, stream, pool):
    """An append that waits for another transaction, which is open; the processes that wait."""
    appending = asyncio.create_task(log.append(one(stream)))
    return appending, await eventually(lambda: ask(pool, WAITING))


async def test_an_append_that_is_canceled_while_it_waits_leaves_nothing_behind(pool, stream):
    log = PostgresEventLog(pool)
    await log.append(one(stream))

    async with log.transaction() as conn:
        await log.append(one(stream), conn=conn)
        appending, _ = await blocked(log, stream, pool)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
        assert await ask(pool, WAITING) == []

    (done,) = await log.append(one(stream, 2))
    assert done.version == 3


async def test_an_append_whose_connection_breaks_says_so_and_the_next_one_finds_another(pool, stream):
    log = PostgresEventLog(pool)
    await log.append(one(stream))

    async with log.transaction() as conn:
        await log.append(one(stream), conn=conn)
        appending, [(pid,)] = await blocked(log, stream, pool)
        await ask(pool, "select pg_terminate_backend(%s)", pid)
        with pytest.raises(StorageUnavailableError):
            await appending

    (done,) = await log.append(one(stream, 2))
    assert done.version == 3


async def test_a_refused_append_leaves_its_connection_fit_for_the_next(pool, stream):
    log = PostgresEventLog(pool)

    with pytest.raises(OptimisticLockError):
        await log.append(one(stream, 4))

    (done,) = await log.append(one(stream, 0))
    assert done.version == 1


async def test_behind_a_pooler_that_knows_no_prepared_statements_it_is_the_same(pool, stream):
    async with open_pool(pool.conninfo, kwargs={"prepare_threshold": None}) as plain:
        log = PostgresEventLog(plain)
        for version in range(3):
            await log.append(one(stream, version))

        assert await ask(plain, "select count(*) from pg_prepared_statements") == [(0,)]
        found = await log.read_stream(stream)
    assert [each.version for each in found] == [1, 2, 3]
    assert found[0].event.payload == '{"note": "a \\"quoted\\" ü"}'.encode()
    assert found[0].event.actor_id == "Zoë"


async def test_many_writers_take_connections_of_their_own(pool):
    log = PostgresEventLog(pool)
    streams = [StreamId("Bell", uuid4()) for _ in range(8)]

    async def write(stream: StreamId) -> None:
        for version in range(20):
            await log.append(one(stream, version))

    await asyncio.gather(*map(write, streams))

    assert [len(await log.read_stream(stream)) for stream in streams] == [20] * 8
