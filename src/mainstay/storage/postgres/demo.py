"""What the demo keeps in the database beside its commands, and what it counts there afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import (
    Connection,
    Pool,
    autocommit,
    execute,
    fetch_all,
    fetch_one,
    fetch_value,
    run_script,
    transaction,
)


@dataclass(frozen=True, slots=True)
class End:
    """Where a command stands after its first way through: status, attempts, and what was last said of it."""

    status: CommandStatus
    attempts: int
    error_type: str | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Effects:
    """The ledger beside the commands that should have written it.

    Args:
        lines: In the ledger.
        doubled: Commands with more than one.
        missing: Commands that completed without one.
        without_completion: Commands that have one and did not complete.
        completed: Commands that completed, not counting those completed by hand.
    """

    lines: int
    doubled: int
    missing: int
    without_completion: int
    completed: int

    @property
    def exactly_once(self) -> bool:
        """Whether each completed command has exactly one line, and no other command has any."""
        return not (self.doubled or self.missing or self.without_completion) and self.lines == self.completed


async def write_ledger(conn: Connection, domain: str, command_id: UUID, attempt: int) -> None:
    """Write a line in the transaction of a handler."""
    values = {"domain": domain, "command_id": command_id, "attempt": attempt}
    await execute(conn, queries.load("demo")["write_ledger"], values)


class DemoStore:
    """Counts the commands of one domain that were sent since a moment.

    Args:
        pool: Open.
        domain: Whose commands.
    """

    def __init__(self, pool: Pool, domain: str) -> None:
        self._pool = pool
        self._domain = domain
        self._sql = queries.load("demo")
        self.since: datetime | None = None
        self.version = ""

    async def begin(self) -> None:
        """Make the ledger if there is none; everything is counted from now on."""
        async with transaction(self._pool) as conn:
            await run_script(conn, self._sql["create_ledger"])
        self.since = await self.now()
        async with autocommit(self._pool) as conn:
            self.version = str(await fetch_value(conn, self._sql["version"])).split()[0]

    async def now(self) -> datetime:
        """The time of the database."""
        async with autocommit(self._pool) as conn:
            moment: datetime = await fetch_value(conn, self._sql["now"])
            return moment

    async def states(self) -> list[tuple[CommandStatus, bool, int]]:
        """Status, whether it waits for its time, and how many commands."""
        async with autocommit(self._pool) as conn:
            rows = await fetch_all(conn, self._sql["states"], self._asked())
        return [(CommandStatus(row["status"]), row["deferred"], row["commands"]) for row in rows]

    async def ends(self, command_ids: Sequence[UUID]) -> dict[UUID, End]:
        """Where commands stand."""
        async with autocommit(self._pool) as conn:
            rows = await fetch_all(conn, self._sql["ends"], self._asked() | {"command_ids": list(command_ids)})
        return {
            row["command_id"]: End(CommandStatus(row["status"]), row["attempts"], row["error_type"], row["error_code"])
            for row in rows
        }

    async def events(self) -> dict[AuditEventType, int]:
        """How often each thing happened."""
        async with autocommit(self._pool) as conn:
            rows = await fetch_all(conn, self._sql["events"], self._asked())
        return {AuditEventType(row["event_type"]): row["events"] for row in rows}

    async def taken_over(self) -> tuple[int, int]:
        """Leases that ended with their worker, and commands that started again after that."""
        row = await self._row("taken_over")
        return row["expired"], row["started_again"]

    async def effects(self, command_type: str, domain: str | None = None) -> Effects:
        """The ledger beside the commands of a type."""
        asked = self._asked() | {"command_type": command_type} | ({"domain": domain} if domain else {})
        return Effects(**await self._row("effects", asked))

    def _asked(self) -> dict[str, Any]:
        return {"domain": self._domain, "since": self.since}

    async def _row(self, query: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        async with autocommit(self._pool) as conn:
            return await fetch_one(conn, self._sql[query], asked or self._asked()) or {}
