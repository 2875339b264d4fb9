"""How operators find things: commands, batches and processes in bounded steps, page by page; anything by its id."""

from typing import Any
from uuid import UUID

from mainstay.commands.checks import domain_filter, type_filter
from mainstay.commands.command import BatchMetadata, CommandMetadata, Place
from mainstay.commands.lifecycle import BatchStatus
from mainstay.commands.process import ProcessStatus
from mainstay.commands.process_store import ProcessFilter
from mainstay.commands.search import Found, Sought
from mainstay.operations.finding import Finder, Hit
from mainstay.storage.postgres.paging import BatchPlace, PostgresPaging, ProcessesFound, ProcessPlace
from mainstay.storage.postgres.searching import PostgresSearch


class Search:
    """Finds commands.

    Args:
        pool: An open ``psycopg_pool.AsyncConnectionPool``.
    """

    def __init__(self, pool: Any) -> None:
        self._store = PostgresSearch(pool)
        self._pages = PostgresPaging(pool)
        self._finder = Finder(pool)

    async def anything(self, text: str) -> list[Hit]:
        """What has this id, or an id that begins so; see `Finder.find`."""
        return await self._finder.find(text)

    async def commands(self, which: Sought, *, limit: int = 50, after: Place | None = None) -> Found:
        """Commands that meet all conditions, newest first, and how far was looked: no search reads all there are.

        Args:
            which: The conditions.
            limit: Commands at most.
            after: Where the page before ended, or where it stopped looking.
        """
        return await self._store.commands(which, limit=limit, after=after)

    async def batches(
        self,
        *,
        domain: str | None = None,
        status: BatchStatus | None = None,
        limit: int = 50,
        after: BatchPlace | None = None,
    ) -> list[BatchMetadata]:
        """Batches, newest first.

        Args:
            domain: Of this domain.
            status: In this status.
            limit: Batches at most.
            after: The place of the last one on the page before.
        """
        return await self._pages.batches(domain_filter(domain), status, limit=limit, after=after)

    async def parts(self, batch: BatchMetadata, *, limit: int = 50) -> list[BatchMetadata]:
        """The newest batches of a batch."""
        return await self._pages.parts(batch.domain, batch.batch_id, limit=limit)

    async def trouble_in(
        self, batch: BatchMetadata, *, limit: int = 50
    ) -> tuple[list[CommandMetadata], list[CommandMetadata]]:
        """Commands of a batch that wait for an operator, and those that failed for good, the newest first.

        Of large batches 20,000 commands are looked at; of those that wait, the 20,000 that came last in their domain.
        """
        key = batch.domain, batch.batch_id
        waiting = await self._pages.waiting_in_batch(*key, limit=limit) if batch.in_troubleshooting_count else []
        return waiting, await self._pages.failed_in_batch(*key, limit=limit) if batch.failed_count else []

    async def processes(
        self,
        *,
        domain: str | None = None,
        process_type: str | None = None,
        status: ProcessStatus | None = None,
        batch_id: UUID | None = None,
        limit: int = 50,
        after: ProcessPlace | None = None,
    ) -> ProcessesFound:
        """Processes that meet all conditions, newest first, and how far was looked: no question reads all there are.

        Args:
            domain: Of this domain.
            process_type: Of this type.
            status: In this status.
            batch_id: Of this batch.
            limit: Processes at most.
            after: Where the page before ended, or where it stopped looking.
        """
        which = ProcessFilter(domain_filter(domain), type_filter(process_type), status, batch_id)
        return await self._pages.processes(which, limit=limit, after=after)
