"""Events that lie apart."""


# ruff: noqa: D102, S101, PLR2004 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio

import pytest

from mainstay.errors import SubscriptionNotFoundError as NotFound
from mainstay.projections.store import (
    DeadLetterStatus,
    ProjectionStore,
)
from mainstay.testing.contracts.projections.base import (
    FAR_FUTURE,
    LEASE,
    NAME,
    ProjectionStoreSuite,
    at,
    letter,
)


class DeadLetterContract(ProjectionStoreSuite):
    """What is laid down, what it blocks, and what becomes of it."""

    async def test_a_dead_letter_blocks_its_key(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5), letter(6, error=None, error_type=None, attempts=0)])
            async with store.batch(claim) as batch:
                blocked = await batch.blocked(["Order/1", "Order/2"])

        assert blocked == {"Order/1"}
        assert (await store.states(NAME))[0].dead_letters == 2

    async def test_a_batch_sees_what_it_laid_down(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await batch.lay_down([letter(5)])

            assert await batch.blocked(["Order/1"]) == {"Order/1"}

    async def test_dead_letters_are_listed_with_all_that_is_known(self, store: ProjectionStore) -> None:
        down = [letter(5), letter(9, key="Order/2"), letter(12)]
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await batch.lay_down(down)

        found = await store.dead_letters(NAME)

        assert [each.position for each in found] == [5, 9, 12]
        first = found[0]
        assert (first.event_id, first.event_type, first.error, first.error_type, first.attempts) == (
            down[0].event_id,
            "OrderPlaced",
            "no such customer",
            "LookupError",
            3,
        )
        assert first.created_at is not None
        assert [each.position for each in await store.dead_letters(NAME, key="Order/1")] == [5, 12]
        assert [each.position for each in await store.dead_letters(NAME, after=5, limit=1)] == [9]

    async def test_settled_letters_block_no_more(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5), letter(6)])
            async with store.batch(claim) as batch:
                done = DeadLetterStatus.HANDLED
                assert await batch.settle([5, 6, FAR_FUTURE], done, actor="ann", reason="mended") == 2
                assert await batch.settle([5], DeadLetterStatus.DISCARDED, actor="ben", reason=None) == 0
                assert await batch.blocked(["Order/1"]) == set()

        assert await store.dead_letters(NAME) == []
        handled = await store.dead_letters(NAME, status=DeadLetterStatus.HANDLED)
        assert [(each.position, each.actor, each.reason) for each in handled] == [
            (5, "ann", "mended"),
            (6, "ann", "mended"),
        ]
        assert len(await store.dead_letters(NAME, status=None)) == 2

    async def test_a_letter_that_failed_again_says_so(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5)])
            async with store.batch(claim) as batch:
                await batch.tried(5, error="still no customer", error_type="KeyError")

        (found,) = await store.dead_letters(NAME)
        assert (found.attempts, found.error, found.error_type) == (4, "still no customer", "KeyError")

    async def test_a_shard_is_borrowed_between_two_batches(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5)])
                settling = asyncio.create_task(self._settled(store))
                await batch.advance(at(5))
            await settling

            assert await store.dead_letters(NAME) == []
            async with store.batch(claim) as batch:
                await batch.advance(at(6))
        assert await self.position(store) == 6

    async def _settled(self, store: ProjectionStore) -> None:
        async with store.borrowed(NAME, 0) as batch:
            await batch.settle([5], DeadLetterStatus.HANDLED, actor="ann", reason=None)

    async def test_what_nobody_knows_is_not_borrowed(self, store: ProjectionStore) -> None:
        await store.register(NAME)
        for name, shard in (("nothing", 0), (NAME, 1)):
            with pytest.raises(NotFound):
                async with store.borrowed(name, shard):
                    pytest.fail("it was")

    async def test_a_claim_says_how_many_events_lie_apart(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5), letter(6)])
            await store.release([claim])

            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)

        assert (claim.dead_letters, again.dead_letters) == (0, 2)

    async def test_subscriptions_do_not_see_each_others_letters(self, store: ProjectionStore) -> None:
        await store.register("another")
        (other,) = await store.claim("another", owner="a", seconds=LEASE, most=1)
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await batch.lay_down([letter(5)])

        async with store.batch(other) as batch:
            assert await batch.blocked(["Order/1"]) == set()
        assert await store.dead_letters("another") == []
