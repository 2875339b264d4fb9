"""Pruning: what is kept of what has ended, and taking away the rest.

It goes through batches, commands, processes and operators' actions that have ended, in small transactions. Each locks
only what has ended, and skips what somebody holds, so it can run beside workers at any time. Between two transactions
it waits as long as its rate asks. Nothing is pruned unless a `Retention` is given.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import DictRow

from mainstay.errors import ConfigurationError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_one, fetch_value

CHUNK: Final = 500
"""Commands, processes, batches or items of an action in one transaction."""
_NO_ID: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept.

    Args:
        completed: Payload, headers and error text of ended commands, state and steps' data of ended processes, custom
            data of ended batches, and what is needed to take operators' actions back; from when they ended.
        audit: Their audit trails, and what operators did; at least as long. None: as long.
        archive: Messages in PGMQ's archives. None: for ever.
        forget: After ``audit``, delete even the slim rows: the id of a forgotten command may be sent again. A batch
            goes when all its commands can. Of processes only the steps are deleted.
        per_second: Rows looked at in a second, at most.

    Raises:
        ConfigurationError: A time is negative, ``audit`` is shorter than ``completed``, or the rate is not positive.
    """

    completed: timedelta
    audit: timedelta | None = None
    archive: timedelta | None = None
    forget: bool = False
    per_second: float = 2000.0

    def __post_init__(self) -> None:
        """Check what was given."""
        for name in ("completed", "audit", "archive"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, timedelta) and value >= timedelta(0)):
                raise ConfigurationError(f"{name} must be a timedelta that is not negative, not {value!r}")
        if self.audit is not None and self.audit < self.completed:
            raise ConfigurationError("audit must be at least as long as completed: an audit trail outlives the payload")
        if not self.per_second > 0:
            raise ConfigurationError(f"per_second must be positive, not {self.per_second!r}")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a run took away.

    Args:
        walked: Commands looked at.
        pruned: Commands whose payload, headers and error text were cleared.
        forgotten: Commands deleted, batches, and steps of processes.
        audit: Audit events deleted, of commands, processes, batches, breakers and operators.
        archive: Archived messages deleted.
        processes: Processes whose state, error text and steps' data were cleared.
        batches: Batches whose custom data was cleared.
        actions: Operators' actions that cannot be taken back any more, and those deleted.
    """

    walked: int = 0
    pruned: int = 0
    forgotten: int = 0
    audit: int = 0
    archive: int = 0
    processes: int = 0
    batches: int = 0
    actions: int = 0


async def prune(
    pool: Pool,
    retention: Retention,
    *,
    chunk: int = CHUNK,
    stopping: asyncio.Event | None = None,
    on_progress: Callable[[Pruned], None] | None = None,
) -> Pruned:
    """Go through all that has ended once.

    Args:
        pool: Open; one connection is used for each small transaction.
        retention: What to keep.
        chunk: Rows in one transaction.
        stopping: Ends the run when set.
        on_progress: Told after each transaction.

    Raises:
        StorageUnavailableError: The database cannot be reached; what was pruned stays so.
    """
    run = _Run(pool, retention, chunk, stopping or asyncio.Event(), on_progress or (lambda _: None))
    await run.walk("prune_batches", lambda row: {"batches": row["pruned"]})
    await run.walk("prune", lambda row: {"walked": row["walked"], "pruned": row["pruned"]})
    await run.walk("prune_processes", lambda row: {"processes": row["pruned"]})
    if retention.forget:  # batches whose commands are gone now
        await run.walk("prune_batches", lambda row: {"batches": row["pruned"]})
    await run.empty_actions()
    await run.forget_breakers()
    await run.forget_trail()
    await run.empty_archives()
    return run.done


class _Run:
    """One run: where it is, and what it took away."""

    def __init__(
        self,
        pool: Pool,
        retention: Retention,
        chunk: int,
        stopping: asyncio.Event,
        on_progress: Callable[[Pruned], None],
    ) -> None:
        self.done = Pruned()
        self._pool = pool
        self._retention = retention
        self._asked = {
            "completed": retention.completed,
            "audit": retention.completed if retention.audit is None else retention.audit,
            "archive": retention.archive,
            "forget": retention.forget,
            "limit": chunk,
        }
        self._stopping = stopping
        self._on_progress = on_progress
        self._sql = queries.load("operations")

    async def walk(self, query: str, counted: Callable[[DictRow], dict[str, int]]) -> None:
        """Go through one table, a chunk in a transaction.

        Args:
            query: Prunes a chunk, and says how far it came.
            counted: What of its answer counts as what.
        """
        asked = self._asked | {"after": None, "after_id": _NO_ID}
        while not self._stopping.is_set():
            async with autocommit(self._pool) as conn:
                row = await fetch_one(conn, self._sql[query], asked)
            if row is None or row["last_at"] is None:
                return
            asked |= {"after": row["last_at"], "after_id": row["last_id"]}
            self._count(forgotten=row["forgotten"], audit=row["audit_deleted"], **counted(row))
            await self._pause(row["walked"])

    async def forget_breakers(self) -> None:
        """Delete what happened to breakers long ago."""
        await self._forget("prune_breakers")

    async def forget_trail(self) -> None:
        """Delete what operators did long ago."""
        await self._forget("prune_trail")

    async def _forget(self, query: str) -> None:
        if self._stopping.is_set():
            return
        async with autocommit(self._pool) as conn:
            self._count(audit=int(await fetch_value(conn, self._sql[query], self._asked)))

    async def empty_actions(self) -> None:
        """Delete what operators' actions hold, a chunk in a transaction."""
        touched = 1
        while touched and not self._stopping.is_set():
            async with autocommit(self._pool) as conn:
                row = await fetch_one(conn, self._sql["prune_actions"], self._asked)
            items, actions = (row["items"], row["actions"]) if row else (0, 0)
            touched = items + actions
            self._count(actions=actions)
            await self._pause(touched)

    async def empty_archives(self) -> None:
        """Delete old archived messages, a chunk in a transaction."""
        deleted = 1
        while deleted and self._retention.archive is not None and not self._stopping.is_set():
            async with autocommit(self._pool) as conn:
                deleted = int(await fetch_value(conn, self._sql["prune_archives"], self._asked))
            self._count(archive=deleted)
            await self._pause(deleted)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self.done, name) + count for name, count in more.items()}
        self.done = replace(self.done, **counts)
        self._on_progress(self.done)

    async def _pause(self, looked_at: int) -> None:
        await pause(self._stopping, looked_at / self._retention.per_second)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not beyond the event."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
