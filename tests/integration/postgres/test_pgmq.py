"""Queues on a real server: the contract, and what only a server can show."""

import asyncio

import psycopg
import pytest
from psycopg.rows import tuple_row

from mainstay.errors import MissingDependencyError, QueueNotFoundError, StorageUnavailableError
from mainstay.storage.postgres.pgmq import PgmqClient
from mainstay.testing.contracts.pgmq import QUEUE, PgmqContract


@pytest.fixture(scope="module")
def database(server):
    """One for all tests here: each begins by dropping the queues of the one before."""
    with server.database() as name:
        yield name


class TestPgmqClient(PgmqContract):
    @pytest.fixture
    async def client(self, pool):
        client = PgmqClient(pool)
        for queue in await client.list_queues():
            await client.drop_queue(queue.queue_name)
        return client

    async def test_a_message_is_sent_with_the_callers_transaction_or_not_at_all(self, client, pool):
        async with pool.connection() as conn, conn.transaction(force_rollback=True):
            await client.send(QUEUE, {"n": 1}, conn=conn)
            await client.send_batch(QUEUE, [{}, {}], conn=conn)
            inside = (await client.metrics(QUEUE, conn=conn)).queue_length

        assert inside == 3
        assert await client.read(QUEUE) == []

    async def test_a_message_read_in_a_transaction_that_rolls_back_was_never_read(self, client, pool):
        await client.send(QUEUE, {})
        async with pool.connection() as conn, conn.transaction(force_rollback=True):
            (message,) = await client.read(QUEUE, conn=conn)
            await client.set_vt(QUEUE, message.msg_id, 60, conn=conn)
            await client.archive(QUEUE, message.msg_id, conn=conn)
            assert await client.list_queues(conn=conn)

        (again,) = await client.read(QUEUE)

        assert again.read_count == 1

    async def test_a_callers_connection_is_left_in_its_transaction(self, client, pool):
        async with pool.connection() as conn:
            await client.send(QUEUE, {}, conn=conn)

            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            assert not conn.autocommit

    async def test_an_archived_message_lies_in_the_archive(self, client, pool):
        msg_id = await client.send(QUEUE, {"kept": True})
        await client.archive(QUEUE, msg_id)

        async with pool.connection() as conn:
            cursor = await conn.execute('select message from pgmq."a_my-queue_1"')

            assert await cursor.fetchall() == [({"kept": True},)]

    async def test_queues_created_at_the_same_time_do_not_disturb_each_other(self, client):
        await asyncio.gather(*(client.create_queue(f"q{n % 3}") for n in range(12)))

        assert [queue.queue_name for queue in await client.list_queues()] == [QUEUE, "q0", "q1", "q2"]

    async def test_creating_a_queue_holds_nothing_after_it_returns(self, client, pool):
        async with pool.connection() as conn, conn.transaction():
            await client.send(QUEUE, {}, conn=conn)
            await asyncio.wait_for(client.create_queue("another"), 60)
            await asyncio.wait_for(client.create_queue("another"), 60)

            cursor = await conn.execute(
                "select count(*) from pg_locks join pg_database on pg_database.oid = database"
                " where locktype = 'advisory' and datname = current_database()"
            )
            assert await cursor.fetchone() == (0,)

    async def test_readers_at_the_same_time_never_get_the_same_message(self, client):
        await client.send_batch(QUEUE, list(range(100)))

        batches = await asyncio.gather(*(client.read(QUEUE, batch_size=20) for _ in range(8)))

        read = [message.message for batch in batches for message in batch]
        assert len(read) == len(set(read))

    async def test_without_pg_partman_a_partitioned_queue_says_what_to_install(self, client, pool):
        async with pool.connection() as conn:
            cursor = await conn.execute("select exists (select from pg_extension where extname = 'pg_partman')")
            assert await cursor.fetchone() == (False,), "this test needs a database without pg_partman"

        with pytest.raises(MissingDependencyError, match="CREATE EXTENSION pg_partman"):
            await client.create_partitioned("events__queue", "1 day")

        assert [queue.queue_name for queue in await client.list_queues()] == [QUEUE]

    async def test_what_the_pools_connections_return_is_none_of_our_business(self, client, pool):
        async with pool.connection() as conn:
            conn.row_factory = tuple_row
            conn.cursor_factory = psycopg.AsyncRawCursor
            await client.send(QUEUE, {"n": 1}, conn=conn)

            (message,) = await client.read(QUEUE, conn=conn)

        assert message.message == {"n": 1}

    async def test_a_closed_pool_is_storage_unavailable(self, client, pool):
        await pool.close()

        with pytest.raises(StorageUnavailableError):
            await client.send(QUEUE, {})

    async def test_a_dropped_queue_is_missing_at_once(self, client):
        await client.send(QUEUE, {})
        await client.drop_queue(QUEUE)

        with pytest.raises(QueueNotFoundError):
            await client.send(QUEUE, {})
