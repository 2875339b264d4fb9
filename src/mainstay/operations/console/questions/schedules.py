"""Schedules: when each is due, what it sends, and letting it go on or not."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import Field

from mainstay.commands.schedule import DEFAULT_CATCH_UP_LIMIT, CatchUp, Schedule, refuse_unseen, rule_of
from mainstay.commands.schedule import upcoming as next_times
from mainstay.errors import ScheduleNotFoundError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, in_utc, operation
from mainstay.operations.console.editing import hide, restore
from mainstay.operations.wording import schedule_in_words
from mainstay.serialization import from_json, to_json

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
        in_words: When it is due; the expression itself where words would be wrong.
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
    in_words: str
    upcoming: list[datetime]


@operation("GET", "/schedules", SchedulesAsked, list[ScheduleFacts])
async def list_schedules(desk: Desk, asked: SchedulesAsked, _user: User) -> list[ScheduleFacts]:
    """Schedules by name: when each is due, when it was, and why one cannot be fired."""
    return [_shown(desk, each) for each in await desk.operator.schedules.list(asked.domain)]


@operation("GET", "/schedules/one", OneSchedule, ScheduleFacts)
async def show_schedule(desk: Desk, asked: OneSchedule, _user: User) -> ScheduleFacts:
    """One schedule, and its next due times."""
    return _shown(desk, await _known(desk, asked.name), _UPCOMING)


class ToSchedule(OneSchedule):
    """Which schedule, and why."""

    reason: Reason


@operation("POST", "/schedules/pause", ToSchedule, ScheduleFacts)
async def pause_schedule(desk: Desk, asked: ToSchedule, _user: User) -> ScheduleFacts:
    """Let a schedule not be fired until it is resumed."""
    done = await desk.operator.schedules.pause(asked.name)
    return _shown(desk, done)


@operation("POST", "/schedules/resume", ToSchedule, ScheduleFacts)
async def resume_schedule(desk: Desk, asked: ToSchedule, _user: User) -> ScheduleFacts:
    """Let a paused schedule be fired from now on; what was due meanwhile is not."""
    done = await desk.operator.schedules.resume(asked.name)
    return _shown(desk, done)


@dataclass(frozen=True, slots=True)
class Fired:
    """The command that was sent."""

    domain: str
    command_id: UUID


@operation("POST", "/schedules/run", ToSchedule, Fired)
async def run_schedule(desk: Desk, asked: ToSchedule, _user: User) -> Fired:
    """Send a schedule's command now, also if it is paused; its due times stay as they are."""
    schedule = await desk.operator.schedules.get(asked.name)
    sent = await desk.operator.schedules.run_now(asked.name)
    return Fired(schedule.domain if schedule else "", sent.command_id)


@dataclass(frozen=True, slots=True)
class Removed:
    """The schedule that is gone; commands that it sent stay."""

    name: str


@operation("POST", "/schedules/remove", ToSchedule, Removed)
async def remove_schedule(desk: Desk, asked: ToSchedule, _user: User) -> Removed:
    """Remove a schedule; commands that it sent stay."""
    await desk.operator.schedules.remove(asked.name)
    return Removed(asked.name)


# -- setting one -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Setting:
    """A schedule to be changed.

    Args:
        data: With a stand-in for each value that is hidden (``•••1``); one that is kept keeps its value.
        headers: The same.
        seen: Goes with the change, so that nobody else's is lost; the rest is as in `Schedule`.
    """

    name: str
    domain: str
    command_type: str
    cron: str | None
    every: float | None
    timezone: str
    not_before: datetime | None
    catch_up: CatchUp
    catch_up_limit: int
    data: dict[str, Any]
    headers: dict[str, Any] | None
    reply_to: str | None
    max_attempts: int
    key: str | None
    priority: int
    unique_key: str | None
    unique_for: float | None
    seen: datetime


@operation("GET", "/schedules/setting", OneSchedule, Setting)
async def show_setting(desk: Desk, asked: OneSchedule, _user: User) -> Setting:
    """One schedule, to be changed."""
    found = await _known(desk, asked.name)
    known: dict[str, Any] = {each.name: getattr(found, each.name) for each in fields(Setting) if each.name != "seen"}
    known |= {"every": _seconds(found.every), "unique_for": _seconds(found.unique_for), "seen": found.updated_at}
    names = desk.masking.names_in(found.domain, found.command_type)
    for name in ("data", "headers"):
        known[name], _ = hide(known[name], names)
    return Setting(**known)


