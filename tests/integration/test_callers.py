"""Sending in transactions that others began: psycopg's, SQLAlchemy's, Django's. Committed: sent. Rolled back: not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django import setup
from django.conf import settings
from django.db import connection as django_connection
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from mainstay import BatchCommand, CommandBus, NotUniqueError, SendRequest
from mainstay.errors import InvalidInputError, MainstayError
from mainstay.storage.postgres.callers import settled
from tests.scenarios.postgres import ask, run

NOTE = "insert into note values ('ada')"


class _OnPurposeError(Exception):
    pass


def _url(dsn: str) -> URL:
    told = conninfo_to_dict(dsn)
    return URL.create(
        "postgresql+psycopg",
        username=told.get("user"),
        password=told.get("password"),
        database=told["dbname"],
        query={name: str(told[name]) for name in ("host", "port") if name in told},
    )


# Each gives a connection in a transaction that ends with the block, and says how to write a row with it.
@asynccontextmanager
async def _async_psycopg(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        yield conn, lambda: conn.execute(NOTE)


@asynccontextmanager
async def _psycopg(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    with psycopg.connect(dsn, autocommit=True) as conn, conn.transaction():
        yield conn, lambda: asyncio.to_thread(conn.execute, NOTE)


@asynccontextmanager
async def _async_sqlalchemy(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    engine = create_async_engine(_url(dsn), poolclass=NullPool)
    async with engine.begin() as conn:
        yield conn, lambda: conn.execute(text(NOTE))


@asynccontextmanager
async def _async_session(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    engine = create_async_engine(_url(dsn), poolclass=NullPool)
    async with AsyncSession(engine) as session, session.begin():
        yield session, lambda: session.execute(text(NOTE))


@asynccontextmanager
async def _async_scoped(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    engine = create_async_engine(_url(dsn), poolclass=NullPool)
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    try:
        yield scoped, lambda: scoped.execute(text(NOTE))
        await scoped.commit()
    finally:
        await scoped.remove()


@asynccontextmanager
async def _sqlalchemy(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    engine = create_engine(_url(dsn), poolclass=NullPool)
    with engine.begin() as conn:
        yield conn, lambda: asyncio.to_thread(conn.execute, text(NOTE))


@asynccontextmanager
async def _session(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    engine = create_engine(_url(dsn), poolclass=NullPool)
    with Session(engine) as session:  # begins by itself, with the first statement
        yield session, lambda: asyncio.to_thread(session.execute, text(NOTE))
        session.commit()


@asynccontextmanager
async def _scoped(dsn: str) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[object]]]]:
    scoped = scoped_session(sessionmaker(create_engine(_url(dsn), poolclass=NullPool)))
    session = scoped()
    try:
        yield scoped, lambda: asyncio.to_thread(session.execute, text(NOTE))
        session.commit()
    finally:
        scoped.remove()


KINDS = {
    "psycopg.AsyncConnection": _async_psycopg,
    "psycopg.Connection": _psycopg,
    "sqlalchemy.AsyncConnection": _async_sqlalchemy,
    "sqlalchemy.AsyncSession": _async_session,
    "sqlalchemy.async_scoped_session": _async_scoped,
    "sqlalchemy.Connection": _sqlalchemy,
    "sqlalchemy.Session": _session,
    "sqlalchemy.scoped_session": _scoped,
}
EACH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def bus(pool):
    await run(pool, "create table note (name text)")
    bus = CommandBus(pool)
    await bus.send("orders", "Warm", uuid4(), {})  # the queue is there, as it is in a service that runs
    yield bus
    await bus.close()


@EACH
@pytest.mark.parametrize("note_first", [True, False], ids=["after a statement", "first of all"])
async def test_what_is_sent_in_a_callers_transaction_shares_its_fate(bus, pool, dsn, kind, note_first) -> None:
    kept, lost = uuid4(), uuid4()
    for command_id, fails in ((kept, False), (lost, True)):
        with suppress(_OnPurposeError):
            async with KINDS[kind](dsn) as (conn, note):
                if note_first:
                    await note()
                sent = await bus.send("orders", "Create", command_id, {"n": 1}, conn=conn)
                assert sent.msg_id is not None
                assert not await bus.command_exists("orders", command_id)
                if not note_first:
                    await note()
                if fails:
                    raise _OnPurposeError

    assert await bus.command_exists("orders", kept)
    assert not await bus.command_exists("orders", lost)
    assert await ask(pool, "select name from note") == [("ada",)]


@EACH
async def test_batches_join_a_callers_transaction_too(bus, dsn, kind) -> None:
    batch_id, other = uuid4(), uuid4()
    async with KINDS[kind](dsn) as (conn, _):
        await bus.create_batch("orders", [BatchCommand("Create", uuid4(), {})], batch_id=batch_id, conn=conn)
        await bus.send_batch([SendRequest("orders", "Create", other, {})], conn=conn)
        assert await bus.get_batch("orders", batch_id) is None

    assert (await bus.get_batch("orders", batch_id)).total_count == 1
    assert await bus.command_exists("orders", other)


@EACH
async def test_a_refusal_leaves_a_callers_transaction_usable(bus, pool, dsn, kind) -> None:
    known = uuid4()
    await bus.send("orders", "Create", known, {})
    async with KINDS[kind](dsn) as (conn, note):
        with pytest.raises(MainstayError, match="already sent"):
            await bus.send("orders", "Create", known, {}, conn=conn)
        await note()

    assert await ask(pool, "select name from note") == [("ada",)]


@EACH
async def test_a_unique_key_is_taken_by_a_callers_commit_only(bus, dsn, kind) -> None:
    for fails in (True, False):
        with suppress(_OnPurposeError):
            async with KINDS[kind](dsn) as (conn, _):
                sent = await bus.send("orders", "Create", uuid4(), {}, unique_key="one", conn=conn)
                if fails:
                    raise _OnPurposeError
    async with KINDS[kind](dsn) as (conn, note):
        with pytest.raises(NotUniqueError) as caught:
            await bus.send("orders", "Create", uuid4(), {}, unique_key="one", conn=conn)
        with pytest.raises(NotUniqueError):
            await bus.send_batch([SendRequest("orders", "Create", uuid4(), {}, unique_key="one")], conn=conn)
        await note()

    assert caught.value.holder_id == sent.command_id


async def test_the_event_loop_runs_on_while_a_blocking_connection_waits(bus, dsn) -> None:
    same = uuid4()
    async with KINDS["psycopg.AsyncConnection"](dsn) as (first, _):
        await bus.send("orders", "Create", same, {}, conn=first)
        async with KINDS["psycopg.Connection"](dsn) as (second, _):
            waiting = asyncio.create_task(bus.send("orders", "Create", same, {}, conn=second))
            for _ in range(20):
                await bus.command_exists("orders", same)
            assert not waiting.done()
            await first.commit()
            with pytest.raises(MainstayError, match="already sent"):
                await waiting


# -- what cannot be joined ---------------------------------------------------------------------------------------------
async def test_a_connection_without_a_transaction_is_refused(bus, dsn) -> None:
    asynchronous = create_async_engine(_url(dsn), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    blocking = create_engine(_url(dsn), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    command_id = uuid4()
    with (
        psycopg.connect(dsn, autocommit=True) as plain,
        blocking.connect() as by_sqlalchemy,
        Session(by_sqlalchemy) as session,
    ):
        async with (
            asynchronous.connect() as by_async_sqlalchemy,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as by_async_psycopg,
        ):
            for conn in (plain, by_sqlalchemy, session, by_async_sqlalchemy, by_async_psycopg):
                with pytest.raises(InvalidInputError, match="no transaction to join"):
                    await bus.send("orders", "Create", command_id, {}, conn=conn)

    assert not await bus.command_exists("orders", command_id)


async def test_what_is_no_connection_or_speaks_to_another_database_is_refused(bus, dsn) -> None:
    for wrong in (object(), "conn", dsn, 7):
        with pytest.raises(InvalidInputError, match="conn must be"):
            await bus.send("orders", "Create", uuid4(), {}, conn=wrong)
    with create_engine("sqlite://").connect() as conn, pytest.raises(InvalidInputError, match="not sqlite"):
        await bus.send("orders", "Create", uuid4(), {}, conn=conn)


async def test_a_transaction_that_has_failed_is_refused(bus, dsn) -> None:
    for kind in ("psycopg.Connection", "sqlalchemy.Session", "sqlalchemy.AsyncConnection"):
        with suppress(_OnPurposeError):
            async with KINDS[kind](dsn) as (conn, note):
                await run(bus._store.pool, "drop table if exists note")
                with suppress(Exception):
                    await note()
                with pytest.raises(MainstayError, match="roll it back"):
                    await bus.send("orders", "Create", uuid4(), {}, conn=conn)
                raise _OnPurposeError


# -- Django ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def django(dsn):
    """Django's connection in this test's database, to be used in one thread."""
    told = conninfo_to_dict(dsn)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": told["dbname"],
        "USER": told.get("user", ""),
        "PASSWORD": told.get("password", ""),
        "HOST": str(told.get("host", "")),
        "PORT": str(told.get("port", "")),
    }
    if not settings.configured:
        settings.configure(DATABASES={"default": database}, USE_TZ=True)
        setup()
    connections.settings["default"].update(database)
    return django_connection


async def _in_a_view(view: Callable[[], Any]) -> Any:
    """Run what a blocking view does, in a thread, with a connection of that thread's own."""

    def whole() -> Any:
        with suppress(AttributeError):
            del connections["default"]
        try:
            return view()
        finally:
            connections["default"].close()

    return await asyncio.to_thread(whole)


