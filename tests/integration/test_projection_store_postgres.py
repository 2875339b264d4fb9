"""The projection store on PostgreSQL: the contract, on every version, and what only a database can show."""

import asyncio

import psycopg
import pytest

from mainstay.errors import StaleLeaseError, StorageUnavailableError
from mainstay.storage.postgres.projections import PostgresProjectionStore
from mainstay.testing.contracts.projections import LEASE, NAME, ProjectionStoreContract, at, letter
from tests.support.servers import open_pool
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def common_dsn(postgres_server):
    """One database for all tests, emptied before each."""
    with postgres_server.database() as name:
        yield postgres_server.dsn(name)


class TestPostgresProjectionStore(ProjectionStoreContract):
    @pytest.fixture
    async def store(self, common_dsn):
        async with open_pool(common_dsn) as pool:
            async with pool.connection() as conn:
                await conn.execute("delete from eventsource.subscription")
            yield PostgresProjectionStore(pool)

    async def expire_leases(self, store):
        async with store.pool.connection() as conn:
            await conn.execute("update eventsource.shard set leased_until = clock_timestamp() - interval '1 s'")

    async def test_what_a_batch_writes_and_its_checkpoint_are_one_commit(self, store) -> None:
        async with store.pool.connection() as conn:
            await conn.execute("drop table if exists total; create table total (amount int)")
        async with self.claimed(store) as claim:
            with pytest.raises(psycopg.errors.DivisionByZero):
                await self._fail_in_a_batch(store, claim)
            async with store.batch(claim) as batch:
                await batch.conn.execute("insert into total values (2)")
                await batch.advance(at(6))

        async with store.pool.connection() as conn:
            cursor = await conn.execute("select amount from total")
            assert await cursor.fetchall() == [(2,)]
        assert await self.position(store) == 6

    async def test_a_connection_that_is_cut_in_a_batch_leaves_nothing_and_frees_the_shard(self, store) -> None:
        async with self.claimed(store) as claim:
            with pytest.raises((StorageUnavailableError, psycopg.OperationalError)):
                await self._cut_a_batch(store, claim)
            await self.expire_leases(store)

            async def free():
                return await store.claim(NAME, owner="b", seconds=LEASE, most=1)

            (again,) = await eventually(free)

        assert again.checkpoint.position == 0

    async def _fail_in_a_batch(self, store, claim) -> None:
        async with store.batch(claim) as batch:
            await batch.conn.execute("insert into total values (1)")
            await batch.advance(at(5))
            await batch.conn.execute("select 1 / 0")

    async def _cut_a_batch(self, store, claim) -> None:
        async with store.batch(claim) as batch:
            await batch.advance(at(5))
            async with store.pool.connection() as other:
                await other.execute("select pg_terminate_backend(%s)", [batch.conn.info.backend_pid])
            await batch.advance(at(6))

    async def test_an_owner_that_stalls_in_a_batch_is_not_joined_though_its_lease_has_ended(self, store) -> None:
        await store.register(NAME)
        (claim,) = await store.claim(NAME, owner="a", seconds=0.0, most=1)
        async with store.batch(claim) as batch:
            assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []
            await batch.advance(at(5))

        (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)
        assert again.checkpoint.position == 5
        with pytest.raises(StaleLeaseError, match="somebody else's by now"):
            async with store.batch(claim):
                pytest.fail("the batch began")

    async def test_text_that_no_database_holds_is_laid_down_readably(self, store) -> None:
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await batch.lay_down([letter(5, key="a\x00b", error="\ud800 \x00")])
            assert await batch.blocked(["a\x00b", "c"]) == {"a\x00b"}

        (found,) = await store.dead_letters(NAME, key="a\x00b")
        assert "\x00" not in found.error

    async def test_many_owners_never_hold_one_shard_at_once(self, store) -> None:
        await store.register(NAME, shards=2)
        inside: dict[int, str] = {}
        positions = {0: 0, 1: 0}

        async def work(owner: str) -> None:
            for _ in range(15):
                for claim in await store.claim(NAME, owner=owner, seconds=0.0, most=1):
                    try:
                        async with store.batch(claim) as batch:
                            assert claim.shard not in inside
                            inside[claim.shard] = owner
                            await store.states(NAME)
                            await batch.advance(at(positions[claim.shard] + 1))
                            positions[claim.shard] += 1
                            del inside[claim.shard]
                    except StaleLeaseError:
                        continue

        await asyncio.gather(*(work(f"owner {each}") for each in range(6)))

        assert {each.shard: each.checkpoint.position for each in await store.states(NAME)} == positions
        assert sum(positions.values()) > 0
