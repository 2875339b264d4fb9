"""What a rebuild reads, what it must not write to, and its last step; see `mainstay.projections.rebuild`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from mainstay.errors import RebuildError, StaleLeaseError, StorageUnavailableError, told
from mainstay.events.log import EventLog, FeedFilter, FeedPage, Horizon, RecordedEvent
from mainstay.events.reading import EventReader
from mainstay.projections.projection import Projection, following
from mainstay.projections.rebuildable import Rebuildable
from mainstay.projections.shard import shard_of
from mainstay.projections.store import Batch, Checkpoint, Claim, DeadLetter, ProjectionStore, Rebuilding
from mainstay.projections.tables import Tables

LOOK = 0.05
"""Seconds between looks at how far the others are."""
_PAGE = 500


class HandlingFailedError(Exception):
    """An event could not be handled in the transaction that swaps."""

    def __init__(self, recorded: RecordedEvent) -> None:
        """Keep which; the cause says why."""
        self.recorded = recorded


class Guarded:
    """A projection store whose batches refuse to commit what was written to tables that serve.

    That is no event's fault, so none is tried again or laid apart for it: the shard is given up, and `fault` says why.
    """

    def __init__(self, store: ProjectionStore, serving: Sequence[str], subscription: str) -> None:
        self._store = store
        self._serving = serving
        self._subscription = subscription
        self.fault: RebuildError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def batch(self, claim: Claim) -> AsyncIterator[Batch]:
        """See `ProjectionStore`."""
        async with self._store.batch(claim) as batch:
            try:
                async with self.watched(self._store.tables(batch.conn)):
                    yield batch
            except RebuildError as error:
                self.fault = error
                raise StaleLeaseError(str(error)) from error

    @asynccontextmanager
    async def watched(self, tables: Tables) -> AsyncIterator[None]:
        """A block that must not write to tables that serve.

        Raises:
            RebuildError: It has.
        """
        async with tables.watching(self._serving) as written:
            yield
        if written:
            reason = f"it wrote to {written[0]}, which serves: its methods must write to self.table({written[0]!r})"
            raise RebuildError(self._subscription, reason)


class Behind:
    """A log as far as the slowest serving shard has read it: what a shard asks of one."""

    def __init__(self, events: EventLog, reached: Callable[[], Awaitable[int]]) -> None:
        self._log = events
        self._reached = reached
        self._end = 0

    async def read_feed(self, *, after: int, limit: int, wanted: FeedFilter) -> FeedPage:
        """See `EventLog`."""
        page = await self._log.read_feed(after=after, limit=limit, wanted=wanted)
        if page.position > self._end:
            self._end = await self._reached()
        events = [each for each in page.events if each.position <= self._end]
        position, horizon = (max(after, min(each, self._end)) for each in (page.position, page.horizon))
        return FeedPage(events, position, horizon)

    async def horizon(self) -> Horizon:
        """See `EventLog`."""
        return await self._log.horizon()

    async def event_at(self, position: int) -> RecordedEvent | None:
        """See `EventLog`."""
        return await self._log.event_at(position)

    async def wait_beyond(self, position: int, *, timeout: float) -> int:
        """See `EventLog`."""
        end = time.monotonic() + timeout
        self._end = await self._reached()
        while self._end <= position and time.monotonic() < end:
            await asyncio.sleep(LOOK)
            self._end = await self._reached()
        return self._end


class LastStep:
    """What is handled in the transaction that swaps.

    Args:
        source: Where events come from.
        held: The transaction.
        projection: Takes the events, beside the one that serves.
        letters: By position, events that are to be laid apart, and why.
        end: Up to where.
        wanted: Which events.
    """

    def __init__(
        self,
        source: EventReader,
        held: Rebuilding,
        projection: Rebuildable,
        *,
        letters: dict[int, BaseException],
        end: int,
        wanted: FeedFilter,
    ) -> None:
        self._source = source
        self._held = held
        self._projection = projection
        self._letters = letters
        self._end = end
        self._wanted = wanted
        self._last: dict[int, RecordedEvent] = {}
        self.taken: list[Any] = []
        """What was given to handlers, who are to be told of the COMMIT."""

    async def handle(self, belongs: Callable[[RecordedEvent], bool]) -> None:
        """Handle the events between where the rebuild's shards stand and the end, in order, of those that belong."""
        places = [each.checkpoint.position for each in self._held.rebuilt]
        after = min(places)
        while after < self._end:
            page = await self._source.log.read_feed(after=after, limit=_PAGE, wanted=self._wanted)
            for recorded in page.events:
                shard = shard_of(recorded.stream, len(places))
                if places[shard] < recorded.position <= self._end and belongs(recorded):
                    await self._take(recorded, shard)
            after = page.position

    async def _take(self, recorded: RecordedEvent, shard: int) -> None:
        batch, projection = self._held.batch(shard), cast("Projection", self._projection)
        last = self._last.get(shard)
        if last is None or last.position < recorded.position:
            self._last[shard] = recorded
        try:
            envelopes = self._source.enveloped(recorded) if recorded.position not in self._letters else []
            key = projection.key(envelopes[0]) if envelopes else str(recorded.stream)
            error = self._letters.get(recorded.position)
            if error is not None or await batch.blocked([key]):
                await batch.lay_down([_letter(projection.name, shard, recorded, key, error)])
                return
            async with projection.batch(batch.conn, [recorded]) as conn:
                for envelope in envelopes:
                    with following(envelope.event):
                        await projection.handle(envelope, conn)
            self.taken.append(conn)
        except StorageUnavailableError:
            raise
        except Exception as error:
            raise HandlingFailedError(recorded) from error

    async def advance(self, epoch: UUID) -> None:
        """Move the rebuild's shards to the end."""
        for state in self._held.rebuilt:
            known, last = state.checkpoint, self._last.get(state.shard)
            event_id = known.event_id if last is None else last.event.event_id
            at = known.event_position if last is None else last.position
            await self._held.batch(state.shard).advance(Checkpoint(self._end, epoch, event_id, at))


def _letter(
    subscription: str, shard: int, recorded: RecordedEvent, key: str, error: BaseException | None
) -> DeadLetter:
    said, kind = (None, None) if error is None else (told(error), type(error).__name__)
    event = recorded.event
    attempts = 0 if error is None else 1
    return DeadLetter(
        subscription, shard, recorded.position, event.event_id, event.event_type, key, said, kind, attempts
    )
