"""What operators ask about subscriptions and their dead letters, and do about them; the user's code is not needed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mainstay.errors import InvalidInputError, InvalidOperationError, SubscriptionNotFoundError
from mainstay.events.log import RecordedEvent
from mainstay.projections.checks import REBUILD
from mainstay.projections.store import DeadLetter, DeadLetterStatus, ShardState
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.feed_questions import FeedQuestions, ShardLag, SubscriptionOverview
from mainstay.storage.postgres.projections import PostgresProjectionStore

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ShardOverview:
    """A shard, and how far it is behind.

    Attributes:
        state: What is known of it.
        lag: How far it is behind.
        owned: Somebody holds it whose lease has not ended.
    """

    state: ShardState
    lag: ShardLag
    owned: bool


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Dead letters of a key that wait.

    Attributes:
        subscription: Whose.
        key: Their key.
        first: The event that failed; the others wait behind it.
        count: How many there are.
    """

    subscription: str
    key: str
    first: DeadLetter
    count: int


_Letters = list[DeadLetter]
_Shards = list[ShardOverview]
"""Within `Projections`, ``list`` is a method."""


class Projections:
    """The part of the operator that is about subscriptions.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Any) -> None:
        self.store = PostgresProjectionStore(pool)
        self._log = PostgresEventLog(pool)
        self._questions = FeedQuestions(pool)

    async def list(self, subscription: str | None = None) -> list[SubscriptionOverview]:
        """All subscriptions, or the one that is named, by name.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        found = await self._questions.overview(subscription)
        if subscription is not None and not found:
            raise SubscriptionNotFoundError(subscription)
        return found

    async def shards(self, subscription: str | None = None) -> _Shards:
        """All shards of one subscription, or of all, by name and number.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        lags = {(each.subscription, each.shard): each for each in await self._questions.lags(subscription)}
        states = [each for each in await self.store.states(subscription) if (each.subscription, each.shard) in lags]
        if subscription is not None and not states:
            raise SubscriptionNotFoundError(subscription)
        now = datetime.now(UTC)
        return [
            ShardOverview(
                each, lags[each.subscription, each.shard], each.leased_until is not None and each.leased_until > now
            )
            for each in states
        ]

    async def rebuild_of(self, subscription: str) -> SubscriptionOverview | None:
        """The rebuild of a subscription that is under way, or waits; None if there is none."""
        name = f"{subscription}{REBUILD}"
        found = await self._questions.overview(name)
        return found[0] if found else None

    async def pause(self, subscription: str, *, operator: str | None, reason: str | None = None) -> int:
        """Pause a subscription in all processes; gives how many shards were active.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        return await self.store.pause(subscription, actor=operator or "", reason=reason)

    async def resume(self, subscription: str, *, operator: str | None) -> int:
        """Let a paused or stopped subscription go on where it stands; gives how many shards were not active.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        return await self.store.resume(subscription, actor=operator or "")

    async def forget(self, subscription: str) -> None:
        """Remove a subscription that nobody runs, with its checkpoints and its dead letters.

        Raises:
            SubscriptionNotFoundError: It is not known.
            InvalidOperationError: Somebody runs it.
        """
        (found,) = await self.list(subscription)
        if found.owned:
            message = f"{subscription} runs in {', '.join(found.owners)}: end that first, or pause the projection"
            raise InvalidOperationError(message)
        await self.store.forget(subscription)

    # -- dead letters -------------------------------------------------------------------------------------------------
    async def dead_letters(
        self,
        subscription: str,
        *,
        key: str | None = None,
        status: DeadLetterStatus | None = DeadLetterStatus.WAITING,
        after: int = 0,
        limit: int = 50,
    ) -> Sequence[DeadLetter]:
        """A page of dead letters by position.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        found = await self.store.dead_letters(subscription, key=key, status=status, after=after, limit=limit)
        if not found:
            await self._check_known(subscription)
        return found

    async def letter_groups(self, subscription: str | None = None, limit: int | None = None) -> Sequence[LetterGroup]:
        """What lies apart, by key, in the order of the events that failed; so many keys at most.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        if subscription is not None:
            await self._check_known(subscription)
        found = await self._questions.letter_groups(subscription, limit)
        return [LetterGroup(first.subscription, first.key, first, count) for first, count in found]

    async def dead_letter(self, subscription: str, position: int) -> tuple[DeadLetter, RecordedEvent | None]:
        """One dead letter, whatever became of it, with its event if the log has it.

        Raises:
            InvalidInputError: There is none at this position.
            SubscriptionNotFoundError: The subscription is not known.
        """
        found = await self.dead_letters(subscription, status=None, after=position - 1, limit=1)
        if not found or found[0].position != position:
            raise InvalidInputError(f"{subscription} has no dead letter at position {position:,}")
        recorded = await self._log.event_at(position)
        is_there = recorded is not None and recorded.event.event_id == found[0].event_id
        return found[0], recorded if is_there else None

    async def chosen(
        self, subscription: str, positions: Iterable[int] | None = None, key: str | None = None
    ) -> Sequence[DeadLetter]:
        """Dead letters that wait: those at positions, those of a key, or all.

        Raises:
            InvalidInputError: At one of the positions none waits.
            SubscriptionNotFoundError: The subscription is not known.
        """
        await self._check_known(subscription)
        found = await self._waiting(subscription, key)
        if positions is None:
            return found
        wanted = set(positions)
        found = [each for each in found if each.position in wanted]
        if missing := wanted.difference(each.position for each in found):
            raise InvalidInputError(f"no dead letter of {subscription} waits at position {min(missing):,}")
        return found

    async def discard(self, letters: Sequence[DeadLetter], *, operator: str | None, reason: str | None = None) -> int:
        """Give events up that lie apart: nobody handles them. Gives how many still waited.

        Args:
            letters: Of one subscription; those of a shard are discarded together.
            operator: Who decides.
            reason: Why.
        """
        done = 0
        for shard in sorted({each.shard for each in letters}):
            mine = [each for each in letters if each.shard == shard]
            async with self.store.borrowed(mine[0].subscription, shard) as batch:
                positions = [each.position for each in mine]
                discarded = DeadLetterStatus.DISCARDED
                done += await batch.settle(positions, discarded, actor=operator or "", reason=reason)
        return done

    async def _check_known(self, subscription: str) -> None:
        if not await self._questions.is_known(subscription):
            raise SubscriptionNotFoundError(subscription)

    async def _waiting(self, subscription: str, key: str | None = None) -> Sequence[DeadLetter]:
        found: _Letters = []
        while page := await self.store.dead_letters(
            subscription, key=key, after=found[-1].position if found else 0, limit=_PAGE
        ):
            found += page
        return found
