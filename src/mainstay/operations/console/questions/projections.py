"""Projections and other subscriptions: how far they are, letting them go on or not, and what they could not handle."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field, model_validator

from mainstay.errors import ConfigurationError, EventError, InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Desk, Nothing, Reason, operation
from mainstay.operations.console.questions.events import LARGEST, EventShown, shown
from mainstay.operations.console.questions.paging import cut
from mainstay.operations.console.questions.rebuilding import JobShown, OneProjection, job_shown
from mainstay.operations.projections import ShardOverview
from mainstay.projections.checks import REBUILD
from mainstay.projections.store import DeadLetter, DeadLetterStatus
from mainstay.storage.postgres.feed_questions import SubscriptionOverview

_GROUPS = 50


@dataclass(frozen=True, slots=True)
class ShardShown:
    """A part of a subscription, with the streams that fall to it.

    Args:
        shard: Its number, from 0.
        status: ACTIVE, PAUSED or STOPPED.
        position: Up to which it has handled the feed.
        events: How many it is behind; ``exact`` if they were counted.
        seconds: How long ago the first of them was recorded.
        owner: The process that runs it; None if none does.
        leased_until: Until when that process holds it, unless it goes on.
        moved_at: When it handled something last.
    """

    shard: int
    status: str
    position: int
    events: int
    exact: bool
    seconds: float
    owner: str | None
    leased_until: datetime | None
    moved_at: datetime | None
    dead_letters: int
    reason: str | None
    actor: str | None


@dataclass(frozen=True, slots=True)
class ProjectionShown:
    """A projection, or something else that follows the feed.

    Args:
        subscription: Its name.
        rebuild_of: The projection that it is built to replace; None if it is no rebuild.
        status: Of the shard that fares worst: ACTIVE, PAUSED or STOPPED.
        state: The same in words, with who runs it: running, running 1 of 4, not running, paused, stopped.
        position: Of the shard that is furthest behind.
        horizon: Up to where the feed can be read.
        events: How many it is behind, of the slowest shard; ``exact`` if they were counted.
        seconds: How long ago the first of them was recorded.
        dead_letters: Events that it could not handle, and those that wait behind them.
        owners: The processes that run it, by name.
        shards: Into how many parts it is split.
        reason: Why it is paused or stopped; by ``actor``, if somebody paused it.
        version: Of the projection that made the tables; ``generation``: how often they were built.
    """

    subscription: str
    rebuild_of: str | None
    status: str
    state: str
    position: int
    horizon: int
    events: int
    exact: bool
    seconds: float
    dead_letters: int
    owners: list[str]
    shards: int
    reason: str | None
    actor: str | None
    version: int
    generation: int


def _projection(found: SubscriptionOverview) -> ProjectionShown:
    name = found.subscription
    return ProjectionShown(
        name, name.removesuffix(REBUILD) if name.endswith(REBUILD) else None, found.status.value, _state(found),
        found.position, found.horizon, found.events, found.exact, found.seconds, found.dead_letters,
        list(found.owners), found.shards, found.reason, found.actor, found.version, found.generation,
    )  # fmt: skip


def _state(found: SubscriptionOverview) -> str:
    if found.status != "ACTIVE":
        return found.status.lower()
    if not found.owned:
        return "not running"
    return "running" if found.owned == found.shards else f"running {found.owned} of {found.shards}"


def _shard(each: ShardOverview) -> ShardShown:
    state, lag = each.state, each.lag
    owner, until = (state.owner, state.leased_until) if each.owned else (None, None)
    return ShardShown(
        state.shard, state.status.value, state.checkpoint.position, lag.events, lag.exact, lag.seconds, owner, until,
        state.moved_at, state.dead_letters, state.reason, state.actor,
    )  # fmt: skip


@operation("GET", "/projections", Nothing, list[ProjectionShown])
async def list_projections(desk: Desk, _asked: Nothing, _user: User) -> list[ProjectionShown]:
    """What follows the feed, by name: how far behind it is, who runs it, why it rests."""
    return [_projection(each) for each in await desk.operator.projections.list()]


@dataclass(frozen=True, slots=True)
class LettersOfKey:
    """What lies apart of one key: the event that failed, and how many wait with it."""

    key: str
    count: int
    first: DeadLetter


@dataclass(frozen=True, slots=True)
class ProjectionFacts:
    """A projection, its shards, what it could not handle, by key, and its rebuild; None if none is under way.

    Args:
        code: Whether its own code is here, so that dead letters can be handled again, and with ``tables``, the tables
            built anew.
        code_problem: Why it is not, though the console was told of it.
        job: What this console does about it, or did last.
    """

    projection: ProjectionShown
    shards: list[ShardShown]
    letters: list[LettersOfKey]
    more_letters: bool
    rebuild: ProjectionShown | None
    code: bool
    tables: bool
    code_problem: str | None
    job: JobShown | None


@operation("GET", "/projection", OneProjection, ProjectionFacts)
async def show_projection(desk: Desk, asked: OneProjection, _user: User) -> ProjectionFacts:
    """One projection: its shards, what it could not handle, and the rebuild that is under way."""
    projections = desk.operator.projections
    (found,) = await projections.list(asked.subscription)
    shards = [_shard(each) for each in await projections.shards(asked.subscription)]
    groups = await projections.letter_groups(asked.subscription, limit=_GROUPS + 1) if found.dead_letters else []
    rebuilt = await projections.rebuild_of(asked.subscription)
    letters = [LettersOfKey(each.key, each.count, each.first) for each in groups[:_GROUPS]]
    more = len(groups) > _GROUPS
    code, tables, problem = await _code_of(desk, asked.subscription)
    job = desk.building.job(asked.subscription)
    return ProjectionFacts(
        _projection(found), shards, letters, more, None if rebuilt is None else _projection(rebuilt),
        code, tables, problem, None if job is None else job_shown(desk, job),
    )  # fmt: skip


async def _code_of(desk: Desk, subscription: str) -> tuple[bool, bool, str | None]:
    """Whether the code of a projection is here, and can rebuild it; or why not."""
    try:
        code = await desk.building.knows(subscription)
        return code, code and await desk.building.can_rebuild(subscription), None
    except (ConfigurationError, EventError) as error:
        return False, False, str(error)


# -- letting it go on or not -------------------------------------------------------------------------------------------


class Pausing(OneProjection):
    """Which projection is to rest, and why."""

    reason: Reason


@operation("POST", "/projection/pause", Pausing, ProjectionShown)
async def pause_projection(desk: Desk, asked: Pausing, user: User) -> ProjectionShown:
    """Let a projection rest in all processes, once the batches in hand are done."""
    _refuse_rebuild(asked.subscription)
    if not await desk.operator.projections.pause(asked.subscription, operator=user.name, reason=asked.reason):
        raise InvalidOperationError(f"{asked.subscription} is paused or stopped already")
    return await _now(desk, asked)


class Resuming(OneProjection):
    """Which projection is to go on; and, if you like, why."""

    reason: Reason | None = None


@operation("POST", "/projection/resume", Resuming, ProjectionShown)
async def resume_projection(desk: Desk, asked: Resuming, user: User) -> ProjectionShown:
    """Let a projection go on that was paused, or that an error stopped: with the very event that it stopped at."""
    _refuse_rebuild(asked.subscription)
    if not await desk.operator.projections.resume(asked.subscription, operator=user.name):
        raise InvalidOperationError(f"{asked.subscription} is neither paused nor stopped")
    return await _now(desk, asked)


def _refuse_rebuild(subscription: str) -> None:
    if subscription.endswith(REBUILD):
        serving = subscription.removesuffix(REBUILD)
        raise InvalidOperationError(
            f"{subscription} goes on when {serving} is rebuilt again, and ends when that is dropped"
        )


async def _now(desk: Desk, asked: OneProjection) -> ProjectionShown:
    (found,) = await desk.operator.projections.list(asked.subscription)
    return _projection(found)


# -- dead letters ------------------------------------------------------------------------------------------------------


class LettersAsked(OneProjection):
    """Which dead letters of a projection."""

    key: str | None = None
    status: DeadLetterStatus | None = DeadLetterStatus.WAITING
    after: int = Field(0, ge=0, le=LARGEST, description="Only behind this position; ``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Dead letters by position, and where the next page begins; None on the last."""

    letters: list[DeadLetter]
    next: int | None


