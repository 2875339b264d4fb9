"""Connections go back to the pool as they came, and errors of the driver become ours."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool

from mainstay.errors import (
    ConfigurationError,
    MainstayError,
    PermissionDeniedError,
    PgmqMissingError,
    PoolExhaustedError,
    QueueNotFoundError,
    SchemaMissingError,
    StorageUnavailableError,
)
from mainstay.storage.postgres import database, operations
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres_server")


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("postgresql+psycopg://u:s3cret@127.0.0.1/x", "SQLAlchemy's"),
        ("postgres//u:s3cret@127.0.0.1/x", "cannot be understood"),
        ("postgresql://u:s3cret%zz@127.0.0.1/x", "cannot be understood"),
        (
            "postgresql://u:s3cret@127.0.0.1:99999/x",
            "port is no number from 1 to 65535; in a password, / is written %2F",
        ),
        ("host=a,b port=5432,abc password=s3cret", "port is no number from 1 to 65535"),
        ("postgresql://u:p@s3cret@127.0.0.1:5432/x", "host has an @ in it; in a password, @ is written %40"),
        ("host=127.0.0.1 password=s3cret\ud800", "lone surrogate"),
        ("", "no database was named"),
        (None, "not NoneType"),
        (5432, "not int"),
    ],
)
async def test_what_is_no_connection_string_is_refused_without_its_password(dsn, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        database.open_pool(dsn)
    with pytest.raises(ConfigurationError, match=says) as not_reached:
        await operations.reach(dsn)

    for each in (refused, not_reached):
        assert "s3cret" not in "".join(traceback.format_exception(each.value))


@pytest.mark.parametrize(("least", "most"), [(0, 0), (5, 2), (-1, 2), (1, "5"), (None, 2), (True, 2), (1.0, 2)])
def test_a_pool_that_cannot_be_is_refused(least, most):
    with pytest.raises(ConfigurationError, match=r"0 <= min_size <= max_size connections"):
        database.open_pool("postgresql://127.0.0.1/x", min_size=least, max_size=most)


@asynccontextmanager
async def small(dsn: str, **options: Any) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """A pool of one connection, so that the next one checked out is the one that was given back."""
    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False, **options) as pool:
        yield pool


@pytest.fixture
async def one(empty_dsn: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with small(empty_dsn) as pool:
        async with pool.connection() as conn:
            await conn.execute("create table public.t (id int primary key)")
        yield pool


async def state(pool: AsyncConnectionPool[Any]) -> tuple[bool, TransactionStatus, int]:
    async with pool.connection() as conn:
        return conn.autocommit, conn.info.transaction_status, conn.info.backend_pid


async def rows(pool: AsyncConnectionPool[Any]) -> list[int]:
    async with pool.connection() as conn:
        return [row["id"] for row in await database.fetch_all(conn, "select id from public.t order by id")]


class OopsError(Exception):
    pass


async def insert_and_fail(conn: AsyncConnection[Any], key: int) -> None:
    await conn.execute("insert into public.t values (%s)", [key])
    raise OopsError


async def cut(conn: AsyncConnection[Any], other: AsyncConnectionPool[Any]) -> None:
    """Break a connection from the server's side, so that its client learns of it with its next statement."""
    async with other.connection() as killer:
        await killer.execute("select pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])


async def is_asleep(pool: AsyncConnectionPool[Any], pid: int) -> bool:
    """Whether a server process waits for its sleep to be over."""
    async with pool.connection() as conn:
        cursor = await conn.execute("select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", [pid])
        return await cursor.fetchone() == (True,)


# --- autocommit -------------------------------------------------------------------------------------------------------


async def test_in_autocommit_every_statement_stands_alone(one) -> None:
    with pytest.raises(OopsError):
        async with database.autocommit(one) as conn:
            await insert_and_fail(conn, 1)

    assert await rows(one) == [1]


async def test_a_connection_goes_back_as_it_came_whatever_happens(one) -> None:
    before = await state(one)

    async with database.autocommit(one) as conn:
        assert conn.autocommit
    assert await state(one) == before

    with pytest.raises(OopsError):
        async with database.autocommit(one):
            raise OopsError
    assert await state(one) == before

    with pytest.raises(psycopg.errors.DivisionByZero):
        async with database.autocommit(one) as conn:
            await conn.execute("select 1 / 0")
    assert await state(one) == before

    async with database.autocommit(one) as conn:
        await conn.execute("begin")
        await conn.execute("insert into public.t values (1)")
    assert await state(one) == before

    with pytest.raises(OopsError):
        async with database.autocommit(one) as conn, conn.transaction():
            await insert_and_fail(conn, 1)
    assert await state(one) == before
    assert await rows(one) == []


async def test_a_cancelled_block_gives_its_connection_back_as_it_came(one) -> None:
    before = await state(one)
    inside = asyncio.Event()

    async def stay() -> None:
        async with database.autocommit(one) as conn:
            await conn.execute("begin")
            inside.set()
            await conn.execute("select pg_sleep(60)")

    task = asyncio.create_task(stay())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await state(one))[:2] == before[:2]


