"""One shard of a subscription, from its claim to its release: the state machine of the reading side.

What it promises
----------------

Every event that the projection wants and that is the shard's is handed to it, in the order of the feed, and the
checkpoint moves past an event only in the transaction in which it was handled or laid apart. What `Projection.handle`
writes through the transaction is there exactly once; what it does elsewhere is done at least once.

States
------

::

    VERIFYING ──> CATCHING_UP <──> LIVE
        │              │             │
        └──────────────┴─────────────┴──> RETRYING ──> (back), or STOPPED
                                     any ──> LOST, CLOSED

* VERIFYING: the checkpoint is held against the log. A log that ends before it, or has another event where it stands,
  is not the one it was taken from (a restored dump, a standby that missed the tail): STOPPED, nothing is handled.
  The same events under another epoch are a switchover: the new epoch is adopted, and what was passed by after the last
  event that was handled is looked at again, for other events may stand there. Every outage, and a feed that ends before
  what was read, leads back here: it may be another server that answers.
* CATCHING_UP: page after page, each in one transaction. LIVE: the feed is read to its horizon; wait to be woken, and
  look now and then. They are the same loop: what wakes it is not what is handled, the feed is read.
* RETRYING: a batch failed. It was undone as a whole; what precedes the failing event is handled again and committed,
  and then this event alone is tried, by the policy, with its lease renewed by others meanwhile. An error of the storage
  (the server is away) counts as no attempt, and is tried until it is back. If the answer to a COMMIT was lost, the next
  batch finds out whether it happened: it looks at where the shard stands. An event that cannot be read is not retried.
* STOPPED: all attempts were made, and the projection says "stop". The shard waits for a person. With "dead_letter" the
  event is laid apart with its key in the transaction that moves on, and later events of that key follow it there.
* LOST: somebody else has the shard by now, or it was paused or reset. Whatever was under way was undone.
* CLOSED: asked to end; the batch in hand was finished.

What it locks. A batch begins by locking the shard's row, and holds that one lock until its COMMIT, with whatever the
handlers lock after it; nothing of ours is locked before. So two batches of one shard never overlap, a claim, which
passes by what is locked, never joins one, and batches of different shards wait for each other only where their handlers
do: a deadlock among those fails one of them, which is tried again as a handler's error. A person who pauses, resets or
replays locks the row too, and so comes between two batches. In memory there is one task for each claim and nothing is
shared with another but pages, which nobody changes; what the task believes (`checkpoint`, whether something lies apart)
is held against the row at the beginning of each batch.

How it fails. A crash at any moment leaves the last committed batch; the lease ends, and whoever claims the shard begins
after it. An owner that stalled beyond its lease in the midst of a batch still holds the shard's row, so nobody joins
it; between batches it finds its claim stale.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn
from uuid import UUID

from mainstay.errors import (
    CheckpointMismatchError,
    CorruptEventError,
    StaleLeaseError,
    StorageUnavailableError,
    UnknownEventTypeError,
    tellable,
    told,
)
from mainstay.events.event import EventEnvelope
from mainstay.events.log import FeedPage, RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.failure import Failure, about, times
from mainstay.projections.feed import SharedFeed
from mainstay.projections.projection import Projection, following, tell_committed
from mainstay.projections.store import Batch, Checkpoint, Claim, DeadLetter, ProjectionStore
from mainstay.projections.tracing import count_apart, projecting
from mainstay.telemetry import get_logger

log = get_logger(__name__)

_SAVED_EVERY = 0.5
"""Seconds between savings of a checkpoint that passed by unwanted events only."""
_LONGEST_OUTAGE_PAUSE = 5.0
_REASON_LIMIT = 2_000
_UNREADABLE = (CorruptEventError, UnknownEventTypeError)


def shard_of(stream: StreamId, shards: int) -> int:
    """Which shard takes a stream's events."""
    return 0 if shards == 1 else zlib.crc32(str(stream).encode()) % shards


class RunState(StrEnum):
    """Where a shard is; see the head of this module."""

    VERIFYING = "VERIFYING"
    CATCHING_UP = "CATCHING_UP"
    LIVE = "LIVE"
    RETRYING = "RETRYING"
    STOPPED = "STOPPED"
    LOST = "LOST"
    CLOSED = "CLOSED"


class _StoppedError(Exception):
    """The shard was stopped; nothing more is to be done."""


class _ClosingError(Exception):
    """Asked to end between two attempts."""