class Previewing(OneSchedule):
    """A schedule as it is to be; ``cron`` or ``every``, one of them."""

    domain: str
    command_type: str
    cron: str | None = Field(None, description="Five fields: minute, hour, day of month, month, day of week.")
    every: float | None = Field(None, description="Seconds.")
    timezone: str = Field("UTC", description="Which the fields are in: Europe/Berlin.")
    not_before: datetime | None = Field(None, description="UTC where no zone is said.")
    catch_up: CatchUp = CatchUp.ONE
    catch_up_limit: int = DEFAULT_CATCH_UP_LIMIT
    data: dict[str, Any] = Field({}, description="What each command carries; a stand-in for a hidden value keeps it.")
    headers: dict[str, Any] | None = None
    reply_to: str | None = None
    max_attempts: int | None = None
    key: str | None = None
    priority: int = 0
    unique_key: str | None = None
    unique_for: float | None = Field(None, description="Seconds.")
    seen: datetime | None = Field(None, description="``seen`` of what is changed.")


@dataclass(frozen=True, slots=True)
class ScheduleSeen:
    """When a schedule would be due.

    Args:
        in_words: The rule; the expression itself where words would be wrong.
        upcoming: The next five times, in its time zone; fewer if there are no more.
        changes: One of this name is there, and would be changed.
        is_paused: It is paused, and would stay so.
    """

    in_words: str
    upcoming: list[datetime]
    changes: bool
    is_paused: bool


@operation("POST", "/schedules/preview", Previewing, ScheduleSeen)
async def preview_schedule(desk: Desk, asked: Previewing, _user: User) -> ScheduleSeen:
    """When a schedule would be due if it were set like this; nothing is set."""
    before, wanted = await _wanted(desk, asked)
    due = await desk.operator.schedules.preview(**wanted, count=_UPCOMING)
    words = schedule_in_words(asked.cron, asked.every)
    return ScheduleSeen(words, due, before is not None, before is not None and before.is_paused)


class SettingSchedule(Previewing):
    """A schedule as it is to be, and why."""

    reason: Reason


@operation("POST", "/schedules/set", SettingSchedule, ScheduleFacts)
async def set_schedule(desk: Desk, asked: SettingSchedule, _user: User) -> ScheduleFacts:
    """Set a schedule; one of this name is changed, and keeps its next due time unless its rule changes."""
    _, wanted = await _wanted(desk, asked)
    return _shown(desk, await desk.operator.schedules.set(**wanted), _UPCOMING)


async def _wanted(desk: Desk, asked: Previewing) -> tuple[Schedule | None, dict[str, Any]]:
    """The schedule of this name, if there is one, and what is to become of it, with what is hidden.

    Raises:
        InvalidInputError: A payload cannot be stored, or has a stand-in for what was not hidden there.
        InvalidOperationError: It is not the one that was seen.
    """
    wanted = asked.model_dump(exclude={"reason"})
    for name in ("not_before", "seen"):
        wanted[name] = in_utc(wanted[name])
    before = await desk.operator.schedules.get(asked.name)
    refuse_unseen(asked.name, wanted["seen"], before)  # and once more when it is set, under its lock
    is_same = before is not None and (before.domain, before.command_type) == (asked.domain, asked.command_type)
    names = desk.masking.names_in(asked.domain, asked.command_type)
    for name in ("data", "headers"):
        given = wanted[name]
        kept = hide(getattr(before, name), names)[1] if is_same and asked.seen else []
        wanted[name] = None if given is None else restore(from_json(to_json(given, what=name)), kept)
    return before, wanted


async def _known(desk: Desk, name: str) -> Schedule:
    found = await desk.operator.schedules.get(name)
    if found is None:
        raise ScheduleNotFoundError(name)
    return found


def _shown(desk: Desk, schedule: Schedule, upcoming: int = 0) -> ScheduleFacts:
    """A schedule without what is personal, its durations in seconds."""
    known: dict[str, Any] = {each.name: getattr(schedule, each.name) for each in fields(schedule)}
    known |= {"every": _seconds(schedule.every), "unique_for": _seconds(schedule.unique_for)}
    for name in ("data", "headers"):
        known[name] = desk.masking.masked(known[name], schedule.domain, schedule.command_type)
    words = schedule_in_words(schedule.cron, known["every"])
    due = None if schedule.is_paused else schedule.next_due_at
    return ScheduleFacts(**known, in_words=words, upcoming=next_times(rule_of(schedule), due, upcoming))


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()
