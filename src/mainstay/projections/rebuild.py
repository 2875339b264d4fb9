"""Rebuilding a projection beside the one that serves, and swapping the two.

What it promises
----------------

The one that serves goes on serving and following, in whichever processes it runs, until one transaction replaces it:
its tables, its shards and their checkpoints together. Every event is in the new tables once: those that the old ones
had seen, handled for the rebuild with side effects off; and those that no process has seen yet, handled as usual. Side
effects of an event happen when it is handled for the first time, and not again.

How
---

1. BEGIN. One transaction makes the new tables and the rebuild's shards, under a name that follows from the
   subscription's. From here on the rebuild is known, and whoever asks for it goes on with it.
2. FOLLOW. The rebuild is a subscription like any other, with leases, retries and dead letters; but it never overtakes:
   it reads up to where the slowest of the serving shards stands. So what it handles was handled before, and handling it
   again can do without side effects.
3. SWAP. Once it is level, one transaction holds the shards of both (`Rebuilding`): the batches in hand have ended, and
   nobody can begin one. The rest of what the serving shards have seen, each as far as it is, is handled for the
   rebuild. Both have now seen the same events, and are compared. Then come the events that some serving shards have
   seen and slower ones have not, up to one position for all, these with side effects. The tables are swapped; the
   rebuild's shards become the subscription's, with tokens above all others, and who held one before finds its claim
   stale at its next batch, which has not begun.

How it fails. Until the COMMIT of the swap nothing has changed for anybody: a process that dies leaves the old one
serving, and a rebuild that another goes on with (leases end by themselves) or that is canceled. If the answer to that
COMMIT is lost, the generation of the subscription tells what happened. A handler that fails is tried by the
subscription's policy; then the rebuild stops, or lays the event apart, as its projection says.

What it costs. The events since the rebuild was last level are handled in the transaction that swaps, while the serving
one waits; so is the comparison. Readers wait only for the swap of the names.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, cast

from mainstay.errors import InvalidOperationError, ProjectionError, RebuildError, StorageUnavailableError, told
from mainstay.events.log import EventLog, RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.projections.checks import rebuild_name
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.projection import Projection, tell_committed
from mainstay.projections.rebuild_parts import LOOK, Behind, Guarded, HandlingFailedError, LastStep
from mainstay.projections.rebuildable import Rebuildable, Rebuilt, beside
from mainstay.projections.shard import shard_of
from mainstay.projections.store import Checkpoint, ProjectionStore, Rebuilding, ShardState, ShardStatus
from mainstay.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")
_LEVEL_WITHIN = 1.0
"""Seconds: a rebuild that catches up in less is level."""
_LONGEST_OUTAGE_PAUSE = 5.0


class _RefusedError(Exception):
    """What was found is not accepted; the transaction is undone."""


class _EndedError(Exception):
    """There is no rebuild any more."""


class Follower(Protocol):
    """The rebuild as a subscription that runs in this process."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """Finish the batches in hand and give the shards back."""
        ...


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """What is wanted of a rebuild.

    Attributes:
        actor: Who wants it.
        accept: Asked with what was found, before the swap; False leaves everything as it is. None accepts all.
        keep: The old tables are kept under other names.
        sample: So many rows of each kind of difference are named.
    """

    actor: str
    accept: Callable[[Rebuilt], bool] | None = None
    keep: bool = False
    sample: int = 10


class Rebuild:
    """One rebuild, in this process.

    Args:
        source: Where events come from.
        store: Keeps the shards of both.
        projection: The subscription's.
        config: How to go about it, and how many shards there are afterwards.
        options: What is wanted.
        follower: Makes a subscription of a source, a store and a projection.
    """

    def __init__(
        self,
        source: EventReader,
        store: ProjectionStore,
        projection: Projection,
        *,
        config: SubscriptionConfig,
        options: RebuildOptions,
        follower: Callable[[EventReader, ProjectionStore, Projection], Follower],
    ) -> None:
        self._name = projection.name
        self._source = source
        self._store = store
        self._config = config
        self._options = options
        self._beside = beside(projection, store)
        self._guarded = Guarded(store, cast("Rebuildable", projection).tables, self._name)
        self._behind = copy(source)
        self._behind.log = cast("EventLog", Behind(source.log, self._reached))
        self._make = follower
        self._wanted = config.limited(projection.wanted(source))
        self._failures: dict[int, int] = {}
        self._letters: dict[int, BaseException] = {}
        self._found: Rebuilt | None = None

    async def run(self) -> Rebuilt:
        """Begin, or go on with one that is under way, to the end.

        Raises:
            RebuildError: It stopped; the old one serves as before.
            InvalidOperationError: Another process ended it; or one of another form is under way.
        """
        generation = await self._through_outages(self._begin)
        while True:
            try:
                await self._follow()
                done = await self._swap()
            except StorageUnavailableError as error:
                log.warning("the rebuild of %s waits for its storage: %s", self._name, error)
                done = await self._swapped_since(generation)
            except _EndedError:
                done = await self._swapped_since(generation)
                if done is None:
                    message = (
                        f"the rebuild of {self._name!r} was ended by another process: it was swapped, canceled, or its "
                        "subscription forgotten"
                    )
                    raise InvalidOperationError(message) from None
            if done is not None:
                return done
            await asyncio.sleep(LOOK)

    async def _swapped_since(self, generation: int) -> Rebuilt | None:
        """What was swapped by a COMMIT whose answer was lost."""
        states = await self._through_outages(lambda: self._store.states(self._name))
        if self._found is not None and states and states[0].generation > generation:
            return replace(self._found, swapped=True)
        return None

    # -- beginning -----------------------------------------------------------------------------------------------------

    async def _begin(self) -> int:
        """Make it known, unless it is; gives the generation that serves."""
        start = self._config.start
        begin = Checkpoint(start) if isinstance(start, int) else Checkpoint()
        shards, version = self._config.shards, cast("Projection", self._beside).version
        async with self._store.rebuilding(self._name) as held:
            if not held.rebuilt:
                await self._beside.create_tables(held.tables)
                await held.begin(shards=shards, version=version, start=begin, actor=self._options.actor)
            elif (held.rebuilt[0].shards, held.rebuilt[0].version) != (shards, version):
                known = held.rebuilt[0]
                message = (
                    f"a rebuild of {self._name!r} with {known.shards} shards in version {known.version} is under way, "
                    f"not with {shards} in version {version}: go on with that one, or cancel_rebuild() it first"
                )
                raise InvalidOperationError(message)
            generation = held.serving[0].generation
            stopped = any(each.status is ShardStatus.STOPPED for each in held.rebuilt)
        if stopped:
            await self._store.resume(rebuild_name(self._name), actor=self._options.actor)
        return generation

    # -- following -----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Let the rebuild run until it is level with what serves."""
        guarded, projection = cast("ProjectionStore", self._guarded), cast("Projection", self._beside)
        follower = self._make(self._behind, guarded, projection)
        await follower.start()
        try:
            while True:
                began = time.monotonic()
                end = await self._through_outages(self._reached)
                reached = await self._through_outages(self._rebuilt_to)
                while reached < end:
                    await asyncio.sleep(LOOK)
                    reached = await self._through_outages(self._rebuilt_to)
                if time.monotonic() < began + _LEVEL_WITHIN:
                    return
        finally:
            await follower.stop()

    async def _rebuilt_to(self) -> int:
        states = await self._store.states(rebuild_name(self._name))
        if not states:
            raise _EndedError
        if self._guarded.fault is not None:
            raise self._guarded.fault
        for state in states:
            if state.status is ShardStatus.STOPPED:
                raise RebuildError(self._name, state.reason or "nobody said why")
        return min(state.checkpoint.position for state in states)

    async def _reached(self) -> int:
        """Where the slowest serving shard stands, as far as the events go."""
        states = await self._store.states(self._name)
        if not states:
            raise _EndedError
        return min(await self._places(states))

    async def _places(self, states: Sequence[ShardState]) -> list[int]:
        """Where shards stand; one whose checkpoint is not of these events is taken to have seen all of them."""
        horizon = (await self._source.log.horizon()).position
        return [await self._place(state.checkpoint, horizon) for state in states]

    async def _place(self, checkpoint: Checkpoint, horizon: int) -> int:
        if checkpoint.position <= horizon:
            return checkpoint.position
        found = await self._source.log.event_at(checkpoint.event_position) if checkpoint.event_id else None
        is_ours = found is not None and found.event.event_id == checkpoint.event_id
        return checkpoint.position if is_ours else horizon

    # -- swapping ------------------------------------------------------------------------------------------------------

    async def _swap(self) -> Rebuilt | None:
        """The transaction that swaps; None if there is to be another try."""
        try:
            async with self._store.rebuilding(self._name) as held:
                if not held.rebuilt:
                    raise _EndedError
                found, taken = await self._swapped(held)
        except _RefusedError:
            return self._found
        except HandlingFailedError as failed:
            await self._failed(failed.recorded, cast("Exception", failed.__cause__))
            return None
        for conn in taken:
            await tell_committed(cast("Projection", self._beside), conn)
        return found

    async def _swapped(self, held: Rebuilding) -> tuple[Rebuilt | None, Sequence[object]]:
        serving = await self._places(held.serving)
        end = max(*serving, *(each.checkpoint.position for each in held.rebuilt))
        horizon = await self._source.log.horizon()
        if end > horizon.position:
            return None, ()  # somebody holds the horizon back below what was seen before
        last_step = LastStep(self._source, held, self._beside, letters=self._letters, end=end, wanted=self._wanted)

        def was_seen(recorded: RecordedEvent) -> bool:
            return recorded.position <= serving[shard_of(recorded.stream, len(serving))]

        async with self._guarded.watched(held.tables):
            await last_step.handle(was_seen)
        compared = await self._beside.compare_tables(held.tables, self._options.sample)
        self._found = Rebuilt(self._name, swapped=False, position=end, tables=compared)
        if self._options.accept is not None and not self._options.accept(self._found):
            raise _RefusedError
        self._beside.rebuilding = False
        try:
            async with self._guarded.watched(held.tables):
                await last_step.handle(lambda recorded: not was_seen(recorded))
        finally:
            self._beside.rebuilding = True
        await last_step.advance(horizon.epoch)
        await self._beside.swap_tables(held.tables, keep=self._options.keep)
        settled = await held.swap(actor=self._options.actor)
        self._found = replace(self._found, settled=settled)
        return replace(self._found, swapped=True), last_step.taken

    async def _failed(self, recorded: RecordedEvent, error: Exception) -> None:
        """Wait for another try, lay the event apart with the next one, or give up."""
        position, policy = recorded.position, self._config.retry_policy
        attempt = self._failures[position] = self._failures.get(position, 0) + 1
        if policy.should_retry(attempt):
            await asyncio.sleep(policy.delay_after(attempt))
        elif cast("Projection", self._beside).on_error == "stop":
            raise RebuildError(self._name, str(ProjectionError(self._name, position, told(error)))) from error
        else:
            self._letters[position] = error

    async def _through_outages(self, ask: Callable[[], Awaitable[T]]) -> T:
        outage = 0
        while True:
            try:
                return await ask()
            except StorageUnavailableError as error:
                outage += 1
                log.warning("the rebuild of %s waits for its storage: %s", self._name, error)
                await asyncio.sleep(min(0.1 * 2**outage, _LONGEST_OUTAGE_PAUSE))


async def cancel(store: ProjectionStore, projection: Projection) -> bool:
    """End a rebuild that is under way, wherever it runs, and drop its tables; says whether there was one."""
    async with store.rebuilding(projection.name) as held:
        if not held.rebuilt:
            return False
        await beside(projection, store).drop_tables(held.tables)
        await held.cancel()
    return True
