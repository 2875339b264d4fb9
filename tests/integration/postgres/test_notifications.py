"""A listener hears what is notified, whatever happens to its connection."""

import asyncio
from contextlib import suppress

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from mainstay.errors import InvalidInputError, InvalidPayloadError, StorageUnavailableError
from mainstay.storage.postgres.notifications import Listener, notify
from tests.support.waiting import eventually

CHANNEL = "commandbus.orders"
LISTENERS = "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%%'"


@pytest.fixture(scope="module")
def database(server):
    """One for all tests here: they leave nothing behind but what `quiet` waits for."""
    with server.database(schema=False) as name:
        yield name


@pytest.fixture(autouse=True)
async def quiet(pool):
    """No listener of an earlier test is still being closed by the server."""
    await eventually(lambda: no_listener(pool))


async def listening_backends(pool):
    async with pool.connection() as conn:
        return [pid for (pid,) in await (await conn.execute(LISTENERS)).fetchall()]


async def terminate(pool, pids):
    async with pool.connection() as conn:
        for pid in pids:
            await conn.execute("select pg_terminate_backend(%s)", [pid])


async def test_a_notification_is_heard(pool):
    async with Listener(pool, CHANNEL) as listener:
        await notify(pool, CHANNEL, "orders__commands")

        assert await listener.wait(60)


async def test_one_wait_answers_for_all_that_was_heard_before_it(pool):
    async with Listener(pool, CHANNEL) as listener:
        for _ in range(3):
            await notify(pool, CHANNEL)
        await eventually(lambda: listener.wait(0))
        while await listener.wait(0.05):
            pass

        assert not await listener.wait(0)


async def test_waiting_ends_with_the_timeout(pool):
    async with Listener(pool, CHANNEL) as listener:
        assert not await listener.wait(0.01)


async def test_another_channel_is_not_heard(pool):
    async with Listener(pool, CHANNEL) as listener, Listener(pool, CHANNEL.upper()) as other:
        await notify(pool, CHANNEL.upper())

        assert await other.wait(60)
        assert not await listener.wait(0.01)


@pytest.mark.parametrize("channel", ['a"; drop table t; --', "ünïcode ✓", "a.b", "SELECT", "%s {0}", "x" * 63])
async def test_a_channel_may_have_any_printable_name(pool, channel):
    async with Listener(pool, channel) as listener:
        await notify(pool, channel)

        assert await listener.wait(60)


@pytest.mark.parametrize("channel", ["", "x" * 64, "ü" * 32, "a\x00b", "a\nb", "\ud800", None, 7])
async def test_a_channel_that_would_be_cut_or_refused_is_refused_at_once(pool, channel):
    with pytest.raises(InvalidInputError, match="channel"):
        Listener(pool, channel)
    with pytest.raises(InvalidInputError, match="channel"):
        await notify(pool, channel)


@pytest.mark.parametrize("payload", ["x" * 8000, "\x00", "\ud800", None, b"bytes"])
async def test_a_payload_that_cannot_travel_is_refused(pool, payload):
    with pytest.raises(InvalidPayloadError, match="7999 bytes"):
        await notify(pool, CHANNEL, payload)


async def test_the_longest_payload_travels(pool):
    async with Listener(pool, CHANNEL) as listener:
        await notify(pool, CHANNEL, "x" * 7999)

        assert await listener.wait(60)


async def test_the_pool_never_sees_the_connection(pool):
    async with Listener(pool, CHANNEL):
        (pid,) = await listening_backends(pool)
        before = pool.get_stats()

        async with pool.connection() as conn:
            assert conn.info.backend_pid != pid
            assert not conn.autocommit
        assert pool.get_stats()["pool_size"] == before["pool_size"]

    await eventually(lambda: no_listener(pool))


async def no_listener(pool):
    return not await listening_backends(pool)


