"""PGMQ adds columns between releases, also in the middle; its rows are read by name."""

from mainstay.storage.postgres.pgmq import PgmqClient

QUEUE = "my-queue_1"


async def test_a_column_in_another_place_changes_nothing(pool):
    client = PgmqClient(pool)
    await client.create_queue(QUEUE)
    async with pool.connection() as conn:
        await conn.execute("alter type pgmq.message_record rename to message_record_as_installed")
        await conn.execute(
            "create type pgmq.message_record as (headers jsonb, vt timestamptz, message jsonb, new_column int,"
            " msg_id bigint, enqueued_at timestamptz, read_ct int)"
        )
        await conn.execute("drop function pgmq.pop(text, integer)")
        await conn.execute(
            "create function pgmq.pop(queue_name text) returns setof pgmq.message_record language sql as"
            ' $$ delete from pgmq."q_my-queue_1"'
            " returning headers, vt, message, 7, msg_id, enqueued_at, read_ct $$"
        )
    await client.send(QUEUE, {"n": 1}, headers={"h": 1})

    popped = await client.pop(QUEUE)

    assert popped.message == {"n": 1}
    assert popped.headers == {"h": 1}
    assert popped.last_read_at is None
