"""Batches: how far each is, what of it waits for an operator, and what is decided on it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field

from mainstay.commands.command import BatchMetadata, CommandMetadata
from mainstay.commands.failures import Selection
from mainstay.commands.lifecycle import BatchStatus
from mainstay.commands.store import Action
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation
from mainstay.operations.console.questions.actions import ActionFacts, carried
from mainstay.operations.console.questions.commands import without_personal
from mainstay.operations.console.questions.paging import cursor, cut, place
from mainstay.storage.postgres.paging import BatchPlace

_PARTS = 50
_TROUBLED = 20


class BatchesAsked(Asked):
    """Which batches; all conditions must hold."""

    domain: str | None = None
    status: BatchStatus | None = None
    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a batch goes, on the average since it was started.

    Args:
        ended: Commands that have ended.
        waiting: Commands that have not, and do not wait for an operator.
        seconds: Since it was started, until it ended or now; None before.
        per_second: Commands that ended in a second.
        remaining_seconds: Until what waits has ended, if it goes on like this.
    """

    ended: int
    waiting: int
    seconds: float | None
    per_second: float | None
    remaining_seconds: float | None


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A batch, and how fast it goes."""

    batch: BatchMetadata
    pace: Pace


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Batches, newest first, and where the next page begins; None on the last."""

    batches: list[BatchLine]
    next: str | None


@operation("GET", "/batches", BatchesAsked, BatchPage)
async def list_batches(desk: Desk, asked: BatchesAsked, _user: User) -> BatchPage:
    """Batches that meet all conditions, newest first."""
    after = place(BatchPlace, asked.after)
    found = await desk.operator.search.batches(
        domain=asked.domain, status=asked.status, limit=asked.limit + 1, after=after
    )
    page, following = cut(found, asked.limit, lambda last: cursor(BatchPlace.of(last)))
    return BatchPage([_line(desk, each) for each in page], following)


class OneBatch(Asked):
    """Which batch."""

    domain: str
    batch_id: UUID


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch, how fast it goes, and the newest batches that are parts of it."""

    batch: BatchMetadata
    pace: Pace
    parts: list[BatchLine]


@operation("GET", "/batches/{domain}/{batch_id}", OneBatch, BatchFacts)
async def show_batch(desk: Desk, asked: OneBatch, _user: User) -> BatchFacts:
    """One batch, its exact counts, its pace and its parts."""
    batch = await desk.operator.batch(asked.batch_id, asked.domain)
    parts = await desk.operator.search.parts(batch, limit=_PARTS)
    line = _line(desk, batch)
    return BatchFacts(line.batch, line.pace, [_line(desk, each) for each in parts])


@dataclass(frozen=True, slots=True)
class BatchTrouble:
    """Commands of a batch, newest first: some that wait for an operator, and some that failed for good.

    Of large batches 20,000 commands are looked at.
    """

    waiting: list[CommandMetadata]
    failed: list[CommandMetadata]


@operation("GET", "/batches/{domain}/{batch_id}/trouble", OneBatch, BatchTrouble)
async def show_batch_trouble(desk: Desk, asked: OneBatch, _user: User) -> BatchTrouble:
    """The newest commands of a batch that wait for an operator, and those that failed for good; 20 each."""
    batch = await desk.operator.batch(asked.batch_id, asked.domain)
    waiting, failed = await desk.operator.search.trouble_in(batch, limit=_TROUBLED)
    return BatchTrouble(*([without_personal(desk, each) for each in found] for found in (waiting, failed)))


class ToBatch(OneBatch):
    """Which batch, and why."""

    reason: Reason


class CancelingBatch(ToBatch):
    """Which batch, and why. ``running``: also ask for the end of commands that are being handled."""

    running: bool = False


@operation("POST", "/batches/{domain}/{batch_id}/cancel", CancelingBatch, ActionFacts)
async def cancel_batch(desk: Desk, asked: CancelingBatch, user: User) -> ActionFacts:
    """Cancel the commands of a batch that wait, and seal it; goes on in the background."""
    batch = await desk.operator.batch(asked.batch_id, asked.domain)
    begun = await desk.operator.bus.begin_cancel_batch(
        batch.domain, batch.batch_id, operator=user.name, reason=asked.reason, running=asked.running
    )
    return await carried(desk, begun)


@operation("POST", "/batches/{domain}/{batch_id}/retry", ToBatch, ActionFacts)
async def retry_batch(desk: Desk, asked: ToBatch, user: User) -> ActionFacts:
    """Start the commands of a batch over that wait for an operator; goes on in the background."""
    batch = await desk.operator.batch(asked.batch_id, asked.domain)
    which = Selection(batch.domain, batch_id=batch.batch_id)
    begun = await desk.operator.decisions.begin(Action.RETRY, which, operator=user.name, reason=asked.reason)
    return await carried(desk, begun)


@operation("POST", "/batches/{domain}/{batch_id}/seal", ToBatch, BatchMetadata)
async def seal_batch(desk: Desk, asked: ToBatch, _user: User) -> BatchMetadata:
    """Say that nothing more comes into a batch whose sender died: it ends with what it has."""
    batch = await desk.operator.batch(asked.batch_id, asked.domain)
    await desk.operator.bus.seal_batch(batch.domain, batch.batch_id)
    return _line(desk, await desk.operator.batch(batch.batch_id, batch.domain)).batch


def _line(desk: Desk, batch: BatchMetadata) -> BatchLine:
    """A batch without what is personal, and its pace."""
    shown = replace(batch, custom_data=desk.masking.masked(batch.custom_data, batch.domain, ""))
    return BatchLine(shown, pace_of(batch, datetime.now(UTC)))


def pace_of(batch: BatchMetadata, now: datetime) -> Pace:
    """How fast a batch goes.

    Args:
        batch: As it is.
        now: What time it is.
    """
    ended = batch.completed_count + batch.failed_count + batch.canceled_count
    waiting = max(batch.total_count - ended - batch.in_troubleshooting_count, 0)
    if batch.started_at is None:
        return Pace(ended, waiting, None, None, None)
    seconds = max(((batch.completed_at or now) - batch.started_at).total_seconds(), 0.0)
    per_second = ended / seconds if seconds and ended else None
    goes_on = per_second is not None and waiting and batch.completed_at is None
    remaining = waiting / per_second if goes_on and per_second else None
    return Pace(ended, waiting, seconds, per_second, remaining)
