"""Subscriptions: who reads the feed for whom, in this process.

A `Subscription` is one projection's: it claims shards, as many as nobody else holds, runs each by itself (see
`mainstay.projections.shard`), renews their leases, and claims those of processes that died. A `SubscriptionManager` is
all subscriptions of a process, started and stopped together.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from mainstay.errors import ConfigurationError, StorageError, StorageUnavailableError, SubscriptionNotFoundError, shown
from mainstay.events.reading import EventReader
from mainstay.message import worker_name
from mainstay.metrics import observed
from mainstay.projections.checks import REBUILD, checked_on_error, checked_subscription, checked_version
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.failure import Failure
from mainstay.projections.feed import SharedFeed
from mainstay.projections.gauges import Gauges
from mainstay.projections.projection import Projection
from mainstay.projections.questions import Heartbeat, Questions
from mainstay.projections.read_models import ReadModels
from mainstay.projections.rebuild import Rebuild, RebuildOptions, cancel
from mainstay.projections.rebuildable import Rebuilt
from mainstay.projections.replay import Replay, Replayed
from mainstay.projections.serving import serve
from mainstay.projections.shard import RunState, ShardRunner
from mainstay.projections.store import MOST_SHARDS, Checkpoint, ProjectionStore
from mainstay.projections.subscriber import Subscribing, as_projection
from mainstay.projections.wanting import let_nothing_pass
from mainstay.service import Service, first_of
from mainstay.telemetry import get_logger

log = get_logger(__name__)

_LEASES_RENEWED_PER_TERM = 3
_FIRST_REST = 1.0
_LONGEST_REST = 30.0


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
        checked_on_error(projection.on_error)
        self._about: dict[str, object] = {"subscription": self.name}
        self._source = source
        self._store = store
        self._owner = owner
        self._runners: dict[int, ShardRunner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._claims_after = 0.0
        self._failed_in_a_row = 0
        self.moved = asyncio.Event()
        self._feed: SharedFeed | None = None
        self._prepared = False
        self.shards = config.shards
        """As many as there are: a rebuild may have changed it."""

    @property
    def states(self) -> Mapping[int, RunState]:
        """Where each shard that this process holds is."""
        return {shard: runner.state for shard, runner in self._runners.items()}

    @property
    def positions(self) -> dict[int, int]:
        """How far each shard has come that is at work in this process."""
        return {shard: self._runners[shard].position for shard in self._tasks}

    @property
    def failures(self) -> list[Failure]:
        """The last one of each shard."""
        return [runner.failure for runner in self._runners.values() if runner.failure is not None]

    async def register(self) -> None:
        """Make the subscription known.

        Raises:
            ConfigurationError: The projection wants nothing that there is, or would pass by events of a type that it
                has wanted, and that nothing here knows any more.
            InvalidOperationError: It is known with another number of shards.
            SchemaOutdatedError: The table of its read model does not fit, and cannot be brought up to date.
        """
        wanted = self.config.limited(self.projection.wanted(self._source))
        if self.config.shards > self.projection.most_shards:
            message = (
                f"{self.name} takes events in one order, so it has {self.projection.most_shards} shard(s) at most, not "
                f"{self.config.shards}"
            )
            raise ConfigurationError(message)
        mine = checked_version(self.projection.version)
        built_by = {state.version for state in await self._store.states(self.name)} or {mine}
        if built_by == {mine}:
            await self._prepare()
        else:
            message = "subscription %s was built by version %s, and this is version %d: it waits for a rebuild"
            log.warning(message, self.name, *built_by, mine)
        await self._store.register(self.name, shards=self.config.shards, start=await self._start_at(), version=mine)
        await let_nothing_pass(self._source, self._store, self.name, wanted, by_class=self.projection.by_class)

    def is_prepared(self) -> None:
        """Say that the projection's tables are there."""
        self._prepared = True

    async def _prepare(self) -> None:
        """Let the projection prepare its tables: when it is subscribed, or when those of its version are there."""
        if not self._prepared:
            await self.projection.prepare(self._store)
            self._prepared = True

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
                    log.warning("subscription %s waits for its storage: %s", self.name, error, extra=self._about)
                except StorageError:
                    log.exception("subscription %s: its storage refused", self.name, extra=self._about)
                await self._rest(min(term / _LEASES_RENEWED_PER_TERM, max(self.config.poll_seconds, 1.0)))
        finally:
            await self._end()

    async def _claim(self) -> None:
        if len(self._tasks) == self.shards or time.monotonic() < self._claims_after:
            return
        claims = await self._store.claim(
            self.name,
            owner=self._owner,
            seconds=self.config.lease_seconds,
            most=MOST_SHARDS,
            version=self.projection.version,
        )
        if claims and self._feed is None:
            self._feed = SharedFeed(self._source.log, self.config.limited(self.projection.wanted(self._source)))
        if claims:
            await self._prepare()
        for claim in claims:
            self.shards = claim.shards
            runner = ShardRunner(self._source, self._store, self.projection, self.config, claim, feed=self._feed)
            runner.moved = self._has_moved
            if claim.shard in self._runners:
                runner.failure = self._runners[claim.shard].failure
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
                log.error(
                    "shard %d of subscription %s ended",
                    shard,
                    self.name,
                    exc_info=error,
                    extra=self._about | {"shard": shard},
                )
                self._runners[shard].failed(error, self._failed_in_a_row + 1)
                failed.append(self._runners[shard].claim)
        if failed:
            rest = min(_FIRST_REST * 2**self._failed_in_a_row, _LONGEST_REST)
            self._failed_in_a_row = min(self._failed_in_a_row + 1, 10)
            self._claims_after = time.monotonic() + rest
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
            log.warning("subscription %s: its leases end by themselves: %s", self.name, error, extra=self._about)

    def cancel(self) -> None:
        """Cancel the handlers that run; what they have begun is undone."""
        for task in self._tasks.values():
            task.cancel()

    def _has_moved(self) -> None:
        self._failed_in_a_row = 0
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