class _MovedError(Exception):
    """The shard stands elsewhere than we believed: a COMMIT whose answer was lost."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Keep where."""
        self.checkpoint = checkpoint


_NO_FAULT_OF_THE_EVENT = (StaleLeaseError, StorageUnavailableError, _ClosingError, _MovedError)


class ShardRunner:
    """Carries one claim out.

    Args:
        source: Where events come from.
        store: Keeps the checkpoint.
        projection: Takes the events.
        config: How to go about it.
        claim: Which shard.
        feed: What the subscription's shards read together; its own unless given.
    """

    def __init__(
        self,
        source: EventReader,
        store: ProjectionStore,
        projection: Projection,
        config: SubscriptionConfig,
        claim: Claim,
        *,
        feed: SharedFeed | None = None,
    ) -> None:
        """Nothing is read yet."""
        self._source = source
        self._store = store
        self._projection = projection.of_shard(claim, source)
        self._feed = feed or SharedFeed(source.log, config.limited(projection.wanted(source)))
        self._config = config
        self.claim = claim
        self.state = RunState.VERIFYING
        self.checkpoint = claim.checkpoint
        self.moved: Callable[[], None] = lambda: None
        self.failure: Failure | None = None
        self._epoch: UUID | None = claim.checkpoint.epoch
        self._read_to = claim.checkpoint.position
        self._saved_at = time.monotonic()
        self._horizon: int | None = None
        self._apart = claim.dead_letters > 0
        self._verified = False
        self._closing = asyncio.Event()
        self._at = 0

    @property
    def position(self) -> int:
        """Everything up to here is handled and committed, or not wanted."""
        return self._read_to

    def failed(self, error: BaseException, attempts: int) -> None:
        """Note what was raised, and how often in a row."""
        self.failure = Failure(f"{type(error).__name__}: {told(error)}"[:_REASON_LIMIT], datetime.now(UTC), attempts)

    def close(self) -> None:
        """Ask it to end after the batch in hand."""
        self._closing.set()

    async def run(self) -> None:
        """Read and handle until closed, lost or stopped; says which in `state`.

        Raises:
            Exception: An error of ours; the shard is released by whoever runs this.
        """
        try:
            while not self._closing.is_set():
                try:
                    await self._through_outages(self._step)
                except _MovedError as moved:
                    self._apart = True  # what was laid apart in that transaction is not known any more
                    self._moved_to(moved.checkpoint)
                    self._horizon = None
            self.state = RunState.CLOSED
        except _ClosingError:
            self.state = RunState.CLOSED
        except StaleLeaseError:
            self.state = RunState.LOST
        except _StoppedError:
            self.state = RunState.STOPPED

    # -- verifying -----------------------------------------------------------------------------------------------------

    async def _verify(self) -> None:
        horizon = await self._source.log.horizon()
        self._epoch = horizon.epoch
        mine = self.checkpoint
        reason = None
        if mine.epoch is None:
            pass
        elif mine.position > horizon.position and await self._source.log.event_at(mine.position) is None:
            reason = f"the events end at {horizon.position}; these are older ones, or some are missing"
        elif mine.event_id is not None:
            found = await self._source.log.event_at(mine.event_position)
            if found is None or found.event.event_id != mine.event_id:
                there = "nothing" if found is None else f"event {found.event.event_id}"
                reason = f"it was taken on event {mine.event_id} at {mine.event_position}, where now stands {there}"
        if reason is not None:
            advice = "rebuild the projection, or reset the subscription to a position that you know to be right"
            error = CheckpointMismatchError(self.claim.subscription, mine.position, f"{reason}; {advice}")
            await self._stop(str(error))
        if mine.epoch not in (None, horizon.epoch):
            at = mine.position if mine.event_id is None else mine.event_position
            await self._advance(Checkpoint(at, horizon.epoch, mine.event_id, mine.event_position))
        self._read_to = self.checkpoint.position
        self._verified = True

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        if not self._verified:
            await self._verify()
        at_end = True
        if self._horizon is None or self._horizon > self._read_to:
            at_end = await self._read()
        due = self._saved_at + _SAVED_EVERY - time.monotonic()
        if (unsaved := self._read_to > self.checkpoint.position) and due <= 0:
            await self._save_passed()
            unsaved = False
        if not at_end:
            self.state = RunState.CATCHING_UP
            return
        self.state = RunState.LIVE
        self.moved()
        poll = self._config.poll_seconds
        self._horizon = await self._until_woken(min(poll, due) if unsaved else poll)
        if self._horizon is not None and self._horizon < self._read_to:
            self._verified = False

    async def _read(self) -> bool:
        """Read a page and take its events; whether the feed ends there."""
        page = await self._feed.page(self._read_to, self._config.batch_size)
        self._horizon = None
        if page.horizon < self._read_to:
            await self._verify()
            return True
        mine = [recorded for recorded in page.events if self._is_mine(recorded)]
        if mine:
            await self._take(mine, page)
        elif page.position > self._read_to:
            self._read_to = page.position
        return page.position >= page.horizon

    def _is_mine(self, recorded: RecordedEvent) -> bool:
        return shard_of(recorded.stream, self.claim.shards) == self.claim.shard

    async def _until_woken(self, seconds: float) -> int | None:
        """Wait until the feed goes on, or to be closed; the horizon, unless closed."""
        horizon = None
        waiting = asyncio.create_task(self._source.log.wait_beyond(self._read_to, timeout=seconds))
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, closing):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await closing
            with suppress(asyncio.CancelledError):
                horizon = await waiting
        return horizon

    async def _save_passed(self) -> None:
        """Move past events that nobody wanted, so that a restart need not read them again, and who waits can go on."""
        await self._advance(
            Checkpoint(self._read_to, self._epoch, self.checkpoint.event_id, self.checkpoint.event_position)
        )

    async def _advance(self, checkpoint: Checkpoint) -> None:
        async with self._batch() as batch:
            await batch.advance(checkpoint)
        self._moved_to(checkpoint)

    @asynccontextmanager
    async def _batch(self) -> AsyncIterator[Batch]:
        async with self._store.batch(self.claim) as batch:
            if batch.checkpoint != self.checkpoint:
                raise _MovedError(batch.checkpoint)
            yield batch

    # -- handling ------------------------------------------------------------------------------------------------------

    async def _take(self, events: Sequence[RecordedEvent], page: FeedPage) -> None:
        """Handle a page's events in one transaction; if one fails, those before it, it alone, and those after it."""
        rest = list(events)
        while rest:
            try:
                await self._handle(rest, up_to=page.position)
            except _NO_FAULT_OF_THE_EVENT:
                raise
            except Exception as error:
                failed = self._at
                self.failed(error, 1)
                where = "at the end of a batch" if failed == len(rest) else f"at position {rest[failed].position}"
                log.warning(
                    "%s failed %s: %s",
                    self.claim.subscription,
                    where,
                    error,
                    exc_info=error,
                    extra=self._about(rest[failed] if failed < len(rest) else None),
                )
                await self._handle_again(rest[:failed])
                if failed < len(rest):
                    await self._insist(rest[failed], error)
                rest = rest[failed + 1 :]
                if not rest:
                    self._read_to = page.position
                self.state = RunState.CATCHING_UP
            else:
                return

    async def _handle_again(self, events: Sequence[RecordedEvent]) -> None:
        """What worked before, and was undone: together, or if that fails now, one by one."""
        for some in (events, *((recorded,) for recorded in events)):
            if not some or some[-1].position <= self.checkpoint.position:
                continue
            try:
                await self._handle(some, up_to=some[-1].position)
            except _NO_FAULT_OF_THE_EVENT:
                raise
            except Exception as error:  # noqa: BLE001 - handlers are the user's
                if len(some) == 1:
                    await self._insist(some[0], error)

    async def _handle(self, events: Sequence[RecordedEvent], *, up_to: int) -> None:
        """One transaction: all these events, and the checkpoint behind them.

        `_at` tells which event failed, if one did; what fails behind the last is no single event's.
        """
        last = events[-1]
        reached = Checkpoint(up_to, self._epoch, last.event.event_id, last.position)
        self._at, laid_down = 0, False
        with projecting(self.claim, events) as seen:
            async with self._batch() as batch:
                keys: list[str] = []
                if self._apart:
                    for self._at, recorded in enumerate(events):
                        keys.append(self._key(recorded))
                blocked = await batch.blocked(sorted(set(keys))) if keys else set()
                async with self._projection.batch(batch.conn, events) as conn:
                    for self._at, recorded in enumerate(events):
                        if blocked and keys[self._at] in blocked:
                            await batch.lay_down([self._letter(recorded, keys[self._at])])
                            laid_down = True
                            seen.apart()
                            continue
                        with seen.event(recorded):
                            for envelope in self._projection.enveloped(self._source, recorded):
                                await self._given(envelope, conn)
                    self._at = len(events)
                await batch.advance(reached)
        self._apart = self._apart or laid_down
        self._moved_to(reached)
        await tell_committed(self._projection, conn)

    async def _given(self, envelope: EventEnvelope, conn: Any) -> None:
        """Let the projection handle an event; one that cancels itself has failed, and does not end this shard."""
        try:
            with self._config.scope(), following(envelope.event):
                await self._projection.handle(envelope, conn)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("the handler was canceled from within") from error
        except BaseException as error:
            if (known := tellable(error)) is error:
                raise
            raise known from error

    def _key(self, recorded: RecordedEvent) -> str:
        """What the event is laid apart with; an event that cannot be read goes with its stream."""
        try:
            envelopes = self._projection.enveloped(self._source, recorded)
        except _UNREADABLE:
            envelopes = []
        return self._projection.key(envelopes[0]) if envelopes else str(recorded.stream)

    async def _insist(self, recorded: RecordedEvent, error: Exception) -> None:
        """Try one event alone until it works, or all attempts are made."""
        policy, attempt = self._config.retry_policy, 1
        self.state = RunState.RETRYING
        while policy.should_retry(attempt) and not isinstance(error, _UNREADABLE):
            await self._pause(policy.delay_after(attempt))
            try:
                await self._through_outages(lambda: self._handle([recorded], up_to=recorded.position))
            except _NO_FAULT_OF_THE_EVENT:
                raise
            except Exception as again:  # noqa: BLE001 - handlers are the user's
                attempt, error = attempt + 1, again
                self.failed(error, attempt)
            else:
                return
        where = f"{recorded.event.event_type} at position {recorded.position} of {recorded.stream}"
        if self._projection.on_error == "stop":
            await self._stop(f"{where} failed{times(attempt)}: {type(error).__name__}: {error}")
        try:
            key = self._key(recorded)
        except Exception as unknown:  # noqa: BLE001 - keys are the user's
            first = f"it failed with {type(error).__name__}: {error}"
            await self._stop(f"{where} has no key to lay it apart with: {type(unknown).__name__}: {unknown}; {first}")
        log.error(
            "%s lays %s apart after %d attempts: %s",
            self.claim.subscription,
            where,
            attempt,
            error,
            extra=self._about(recorded) | {"key": key, "attempts": attempt},
        )
        letter = self._letter(recorded, key, error, attempt)
        reached = Checkpoint(recorded.position, self._epoch, recorded.event.event_id, recorded.position)
        async with self._batch() as batch:
            await batch.lay_down([letter])
            await batch.advance(reached)
        count_apart(self.claim.subscription)
        self._apart = True
        self._moved_to(reached)

    def _letter(
        self, recorded: RecordedEvent, key: str, error: Exception | None = None, attempts: int = 0
    ) -> DeadLetter:
        return DeadLetter(
            self.claim.subscription,
            self.claim.shard,
            recorded.position,
            recorded.event.event_id,
            recorded.event.event_type,
            key,
            None if error is None else str(error)[:_REASON_LIMIT],
            None if error is None else type(error).__name__,
            attempts,
        )

    # -- all the rest --------------------------------------------------------------------------------------------------

    async def _stop(self, reason: str) -> NoReturn:
        log.error("%s stops: %s", self.claim.subscription, reason, extra=self._about(None))
        await self._store.stop(self.claim, reason=reason[:_REASON_LIMIT])
        raise _StoppedError

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
            raise _ClosingError

    async def _through_outages(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step, again and again while the storage is away."""
        outage = 0
        while True:
            try:
                await step()
            except StorageUnavailableError as error:
                outage += 1
                self._verified = False
                log.warning("%s waits for its storage: %s", self.claim.subscription, error, extra=self._about(None))
                await self._pause(min(0.1 * 2**outage, _LONGEST_OUTAGE_PAUSE))
            else:
                return

    def _moved_to(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._read_to = checkpoint.position
        self._saved_at = time.monotonic()
        if self.failure is not None and self.failure.attempts:
            self.failure = replace(self.failure, attempts=0)
        self.moved()

    def _about(self, recorded: RecordedEvent | None) -> dict[str, object]:
        return about(self.claim.subscription, self.claim.shard, recorded)
