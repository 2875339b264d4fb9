"""Batches on PostgreSQL."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import orjson

from mainstay.commands.command import BatchMetadata
from mainstay.commands.lifecycle import BatchStatus
from mainstay.commands.store import Answer, NewBatch, NewCommand
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import batch_from, command_fields, commands_document, text
from mainstay.storage.postgres.database import Pool, autocommit, execute, fetch_all, fetch_one, sealed
from mainstay.storage.postgres.trail import deciding
from mainstay.storage.query_files import QueryFile


class PostgresBatches:
    """The part of `CommandStore` that is about batches."""

    pool: Pool
    _noticing_a_dropped_queue: Callable[[str], AbstractContextManager[None]]
    _run: Callable[[Any, str, dict[str, Any]], Any]
    _send_answers: Callable[[Sequence[NewCommand], Iterable[tuple[Any, ...]]], list[Answer]]
    wake: Callable[[Sequence[str]], Any]

    async def create_batch(self, batch: NewBatch, commands: Sequence[NewCommand], *, conn: Any = None) -> list[Answer]:
        """Create a batch and send its commands, or nothing at all; one round trip."""
        parameters = {
            "domain": batch.domain,
            "batch_id": batch.batch_id,
            "name": batch.name,
            "custom_data": text(batch.custom_data),
            "on_complete": None if batch.on_complete is None else text(orjson.dumps(command_fields(batch.on_complete))),
            "commands": commands_document(commands),
            "parent_id": batch.parent_id,
            "sealed": batch.sealed,
        }
        with self._noticing_a_dropped_queue(batch.domain):
            rows = await self._run(conn, "create_batch", parameters)
        if conn is None:
            await self.wake([batch.domain] * len(rows))
        return self._send_answers(commands, rows)

    async def send_to_batch(self, domain: str, batch_id: UUID, commands: Sequence[NewCommand]) -> list[Answer]:
        """Send a chunk into an open batch, or nothing of it; one round trip, and one to wake workers."""
        parameters = {"domain": domain, "batch_id": batch_id, "commands": commands_document(commands)}
        with self._noticing_a_dropped_queue(domain):
            rows = await self._run(None, "send_to_batch", parameters)
        await self.wake([domain] * len(rows))
        return self._send_answers(commands, rows)

    async def seal_batch(self, domain: str, batch_id: UUID) -> None:
        """Let a batch end with what it has; wakes a worker, who finds out whether that is now."""
        async with deciding(self.pool) as conn:
            await execute(conn, _sql()["seal_batch"], {"domain": domain, "batch_id": batch_id})
        await self.wake([domain])

    async def get_batch(self, domain: str, batch_id: UUID) -> BatchMetadata | None:
        """One batch, its counts exact."""
        async with sealed(autocommit(self.pool)) as conn:
            row = await fetch_one(conn, _sql()["get_batch"], {"domain": domain, "batch_id": batch_id})
        return None if row is None else batch_from(row)

    async def list_batches(
        self,
        domain: str | None,
        *,
        status: BatchStatus | None,
        parent_id: UUID | None = None,
        limit: int,
        offset: int,
    ) -> list[BatchMetadata]:
        """Batches, newest first; of one parent, if it is given."""
        parameters = {"domain": domain, "status": status, "parent_id": parent_id, "limit": limit, "offset": offset}
        async with sealed(autocommit(self.pool)) as conn:
            return [batch_from(row) for row in await fetch_all(conn, _sql()["list_batches"], parameters)]

    async def fold_batches(self, domain: str) -> list[UUID]:
        """Sum up the domain's batches and finish those that are done, then those whose last part that was."""
        finished: list[UUID] = []
        while True:
            async with sealed(autocommit(self.pool)) as conn:
                rows = await fetch_all(conn, _sql()["fold_batches"], {"domain": domain})
            if not rows:
                return finished
            finished.extend(row["batch_id"] for row in rows)


def _sql() -> QueryFile:
    return queries.load("commands")