class SubscriptionManager(Questions):
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
        self._heart = Heartbeat(source)
        self._asked = {}

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
        if config is not None and not isinstance(config, SubscriptionConfig):
            raise ConfigurationError(f"config is a SubscriptionConfig(...), not {shown(config)}")
        subscription = Subscription(self._source, self._store, taking, config or SubscriptionConfig(), self._owner)
        if subscription.name.endswith(REBUILD):
            message = f"names that end in {REBUILD} are those of rebuilds: give the projection another"
            raise ConfigurationError(message)
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
            await self._watch.enter_async_context(self._heart)
            self._watch.enter_context(observed(Gauges(self, self._source).observe))
        for subscription in self._subscriptions.values():
            await subscription.start()

    async def stop(self, timeout: float | None = None) -> None:
        """Finish the batches in hand and give the shards back.

        Args:
            timeout: Seconds after which handlers that still run are canceled; what they have begun is undone.

        Raises:
            Exception: What ended a subscription before it was asked to.
        """
        self._running = False
        for subscription in self._subscriptions.values():
            subscription.stopping.set()
        ending = asyncio.gather(*(each.stop() for each in self._subscriptions.values()), return_exceptions=True)
        done, _ = await asyncio.wait({ending}, timeout=timeout)
        if not done:
            self.cancel()
        ended = await ending
        await self._watch.aclose()
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome

    def cancel(self) -> None:
        """Cancel the handlers that run; what they have begun is undone, and tried again unless the manager stops."""
        for subscription in self._subscriptions.values():
            subscription.cancel()

    async def drain(self, timeout: float = 30.0) -> None:
        """Handle everything that the feed has now, in all subscriptions that are active, and then stop.

        Args:
            timeout: Seconds after which it stops in any case.

        Raises:
            SubscriptionLateError: Not everything was handled; as `wait_until`. The manager has stopped all the same.
            Exception: As `stop`.
        """
        end = asyncio.get_running_loop().time() + timeout
        try:
            horizon = (await self._source.horizon()).position
            for name in self._subscriptions:
                await self._until(name, horizon, end, timeout, only_active=True)
        finally:
            await self.stop(max(0.0, end - asyncio.get_running_loop().time()))

    async def run_until_shutdown(self, *, grace: float = 30.0) -> None:
        """Start, and stop at SIGTERM or SIGINT: what a process does that does nothing else.

        Args:
            grace: Seconds that batches in hand get to end; then, or at a second signal, they are canceled.

        Raises:
            Exception: What ended a subscription before it was asked to.
        """
        await serve(self, grace)

    async def ended(self) -> None:
        """Wait until a subscription has ended that nobody stopped; for ever, if none does."""
        await first_of(asyncio.Event().wait(), *(each.ended() for each in self._subscriptions.values()))

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
        with mine.config.scope():
            return await Replay(self._source, self._store, mine.projection, actor, reason).run(key)

    async def rebuild(
        self,
        subscription: str,
        *,
        actor: str,
        config: SubscriptionConfig | None = None,
        accept: Callable[[Rebuilt], bool] | None = None,
        keep: bool = False,
        sample: int = 10,
    ) -> Rebuilt:
        """Build a projection's tables anew beside those that serve, compare both, and swap them in one transaction.

        The old ones serve and follow until then. If this is interrupted, the next call goes on where it was.
        `mainstay.projections.rebuild` says how it goes, and what it promises.

        Args:
            subscription: One of this manager's. Its projection may be of a higher version than the one that serves.
            actor: Who wants it.
            config: How to go about it, and how many shards there are afterwards; the subscription's own if None.
            accept: Asked with what was found, before the swap; False leaves the old one serving, and the rebuild as it
                is: call again, or `cancel_rebuild`. None accepts whatever was found.
            keep: Keep the old tables, under other names.
            sample: So many rows of each kind of difference are named.

        Raises:
            SubscriptionNotFoundError: It is not one of this manager's.
            ConfigurationError: The config is of another tenant than the subscription.
            InvalidOperationError: Its projection has no tables that could be rebuilt; a rebuild of another form is
                under way; or another process ended this one.
            RebuildError: It stopped, because an event could not be handled or it wrote where it must not; the old one
                serves as before.
        """
        mine = self._mine(subscription)
        goes = config or mine.config
        if goes.tenant_id != mine.config.tenant_id:
            of = "no tenant" if mine.config.tenant_id is None else f"tenant {mine.config.tenant_id}"
            message = f"subscription {subscription!r} is limited to {of}, and so is its rebuild: give that as tenant_id"
            raise ConfigurationError(message)
        options = RebuildOptions(actor, accept, keep, sample)

        def follower(source: EventReader, store: ProjectionStore, projection: Projection) -> Subscription:
            made = Subscription(source, store, projection, goes, self._owner)
            made.is_prepared()
            return made

        with goes.scope():
            return await Rebuild(
                self._source, self._store, mine.projection, config=goes, options=options, follower=follower
            ).run()

    async def cancel_rebuild(self, subscription: str) -> bool:
        """End a rebuild, in whichever process it runs, and drop its tables; says whether there was one.

        Raises:
            SubscriptionNotFoundError: It is not one of this manager's.
        """
        return await cancel(self._store, self._mine(subscription).projection)

    def _mine(self, name: str) -> Subscription:
        try:
            return self._subscriptions[name]
        except KeyError:
            raise SubscriptionNotFoundError(name) from None
