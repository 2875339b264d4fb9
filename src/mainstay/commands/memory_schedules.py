"""Schedules in memory: the plainest reading of `schedule.ScheduleStore`, on the commands of a memory store."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from mainstay.clock import Clock
from mainstay.commands.command import OnConflict, SendResult
from mainstay.commands.schedule import (
    Fired,
    NewSchedule,
    Schedule,
    due_headers,
    due_id,
    firing,
    first_due,
    refuse_unseen,
    rule_of,
)
from mainstay.commands.store import Answer, NewCommand, Refusal


@dataclass(slots=True)
class _Row:
    schedule: Schedule
    command: NewCommand
    is_held: bool = False


class MemoryScheduleStore:
    """Schedules in memory.

    Args:
        clock: What due times go by.
        send: Puts commands in, as `CommandStore.send` does.
    """

    def __init__(self, clock: Clock, send: Callable[[Sequence[NewCommand]], Awaitable[list[Answer]]]) -> None:
        self._clock = clock
        self._send = send
        self._rows: dict[str, _Row] = {}

    async def set(self, new: NewSchedule) -> Schedule:
        """Store a schedule, or change the one of this name."""
        row = self._rows.get(new.name)
        before = row.schedule if row else None
        refuse_unseen(new.name, new.seen, before)
        now = self._clock.now()
        next_due_at, counts_from = first_due(new, before, now)
        headers = new.command.headers
        schedule = Schedule(
            name=new.name,
            domain=new.command.domain,
            command_type=new.command.command_type,
            data=orjson.loads(new.command.data),
            cron=new.cron,
            every=new.every,
            timezone=new.timezone,
            not_before=new.not_before,
            catch_up=new.catch_up,
            catch_up_limit=new.catch_up_limit,
            is_paused=before is not None and before.is_paused,
            next_due_at=next_due_at,
            counts_from=counts_from,
            last_due_at=before.last_due_at if before else None,
            last_command_id=before.last_command_id if before else None,
            sent_count=before.sent_count if before else 0,
            skipped_count=before.skipped_count if before else 0,
            last_error=None,
            reply_to=new.command.reply_to,
            max_attempts=new.command.max_attempts,
            headers=None if headers is None else orjson.loads(headers),
            key=new.command.key,
            priority=new.command.priority,
            unique_key=new.command.unique_key,
            unique_for=None if new.command.unique_for is None else timedelta(seconds=new.command.unique_for),
            created_at=before.created_at if before else now,
            updated_at=now if before is None else self._later(before),
        )
        self._rows[new.name] = _Row(schedule, new.command)
        return schedule

    async def remove(self, name: str) -> bool:
        """Remove a schedule; False if there was none."""
        return self._rows.pop(name, None) is not None

    async def pause(self, name: str) -> Schedule | None:
        """Let it not be fired until `resume`."""
        found = await self.get(name)
        return None if found is None else self._change(name, is_paused=True, updated_at=self._later(found))

    async def resume(self, name: str) -> Schedule | None:
        """Let it be fired from now on; one that is not paused stays as it is."""
        found = await self.get(name)
        if found is None or not found.is_paused:
            return found
        due = rule_of(found).after(self._clock.now())
        return self._change(name, is_paused=False, next_due_at=due, updated_at=self._later(found))

    async def get(self, name: str) -> Schedule | None:
        """One schedule."""
        row = self._rows.get(name)
        return row.schedule if row else None

    async def find(self, domain: str | None) -> list[Schedule]:
        """All schedules of a domain, or of all domains, by name."""
        found = (row.schedule for row in self._rows.values() if domain in (None, row.schedule.domain))
        return sorted(found, key=lambda schedule: schedule.name)

    async def run_now(self, name: str, command_id: UUID) -> Answer | None:
        """Send its command now."""
        row = self._rows.get(name)
        if row is None:
            return None
        told = due_headers(name, self._clock.now())
        command = replace(_command(row.command, command_id, told), on_conflict=OnConflict.REFUSE)
        (answer,) = await self._send([command])
        return answer

    async def fire(self, domain: str) -> Fired:
        """Send what is due, passing by what somebody else fires."""
        sent = 0
        for name in [each.name for each in await self.find(domain)]:
            row = self._rows.get(name)
            if row is not None and not row.is_held:
                sent += await self._fire_one(row)
        due = [each.next_due_at for each in await self.find(domain) if not each.is_paused and each.next_due_at]
        return Fired(sent, max(0.0, (min(due) - self._clock.now()).total_seconds()) if due else None)

    async def _fire_one(self, row: _Row) -> int:
        found, now = row.schedule, self._clock.now()
        if found.is_paused or found.next_due_at is None or found.next_due_at > now:
            return 0
        what = firing(rule_of(found), found.next_due_at, found.catch_up, found.catch_up_limit, now)
        commands = [_command(row.command, due_id(found.name, due), due_headers(found.name, due)) for due in what.due]
        row.is_held = True
        try:
            answers = await self._send(commands) if commands else []
        finally:
            row.is_held = False
        refused = [each for each in answers if isinstance(each, Refusal) and each is not Refusal.DUPLICATE]
        if self._rows.get(found.name) is not row:  # set anew or removed meanwhile
            return len(answers) - len(refused)
        if refused:
            self._change(found.name, last_error=f"it cannot be sent: {refused[0]}")
            return 0
        skipped = [isinstance(each, SendResult) and each.skipped for each in answers]
        fired = [command.command_id for command, is_skipped in zip(commands, skipped, strict=True) if not is_skipped]
        self._change(
            found.name,
            next_due_at=what.next_due_at,
            last_error=None,
            sent_count=found.sent_count + len(fired),
            skipped_count=found.skipped_count + sum(skipped),
            last_due_at=what.due[-1] if what.due else found.last_due_at,
            last_command_id=fired[-1] if fired else found.last_command_id,
        )
        return sum(isinstance(each, SendResult) for each in answers) - sum(skipped)

    def _later(self, before: Schedule) -> datetime:
        """When a schedule is changed: later than before, even if the clock stands, for that tells its states apart."""
        return max(self._clock.now(), before.updated_at + timedelta(microseconds=1))

    def _change(self, name: str, **changes: object) -> Schedule | None:
        row = self._rows.get(name)
        if row is None:
            return None
        row.schedule = replace(row.schedule, **changes)  # type: ignore[arg-type]  # fields of one dataclass
        return row.schedule


def _command(template: NewCommand, command_id: UUID, told: dict[str, str]) -> NewCommand:
    headers = orjson.dumps({**(orjson.loads(template.headers) if template.headers else {}), **told})
    return replace(template, command_id=command_id, correlation_id=command_id, headers=headers)
