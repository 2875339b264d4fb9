"""Schedules: when each is due, what it sends, and letting it go on or not."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from mainstay.commands.schedule import CatchUp, Schedule, rule_of
from mainstay.errors import ScheduleNotFoundError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation
from mainstay.operations.console.trail import noted

_UPCOMING = 5


class SchedulesAsked(Asked):
    """Which schedules."""

    domain: str | None = None


class OneSchedule(Asked):
    """Which schedule."""

    name: str


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """A schedule.

    Args:
        every: Seconds.
        unique_for: Seconds.
        upcoming: Its next due times, in its time zone, if asked for; the rest is as in `Schedule`.
    """

    name: str
    domain: str
    command_type: str
    data: dict[str, Any]
    cron: str | None
    every: float | None
    timezone: str
    not_before: datetime | None
    catch_up: CatchUp
    catch_up_limit: int
    is_paused: bool
    next_due_at: datetime | None
    counts_from: datetime
    last_due_at: datetime | None
    last_command_id: UUID | None
    sent_count: int
    skipped_count: int
    last_error: str | None
    reply_to: str | None
    max_attempts: int
    headers: dict[str, Any] | None
    key: str | None
    priority: int
    unique_key: str | None
    unique_for: float | None
    created_at: datetime
    updated_at: datetime
    upcoming: list[datetime]


@operation("GET", "/schedules", SchedulesAsked, list[ScheduleFacts])
async def list_schedules(desk: Desk, asked: SchedulesAsked, _user: User) -> list[ScheduleFacts]:
    """Schedules by name: when each is due, when it was, and why one cannot be fired."""
    return [_shown(desk, each) for each in await desk.operator.schedules.list(asked.domain)]


@operation("GET", "/schedules/one", OneSchedule, ScheduleFacts)
async def show_schedule(desk: Desk, asked: OneSchedule, _user: User) -> ScheduleFacts:
    """One schedule, and its next due times."""
    found = await desk.operator.schedules.get(asked.name)
    if found is None:
        raise ScheduleNotFoundError(asked.name)
    return _shown(desk, found, _UPCOMING)


class ToSchedule(OneSchedule):
    """Which schedule, and why."""

    reason: Reason


@operation("POST", "/schedules/pause", ToSchedule, ScheduleFacts)
async def pause_schedule(desk: Desk, asked: ToSchedule, user: User) -> ScheduleFacts:
    """Let a schedule not be fired until it is resumed."""
    done = await desk.operator.schedules.pause(asked.name)
    noted(user, "paused", f"schedule {asked.name}", asked.reason)
    return _shown(desk, done)


@operation("POST", "/schedules/resume", ToSchedule, ScheduleFacts)
async def resume_schedule(desk: Desk, asked: ToSchedule, user: User) -> ScheduleFacts:
    """Let a paused schedule be fired from now on; what was due meanwhile is not."""
    done = await desk.operator.schedules.resume(asked.name)
    noted(user, "resumed", f"schedule {asked.name}", asked.reason)
    return _shown(desk, done)


@dataclass(frozen=True, slots=True)
class Fired:
    """The command that was sent."""

    domain: str
    command_id: UUID


@operation("POST", "/schedules/run", ToSchedule, Fired)
async def run_schedule(desk: Desk, asked: ToSchedule, user: User) -> Fired:
    """Send a schedule's command now, also if it is paused; its due times stay as they are."""
    schedule = await desk.operator.schedules.get(asked.name)
    sent = await desk.operator.schedules.run_now(asked.name)
    noted(user, "fired", f"schedule {asked.name} as command {sent.command_id}", asked.reason)
    return Fired(schedule.domain if schedule else "", sent.command_id)


@dataclass(frozen=True, slots=True)
class Removed:
    """The schedule that is gone; commands that it sent stay."""

    name: str


@operation("POST", "/schedules/remove", ToSchedule, Removed)
async def remove_schedule(desk: Desk, asked: ToSchedule, user: User) -> Removed:
    """Remove a schedule; commands that it sent stay."""
    await desk.operator.schedules.remove(asked.name)
    noted(user, "removed", f"schedule {asked.name}", asked.reason)
    return Removed(asked.name)


def _shown(desk: Desk, schedule: Schedule, upcoming: int = 0) -> ScheduleFacts:
    """A schedule without what is personal, its durations in seconds."""
    known: dict[str, Any] = {each.name: getattr(schedule, each.name) for each in fields(schedule)}
    known |= {"every": _seconds(schedule.every), "unique_for": _seconds(schedule.unique_for)}
    for name in ("data", "headers"):
        known[name] = desk.masking.masked(known[name], schedule.domain, schedule.command_type)
    return ScheduleFacts(**known, upcoming=_upcoming(schedule, upcoming))


def _upcoming(schedule: Schedule, count: int) -> list[datetime]:
    """The next due times; none while it is paused, or if it never is due again."""
    found: list[datetime] = []
    due = None if schedule.is_paused else schedule.next_due_at
    while due is not None and len(found) < count:
        found.append(due.astimezone(ZoneInfo(schedule.timezone)))
        due = rule_of(schedule).after(due)
    return found


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()
