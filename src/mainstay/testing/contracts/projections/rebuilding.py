"""Rebuilds: shards beside those that serve, and the swap of the two."""


# ruff: noqa: D102, S101, PLR2004 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio
from contextlib import suppress

import pytest

from mainstay.errors import StaleLeaseError
from mainstay.errors import SubscriptionNotFoundError as NotFound
from mainstay.projections.checks import rebuild_name
from mainstay.projections.store import Checkpoint, DeadLetterStatus, ProjectionStore, ShardStatus
from mainstay.testing.contracts.projections.base import (
    LEASE,
    NAME,
    OnPurposeError,
    ProjectionStoreSuite,
    at,
    letter,
)

REBUILD = rebuild_name(NAME)


class RebuildContract(ProjectionStoreSuite):
    """`ProjectionStore.rebuilding`, and versions."""

    async def begun(self, store: ProjectionStore, *, shards: int = 1, version: int = 1) -> None:
        """A rebuild that has seen nothing."""
        async with store.rebuilding(NAME) as held:
            await held.begin(shards=shards, version=version, start=Checkpoint(), actor="Olga")

    async def test_a_rebuild_begins_beside_what_serves(self, store: ProjectionStore) -> None:
        await store.register(NAME, start=at(7))

        await self.begun(store, shards=3, version=2)

        async with store.rebuilding(NAME) as held:
            assert [(each.subscription, each.checkpoint.position) for each in held.serving] == [(NAME, 7)]
            assert [(each.subscription, each.shard, each.shards, each.version) for each in held.rebuilt] == [
                (REBUILD, shard, 3, 2) for shard in range(3)
            ]
            assert {each.checkpoint for each in held.rebuilt} == {Checkpoint()}
        assert await self.position(store) == 7
        assert len(await store.claim(REBUILD, owner="r", seconds=LEASE, most=3, version=2)) == 3

    async def test_what_is_begun_in_a_block_that_raises_never_was(self, store: ProjectionStore) -> None:
        await store.register(NAME)
        with suppress(OnPurposeError):
            async with store.rebuilding(NAME) as held:
                await held.begin(shards=1, version=1, start=Checkpoint(), actor="Olga")
                raise OnPurposeError

        assert await store.states(REBUILD) == []

    async def test_what_nobody_knows_is_not_rebuilt(self, store: ProjectionStore) -> None:
        with pytest.raises(NotFound):
            async with store.rebuilding("nothing"):
                pytest.fail("it was")

    async def test_a_swap_lets_the_rebuilds_shards_be_the_subscriptions(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=2, start=at(5))
        await self.begun(store, shards=3, version=2)
        reached = at(9)

        async with store.rebuilding(NAME) as held:
            for shard in range(3):
                await held.batch(shard).advance(reached)
            assert await held.swap(actor="ann") == 0

        states = await store.states(NAME)
        assert [(each.shard, each.shards, each.version, each.generation) for each in states] == [
            (shard, 3, 2, 2) for shard in range(3)
        ]
        assert {each.checkpoint for each in states} == {reached}
        assert {(each.status, each.owner) for each in states} == {(ShardStatus.ACTIVE, None)}
        assert await store.states(REBUILD) == []
        claims = await store.claim(NAME, owner="b", seconds=LEASE, most=3, version=2)
        assert [claim.shards for claim in claims] == [3, 3, 3]

    async def test_a_swap_in_a_block_that_raises_changes_nothing(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.begun(store)
            with suppress(OnPurposeError):
                async with store.rebuilding(NAME) as held:
                    await held.batch(0).advance(at(9))
                    await held.swap(actor="ann")
                    raise OnPurposeError
            async with store.batch(claim) as batch:
                await batch.advance(at(6))

        assert [each.checkpoint.position for each in await store.states()] == [6, 0]

    async def test_who_held_a_shard_of_either_finds_the_claim_stale(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as old:
            await self.begun(store)
            (built,) = await store.claim(REBUILD, owner="r", seconds=LEASE, most=1)
            async with store.rebuilding(NAME) as held:
                await held.swap(actor="ann")

            for claim in (old, built):
                with pytest.raises(StaleLeaseError):
                    async with store.batch(claim):
                        pytest.fail("the batch began")
            assert await store.renew([old], seconds=LEASE) == set()
            await store.release([old, built])
            (new,) = await store.claim(NAME, owner="a", seconds=LEASE, most=1)

        assert new.token > max(old.token, built.token)

    async def test_a_batch_in_hand_ends_first_and_one_that_waited_is_not_begun(self, store: ProjectionStore) -> None:
        began, go = asyncio.Event(), asyncio.Event()
        async with self.claimed(store) as claim:
            await self.begun(store)

            async def work() -> None:
                async with store.batch(claim) as batch:
                    began.set()
                    await go.wait()
                    await batch.advance(at(5))

            async def swap() -> int:
                async with store.rebuilding(NAME) as held:
                    seen = held.serving[0].checkpoint.position
                    await held.batch(0).advance(at(seen))
                    await held.swap(actor="ann")
                    return seen

            working = asyncio.create_task(work())
            await began.wait()
            swapping = asyncio.create_task(swap())
            go.set()
            await working

            assert await swapping == 5
            with pytest.raises(StaleLeaseError):
                async with store.batch(claim):
                    pytest.fail("the batch began")
        assert await self.position(store) == 5

    async def test_of_two_who_swap_one_does(self, store: ProjectionStore) -> None:
        await store.register(NAME)
        await self.begun(store)

        async def swap() -> bool:
            async with store.rebuilding(NAME) as held:
                if not held.rebuilt:
                    return False
                await held.swap(actor="ann")
                return True

        assert sorted(await asyncio.gather(swap(), swap(), swap())) == [False, False, True]
        assert (await store.states(NAME))[0].generation == 2

    async def test_a_paused_subscription_stays_paused(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=2)
        await store.pause(NAME, actor="ann", reason="month's end")
        await self.begun(store, shards=3)
        async with store.rebuilding(NAME) as held:
            await held.swap(actor="ben")

        states = await store.states(NAME)
        assert [(each.status, each.actor, each.reason) for each in states] == [
            (ShardStatus.PAUSED, "ann", "month's end")
        ] * 3

    async def test_one_that_an_error_had_stopped_goes_on(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await store.stop(claim, reason="division by zero")
        await self.begun(store)
        async with store.rebuilding(NAME) as held:
            await held.swap(actor="ben")

        (state,) = await store.states(NAME)
        assert (state.status, state.reason) == (ShardStatus.ACTIVE, None)

    async def test_dead_letters_of_the_rebuild_stand_instead_of_the_old_ones(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5), letter(6), letter(7), letter(8)])
            async with store.batch(claim) as batch:
                await batch.settle([8], DeadLetterStatus.DISCARDED, actor="ann", reason="no use")
        await self.begun(store, shards=2)
        async with store.rebuilding(NAME) as held:
            await held.batch(1).lay_down(
                [letter(6, subscription=REBUILD, shard=1, error="another"), letter(9, shard=1)]
            )
            assert await held.batch(1).blocked(["Order/1"]) == {"Order/1"}
            assert await held.swap(actor="ben") == 2

        waiting = await store.dead_letters(NAME)
        settled = await store.dead_letters(NAME, status=DeadLetterStatus.HANDLED)
        discarded = await store.dead_letters(NAME, status=DeadLetterStatus.DISCARDED)
        assert [(each.position, each.shard, each.error) for each in waiting] == [
            (6, 1, "another"),
            (9, 1, "no such customer"),
        ]
        assert [(each.position, each.actor, each.reason) for each in settled] == [
            (position, "ben", "rebuilt, without side effects") for position in (5, 7)
        ]
        assert [(each.position, each.reason) for each in discarded] == [(8, "no use")]
        assert [each.dead_letters for each in await store.states(NAME)] == [0, 2]
        assert await store.dead_letters(REBUILD, status=None) == []

    async def test_a_canceled_rebuild_is_forgotten(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.begun(store)
            (built,) = await store.claim(REBUILD, owner="r", seconds=LEASE, most=1)
            async with store.rebuilding(NAME) as held:
                await held.cancel()

            assert await store.states(REBUILD) == []
            with pytest.raises(StaleLeaseError):
                async with store.batch(built):
                    pytest.fail("the batch began")
            async with store.batch(claim) as batch:
                await batch.advance(at(5))

    # -- versions ------------------------------------------------------------------------------------------------------

    async def test_what_another_version_built_is_not_claimed(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=2, version=2)
        await store.register(NAME, shards=3, version=1)
        await store.register(NAME, shards=3, version=3)

        assert await store.claim(NAME, owner="a", seconds=LEASE, most=2) == []
        assert await store.claim(NAME, owner="a", seconds=LEASE, most=2, version=3) == []
        assert len(await store.claim(NAME, owner="a", seconds=LEASE, most=2, version=2)) == 2
        assert {(each.shards, each.version) for each in await store.states(NAME)} == {(2, 2)}