async def test_a_pool_in_autocommit_stays_so(empty_dsn) -> None:
    async with small(empty_dsn, kwargs={"autocommit": True}) as pool:
        async with database.autocommit(pool):
            pass
        async with database.transaction(pool):
            pass

        assert (await state(pool))[:2] == (True, TransactionStatus.IDLE)


# --- transaction ------------------------------------------------------------------------------------------------------


async def test_a_transaction_is_kept_whole_or_not_at_all(one) -> None:
    async with database.transaction(one) as conn:
        await conn.execute("insert into public.t values (1)")
        await conn.execute("insert into public.t values (2)")
    with pytest.raises(OopsError):
        async with database.transaction(one) as conn:
            await insert_and_fail(conn, 3)

    assert await rows(one) == [1, 2]


async def test_a_users_code_in_a_transaction_gets_its_own_errors(one) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with database.transaction(one, translate_body=False) as conn:
            await conn.execute("select from commandbus.nothing")
    with pytest.raises(SchemaMissingError, match=rf'\(this is database "{conn.info.dbname}" at '):
        async with database.transaction(one) as conn:
            await conn.execute("select from commandbus.nothing")


async def test_a_commit_that_breaks_is_reported_even_for_a_users_code(one, empty_pool) -> None:
    with pytest.raises(StorageUnavailableError):
        async with database.transaction(one, translate_body=False) as conn:
            await cut(conn, empty_pool)

    assert await rows(one) == []


async def test_whoever_is_canceled_in_a_transaction_leaves_nothing_of_it(one, empty_dsn) -> None:
    began: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with database.transaction(one) as conn:
            await conn.execute("insert into public.t values (1)")
            began.set_result(conn.info.backend_pid)
            await conn.execute("select pg_sleep(600)")

    task = asyncio.create_task(work())
    async with small(empty_dsn) as other:
        pid = await began
        await eventually(lambda: is_asleep(other, pid))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await rows(one) == []
    async with one.connection() as conn:
        assert "wait" not in vars(conn), "the pool's next user waits as psycopg does"


# --- borrowed ---------------------------------------------------------------------------------------------------------


async def test_a_borrowed_connection_is_never_committed(one, empty_dsn) -> None:
    async with await AsyncConnection.connect(empty_dsn) as mine:
        async with database.borrowed(one, mine) as conn:
            await conn.execute("insert into public.t values (1)")

            assert conn is mine
        assert mine.info.transaction_status == TransactionStatus.INTRANS
        assert not mine.autocommit
        await mine.rollback()

    assert await rows(one) == []


async def test_without_a_connection_of_the_callers_the_pool_gives_one(one) -> None:
    async with database.borrowed(one, None) as conn:
        await conn.execute("insert into public.t values (1)")

        assert conn.autocommit
    assert await rows(one) == [1]


# --- statements -------------------------------------------------------------------------------------------------------


async def test_statements_answer_the_same_on_any_kind_of_pool(empty_dsn) -> None:
    kwargs = {"cursor_factory": AsyncRawCursor, "row_factory": namedtuple_row}
    async with small(empty_dsn, kwargs=kwargs) as pool, database.autocommit(pool) as conn:
        await database.run_script(conn, "create table public.t (id int); insert into public.t values (1), (2)")
        question = "select id from public.t where id >= %(least)s order by id"

        assert await database.fetch_all(conn, question, {"least": 1}) == [{"id": 1}, {"id": 2}]
        assert await database.fetch_one(conn, question, {"least": 2}) == {"id": 2}
        assert await database.fetch_one(conn, question, {"least": 3}) is None
        assert await database.fetch_value(conn, question, {"least": 2}) == 2
        assert await database.fetch_value(conn, question, {"least": 3}) is None
        assert await database.execute(conn, "update public.t set id = id + %s", [10]) == 2


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "select * from commandbus.command",
        "select commandbus.send('a')",
        "select null::commandbus.outcome",
        "create table commandbus.t (id int)",
        "select * from mainstay.migration",
    ],
)
async def test_a_missing_schema_says_what_to_run(one, statement) -> None:
    with pytest.raises(SchemaMissingError, match="run `mainstay schema upgrade` or await setup_database") as raised:
        async with database.autocommit(one) as conn:
            await conn.execute(statement)

    assert f'(this is database "{conn.info.dbname}" at ' in str(raised.value)
    assert isinstance(raised.value.__cause__, psycopg.Error)


