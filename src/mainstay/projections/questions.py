"""What people ask about subscriptions: how far they are, how they are, and to be told when they are there.

Waiting until a projection has seen a position asks no more of the database than it must: nothing before the feed has
come so far; where all shards are at work in this process, nothing before they have come so far; else it looks at the
checkpoints, after longer and longer pauses, and all who wait for one subscription share what is found.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from mainstay.errors import StorageError, SubscriptionHeldError, SubscriptionLateError, SubscriptionNotFoundError
from mainstay.events.checks import check_position
from mainstay.events.log import EVERYTHING
from mainstay.events.reading import EventReader
from mainstay.joining import Shared
from mainstay.projections.shard import RunState
from mainstay.projections.store import ProjectionStore, ShardState, ShardStatus
from mainstay.service import Pulse, Service

if TYPE_CHECKING:
    from mainstay.projections.subscription import Subscription

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25
_BEAT = 1.0
_BEATS_PER_LOOK = 5


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a subscription is behind.

    Attributes:
        subscription: Its name.
        position: Where its slowest shard stands.
        horizon: Where the feed ends.
        seconds: Since the oldest event beyond the position was recorded; 0 with none.
    """

    subscription: str
    position: int
    horizon: int
    seconds: float

    @property
    def events(self) -> int:
        """Events that it has not come to, wanted or not; fewer where positions were drawn and not used."""
        return max(0, self.horizon - self.position)


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """How a subscription is.

    Attributes:
        subscription: Its name.
        status: The worst of its shards', in all processes.
        reasons: Why shards are paused or stopped.
        states: Where each shard that this process holds is.
        unclaimed: Shards that are active, and that no process holds.
        lag: How far it is behind.
        attempts: How often the event in hand has failed, in this process; 0 if none has.
        last_error: The last failure in this process.
        failed_at: When that was.
        dead_letters: Events that lie apart.
        stopped: Shards that an error has stopped.
    """

    subscription: str
    status: ShardStatus
    reasons: tuple[str, ...]
    states: Mapping[int, RunState]
    unclaimed: int
    lag: Lag
    attempts: int
    last_error: str | None
    failed_at: datetime | None
    dead_letters: int
    stopped: int

    @property
    def is_healthy(self) -> bool:
        """Whether no error has stopped it."""
        return self.status is not ShardStatus.STOPPED


@dataclass(frozen=True, slots=True)
class Probe:
    """What a liveness and a readiness probe are told.

    Attributes:
        name: Who answers.
        live: Why it is not live; empty if it is.
        ready: Why it is not ready; empty if it is.
    """

    name: str
    live: tuple[str, ...]
    ready: tuple[str, ...]


class Heartbeat(Service):
    """Shows that the event loop turns and that the log can be reached.

    Args:
        source: Asked now and then.
    """

    def __init__(self, source: EventReader) -> None:
        super().__init__()
        self.pulse = Pulse()
        self._source = source

    async def _run(self) -> None:
        beats = 0
        while not self.stopping.is_set():
            self.pulse.turn()
            if beats % _BEATS_PER_LOOK == 0:
                with suppress(StorageError):
                    await self._source.horizon()
                    self.pulse.reach()
            beats += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), _BEAT)


