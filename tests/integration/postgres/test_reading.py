"""A handler's connection waits in a way of its own, and the handler does not notice."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from mainstay.message import correlated, correlation_id_var
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.servers import open_pool
from tests.support.waiting import eventually

LONG = "select pg_sleep(600)"
PATIENCE = 60.0


@pytest.fixture
async def store(dsn) -> AsyncIterator[PostgresCommandStore]:
    """One connection for all handlers."""
    async with open_pool(dsn, max_size=1) as pool:
        yield PostgresCommandStore(pool)


async def value(conn: psycopg.AsyncConnection[Any], query: str) -> Any:
    row = await (await conn.execute(query.encode())).fetchone()
    return row and row[0]


async def running(conn: psycopg.AsyncConnection[Any], pid: int) -> bool:
    """Whether the server works on the long statement."""
    found = await conn.execute(
        "select from pg_stat_activity where pid = %s and state = 'active' and query = %s", [pid, LONG]
    )
    return found.rowcount == 1


async def test_a_handlers_connection_is_as_it_was_when_it_is_back(store: PostgresCommandStore) -> None:
    async with store.transaction() as conn:
        number = conn.pgconn.socket
        assert await value(conn, "select 1") == 1
        assert {"wait", "close"} <= vars(conn).keys()
    assert not {"wait", "close"} & vars(conn).keys()
    assert not asyncio.get_running_loop().remove_reader(number), "the loop is no longer told of it"
    async with store.pool.connection() as again:
        assert again is conn
        assert await value(again, "select 2") == 2


async def test_whatever_psycopg_can_do_a_handler_can(store: PostgresCommandStore) -> None:
    async with store.transaction() as conn:
        await conn.execute("create temporary table t (n int)")
        async with conn.cursor() as cursor:
            async with cursor.copy("copy t from stdin") as copy:
                for n in range(1000):
                    await copy.write_row([n])
            async with cursor.copy("copy t to stdout") as copy:
                assert len([row async for row in copy.rows()]) == 1000
            async with conn.pipeline():
                await cursor.execute("select count(*) from t")
                assert await cursor.fetchone() == (1000,)
            await cursor.executemany("insert into t values (%s)", [[n] for n in range(1000)])
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with conn.transaction():
                    await cursor.execute("select 1 / 0")
            async with conn.cursor("named") as named:
                await named.execute("select n from t")
                assert len(await named.fetchmany(10)) == 10
            assert await value(conn, "select repeat('x', 3000000)") == "x" * 3_000_000
            await cursor.execute("select length(%s)", ["x" * 3_000_000])
            assert await cursor.fetchone() == (3_000_000,)
        assert await value(conn, "select count(*) from t") == 2000


async def test_a_handler_that_is_canceled_cancels_its_statement(store: PostgresCommandStore, pool) -> None:
    async def handler() -> None:
        async with store.transaction() as conn:
            pids.append(conn.info.backend_pid)
            begun.set()
            await conn.execute(LONG)

    pids: list[int] = []
    begun = asyncio.Event()
    task = asyncio.create_task(handler())
    await begun.wait()
    async with pool.connection() as other:
        await other.set_autocommit(True)
        await eventually(lambda: running(other, pids[0]), timeout=PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await running(other, pids[0])
        await other.set_autocommit(False)
    async with store.transaction() as conn:
        assert conn.info.backend_pid == pids[0]
        assert await value(conn, "select 1") == 1


async def test_a_connection_that_is_cut_raises_where_it_is_waited_for(store: PostgresCommandStore, pool) -> None:
    async def handler(other: psycopg.AsyncConnection[Any]) -> None:
        async with store.transaction() as conn:
            long = asyncio.create_task(conn.execute(LONG))
            await eventually(lambda: running(other, conn.info.backend_pid), timeout=PATIENCE)
            await other.execute("select pg_terminate_backend(%s, 30000)", [conn.info.backend_pid])
            await long

    async with pool.connection() as other:
        await other.set_autocommit(True)
        with pytest.raises(psycopg.OperationalError):
            await handler(other)
        await other.set_autocommit(False)
    async with store.transaction() as conn:
        assert await value(conn, "select 1") == 1


async def test_a_connection_that_ends_while_nobody_waits_keeps_no_loop_busy(store: PostgresCommandStore, pool) -> None:
    async def handler(other: psycopg.AsyncConnection[Any]) -> None:
        async with store.transaction() as conn:
            await conn.execute("select 1")
            reading = conn.wait.__self__  # type: ignore[attr-defined]  # a bound method
            assert reading._is_listening, "else this tests nothing"
            await other.execute("select pg_terminate_backend(%s, 30000)", [conn.info.backend_pid])
            await eventually(lambda: not reading._is_listening, timeout=PATIENCE)
            await conn.execute("select 1")

    async with pool.connection() as other:
        with pytest.raises(psycopg.OperationalError):
            await handler(other)
    async with store.transaction() as conn:
        assert await value(conn, "select 1") == 1


async def test_a_handler_may_close_its_connection_and_open_others(store: PostgresCommandStore, dsn) -> None:
    """The number of a closed socket is the next one's: the loop must not take the one for the other."""

    async def handler() -> None:
        async with store.transaction() as conn:
            await conn.execute("select 1")
            number = conn.pgconn.socket
            await conn.close()
            async with await psycopg.AsyncConnection.connect(dsn) as mine:
                assert mine.pgconn.socket == number, "else this tests nothing"
                assert await value(mine, "select 1") == 1
            await conn.execute("select 1")

    with pytest.raises(psycopg.OperationalError):
        await handler()
    async with store.transaction() as conn:
        assert await value(conn, "select 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="others forget differently")
async def test_a_loop_that_still_knows_a_closed_socket_cannot_watch_the_next_one() -> None:
    """The control: what comes of it if nobody tells the loop."""
    loop = asyncio.get_running_loop()
    first, other = socket.socketpair()
    number = first.fileno()
    loop.add_reader(number, lambda: None)
    first.close()
    second, another = socket.socketpair()
    try:
        assert number in {second.fileno(), another.fileno()}, "else this tests nothing"
        with pytest.raises(FileNotFoundError):
            loop.add_writer(number, lambda: None)
    finally:
        loop.remove_reader(number)
        for each in (other, second, another):
            each.close()


async def test_a_notice_comes_in_the_context_of_its_handler(store: PostgresCommandStore) -> None:
    heard: list[str | None] = []

    def hear(_: Any) -> None:
        heard.append(correlation_id_var.get())

    async def handler(name: str) -> None:
        with correlated(name):
            async with store.transaction() as conn:
                if name == "first":
                    conn.add_notice_handler(hear)
                await conn.execute("do $$ begin perform pg_sleep(0.01); raise notice 'now'; end $$")

    await handler("first")
    await handler("second")
    assert heard == ["first", "second"]


async def test_a_connection_class_that_waits_in_a_way_of_its_own_goes_on_so(dsn) -> None:
    class Own(psycopg.AsyncConnection[Any]):
        waits = 0

        async def wait(self, *args: Any, **options: Any) -> Any:
            Own.waits += 1
            return await super().wait(*args, **options)

    async with (
        open_pool(dsn, max_size=1, connection_class=Own) as pool,
        PostgresCommandStore(pool).transaction() as conn,
    ):
        before = Own.waits
        await conn.execute("select 1")
        assert Own.waits == before + 1