@pytest.mark.parametrize("statement", ["select pgmq.send('q', '{}'::jsonb)", "select * from pgmq.meta"])
async def test_a_missing_pgmq_is_said_to_be(one, statement) -> None:
    with pytest.raises(PgmqMissingError, match="PGMQ is absent or too old"):
        async with database.autocommit(one) as conn:
            await conn.execute(statement)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select * from public.nothing", psycopg.errors.UndefinedTable),
        ("select public.nothing()", psycopg.errors.UndefinedFunction),
        ("select * from pgmq.q_orders", psycopg.errors.UndefinedTable),
        ("select 1 / 0", psycopg.errors.DivisionByZero),
        ("insert into public.t values (1), (1)", psycopg.errors.UniqueViolation),
        ("select nonsense", psycopg.errors.UndefinedColumn),
    ],
)
async def test_what_is_not_about_the_installation_stays_as_it_is(one, statement, expected) -> None:
    with pytest.raises(expected):
        async with database.autocommit(one) as conn:
            await conn.execute(statement)


async def test_an_sqlstate_of_ours_becomes_the_error_that_it_stands_for(one) -> None:
    script = "do $$ begin raise exception 'no queue' using errcode = 'MS001', detail = 'orders__replies'; end $$"

    with pytest.raises(QueueNotFoundError) as raised:
        async with database.autocommit(one) as conn:
            await database.run_script(conn, script)

    assert raised.value.queue == "orders__replies"


async def test_missing_rights_say_what_to_grant(one) -> None:
    role = sql.Identifier(f"nobody_{uuid4().hex}")
    async with database.autocommit(one) as conn:
        await conn.execute(sql.SQL("create role {}").format(role))
        await conn.execute("create schema commandbus")
        try:
            await conn.execute(sql.SQL("set role {}").format(role))
            with pytest.raises(PermissionDeniedError, match="grant the role usage on the schemas commandbus"):
                async with database.borrowed(one, conn):
                    await conn.execute("select commandbus.send()")
        finally:
            await conn.execute("reset role")
            await conn.execute(sql.SQL("drop role {}").format(role))


async def test_a_connection_that_breaks_is_reported_and_replaced(one, empty_pool) -> None:
    _, _, pid = await state(one)

    async def use_after_cut() -> None:
        async with database.autocommit(one) as conn:
            await cut(conn, empty_pool)
            await conn.execute("select 1")

    with pytest.raises(StorageUnavailableError, match="the database cannot be used"):
        await use_after_cut()

    assert (await state(one))[:2] == (False, TransactionStatus.IDLE)
    assert (await state(one))[2] != pid


async def test_a_connection_that_was_closed_is_reported(one, empty_dsn) -> None:
    mine = await AsyncConnection.connect(empty_dsn)
    await mine.close()

    with pytest.raises(StorageUnavailableError, match="the connection is closed"):
        async with database.borrowed(one, mine) as conn:
            await conn.execute("select 1")


@pytest.mark.parametrize("enter", [database.autocommit, database.transaction])
async def test_a_pool_that_is_not_open_says_so(empty_dsn, enter) -> None:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(empty_dsn, open=False)

    with pytest.raises(StorageUnavailableError, match="open it first"):
        async with enter(pool):
            pass


@pytest.mark.parametrize("enter", [database.autocommit, database.transaction])
async def test_a_pool_that_has_nothing_left_says_so(empty_dsn, enter) -> None:
    async with small(empty_dsn) as pool, pool.connection():
        pool.timeout = 0.05
        with pytest.raises(PoolExhaustedError, match="raise max_size"):
            async with enter(pool):
                pass


async def test_an_error_of_ours_passes_through(one) -> None:
    complaint = MainstayError("as it is")

    with pytest.raises(MainstayError) as raised:
        async with database.transaction(one):
            raise complaint

    assert raised.value is complaint


def test_a_misuse_of_the_driver_stays_what_it_is() -> None:
    assert database.translate(psycopg.ProgrammingError("no results to fetch")) is None