class Questions:
    """What may be asked of a `SubscriptionManager`."""

    _source: EventReader
    _store: ProjectionStore
    _owner: str
    _subscriptions: "dict[str, Subscription]"
    _running: bool
    _heart: Heartbeat
    _asked: "dict[str, Shared[list[ShardState]]]"

    async def wait_until(self, position: int, *, subscription: str | None = None, timeout: float = 30.0) -> None:
        """Wait until the projections have seen everything up to a position: read your own writes.

        Args:
            position: `Appended.position` of what they must have seen.
            subscription: Only this one, in whichever process it runs; all of this manager's if None.
            timeout: Seconds.

        Raises:
            InvalidInputError: Not a position.
            SubscriptionNotFoundError: It is not known.
            SubscriptionHeldError: It is paused, or stopped by an error, before it came so far.
            SubscriptionLateError: One has not, in time (also a TimeoutError); it says how far it is, and what may be
                the reason.
        """
        check_position(position)
        for name in self._names(subscription):
            await self._until(name, position, asyncio.get_running_loop().time() + timeout, timeout)

    async def lag(self, subscription: str | None = None) -> list[Lag]:
        """How far the subscriptions are behind: this manager's, or the one named.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        horizon = (await self._source.horizon()).position
        return [await self._lag(name, horizon, await self._states(name)) for name in self._names(subscription)]

    async def health(self, subscription: str | None = None) -> list[SubscriptionHealth]:
        """How the subscriptions are: this manager's, or the one named.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        horizon = (await self._source.horizon()).position
        return [await self._health(name, horizon) for name in self._names(subscription)]

    async def is_healthy(self) -> bool:
        """Whether nothing of this manager's is stopped by an error."""
        states = [state for name in self._subscriptions for state in await self._states(name)]
        return all(state.status is not ShardStatus.STOPPED for state in states)

    def probe(self) -> Probe:
        """Whether this process is live and ready; may be asked from any thread, and asks nothing of the database."""
        live, ready = self._heart.pulse.faults("the subscription manager", is_running=self._running)
        if self._running:
            ended = [each.name for each in list(self._subscriptions.values()) if not each.is_running]
            ready += [f"subscription {name} has ended by an error, which stop() raises" for name in ended]
        return Probe(self._owner, tuple(live), (*live, *ready))

    # -- how it is found out -------------------------------------------------------------------------------------------

    def _names(self, subscription: str | None) -> list[str]:
        return list(self._subscriptions) if subscription is None else [subscription]

    async def _states(self, name: str, age: float = 0.0) -> list[ShardState]:
        """What is known of its shards, as somebody asked at most this many seconds ago."""
        asked = self._asked.setdefault(name, Shared(partial(self._store.states, name)))
        states = await asked.answer(age)
        if not states:
            self._asked.pop(name, None)
            raise SubscriptionNotFoundError(name)
        return states

    def _reached(self, name: str, states: Sequence[ShardState]) -> int:
        """Where the slowest shard stands: what is stored, and beyond that what this process has passed by."""
        mine = self._subscriptions.get(name)
        here = {} if mine is None else mine.positions
        return min(
            max(state.checkpoint.position, here.get(state.shard, 0) if state.owner == self._owner else 0)
            for state in states
        )

    async def _until(self, name: str, position: int, end: float, timeout: float, *, only_active: bool = False) -> None:
        loop = asyncio.get_running_loop()
        pause, feed = 0.0, -1
        while True:
            states = await self._states(name, pause / 2)
            waited = [each for each in states if each.status is ShardStatus.ACTIVE] if only_active else states
            if not waited or (reached := self._reached(name, waited)) >= position:
                return
            self._refuse_held(name, waited, position)
            left = end - loop.time()
            if left <= 0:
                reasons = [*self._failing(name), *_reasons(states, feed, position)]
                raise SubscriptionLateError(name, reached, position, timeout, reasons)
            if feed < position:
                feed = await self._source.wait(position - 1, timeout=left)
                continue
            pause = min(max(pause * 1.5, _FIRST_PAUSE), _LONGEST_PAUSE)
            await self._rest(name, position, min(left, pause))

    def _failing(self, name: str) -> list[str]:
        """What fails again and again in this process."""
        mine = self._subscriptions.get(name)
        failures = [] if mine is None else [each for each in mine.failures if each.attempts]
        often = ("once" if each.attempts == 1 else f"{each.attempts} times" for each in failures)
        return [f"its next event has failed {times}: {each.error}" for times, each in zip(often, failures, strict=True)]

    def _refuse_held(self, name: str, states: Sequence[ShardState], position: int) -> None:
        """Say at once that what is waited for does not come: a shard is held before it.

        Raises:
            SubscriptionHeldError: It is.
        """
        for each in states:
            if each.status is not ShardStatus.ACTIVE and (reached := self._reached(name, [each])) < position:
                raise SubscriptionHeldError(name, each.status.value, each.reason, reached, position)

    async def _rest(self, name: str, position: int, seconds: float) -> None:
        """Wait; not longer than until all shards are there, if they are all here."""
        mine = self._subscriptions.get(name)
        if mine is None:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    moved, here = mine.moved, mine.positions
                    if len(here) == mine.shards and min(here.values()) >= position:
                        return
                    await moved.wait()

    async def _lag(self, name: str, horizon: int, states: Sequence[ShardState]) -> Lag:
        reached = self._reached(name, states)
        mine = self._subscriptions.get(name)
        wanted = EVERYTHING if mine is None else mine.config.limited(mine.projection.wanted(self._source))
        page = await self._source.log.read_feed(after=reached, limit=1, wanted=wanted)
        behind = (datetime.now(UTC) - page.events[0].recorded_at).total_seconds() if page.events else 0.0
        return Lag(name, reached, horizon, max(0.0, behind))

    async def _health(self, name: str, horizon: int) -> SubscriptionHealth:
        states = await self._states(name)
        mine = self._subscriptions.get(name)
        failures = [] if mine is None else mine.failures
        last = max(failures, key=lambda each: each.at, default=None)
        now = datetime.now(UTC)
        return SubscriptionHealth(
            name,
            max((state.status for state in states), key=list(ShardStatus).index),
            tuple(dict.fromkeys(state.reason for state in states if state.reason)),
            {} if mine is None else dict(mine.states),
            sum(1 for state in states if state.status is ShardStatus.ACTIVE and not _is_held(state, now)),
            await self._lag(name, horizon, states),
            max((each.attempts for each in failures), default=0),
            None if last is None else last.error,
            None if last is None else last.at,
            sum(state.dead_letters for state in states),
            sum(state.status is ShardStatus.STOPPED for state in states),
        )


def _is_held(state: ShardState, now: datetime) -> bool:
    return state.owner is not None and state.leased_until is not None and state.leased_until > now


def _reasons(states: Sequence[ShardState], feed: int, position: int) -> list[str]:
    """Why it may not get further."""
    found = []
    if 0 <= feed < position:
        found.append(f"the feed itself can be read up to {feed} only")
    for state in states:
        if state.status is not ShardStatus.ACTIVE:
            why = f": {state.reason}" if state.reason else ""
            found.append(f"shard {state.shard} is {state.status.value.lower()}{why}")
        elif not _is_held(state, datetime.now(UTC)):
            found.append(f"no process has shard {state.shard}")
    return found
