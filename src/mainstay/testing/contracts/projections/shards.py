"""Registering, claiming, batches, pausing, resetting."""


# ruff: noqa: D102, S101, PLR2004 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from mainstay.errors import ConfigurationError, InvalidInputError, InvalidOperationError, StaleLeaseError
from mainstay.errors import SubscriptionNotFoundError as NotFound
from mainstay.projections.store import (
    Checkpoint,
    DeadLetterStatus,
    ProjectionStore,
    ShardStatus,
)
from mainstay.testing.contracts.projections.base import (
    LEASE,
    NAME,
    OnPurposeError,
    ProjectionStoreSuite,
    at,
    letter,
)


class ShardContract(ProjectionStoreSuite):
    """How far a subscription is, and who is at it."""

    # -- registering ---------------------------------------------------------------------------------------------------

    async def test_a_new_subscription_begins_at_the_beginning(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=3)

        states = await store.states(NAME)

        assert [(each.shard, each.shards, each.status) for each in states] == [
            (shard, 3, ShardStatus.ACTIVE) for shard in range(3)
        ]
        assert {each.checkpoint for each in states} == {Checkpoint()}
        assert {(each.owner, each.reason, each.dead_letters) for each in states} == {(None, None, 0)}

    async def test_a_new_subscription_can_begin_elsewhere(self, store: ProjectionStore) -> None:
        begin = at(7)

        await store.register(NAME, start=begin)

        assert (await store.states(NAME))[0].checkpoint == begin

    async def test_registering_again_changes_nothing(self, store: ProjectionStore) -> None:
        await store.register(NAME, start=at(7))

        await store.register(NAME, start=at(9))

        assert await self.position(store) == 7

    async def test_what_a_subscription_wants_is_noted_until_it_is_forgotten(self, store: ProjectionStore) -> None:
        await store.want(NAME, frozenset(["Unknown"]))
        assert await store.wanted(NAME) is None
        await store.register(NAME, shards=2)
        assert await store.wanted(NAME) is None

        await store.want(NAME, frozenset(["Sent", 'with \\ "quotes", and ü']))
        assert await store.wanted(NAME) == frozenset(["Sent", 'with \\ "quotes", and ü'])
        await store.register(NAME, shards=2)
        await store.want(NAME, frozenset())
        assert await store.wanted(NAME) == frozenset()
        await store.want(NAME, None)
        assert await store.wanted(NAME) is None

        await store.want(NAME, frozenset(["Sent"]))
        await store.forget(NAME)
        await store.register(NAME)
        assert await store.wanted(NAME) is None

    async def test_the_number_of_shards_stays(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=2)

        with pytest.raises(InvalidOperationError, match="2 shards, not 3"):
            await store.register(NAME, shards=3)

    async def test_many_register_at_once(self, store: ProjectionStore) -> None:
        await asyncio.gather(*(store.register(NAME, shards=4) for _ in range(8)))

        assert len(await store.states(NAME)) == 4

    @pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\x00b", "a\nb", 7, None])
    async def test_a_name_that_is_none_is_refused(self, store: ProjectionStore, name: Any) -> None:
        with pytest.raises(InvalidInputError, match="name"):
            await store.register(name)

    @pytest.mark.parametrize("shards", [0, -1, 65, 1.5, True, "2"])
    async def test_a_number_of_shards_that_is_none_is_refused(self, store: ProjectionStore, shards: Any) -> None:
        with pytest.raises(ConfigurationError, match="shards"):
            await store.register(NAME, shards=shards)

    # -- claiming ------------------------------------------------------------------------------------------------------

    async def test_a_claimed_shard_is_nobody_elses(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            assert (claim.subscription, claim.shard, claim.shards, claim.owner) == (NAME, 0, 1, "a")
            assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []

    async def test_shards_are_shared(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=4)

        first = await store.claim(NAME, owner="a", seconds=LEASE, most=2)
        second = await store.claim(NAME, owner="b", seconds=LEASE, most=4)

        assert len(first) == 2
        assert sorted(each.shard for each in first + second) == [0, 1, 2, 3]

    async def test_what_is_held_counts_for_the_most_that_is_wanted(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=4)
        await store.claim(NAME, owner="a", seconds=LEASE, most=1)

        assert len(await store.claim(NAME, owner="a", seconds=LEASE, most=3)) == 2

    async def test_of_many_who_claim_at_once_one_gets_a_shard(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=3)

        claims = await asyncio.gather(
            *(store.claim(NAME, owner=f"owner {each}", seconds=LEASE, most=3) for each in range(12))
        )

        assert sorted(claim.shard for some in claims for claim in some) == [0, 1, 2]

    async def test_what_nobody_knows_has_no_shards(self, store: ProjectionStore) -> None:
        assert await store.claim("nothing", owner="a", seconds=LEASE, most=1) == []
        assert await store.states("nothing") == []

    async def test_a_released_shard_is_free_at_once(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await store.release([claim])

            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)

        assert again.token > claim.token

    async def test_a_shard_is_free_when_its_lease_has_ended(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.expire_leases(store)

            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)

        assert again.token > claim.token

    async def test_a_renewed_lease_goes_on(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.expire_leases(store)

            assert await store.renew([claim], seconds=LEASE) == {0}
            assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []

    async def test_a_lease_that_another_has_by_now_is_not_renewed(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.expire_leases(store)
            (other,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)

            assert await store.renew([claim], seconds=LEASE) == set()
            assert await store.renew([other], seconds=LEASE) == {0}

    async def test_a_stale_owner_releases_nothing(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.expire_leases(store)
            await store.claim(NAME, owner="b", seconds=LEASE, most=1)

            await store.release([claim])

        assert (await store.states(NAME))[0].owner == "b"

    # -- batches -------------------------------------------------------------------------------------------------------

    async def test_a_batch_moves_the_checkpoint(self, store: ProjectionStore) -> None:
        reached = at(5)
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.advance(reached)
            await store.release([claim])

            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)

        assert again.checkpoint == reached
        assert (await store.states(NAME))[0].moved_at is not None

    async def test_a_batch_that_fails_moves_nothing(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            with suppress(OnPurposeError):
                async with store.batch(claim) as batch:
                    await batch.advance(at(5))
                    await batch.lay_down([letter(5)])
                    raise OnPurposeError

        assert await self.position(store) == 0
        assert await store.dead_letters(NAME) == []

    async def test_a_batch_says_where_the_shard_stands(self, store: ProjectionStore) -> None:
        reached = at(5)
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                assert batch.checkpoint == Checkpoint()
                await batch.advance(reached)
            async with store.batch(claim) as batch:
                assert batch.checkpoint == reached
        async with store.borrowed(NAME, 0) as batch:
            assert batch.checkpoint == reached

    async def test_one_batch_follows_another(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            for position in (5, 6, 9):
                async with store.batch(claim) as batch:
                    await batch.advance(at(position))

        assert await self.position(store) == 9

    async def test_a_stale_owner_begins_no_batch(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.expire_leases(store)
            await store.claim(NAME, owner="b", seconds=LEASE, most=1)

            with pytest.raises(StaleLeaseError):
                async with store.batch(claim):
                    pytest.fail("the batch began")

    async def test_a_lease_that_ended_unnoticed_still_works(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await self.expire_leases(store)

            async with store.batch(claim) as batch:
                await batch.advance(at(5))

        assert await self.position(store) == 5

    async def test_nobody_joins_a_batch(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []
                assert await store.renew([claim], seconds=LEASE) == {0}
                await batch.advance(at(5))
            await self.expire_leases(store)

            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)

        assert again.checkpoint.position == 5

    # -- pausing and stopping ------------------------------------------------------------------------------------------

    async def test_a_paused_subscription_is_not_claimed(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=2)

        assert await store.pause(NAME, actor="ann", reason="a release") == 2

        assert await store.claim(NAME, owner="a", seconds=LEASE, most=2) == []
        assert {(each.status, each.reason, each.actor) for each in await store.states(NAME)} == {
            (ShardStatus.PAUSED, "a release", "ann")
        }

    async def test_pausing_takes_shards_from_their_owner(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await store.pause(NAME, actor="ann")

            assert await store.renew([claim], seconds=LEASE) == set()
            with pytest.raises(StaleLeaseError):
                async with store.batch(claim):
                    pytest.fail("the batch began")

    async def test_a_batch_in_hand_is_finished_before_the_pause(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                pausing = asyncio.create_task(store.pause(NAME, actor="ann"))
                await batch.advance(at(5))
            assert await pausing == 1

        (state,) = await store.states(NAME)
        assert (state.status, state.checkpoint.position, state.owner) == (ShardStatus.PAUSED, 5, None)

    async def test_a_resumed_subscription_goes_on(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.advance(at(5))
            await store.pause(NAME, actor="ann")

            assert await store.resume(NAME, actor="ben") == 1

            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)
        assert again.checkpoint.position == 5
        assert await store.resume(NAME, actor="ben") == 0

    async def test_a_stopped_shard_says_why_and_waits_for_a_person(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await store.stop(claim, reason="no such customer")

        (state,) = await store.states(NAME)
        assert (state.status, state.reason, state.owner) == (ShardStatus.STOPPED, "no such customer", None)
        assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) == []
        await store.resume(NAME, actor="ann")
        assert await store.claim(NAME, owner="b", seconds=LEASE, most=1) != []

    async def test_one_shard_stops_alone(self, store: ProjectionStore) -> None:
        await store.register(NAME, shards=2)
        first, second = await store.claim(NAME, owner="a", seconds=LEASE, most=2)

        await store.stop(first, reason="because")

        assert await store.renew([first, second], seconds=LEASE) == {second.shard}

    async def test_a_stale_owner_stops_nothing(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            await store.release([claim])

            with pytest.raises(StaleLeaseError):
                await store.stop(claim, reason="because")

    async def test_what_nobody_knows_cannot_be_changed(self, store: ProjectionStore) -> None:
        with pytest.raises(NotFound):
            await store.pause("nothing", actor="ann")
        with pytest.raises(NotFound):
            await store.resume("nothing", actor="ann")
        with pytest.raises(NotFound):
            await store.reset("nothing", Checkpoint(), actor="ann")

    # -- resetting and forgetting --------------------------------------------------------------------------------------

    async def test_a_reset_takes_the_shards_from_whoever_holds_them(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.advance(at(50))

            await store.reset(NAME, Checkpoint(), actor="ann")

            with pytest.raises(StaleLeaseError):
                async with store.batch(claim):
                    pytest.fail("the batch began")
            (again,) = await store.claim(NAME, owner="b", seconds=LEASE, most=1)
        assert again.checkpoint == Checkpoint()

    async def test_a_reset_discards_the_dead_letters_that_will_come_again(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await batch.lay_down([letter(5), letter(9)])
            await batch.advance(at(9))

        await store.reset(NAME, at(5), actor="ann")

        assert [each.position for each in await store.dead_letters(NAME)] == [5]
        (discarded,) = await store.dead_letters(NAME, status=DeadLetterStatus.DISCARDED)
        assert (discarded.position, discarded.actor) == (9, "ann")

    async def test_a_dead_letter_that_came_again_waits_again(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim, store.batch(claim) as batch:
            await batch.lay_down([letter(5)])
        await store.reset(NAME, Checkpoint(), actor="ann")
        (again,) = await store.claim(NAME, owner="a", seconds=LEASE, most=1)

        async with store.batch(again) as batch:
            await batch.lay_down([letter(5, error="another")])

        assert [(each.position, each.error) for each in await store.dead_letters(NAME)] == [(5, "another")]

    async def test_a_forgotten_subscription_is_gone(self, store: ProjectionStore) -> None:
        async with self.claimed(store) as claim:
            async with store.batch(claim) as batch:
                await batch.lay_down([letter(5)])

            await store.forget(NAME)

            with pytest.raises(StaleLeaseError):
                async with store.batch(claim):
                    pytest.fail("the batch began")
        assert await store.states(NAME) == []
        assert await store.dead_letters(NAME) == []
        await store.register(NAME, shards=2)
        assert len(await store.states(NAME)) == 2
