"""Partitioned queues, on a stand-in for pg_partman: an entry in the catalog and the two objects that PGMQ uses."""

import pytest

from mainstay.errors import InvalidInputError
from mainstay.storage.postgres.pgmq import PgmqClient

STAND_IN = """
create schema partman;
create table partman.part_config (
    parent_table text primary key, retention text, retention_keep_table bool, retention_keep_index bool,
    automatic_maintenance text, partition_interval text);
create function partman.create_parent(
    p_parent_table text, p_control text, p_interval text, p_premake int default 4, p_type text default 'range')
returns bool language plpgsql as $$
begin
    insert into partman.part_config (parent_table, partition_interval) values (p_parent_table, p_interval);
    execute format('create table %s partition of %s default', p_parent_table || '_default', p_parent_table);
    return true;
end $$;
set allow_system_table_mods = on;
insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
values (99999, 'pg_partman', 10, 'partman'::regnamespace, false, '5.2.4');
reset allow_system_table_mods;
"""


@pytest.fixture
async def client(pool):
    async with pool.connection() as conn:
        await conn.execute(STAND_IN)
    return PgmqClient(pool)


async def configured(pool):
    async with pool.connection() as conn:
        cursor = await conn.execute("select partition_interval, retention from partman.part_config order by 1")
        return await cursor.fetchall()


async def test_a_partitioned_queue_keeps_its_messages_unless_told_otherwise(client, pool):
    await client.create_partitioned("events__queue", "1 day")

    assert await configured(pool) == [("1 day", None), ("1 day", None)]
    (queue,) = await client.list_queues()
    assert (queue.queue_name, queue.is_partitioned) == ("events__queue", True)


async def test_retention_is_passed_on(client, pool):
    await client.create_partitioned("events__queue", "10000", "100000")

    assert await configured(pool) == [("10000", "100000"), ("10000", "100000")]


async def test_a_partitioned_queue_works_like_any_other_and_can_be_created_again(client):
    await client.create_partitioned("events__queue")
    msg_id = await client.send("events__queue", {"n": 1})
    await client.create_partitioned("events__queue")

    (message,) = await client.read("events__queue")
    assert message.msg_id == msg_id
    assert (await client.metrics("events__queue")).queue_length == 1
    assert await client.archive("events__queue", msg_id)


async def test_a_plain_queue_is_not_turned_into_a_partitioned_one(client):
    await client.create_queue("events__queue")

    with pytest.raises(InvalidInputError, match="not partitioned"):
        await client.create_partitioned("events__queue")
