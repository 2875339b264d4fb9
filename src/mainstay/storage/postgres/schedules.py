"""Schedules on PostgreSQL. When they are due is computed here, and written in the transaction that locked the row."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import DictRow

from mainstay.commands.schedule import (
    CatchUp,
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
from mainstay.commands.store import Answer
from mainstay.errors import StorageUnavailableError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import answer_from, command_fields
from mainstay.storage.postgres.database import (
    Connection,
    Pool,
    autocommit,
    execute,
    fetch_all,
    fetch_one,
    fetch_value,
    sealed,
    transaction,
)
from mainstay.storage.postgres.trail import deciding, say_who
from mainstay.telemetry import get_logger

_DRAWN_ANEW = ("command_id", "correlation_id")
_LONGEST_ERROR = 1000

logger = get_logger(__name__)


class PostgresScheduleStore:
    """`mainstay.commands.schedule.ScheduleStore` on PostgreSQL.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("schedules")

    def _own(self) -> AbstractAsyncContextManager[Connection]:
        return sealed(autocommit(self._pool))

    def _transaction(self) -> AbstractAsyncContextManager[Connection]:
        return sealed(transaction(self._pool))

    async def set(self, new: NewSchedule) -> Schedule:
        """Store a schedule, or change the one of this name."""
        command = {name: value for name, value in command_fields(new.command).items() if name not in _DRAWN_ANEW}
        async with self._transaction() as conn:
            await say_who(conn)
            before = _found(await fetch_one(conn, self._sql["lock"], {"name": new.name}))
            refuse_unseen(new.name, new.seen, before)
            now = await fetch_value(conn, self._sql["now"])
            next_due_at, counts_from = first_due(new, before, now)
            values = {
                "name": new.name,
                "command": orjson.dumps(command).decode(),
                "cron": new.cron,
                "every": new.every,
                "timezone": new.timezone,
                "not_before": new.not_before,
                "catch_up": new.catch_up,
                "catch_up_limit": new.catch_up_limit,
                "next_due_at": next_due_at,
                "counts_from": counts_from,
            }
            return _expected(await fetch_one(conn, self._sql["set"], values))

    async def remove(self, name: str) -> bool:
        """Remove a schedule; False if there was none."""
        async with deciding(self._pool) as conn:
            return bool(await fetch_value(conn, self._sql["remove"], {"name": name}))

    async def pause(self, name: str) -> Schedule | None:
        """Let it not be fired until `resume`."""
        async with deciding(self._pool) as conn:
            return _found(await fetch_one(conn, self._sql["pause"], {"name": name}))

    async def resume(self, name: str) -> Schedule | None:
        """Let it be fired from now on; one that is not paused stays as it is."""
        async with self._transaction() as conn:
            await say_who(conn)
            found = _found(await fetch_one(conn, self._sql["lock"], {"name": name}))
            if found is None or not found.is_paused:
                return found
            now = await fetch_value(conn, self._sql["now"])
            values = {"name": name, "next_due_at": rule_of(found).after(now)}
            return _found(await fetch_one(conn, self._sql["resume"], values))

    async def get(self, name: str) -> Schedule | None:
        """One schedule."""
        async with self._own() as conn:
            return _found(await fetch_one(conn, self._sql["get"], {"name": name}))

    async def find(self, domain: str | None) -> list[Schedule]:
        """All schedules of a domain, or of all domains, by name."""
        async with self._own() as conn:
            return [_schedule(row) for row in await fetch_all(conn, self._sql["find"], {"domain": domain})]

    async def run_now(self, name: str, command_id: UUID) -> Answer | None:
        """Send its command now."""
        headers = orjson.dumps({"schedule": name}).decode()
        async with deciding(self._pool) as conn:
            row = await fetch_one(conn, self._sql["run"], {"name": name, "command_id": command_id, "headers": headers})
        if row is None or not row["found"]:
            return None
        return answer_from(command_id, (row["msg_id"], row["refusal"], row["holder_id"]))

    async def fire(self, domain: str) -> Fired:
        """Send what is due, one schedule in a transaction; one that cannot be fired holds up no other."""
        sent = 0
        failed: list[str] = []
        while True:
            async with self._own() as conn:
                due_in = await fetch_value(conn, self._sql["due_in"], {"domain": domain, "except": failed})
            if due_in is None or due_in > 0 or (count := await self._fire_one(domain, failed)) is None:
                return Fired(sent, due_in)
            sent += count

    async def _fire_one(self, domain: str, failed: list[str]) -> int | None:
        """Fire one schedule that is due; None if there is none but those that failed just now."""
        name = None
        try:
            async with self._transaction() as conn:
                row = await fetch_one(conn, self._sql["take"], {"domain": domain, "except": failed})
                if row is None or row["next_due_at"] is None:
                    return None
                name = row["name"]
                now = row.pop("now")
                found = _schedule(row)
                what = firing(rule_of(found), row["next_due_at"], found.catch_up, found.catch_up_limit, now)
                values = {
                    "name": name,
                    "due": what.due,
                    "command_ids": [due_id(name, due) for due in what.due],
                    "headers": [orjson.dumps(due_headers(name, due)).decode() for due in what.due],
                    "next_due_at": what.next_due_at,
                }
                return int(await fetch_value(conn, self._sql["fire"], values))
        except Exception as error:
            is_held_up = isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
            if name is None or (isinstance(error, StorageUnavailableError) and not is_held_up):
                raise
            logger.warning("schedule %s cannot be fired; will try again: %s", name, error, extra={"domain": domain})
            failed.append(name)
            async with self._own() as conn:
                await execute(conn, self._sql["note_error"], {"name": name, "error": str(error)[:_LONGEST_ERROR]})
            return 0


def _found(row: DictRow | None) -> Schedule | None:
    return None if row is None else _schedule(row)


def _expected(row: DictRow | None) -> Schedule:
    if row is None:  # pragma: no cover - an insert returns its row
        raise AssertionError
    return _schedule(row)


def _schedule(row: DictRow) -> Schedule:
    fields: dict[str, Any] = dict(row)
    command = fields.pop("command")
    fields["catch_up"] = CatchUp(fields["catch_up"])
    return Schedule(
        **fields,
        command_type=command["command_type"],
        data=command["data"],
        reply_to=command.get("reply_to"),
        max_attempts=command["max_attempts"],
        headers=command.get("headers"),
        key=command.get("key"),
        priority=command.get("priority", 0),
        unique_key=command.get("unique_key"),
        unique_for=command.get("unique_for") and timedelta(seconds=command["unique_for"]),
    )
