"""Batches and processes as operators turn their pages: each page begins in an index, where the one before ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Self
from uuid import UUID

from mainstay.commands.command import BatchMetadata, CommandMetadata
from mainstay.commands.lifecycle import BatchStatus
from mainstay.commands.process import ProcessMetadata
from mainstay.commands.process_store import ProcessFilter
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import batch_from, metadata_from
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, sealed
from mainstay.storage.postgres.processes import process_from

LOOK: Final = 20_000
"""Processes, or commands of a batch, that one question reads at most."""


class BatchPlace(NamedTuple):
    """Where a batch stands among all, newest first."""

    created_at: datetime
    batch_id: UUID
    domain: str

    @classmethod
    def of(cls, batch: BatchMetadata) -> Self:
        """That of a batch."""
        return cls(batch.created_at, batch.batch_id, batch.domain)


class ProcessPlace(NamedTuple):
    """Where a process stands among all, newest first."""

    created_at: datetime
    process_id: UUID

    @classmethod
    def of(cls, process: ProcessMetadata) -> Self:
        """That of a process."""
        return cls(process.created_at, process.process_id)


@dataclass(frozen=True, slots=True)
class ProcessesFound:
    """Processes that were found, newest first, without their steps.

    Args:
        processes: Them.
        next: Where to look on; None if that was all.
        looked: How many were read for it.
        back_to: When the last of those was started, if that stopped before enough was found or all was read.
    """

    processes: list[ProcessMetadata]
    next: ProcessPlace | None
    looked: int
    back_to: datetime | None


class PostgresPaging:
    """Pages of batches and processes.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("paging")

    async def batches(
        self, domain: str | None, status: BatchStatus | None, *, limit: int, after: BatchPlace | None
    ) -> list[BatchMetadata]:
        """Batches, newest first."""
        at, batch_id, home = after or (None, None, None)
        asked = {
            "domain": domain, "status": status, "limit": limit, "after_time": at, "after_id": batch_id,
            "after_domain": home,
        }  # fmt: skip
        async with sealed(autocommit(self._pool)) as conn:
            return [batch_from(row) for row in await fetch_all(conn, self._sql["batches"], asked)]

    async def parts(self, domain: str, parent_id: UUID, *, limit: int) -> list[BatchMetadata]:
        """The newest batches of a batch."""
        asked = {"domain": domain, "parent_id": parent_id, "limit": limit}
        async with sealed(autocommit(self._pool)) as conn:
            return [batch_from(row) for row in await fetch_all(conn, self._sql["parts"], asked)]

    async def waiting_in_batch(self, domain: str, batch_id: UUID, *, limit: int) -> list[CommandMetadata]:
        """Commands of a batch that wait for an operator, the newest first."""
        return await self._of_batch("waiting_in_batch", domain, batch_id, limit)

    async def failed_in_batch(self, domain: str, batch_id: UUID, *, limit: int) -> list[CommandMetadata]:
        """Commands of a batch that failed for good, the newest first, among `LOOK` of its commands."""
        return await self._of_batch("failed_in_batch", domain, batch_id, limit)

    async def _of_batch(self, question: str, domain: str, batch_id: UUID, limit: int) -> list[CommandMetadata]:
        asked = {"domain": domain, "batch_id": batch_id, "limit": limit, "look": LOOK}
        async with sealed(autocommit(self._pool)) as conn:
            return [metadata_from(row) for row in await fetch_all(conn, self._sql[question], asked)]

    async def processes(self, which: ProcessFilter, *, limit: int, after: ProcessPlace | None) -> ProcessesFound:
        """Processes that meet all conditions, newest first, and how far was looked for them."""
        at, process_id = after or (None, None)
        has_conditions = any((which.domain, which.process_type, which.status))
        look = LOOK if has_conditions else limit + 1
        asked = {
            "domain": which.domain, "process_type": which.process_type, "status": which.status,
            "batch_id": which.batch_id, "after_time": at, "after_id": process_id, "limit": limit + 1, "look": look,
        }  # fmt: skip
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["processes"], asked)
        found = [process_from(row) for row in rows if row["process_id"] is not None]
        looked = rows[0]["looked"]
        if len(found) > limit:  # one more tells whether there is another page
            return ProcessesFound(found[:limit], ProcessPlace.of(found[limit - 1]), looked, None)
        if looked < look:
            return ProcessesFound(found, None, looked, None)
        edge = ProcessPlace(rows[0]["edge_time"], rows[0]["edge_id"])
        return ProcessesFound(found, edge, looked, edge.created_at)