async def test_a_terminated_backend_is_replaced_and_reported_once_as_a_wake_up(pool):
    async with Listener(pool, CHANNEL) as listener:
        first = await listening_backends(pool)
        await terminate(pool, first)

        assert await listener.wait(60)
        second = await eventually(lambda: listening_backends(pool))
        assert second != first
        assert not await listener.wait(0.01)

        await notify(pool, CHANNEL)
        assert await listener.wait(60)


async def test_it_survives_any_number_of_terminations(pool):
    async with Listener(pool, CHANNEL) as listener:
        for _ in range(3):
            await terminate(pool, await eventually(lambda: listening_backends(pool)))
            assert await listener.wait(60)

        await notify(pool, CHANNEL)
        assert await listener.wait(60)


async def test_it_can_be_stopped_twice_and_unstarted_and_started_again(pool):
    listener = Listener(pool, CHANNEL)
    await listener.stop()
    await listener.start()
    await listener.start()
    assert len(await listening_backends(pool)) == 1

    await listener.stop()
    await listener.stop()
    await eventually(lambda: no_listener(pool))
    assert not listener.is_running

    async with listener:
        await notify(pool, CHANNEL)
        assert await listener.wait(60)


async def test_a_cancelled_wait_loses_nothing(pool):
    async with Listener(pool, CHANNEL) as listener:
        waiting = asyncio.create_task(listener.wait(60))
        await eventually(lambda: bool(listener._heard._waiters))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await notify(pool, CHANNEL)

        assert waiting.cancelled()
        assert await listener.wait(60)


async def test_cancelling_the_block_closes_the_connection(pool):
    async def listen():
        async with Listener(pool, CHANNEL) as listener:
            await listener.wait(60)

    task = asyncio.create_task(listen())
    await eventually(lambda: listening_backends(pool))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    await eventually(lambda: no_listener(pool))


async def test_cancelling_a_start_that_gets_no_answer_leaves_nothing_behind():
    called = asyncio.Event()

    async def say_nothing(reader, writer):
        called.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        listener = Listener(AsyncConnectionPool(f"host=127.0.0.1 port={port}", open=False), CHANNEL)
        task = asyncio.create_task(listener.start())
        await asyncio.wait_for(called.wait(), 60)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

        assert task.cancelled()
        assert not listener.is_running


async def test_it_starts_without_a_server_and_keeps_trying(pool, caplog):
    nowhere = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", open=False)
    async with Listener(nowhere, CHANNEL) as listener:
        await eventually(lambda: len(caplog.records) > 1)

        assert listener.is_running
        assert not await listener.wait(0)
    assert caplog.records[0].channel == CHANNEL


async def test_the_pools_parameters_may_be_functions(dsn):
    async def conninfo():
        return dsn

    fresh = AsyncConnectionPool(conninfo, kwargs=lambda: {"application_name": "ear"}, open=False)
    async with fresh, Listener(fresh, CHANNEL) as listener:
        async with fresh.connection() as conn:
            cursor = await conn.execute(
                "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'ear'"
            )
            assert (await cursor.fetchone())[0] >= 2
        await notify(fresh, CHANNEL)

        assert await listener.wait(60)


async def test_another_address_can_be_given_for_pools_behind_a_pooler(pool, dsn):
    unreachable = AsyncConnectionPool("host=127.0.0.1 port=1", open=False)
    async with Listener(unreachable, CHANNEL, conninfo=dsn) as listener:
        await notify(pool, CHANNEL)

        assert await listener.wait(60)


async def test_notifying_through_a_closed_pool_is_storage_unavailable(pool):
    await pool.close()

    with pytest.raises(StorageUnavailableError):
        await notify(pool, CHANNEL)


@pytest.mark.thorough
async def test_a_server_that_restarts_is_heard_again(restartable_server, restartable_dsn):
    async with (
        AsyncConnectionPool(restartable_dsn, min_size=1, open=False) as own,
        Listener(own, CHANNEL) as listener,
    ):
        await asyncio.to_thread(restartable_server.restart)

        assert await listener.wait(30)

        async def notified():
            with suppress(psycopg.Error, StorageUnavailableError):
                await notify(own, CHANNEL)
                return await listener.wait(1)

        assert await eventually(notified, timeout=30)
