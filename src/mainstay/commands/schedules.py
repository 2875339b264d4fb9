"""Setting schedules, and firing them: `CommandBus.schedules` and what a worker does on its way.

What schedules promise is in `mainstay.commands.schedule`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from mainstay.commands.checks import checked_choice, checked_count, checked_text, checked_time, domain_filter, named
from mainstay.commands.command import OnConflict, SendRequest, SendResult
from mainstay.commands.model import CommandModel
from mainstay.commands.recurrence import Recurrence, checked_cron, checked_every, checked_timezone
from mainstay.commands.schedule import (
    DEFAULT_CATCH_UP_LIMIT,
    CatchUp,
    Fired,
    NewSchedule,
    Schedule,
    ScheduleStore,
    first_due,
    upcoming,
)
from mainstay.commands.store import NewCommand, NotUnique, Refusal
from mainstay.errors import (
    DuplicateCommandError,
    InvalidInputError,
    KeyConflict,
    MainstayError,
    NotUniqueError,
    QueueNotFoundError,
    ScheduleNotFoundError,
)
from mainstay.message import checked_id, command_queue, correlated
from mainstay.service import Service
from mainstay.telemetry import get_logger
from mainstay.tenancy import current_actor

FIRE_INTERVAL = 5.0
"""Seconds after which a worker looks for schedules that were set meanwhile; what it knows is fired when it is due."""
_SHORTEST_PAUSE = 0.05
_MOST_CATCH_UP = 1000
_NIL = UUID(int=0)

Found: TypeAlias = list[Schedule]

logger = get_logger(__name__)


class Schedules:
    """The schedules of a database.

    Args:
        store: Where they are.
        checked: Makes of a request a command that can be stored.
        ensure_queue: Creates a domain's queue if it is missing.
        wake: Wakes sleeping workers of domains.
    """

    def __init__(
        self,
        store: ScheduleStore,
        checked: Callable[[SendRequest], NewCommand],
        ensure_queue: Callable[[str], Awaitable[None]],
        wake: Callable[[Sequence[str]], Awaitable[int]],
    ) -> None:
        self._store = store
        self._checked = checked
        self._ensure_queue = ensure_queue
        self._wake = wake

    async def set(
        self,
        name: str,
        domain: str | CommandModel,
        command_type: str | None = None,
        data: dict[str, Any] | None = None,
        *,
        cron: str | None = None,
        every: timedelta | float | None = None,
        timezone: str = "UTC",
        not_before: datetime | None = None,
        catch_up: CatchUp | str = CatchUp.ONE,
        catch_up_limit: int = DEFAULT_CATCH_UP_LIMIT,
        reply_to: str | None = None,
        max_attempts: int | None = None,
        headers: dict[str, Any] | None = None,
        key: str | None = None,
        priority: int = 0,
        unique_key: str | None = None,
        unique_for: timedelta | float | None = None,
        seen: datetime | None = None,
    ) -> Schedule:
        """Send a command again and again; a schedule of this name is changed.

        A worker learns of it within five seconds. Setting what is set already changes nothing, so a program may do it
        at every start. With a new rule it is due next by that rule, counted from now; otherwise its next due time
        stays. Paused it stays paused. Its commands are the tenant's and the actor's in whose scopes it is set.

        Args:
            name: Unique in the database.
            domain: Who handles the commands; or a typed command, which holds its type and its data, too. A worker of
                this domain must run, or nothing is sent.
            command_type: Name of the handler.
            data: JSON object that each command carries.
            cron: Five fields: minute, hour, day of month, month, day of week; this or ``every``.
            every: Seconds (or timedelta) between two due times, at least one second.
            timezone: Name in the IANA database, for ``cron``; daylight saving time is observed.
            not_before: No due time lies before it; ``every`` counts from it. Aware.
            catch_up: What becomes of due times that no worker was there to fire: ``"skip"`` (nothing, if the newest is
                over a minute old), ``"one"`` (the newest is fired) or ``"all"``.
            catch_up_limit: For ``"all"``: how many, the newest of them; 1000 at most.
            reply_to: Queue that gets the replies; it must exist when it is due.
            max_attempts: Instead of the bus's default.
            headers: JSON object that travels along; the schedule's name and the due time are added to it.
            key: As in `CommandBus.send`: commands with the same key are handled one after another.
            priority: -9 to 9, as in `CommandBus.send`.
            unique_key: A due time at which a command with this unique key has not ended is passed by.
            unique_for: As in `CommandBus.send`.
            seen: ``updated_at`` of the schedule that is to be changed, so that nobody else's change is lost.

        Raises:
            InvalidInputError: Something cannot be accepted; the message names it.
            InvalidOperationError: It was changed or removed since it was ``seen``.
            StorageUnavailableError: No connection, or it broke.
        """
        new = self._new(
            name, domain, command_type, data, cron=cron, every=every, timezone=timezone, not_before=not_before,
            catch_up=catch_up, catch_up_limit=catch_up_limit, reply_to=reply_to, max_attempts=max_attempts,
            headers=headers, key=key, priority=priority, unique_key=unique_key, unique_for=unique_for, seen=seen,
        )  # fmt: skip
        await self._ensure_queue(new.command.domain)
        return await self._store.set(new)

    async def preview(
        self,
        /,
        name: str,
        domain: str | CommandModel,
        command_type: str | None = None,
        data: dict[str, Any] | None = None,
        *,
        count: int = 5,
        **options: Any,
    ) -> list[datetime]:
        """When a schedule would be due, next and after that, were it set like this now; nothing is stored.

        Args:
            name: As for `set`; of one that is there and keeps its rule, the times are those that it has.
            domain: As for `set`.
            command_type: As for `set`.
            data: As for `set`.
            count: How many times at most.
            options: The others of `set`.

        Returns:
            The times, aware, in the schedule's time zone, by this machine's clock; fewer if there are no more.

        Raises:
            InvalidInputError: As `set` would raise it.
        """
        new = self._new(name, domain, command_type, data, **options)
        now = datetime.now(UTC)
        due, counts_from = first_due(new, await self._store.get(new.name), now)
        rule = Recurrence(new.cron, new.every, new.timezone, counts_from, new.not_before)
        return upcoming(rule, due, checked_count(count, "count"))

    def _new(
        self,
        name: str,
        domain: str | CommandModel,
        command_type: str | None,
        data: dict[str, Any] | None,
        *,
        cron: str | None = None,
        every: timedelta | float | None = None,
        timezone: str = "UTC",
        not_before: datetime | None = None,
        catch_up: CatchUp | str = CatchUp.ONE,
        catch_up_limit: int = DEFAULT_CATCH_UP_LIMIT,
        reply_to: str | None = None,
        max_attempts: int | None = None,
        headers: dict[str, Any] | None = None,
        key: str | None = None,
        priority: int = 0,
        unique_key: str | None = None,
        unique_for: timedelta | float | None = None,
        seen: datetime | None = None,
    ) -> NewSchedule:
        """What `set` was given, checked."""
        if (cron is None) == (every is None):
            raise InvalidInputError("give cron or every, one of them")
        is_typed = isinstance(domain, CommandModel)
        request = SendRequest(
            *named(domain, command_type, _NIL, data if is_typed else data or {}),
            _NIL,
            reply_to,
            max_attempts,
            headers=headers,
            key=key,
            priority=priority,
            unique_key=unique_key,
            unique_for=unique_for,
            on_conflict=OnConflict.REFUSE if unique_key is None else OnConflict.SKIP,
        )
        with correlated(None, None, current_actor()):  # whatever is handled here leads to no due time
            command = self._checked(request)
        new = NewSchedule(
            name=_checked_name(name),
            command=command,
            cron=None if cron is None else checked_cron(cron),
            every=None if every is None else checked_every(every),
            timezone=checked_timezone(timezone),
            not_before=checked_time(not_before, "not_before"),
            catch_up=checked_choice(catch_up.upper() if isinstance(catch_up, str) else catch_up, CatchUp, "catch_up"),
            catch_up_limit=checked_count(catch_up_limit, "catch_up_limit"),
            seen=checked_time(seen, "seen"),
        )
        if new.catch_up_limit > _MOST_CATCH_UP:
            raise InvalidInputError(f"catch_up_limit must be at most {_MOST_CATCH_UP}, not {catch_up_limit}")
        return new

    async def remove(self, name: str) -> None:
        """Remove a schedule; commands that it sent stay.

        Raises:
            ScheduleNotFoundError: No such schedule.
        """
        if not await self._store.remove(_checked_name(name)):
            raise ScheduleNotFoundError(name)

    async def pause(self, name: str) -> Schedule:
        """Let a schedule not be fired until `resume`.

        Raises:
            ScheduleNotFoundError: No such schedule.
        """
        return _known(name, await self._store.pause(_checked_name(name)))

    async def resume(self, name: str) -> Schedule:
        """Let a paused schedule be fired from now on; what was due meanwhile is not.

        Raises:
            ScheduleNotFoundError: No such schedule.
        """
        return _known(name, await self._store.resume(_checked_name(name)))

    async def get(self, name: str) -> Schedule | None:
        """One schedule; None if there is none of this name."""
        return await self._store.get(_checked_name(name))

    async def list(self, domain: str | None = None) -> Found:
        """All schedules, of a domain or of all, by name."""
        return await self._store.find(domain_filter(domain))

    async def run_now(self, name: str, command_id: UUID | None = None) -> SendResult:
        """Send a schedule's command now, also if it is paused; its due times stay as they are.

        Args:
            name: Which schedule.
            command_id: Of the command; drawn if None.

        Raises:
            ScheduleNotFoundError: No such schedule.
            DuplicateCommandError: This id was sent before.
            NotUniqueError: A command that has not ended holds the unique key.
            QueueNotFoundError: There is no queue for the command or its reply.
        """
        schedule = _known(name, await self._store.get(_checked_name(name)))
        key = uuid4() if command_id is None else checked_id(command_id, "command_id")
        await self._ensure_queue(schedule.domain)
        answer = await self._store.run_now(name, key)
        if answer is None:
            raise ScheduleNotFoundError(name)
        if answer is Refusal.DUPLICATE:
            raise DuplicateCommandError(schedule.domain, key)
        if isinstance(answer, NotUnique):
            conflict = KeyConflict(key, schedule.unique_key or "", answer.holder_id)
            raise NotUniqueError(schedule.domain, conflict)
        if isinstance(answer, Refusal):
            reply_to = schedule.reply_to if answer is Refusal.REPLY_QUEUE_NOT_FOUND else None
            raise QueueNotFoundError(reply_to or command_queue(schedule.domain))
        with suppress(MainstayError):
            await self._wake([schedule.domain])
        return answer


class Scheduler(Service):
    """Fires a domain's schedules when they are due; every worker of the domain has one.

    Args:
        domain: Whose schedules.
        fire: Sends what is due, as `ScheduleStore.fire` does.
        wake: Wakes sleeping workers of domains.
    """

    def __init__(
        self,
        domain: str,
        fire: Callable[[str], Awaitable[Fired]],
        wake: Callable[[Sequence[str]], Awaitable[int]],
    ) -> None:
        super().__init__()
        self._domain = domain
        self._fire = fire
        self._wake = wake

    async def _run(self) -> None:
        while not self.stopping.is_set():
            pause = FIRE_INTERVAL
            try:
                fired = await self._fire(self._domain)
                if fired.sent:
                    await self._wake([self._domain] * fired.sent)
                if fired.due_in is not None:  # 0: somebody else is about to fire it
                    pause = min(pause, max(fired.due_in, _SHORTEST_PAUSE))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again soon
                logger.warning("could not look at schedules; will try again: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.stopping.wait()


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidInputError(f"name must be a text of 1 to 200 printable characters, not {name!r:.80}")
    return checked_text(name, "name", 200) or name


def _known(name: str, schedule: Schedule | None) -> Schedule:
    if schedule is None:
        raise ScheduleNotFoundError(name)
    return schedule
