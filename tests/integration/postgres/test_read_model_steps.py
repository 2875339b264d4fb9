"""Whatever is saved, deleted and asked for, every engine gives what memory gives; in batches or one by one."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.projections.read_model_memory import MemoryReadModelStore
from mainstay.storage.postgres.read_models import PostgresReadModelStore
from mainstay.storage.sqlite.events import SQLiteEventLog
from tests.support.read_model_steps import TABLE, in_batches, one_by_one, steps
from tests.support.servers import open_pool

GROUPS = st.lists(st.lists(steps(), min_size=1, max_size=6), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def common_dsn(postgres_server):
    with postgres_server.database(schema=False) as name:
        yield postgres_server.dsn(name)


async def in_memory(way, groups):
    store = MemoryReadModelStore()
    await store.create(TABLE)
    return await way(store, groups)


@given(groups=GROUPS)
@settings(max_examples=60)
def test_in_memory_a_batch_leaves_what_single_steps_leave(groups) -> None:
    assert asyncio.run(in_memory(in_batches, groups)) == asyncio.run(in_memory(one_by_one, groups))


@given(groups=GROUPS)
@settings(max_examples=25)
@pytest.mark.thorough
def test_sqlite_gives_what_memory_gives(groups) -> None:
    async def play():
        async with SQLiteEventLog(":memory:") as log:
            store = log.read_models()
            for way in (one_by_one, in_batches):
                await store.create(TABLE)
                assert await way(store, groups) == await in_memory(one_by_one, groups)
                await store.drop(TABLE)

    asyncio.run(play())


@given(groups=GROUPS)
@settings(max_examples=25)
def test_postgresql_gives_what_memory_gives(common_dsn, groups) -> None:
    async def play():
        async with open_pool(common_dsn) as pool:
            store = PostgresReadModelStore(pool)
            for way in (one_by_one, in_batches):
                await store.create(TABLE)
                await store.truncate(TABLE)
                assert await way(store, groups) == await in_memory(one_by_one, groups)

    asyncio.run(play())
