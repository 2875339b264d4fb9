"""What a projection store must do, on whatever it stands.

Subclass it in a test module, give it a fixture named ``store`` and say how to let leases end::

    class TestMyStore(ProjectionStoreContract):
        @pytest.fixture
        async def store(self): ...

        async def expire_leases(self, store): ...

It needs pytest-asyncio in auto mode.
"""

# ruff: noqa: D102, S101, PLR2004 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from mainstay.errors import ConfigurationError, InvalidInputError, InvalidOperationError, StaleLeaseError
from mainstay.errors import SubscriptionNotFoundError as NotFound
from mainstay.projections.store import (
    Checkpoint,
    Claim,
    DeadLetter,
    DeadLetterStatus,
    ProjectionStore,
    ShardStatus,
)

NAME = "order totals"
LEASE = 60.0
EPOCH = uuid4()
FAR_FUTURE = 10_000_000


class _OnPurposeError(Exception):
    """Ends a batch."""


def at(position: int) -> Checkpoint:
    """A checkpoint on the event at a position."""
    return Checkpoint(position, EPOCH, uuid4(), position)


def letter(position: int, **changes: Any) -> DeadLetter:
    """A dead letter of one key."""
    fields: dict[str, Any] = {
        "subscription": NAME,
        "shard": 0,
        "position": position,
        "event_id": uuid4(),
        "event_type": "OrderPlaced",
        "key": "Order/1",
        "error": "no such customer",
        "error_type": "LookupError",
        "attempts": 3,
    }
    return DeadLetter(**fields | changes)


class ProjectionStoreContract(ABC):
    """All of it."""

    @abstractmethod
    async def expire_leases(self, store: Any) -> None:
        """Let every lease end, as time does."""

    @asynccontextmanager
    async def claimed(self, store: ProjectionStore, *, owner: str = "a") -> AsyncIterator[Claim]:
        """The one shard of the subscription, taken."""
        await store.register(NAME)
        (claim,) = await store.claim(NAME, owner=owner, seconds=LEASE, most=1)
        yield claim

    async def position(self, store: ProjectionStore) -> int:
        """Where the first shard stands."""
        return (await store.states(NAME))[0].checkpoint.position

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
            with suppress(_OnPurposeError):
                async with store.batch(claim) as batch:
                    await batch.advance(at(5))
                    await batch.lay_down([letter(5)])
                    raise _OnPurposeError

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

    # -- dead letters --------------------------------------------------------------------------------------------------

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
