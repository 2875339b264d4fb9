"""Subscriptions: who reads the feed for whom, in this process.

A `Subscription` is one projection's: it claims shards, as many as nobody else holds, runs each by itself (see
`mainstay.projections.shard`), renews their leases, and claims those of processes that died. A `SubscriptionManager` is
all subscriptions of a process, started and stopped together.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from mainstay.errors import ConfigurationError, StorageUnavailableError, SubscriptionNotFoundError
from mainstay.events.log import EVERYTHING
from mainstay.events.reading import EventReader
from mainstay.message import worker_name
from mainstay.projections.checks import checked_subscription
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.feed import SharedFeed
from mainstay.projections.projection import Projection
from mainstay.projections.read_models import ReadModels
from mainstay.projections.replay import Replay, Replayed
from mainstay.projections.shard import RunState, ShardRunner
from mainstay.projections.store import Checkpoint, ProjectionStore, ShardStatus
from mainstay.projections.subscriber import Subscribing, as_projection
from mainstay.service import Service

log = logging.getLogger(__name__)

_LEASES_RENEWED_PER_TERM = 3
_LOOK = 0.05
"""Seconds between looks of one who waits for another process."""


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


class Subscription(Service):
    """One projection's, in this process.

    Args:
        source: Where events come from.
        store: Keeps checkpoints.
        projection: Takes the events.
        config: How to go about it.
        owner: Who we are, for leases.
    """

    def __init__(
        self,
        source: EventReader,
        store: ProjectionStore,
        projection: Projection,
        config: SubscriptionConfig,
        owner: str,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.config = config
        self.name = checked_subscription(projection.name)
        self._source = source
        self._store = store
        self._owner = owner
        self._runners: dict[int, ShardRunner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()
        self._feed: SharedFeed | None = None

    @property
    def states(self) -> Mapping[int, RunState]:
        """Where each shard that this process holds is."""
        return {shard: runner.state for shard, runner in self._runners.items()}

    async def register(self) -> None:
        """Make the subscription known.

        Raises:
            ConfigurationError: The projection wants nothing that there is.
            InvalidOperationError: It is known with another number of shards.
            SchemaOutdatedError: The table of its read model does not fit, and cannot be brought up to date.
        """
        self.projection.wanted(self._source)
        await self.projection.prepare(self._store)
        await self._store.register(self.name, shards=self.config.shards, start=await self._start_at())

    async def _start_at(self) -> Checkpoint:
        start = self.config.start
        if start == "beginning":
            return Checkpoint()
        horizon = await self._source.log.horizon()
        return Checkpoint(horizon.position if start == "now" else start, horizon.epoch)

    async def _run(self) -> None:
        term = self.config.lease_seconds
        renewed = time.monotonic()
        try:
            while not self.stopping.is_set():
                try:
                    await self._reap()
                    if time.monotonic() >= renewed + term / _LEASES_RENEWED_PER_TERM:
                        await self._renew()
                        renewed = time.monotonic()
                    await self._claim()
                except StorageUnavailableError as error:
                    log.warning("subscription %s waits for its storage: %s", self.name, error)
                await self._rest(min(term / _LEASES_RENEWED_PER_TERM, max(self.config.poll_seconds, 1.0)))
        finally:
            await self._end()

    async def _claim(self) -> None:
        if len(self._tasks) == self.config.shards:
            return
        claims = await self._store.claim(
            self.name, owner=self._owner, seconds=self.config.lease_seconds, most=self.config.shards
        )
        if claims and self._feed is None:
            self._feed = SharedFeed(self._source.log, self.projection.wanted(self._source))
        for claim in claims:
            runner = ShardRunner(self._source, self._store, self.projection, self.config, claim, feed=self._feed)
            runner.moved = self._moved.set
            self._runners[claim.shard] = runner
            self._tasks[claim.shard] = asyncio.create_task(runner.run(), name=f"{self.name}[{claim.shard}]")

    async def _renew(self) -> None:
        held = [self._runners[shard].claim for shard in self._tasks]
        if not held:
            return
        kept = await self._store.renew(held, seconds=self.config.lease_seconds)
        for claim in held:
            if claim.shard not in kept:
                self._runners[claim.shard].close()

    async def _reap(self) -> None:
        """Look at the shards that have ended; after an error of ours the shard is given back, to be claimed again."""
        failed = []
        for shard, task in list(self._tasks.items()):
            if not task.done():
                continue
            del self._tasks[shard]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("shard %d of subscription %s ended", shard, self.name, exc_info=error)
                failed.append(self._runners[shard].claim)
        await self._store.release(failed)

    async def _rest(self, seconds: float) -> None:
        """Wait until it is time to look again, or a shard has ended."""
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({stopping, *self._tasks.values()}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _end(self) -> None:
        for runner in self._runners.values():
            runner.close()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        held = [self._runners[shard].claim for shard in self._tasks]
        try:
            await self._reap()
            await self._store.release(held)
        except StorageUnavailableError as error:
            log.warning("subscription %s: its leases end by themselves: %s", self.name, error)

    async def moved(self, timeout: float) -> None:
        """Wait until a shard in this process has moved, or the time (seconds) is over."""
        self._moved.clear()
        waiting = asyncio.create_task(self._moved.wait())
        await asyncio.wait({waiting}, timeout=timeout)
        waiting.cancel()


class SubscriptionManager:
    """All subscriptions of a process.

    ::

        manager = SubscriptionManager(store, checkpoints)
        await manager.subscribe(OrderTotals())
        async with manager:
            ...

    Args:
        source: Where events come from.
        store: Keeps checkpoints and dead letters; best in the database that the projections write to.
        owner: Who we are, for leases; drawn if None.
    """

    def __init__(self, source: EventReader, store: ProjectionStore, *, owner: str | None = None) -> None:
        self._source = source
        self._store = store
        self._owner = owner or worker_name()
        self._subscriptions: dict[str, Subscription] = {}
        self._running = False
        self._watch = AsyncExitStack()

    @property
    def read_models(self) -> ReadModels:
        """What the projections have made, to be asked."""
        return ReadModels(self._store.read_models)

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """By name."""
        return self._subscriptions

    async def subscribe(
        self, projection: Subscribing, config: SubscriptionConfig | None = None, *, name: str | None = None
    ) -> Subscription:
        """Add a projection; it begins at once if the manager runs.

        Args:
            projection: Or anything else that takes events; see `mainstay.projections.subscriber`.
            config: How to go about it.
            name: Of the subscription, instead of the projection's.

        Raises:
            ConfigurationError: There is one of its name already, or it handles nothing.
            InvalidOperationError: It is known with another number of shards.
        """
        taking = as_projection(projection, name)
        subscription = Subscription(self._source, self._store, taking, config or SubscriptionConfig(), self._owner)
        if subscription.name in self._subscriptions:
            message = f"a subscription {subscription.name!r} is there already: give the projection a name of its own"
            raise ConfigurationError(message)
        await subscription.register()
        self._subscriptions[subscription.name] = subscription
        if self._running:
            await subscription.start()
        return subscription

    async def start(self) -> None:
        """Begin reading; does nothing if it has begun."""
        if not self._running:
            self._running = True
            await self._watch.enter_async_context(self._source.watching())
        for subscription in self._subscriptions.values():
            await subscription.start()

    async def stop(self) -> None:
        """Finish the batches in hand and give the shards back.

        Raises:
            Exception: What ended a subscription before it was asked to.
        """
        self._running = False
        for subscription in self._subscriptions.values():
            subscription.stopping.set()
        ended = await asyncio.gather(*(each.stop() for each in self._subscriptions.values()), return_exceptions=True)
        await self._watch.aclose()
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    # -- what people ask and do ----------------------------------------------------------------------------------------

    async def pause(self, subscription: str, *, actor: str, reason: str | None = None) -> int:
        """Pause a subscription, in all processes, until resumed.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        return await self._store.pause(subscription, actor=actor, reason=reason)

    async def resume(self, subscription: str, *, actor: str) -> int:
        """Let a paused or stopped subscription go on.

        Raises:
            SubscriptionNotFoundError: It is not known.
        """
        return await self._store.resume(subscription, actor=actor)

    async def replay(
        self, subscription: str, *, actor: str, key: str | None = None, reason: str | None = None
    ) -> Replayed:
        """Handle dead letters again, in order, key by key; a key stops at the first event that fails again.

        Args:
            subscription: One of this manager's.
            actor: Who wants it.
            key: Only this key's.
            reason: What has changed.

        Raises:
            SubscriptionNotFoundError: It is not one of this manager's.
        """
        mine = self._mine(subscription)
        return await Replay(self._source, self._store, mine.projection, actor, reason).run(key)

    async def wait_until(self, position: int, *, subscription: str | None = None, timeout: float = 30.0) -> None:
        """Wait until the projections have seen everything up to a position: read your own writes.

        Args:
            position: `Appended.position` of what they must have seen.
            subscription: Only this one; all of this manager's if None.
            timeout: Seconds.

        Raises:
            SubscriptionNotFoundError: It is not known.
            TimeoutError: They have not, in time; the message says which, and how far they are.
        """
        end = time.monotonic() + timeout
        names = list(self._subscriptions) if subscription is None else [subscription]
        for name in names:
            while (reached := await self._reached(name)) < position:
                left = end - time.monotonic()
                if left <= 0:
                    message = f"subscription {name!r} is at {reached}, not at {position}, after {timeout:g} s"
                    raise TimeoutError(message)
                mine = self._subscriptions.get(name)
                pause = min(left, _LOOK)
                await (asyncio.sleep(pause) if mine is None else mine.moved(pause))

    async def lag(self, subscription: str | None = None) -> list[Lag]:
        """How far the subscriptions are behind: this manager's, or the one named."""
        names = list(self._subscriptions) if subscription is None else [subscription]
        horizon = (await self._source.log.horizon()).position
        return [await self._lag(name, horizon) for name in names]

    async def is_healthy(self) -> bool:
        """Whether nothing of this manager's is stopped by an error."""
        states = [state for name in self._subscriptions for state in await self._store.states(name)]
        return all(state.status is not ShardStatus.STOPPED for state in states)

    async def _lag(self, name: str, horizon: int) -> Lag:
        reached = await self._reached(name)
        mine = self._subscriptions.get(name)
        wanted = EVERYTHING if mine is None else mine.projection.wanted(self._source)
        page = await self._source.log.read_feed(after=reached, limit=1, wanted=wanted)
        behind = (datetime.now(UTC) - page.events[0].recorded_at).total_seconds() if page.events else 0.0
        return Lag(name, reached, horizon, max(0.0, behind))

    async def _reached(self, name: str) -> int:
        states = await self._store.states(name)
        if not states:
            raise SubscriptionNotFoundError(name)
        return min(state.checkpoint.position for state in states)

    def _mine(self, name: str) -> Subscription:
        try:
            return self._subscriptions[name]
        except KeyError:
            raise SubscriptionNotFoundError(name) from None
