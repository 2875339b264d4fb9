"""Inboxes, in databases that have nothing else of mainstay."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psycopg
import pytest

from mainstay.errors import StorageUnavailableError
from mainstay.inbox import SQLiteInbox
from mainstay.storage.postgres.inbox import PostgresInbox
from mainstay.testing.contracts.delivery import message
from mainstay.testing.contracts.inbox import InboxContract
from tests.support.proxy import Proxy
from tests.support.servers import open_pool


class TestPostgresInbox(InboxContract):
    @pytest.fixture
    async def make(self, postgres_server, empty_pool):
        async with empty_pool.connection() as conn:
            await conn.execute("create table effect (at int generated always as identity, number int)")
        return lambda consumer: PostgresInbox(empty_pool, consumer)

    async def write(self, conn, number):
        await conn.execute("insert into effect (number) values (%s)", [number])

    async def written(self, inbox):
        async with inbox.pool.connection() as conn:
            return [number async for (number,) in await conn.execute("select number from effect order by at")]


class TestSQLiteInbox(InboxContract):
    @pytest.fixture
    async def make(self, tmp_path):
        made = []

        def make(consumer):
            made.append(SQLiteInbox(tmp_path / "billing.sqlite", consumer))
            return made[-1]

        async with SQLiteInbox(tmp_path / "billing.sqlite", "first") as first:
            async with first.once(message(1)) as conn:
                await conn.execute("create table effect (at integer primary key, number integer)")
            yield make
            for each in made:
                await each.close()

    async def write(self, conn, number):
        await conn.execute("insert into effect (number) values (?)", [number])

    async def written(self, inbox):
        async with inbox._file.read() as conn:
            return [number for (number,) in await conn.execute_fetchall("select number from effect order by at")]

    async def test_a_file_of_events_can_be_an_inbox_too(self, tmp_path):
        from mainstay import SQLiteEventStore  # noqa: PLC0415 - of this test only

        path = tmp_path / "both.sqlite"
        async with SQLiteEventStore(path), SQLiteInbox(path, "a") as inbox, inbox.once(message(1)) as conn:
            assert conn is not None


async def test_nothing_but_one_table_is_made(empty_pool) -> None:
    await PostgresInbox(empty_pool, "billing").prepare()

    async with empty_pool.connection() as conn:
        cursor = await conn.execute("select relname from pg_class where relnamespace = 'public'::regnamespace")
        assert {name for (name,) in await cursor.fetchall()} == {
            "mainstay_inbox",
            "mainstay_inbox_pkey",
            "mainstay_inbox_taken_at",
        }


async def test_a_role_that_may_not_make_tables_is_told(server, empty_pool, empty_dsn) -> None:
    async with empty_pool.connection() as conn:
        await conn.execute("revoke create on schema public from public")
        await conn.execute("drop role if exists inbox_reader")
        await conn.execute("create role inbox_reader login")
    try:
        async with open_pool(psycopg.conninfo.make_conninfo(empty_dsn, user="inbox_reader")) as pool:
            with pytest.raises(Exception, match="permission denied for schema public"):
                await PostgresInbox(pool, "billing").prepare()
    finally:
        async with empty_pool.connection() as conn:
            await conn.execute("drop role inbox_reader")


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_commit_whose_answer_is_lost_is_found_out_by_the_next_attempt(empty_dsn, empty_pool, cut) -> None:
    inbox = PostgresInbox(empty_pool, "billing")
    await inbox.prepare()
    async with empty_pool.connection() as conn:
        await conn.execute("create table effect (number int)")
    sent = message(1)
    with Proxy(empty_dsn) as proxy:
        async with open_pool(proxy.dsn, min_size=1) as pool:
            far = PostgresInbox(pool, "billing")
            broken = (proxy.cut_after if cut == "after" else proxy.cut_before)("commit")
            with suppress(StorageUnavailableError):
                async with far.once(sent) as conn:
                    await conn.execute("insert into effect values (1)")
            assert broken.happened.is_set()

    async with inbox.once(sent) as conn:
        assert (conn is None) == (cut == "after")
        if conn is not None:
            await conn.execute("insert into effect values (1)")

    async with empty_pool.connection() as conn:
        assert await (await conn.execute("select count(*) from effect")).fetchone() == (1,)


KILLED = """
import asyncio, sys
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.inbox import PostgresInbox
from mainstay.testing.contracts.delivery import message
from dataclasses import replace
from uuid import UUID

async def main():
    async with open_pool(sys.argv[1], min_size=1) as pool:
        async with PostgresInbox(pool, "billing").once(message(1, id=UUID(sys.argv[2]))) as conn:
            await conn.execute("insert into effect values (1)")
            print("written", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


def _kill_one_that_has_written(*arguments) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.thorough
async def test_killed_before_the_commit_nothing_is_remembered(empty_dsn, empty_pool) -> None:
    inbox = PostgresInbox(empty_pool, "billing")
    await inbox.prepare()
    async with empty_pool.connection() as conn:
        await conn.execute("create table effect (number int)")
    sent = message(1)
    await asyncio.to_thread(_kill_one_that_has_written, empty_dsn, str(sent.id))

    async with inbox.once(sent) as conn:
        assert conn is not None
        await conn.execute("insert into effect values (2)")

    async with empty_pool.connection() as conn:
        assert await (await conn.execute("select array_agg(number) from effect")).fetchone() == ([2],)
