"""Schedules: commands that are sent again and again, by the database's clock.

Promises. A due time is fired once, whatever workers there are and whenever they die: its command's id is derived from
the schedule and the due time, and the command and the next due time are one COMMIT, under the lock of the schedule's
row. A due time that nobody was there to fire is dealt with as ``catch_up`` says. A schedule that cannot be fired (its
reply queue is gone) stays due, says why in ``last_error``, and is tried again.

Who fires. The workers of the schedule's domain, each on its way: without one, nothing is sent. An idle domain costs an
index lookup every few seconds; between, a worker sleeps until the next due time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid5

from mainstay.commands.recurrence import Recurrence, zone
from mainstay.commands.store import Answer, NewCommand
from mainstay.errors import InvalidOperationError

GRACE = timedelta(seconds=60)
"""How late a due time may be fired although its schedule skips what it missed."""
DEFAULT_CATCH_UP_LIMIT = 100
_IDS = UUID("b0a8c1f5-5c0e-4e0a-9d53-7a4f6f0f2d11")


class CatchUp(StrEnum):
    """What becomes of due times that nobody was there to fire."""

    SKIP = "SKIP"
    """Nothing, if the newest of them is more than a minute old."""
    ONE = "ONE"
    """The newest of them is fired."""
    ALL = "ALL"
    """Each of them is fired, the oldest first; of too many the newest, as many as the limit says."""


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A checked schedule on its way in. ``command`` is what is sent; its ids are drawn anew for each due time.

    ``seen``: it changes the one that was set, paused or resumed last at this time; None: whatever is there.
    """

    name: str
    command: NewCommand
    cron: str | None
    every: timedelta | None
    timezone: str
    not_before: datetime | None
    catch_up: CatchUp
    catch_up_limit: int
    seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored.

    Args:
        name: Unique in the database.
        domain: Who handles its commands, and whose workers fire it.
        command_type: Name of the handler.
        data: JSON object that each command carries.
        cron: Five fields, or None.
        every: Distance between two due times, or None.
        timezone: Which the fields are in.
        not_before: No due time lies before it.
        catch_up: What becomes of due times that nobody was there to fire.
        catch_up_limit: How many of them at most.
        is_paused: It is not fired.
        next_due_at: When it is due; None if it never will be.
        counts_from: From where ``every`` is counted.
        last_due_at: The newest due time that was fired.
        last_command_id: The command that was sent then.
        sent_count: Commands sent so far.
        skipped_count: Due times for which none was sent, because the unique key was held.
        last_error: Why it could not be fired; None once it was.
        reply_to: Queue that gets the replies.
        max_attempts: Of each command.
        headers: Of each command.
        key: Of each command.
        priority: Of each command.
        unique_key: Of each command: one is sent only if the one before has ended.
        unique_for: Of each command.
        created_at: When it was first set.
        updated_at: When it was last set, paused or resumed.
    """

    name: str
    domain: str
    command_type: str
    data: dict[str, Any]
    cron: str | None
    every: timedelta | None
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
    unique_for: timedelta | None
    created_at: datetime
    updated_at: datetime


class Firing(NamedTuple):
    """What is to be done with a schedule now: the due times to fire, and when it is due next."""

    due: list[datetime]
    next_due_at: datetime | None


class Fired(NamedTuple):
    """What came of a look at a domain's schedules: commands sent, and seconds until one is due.

    None: none will be; 0: somebody else fires or changes it now.
    """

    sent: int
    due_in: float | None


class ScheduleStore(Protocol):
    """What schedules ask of a database."""

    async def set(self, new: NewSchedule) -> Schedule:
        """Store a schedule, or change the one of this name.

        One whose rule stays as it was keeps its next due time; paused it stays paused.

        Raises:
            InvalidOperationError: It is not, or not any more, the one that was seen; nothing is changed.
        """
        ...

    async def remove(self, name: str) -> bool:
        """Remove a schedule; False if there was none."""
        ...

    async def pause(self, name: str) -> Schedule | None:
        """Let it not be fired until `resume`; None if there is none."""
        ...

    async def resume(self, name: str) -> Schedule | None:
        """Let it be fired from now on, not for what was due while it was paused; None if there is none."""
        ...

    async def get(self, name: str) -> Schedule | None:
        """One schedule."""
        ...

    async def find(self, domain: str | None) -> list[Schedule]:
        """All schedules of a domain, or of all domains, by name."""
        ...

    async def run_now(self, name: str, command_id: UUID) -> Answer | None:
        """Send its command now, also if it is paused; its due times stay as they are. None if there is none."""
        ...

    async def fire(self, domain: str) -> Fired:
        """Send what is due, one schedule in a transaction, passing by those that somebody else fires or changes."""
        ...


def refuse_unseen(name: str, seen: datetime | None, before: Schedule | None) -> None:
    """Refuse to overwrite what whoever sets a schedule has not seen.

    Args:
        name: Of the schedule.
        seen: ``updated_at`` of what was seen; None: whatever is there.
        before: As it is, if there is one; under a lock, if it is to count.

    Raises:
        InvalidOperationError: It is another than was seen.
    """
    if seen is not None and (before is None or before.updated_at != seen):
        now = "removed" if before is None else "changed"
        raise InvalidOperationError(f"schedule {name!r} was {now} meanwhile; look again, and change it anew")


def firing(rule: Recurrence, next_due_at: datetime, catch_up: CatchUp, limit: int, now: datetime) -> Firing:
    """What is to be done with a schedule that is due.

    Args:
        rule: When it is due.
        next_due_at: The first due time that was not fired; not after ``now``.
        catch_up: What becomes of those that were missed.
        limit: How many of them at most, for ALL.
        now: The database's time.
    """
    due = rule.latest(next_due_at, now, limit if catch_up is CatchUp.ALL else 1)
    if catch_up is CatchUp.SKIP and now - due[-1] > GRACE:
        due = []
    return Firing(due, rule.after(now))


def rule_of(schedule: Schedule) -> Recurrence:
    """When a schedule is due."""
    return Recurrence(schedule.cron, schedule.every, schedule.timezone, schedule.counts_from, schedule.not_before)


def upcoming(rule: Recurrence, due: datetime | None, count: int) -> list[datetime]:
    """Due times from one on, in the time zone of their rule.

    Args:
        rule: When a schedule is due.
        due: When it is due next; None if it never is.
        count: How many at most.
    """
    found: list[datetime] = []
    while due is not None and len(found) < count:
        found.append(due.astimezone(zone(rule.timezone)))
        due = rule.after(due)
    return found


def first_due(new: NewSchedule, before: Schedule | None, now: datetime) -> tuple[datetime | None, datetime]:
    """When a schedule that is being set is due, and where it counts from.

    Args:
        new: As it shall be.
        before: As it is, if there is one.
        now: The database's time.
    """
    if before is not None and (before.cron, before.every, before.timezone, before.not_before) == (
        new.cron, new.every, new.timezone, new.not_before,
    ):  # fmt: skip
        return before.next_due_at, before.counts_from
    counts_from = new.not_before or now
    return Recurrence(new.cron, new.every, new.timezone, counts_from, new.not_before).after(now), counts_from


def due_id(name: str, due: datetime) -> UUID:
    """The id of the command for a due time: the same whoever fires it."""
    return uuid5(_IDS, f"{name}\n{due.timestamp():.6f}")


def due_headers(name: str, due: datetime) -> dict[str, str]:
    """What a handler is told of the schedule: its name, and the due time in ISO 8601."""
    return {"schedule": name, "due_at": due.astimezone(UTC).isoformat()}
