"""What takes a projection's own code: handling dead letters again, and building its tables anew."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation
from mainstay.operations.console.building import Job
from mainstay.operations.console.questions.events import writable
from mainstay.operations.states import written
from mainstay.projections.tables import TableComparison


class OneProjection(Asked):
    """Which projection."""

    subscription: str


@dataclass(frozen=True, slots=True)
class TableShown:
    """What differs between a table that serves and the rebuilt one, both having seen the same events.

    Args:
        serving: Rows of the one that serves.
        rebuilt: Rows of the rebuilt one.
        gone: How many rows the rebuilt one has not, or not so.
        come: How many it has instead, or besides.
        gone_rows: Some of them, without what is personal in any event.
        come_rows: Some of them, likewise.
    """

    table: str
    serving: int
    rebuilt: int
    gone: int
    come: int
    gone_rows: list[dict[str, Any]]
    come_rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a rebuild has found.

    Args:
        position: Up to which both had seen every event.
        same: Whether nothing differs.
        swapped: Whether the new tables serve.
        settled: Dead letters that the new tables have made up for.
    """

    position: int
    same: bool
    swapped: bool
    settled: int
    tables: list[TableShown]


@dataclass(frozen=True, slots=True)
class JobShown:
    """What this console does about a projection, or did last.

    Args:
        what: ``replay``, ``rebuild`` or ``swap``.
        actor: Who wanted it.
        ended_at: None while it goes on.
        problem: Why it failed.
        handled: Events that a replay has handled.
        failed: Keys whose first event failed again, with the error.
        found: What a rebuild has found.
    """

    what: str
    actor: str
    began_at: datetime
    ended_at: datetime | None
    problem: str | None
    handled: int | None
    failed: dict[str, str]
    found: Comparison | None


def job_shown(desk: Desk, job: Job) -> JobShown:
    """A job without what is personal."""
    done, rebuilt = job.replayed, job.rebuilt
    found = None
    if rebuilt is not None:
        tables = [_table(desk, each) for each in rebuilt.tables]
        found = Comparison(rebuilt.position, rebuilt.is_same, rebuilt.swapped, rebuilt.settled, tables)
    handled, failed = (None, {}) if done is None else (done.handled, done.failed)
    return JobShown(job.what, job.actor, job.began_at, job.ended_at, job.problem, handled, failed, found)


def _table(desk: Desk, each: TableComparison) -> TableShown:
    gone, come = (
        [writable(desk.masking.masked_everywhere(written(dict(row)))) for row in rows]
        for rows in (each.gone_rows, each.come_rows)
    )
    return TableShown(each.table, each.serving, each.rebuilt, each.gone, each.come, gone, come)


class Replaying(OneProjection):
    """Which dead letters are to be handled again: those of a key, or all; and what has changed."""

    key: str | None = None
    reason: Reason


@operation("POST", "/projection/dead-letters/replay", Replaying, JobShown)
async def replay_dead_letters(desk: Desk, asked: Replaying, user: User) -> JobShown:
    """Handle dead letters again, in order, key by key; a key ends at the first event that fails again."""
    job = await desk.building.replay(asked.subscription, actor=user.name, key=asked.key, reason=asked.reason)
    return job_shown(desk, job)


@operation("POST", "/projection/rebuild", OneProjection, JobShown)
async def rebuild_projection(desk: Desk, asked: OneProjection, user: User) -> JobShown:
    """Build the tables anew beside those that serve, or go on with that, and say what differs; nothing is swapped."""
    return job_shown(desk, await desk.building.compare(asked.subscription, actor=user.name))


class Swapping(OneProjection):
    """Whether the rebuilt tables are to serve also if they differ, and what becomes of the old ones."""

    differing: bool = Field(default=False, description="Swap also if something differs.")
    keep: bool = Field(default=False, description="Keep the old tables, under other names.")


@operation("POST", "/projection/rebuild/swap", Swapping, JobShown)
async def swap_projection(desk: Desk, asked: Swapping, user: User) -> JobShown:
    """Let the rebuilt tables serve, after they were compared once more, in one transaction."""
    how = {"differing": asked.differing, "keep": asked.keep}
    return job_shown(desk, await desk.building.swap(asked.subscription, actor=user.name, **how))


@dataclass(frozen=True, slots=True)
class Dropped:
    """Of which projection the rebuild was dropped."""

    dropped: str


@operation("POST", "/projection/rebuild/drop", OneProjection, Dropped)
async def drop_rebuild(desk: Desk, asked: OneProjection, user: User) -> Dropped:
    """End a rebuild that is under way or waits, and drop its tables; the old ones serve on."""
    await desk.building.drop(asked.subscription, actor=user.name)
    return Dropped(asked.subscription)