async def test_what_is_sent_in_an_atomic_block_of_django_shares_its_fate(bus, pool, django) -> None:
    loop = asyncio.get_running_loop()
    kept, lost = uuid4(), uuid4()

    def send(command_id: Any) -> None:
        sending = bus.send("orders", "Create", command_id, {"n": 1}, conn=settled(django))
        asyncio.run_coroutine_threadsafe(sending, loop).result(30)

    def view() -> None:
        for command_id, fails in ((kept, False), (lost, True)):
            with suppress(_OnPurposeError), transaction.atomic():
                with django.cursor() as cursor:
                    cursor.execute(NOTE)
                send(command_id)
                if fails:
                    raise _OnPurposeError

    await _in_a_view(view)

    assert await bus.command_exists("orders", kept)
    assert not await bus.command_exists("orders", lost)
    assert await ask(pool, "select name from note") == [("ada",)]


async def test_djangos_connection_outside_an_atomic_block_is_refused(django) -> None:
    def view() -> None:
        django.ensure_connection()
        with pytest.raises(InvalidInputError, match=r"transaction\.atomic"):
            settled(django)
        with suppress(_OnPurposeError), transaction.atomic():
            transaction.set_rollback(True)
            with pytest.raises(InvalidInputError, match="failed before"):
                settled(django)

    await _in_a_view(view)