@operation("GET", "/projection/dead-letters", LettersAsked, LetterPage)
async def list_dead_letters(desk: Desk, asked: LettersAsked, _user: User) -> LetterPage:
    """Events that a projection could not handle, and those that wait behind them in their keys."""
    how = asked.model_dump(include={"key", "status", "after"})
    found = await desk.operator.projections.dead_letters(asked.subscription, limit=asked.limit + 1, **how)
    return LetterPage(*cut(found, asked.limit, lambda last: last.position))


class OneLetter(OneProjection):
    """Which dead letter, by the position of its event."""

    position: int = Field(ge=1, le=LARGEST)


@dataclass(frozen=True, slots=True)
class LetterFacts:
    """A dead letter and its event; None if the log has it no more."""

    letter: DeadLetter
    event: EventShown | None


@operation("GET", "/projection/dead-letter", OneLetter, LetterFacts)
async def show_dead_letter(desk: Desk, asked: OneLetter, _user: User) -> LetterFacts:
    """One dead letter: why it could not be handled, what became of it, and its event."""
    letter, recorded = await desk.operator.projections.dead_letter(asked.subscription, asked.position)
    return LetterFacts(letter, None if recorded is None else (await shown(desk, [recorded]))[0])


class Discarding(OneProjection):
    """Which dead letters are given up, and why: those at positions, or all of a key; of them so many, as were seen."""

    positions: list[int] | None = None
    key: str | None = None
    expect: int | None = Field(None, ge=1, description="Refuse if it is about another number of them.")
    reason: Reason

    @model_validator(mode="after")
    def _one_of_both(self) -> "Discarding":
        if (self.positions is None) == (self.key is None):
            raise ValueError("name positions or a key")
        return self


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many dead letters were given up."""

    discarded: int


@operation("POST", "/projection/dead-letters/discard", Discarding, Discarded)
async def discard_dead_letters(desk: Desk, asked: Discarding, user: User) -> Discarded:
    """Give events up that lie apart: the projection never handles them. Final."""
    letters: Sequence[DeadLetter] = await desk.operator.projections.chosen(
        asked.subscription, asked.positions, asked.key
    )
    if not letters:
        raise InvalidOperationError(f"no dead letter of {asked.subscription} waits there any more")
    if asked.expect is not None and len(letters) != asked.expect:
        message = f"there are {len(letters):,} of them now, not {asked.expect:,}: look again"
        raise InvalidInputError(message)
    done = await desk.operator.projections.discard(letters, operator=user.name, reason=asked.reason)
    return Discarded(done)
