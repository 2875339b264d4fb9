"""Group commit on PostgreSQL: the contract, on every version; and what only sessions can show."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mainstay.commands.deciders import Fate
from mainstay.commands.store import WouldWaitError
from mainstay.errors import StorageUnavailableError
from mainstay.events.log import Condition, Query, QueryItem, StreamAppend
from mainstay.events.stream import ExpectedVersion
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.groups import PostgresGroupStore
from mainstay.testing.contracts.commands.base import DOMAIN
from mainstay.testing.contracts.events.base import several, stream
from mainstay.testing.contracts.grouping import GroupStoreContract
from tests.scenarios.postgres import OnPostgres, ask
from tests.support.servers import open_pool


class TestPostgresGroupStore(OnPostgres, GroupStoreContract):
    @pytest.fixture
    async def store(self, postgres_server, pool):
        return PostgresCommandStore(pool)

    @pytest.fixture
    async def log(self, pool):
        return PostgresEventLog(pool)

    @pytest.fixture
    async def groups(self, pool, log) -> AsyncIterator[PostgresGroupStore]:
        groups = PostgresGroupStore(pool, log)
        yield groups
        await groups.close()

    async def test_all_of_a_group_is_of_one_transaction(self, store, log, groups, pool):
        received, where = await self.in_hands(store, 3), stream()
        await groups.commit(DOMAIN, [self.one(each, where, n) for n, each in enumerate(received)])

        made = await ask(
            pool,
            """
            select count(distinct xmin::text) from (
                select xmin from eventsource.event union all select xmin from commandbus.command
                union all select xmin from commandbus.decision
                union all select xmin from commandbus.audit where event_type = 'COMPLETED'
            ) as written
            """,
        )
        assert made == [(1,)]

    @asynccontextmanager
    async def appending(self, log: Any, where: Any, **options: Any) -> AsyncIterator[None]:
        async with log.transaction() as tx:
            await log.append([StreamAppend(where, several(1), ExpectedVersion.any())], conn=tx, **options)
            yield

    async def test_a_stream_that_another_transaction_makes_is_waited_for_a_moment_only(self, store, log, groups):
        (received,), where = await self.in_hands(store, 1), stream()
        async with self.appending(log, where):
            with pytest.raises(WouldWaitError):
                await groups.commit(DOMAIN, [self.one(received, where)])

        assert await groups.commit(DOMAIN, [self.one(received, where)]) == [Fate.MOVED]
        assert await groups.commit(DOMAIN, [self.one(received, where, 1)]) == [Fate.APPLIED]

    async def test_so_is_a_type_that_a_condition_keeps_others_from(self, store, log, groups):
        (received,), where = await self.in_hands(store, 1), stream()
        condition = Condition(Query((QueryItem(frozenset({"Placed"})),)), 0)
        async with self.appending(log, stream(), condition=condition):
            with pytest.raises(WouldWaitError):
                await groups.commit(DOMAIN, [self.one(received, where)])

        assert await groups.commit(DOMAIN, [self.one(received, where)]) == [Fate.APPLIED]

    async def test_groups_that_share_streams_and_commands_never_wait_for_each_other_in_a_circle(self, store, log, pool):
        """Both name all streams, in opposite order, and each half of the commands; nothing ends in a deadlock."""
        streams = [stream() for _ in range(20)]
        for each in streams:
            await self.append(log, each)
        received = await self.in_hands(store, 40)
        several_groups = [PostgresGroupStore(pool, log) for _ in range(2)]
        halves = [
            [self.one(each, where, 1) for each, where in zip(received[:20], streams, strict=True)],
            [self.one(each, where, 1) for each, where in zip(received[20:], streams[::-1], strict=True)],
        ]
        fates = await asyncio.gather(
            *(groups.commit(DOMAIN, half) for groups, half in zip(several_groups, halves, strict=True))
        )
        for groups in several_groups:
            await groups.close()

        written = [fate for half in fates for fate in half if fate is Fate.APPLIED]
        assert len(written) == 20
        assert {fate for half in fates for fate in half} <= {Fate.APPLIED, Fate.MOVED, Fate.LOCKED}
        assert [len(await self.there(log, each)) for each in streams] == [2] * 20

    async def test_whether_a_connection_is_kept_is_asked_of_the_pool_each_time(self, store, log, dsn):
        received, where = await self.in_hands(store, 4), stream()
        async with open_pool(dsn, min_size=1, max_size=4) as own:
            groups, kept = PostgresGroupStore(own, log), []
            for version, (size, each) in enumerate(zip([4, 5, 4, 5], received, strict=True)):
                await own.resize(1, size)
                assert await groups.commit(DOMAIN, [self.one(each, where, version)]) == [Fate.APPLIED]
                stats = own.get_stats()
                kept.append(stats["pool_size"] - stats["pool_available"])
            await groups.close()

        assert kept == [0, 1, 0, 1]

    async def test_a_connection_that_breaks_is_replaced(self, store, log, dsn, pool):
        received, where = await self.in_hands(store, 2), stream()
        async with open_pool(dsn) as own:
            groups = PostgresGroupStore(own, log)
            assert await groups.commit(DOMAIN, [self.one(received[0], where)]) == [Fate.APPLIED]
            pids = [conn.info.backend_pid for conn in [groups._held._conn]]
            await ask(pool, "select pg_terminate_backend(p) from unnest(%s::integer[]) as p", pids)
            with pytest.raises(StorageUnavailableError):
                await groups.commit(DOMAIN, [self.one(received[1], where, 1)])

            assert await groups.commit(DOMAIN, [self.one(received[1], where, 1)]) == [Fate.APPLIED]
            await groups.close()
