"""The service that prunes now and then: on one of all the processes that offer to.

Promises. Of any number of pruners on a database one prunes at a time, and a run begins when the time since the end of
the last one is over, whoever made that. A process that dies is followed by another when its lease ends; whatever it
pruned stays pruned, and the next run finds the rest.

States::

    waiting ──asked, and it is due──> pruning ──all gone through──> waiting, for everybody
       ^                                 └──stopped, or the lease was lost──> another one goes on
       └── somebody else prunes, or it is not due

How it fails. A database that cannot be reached is asked again later. If a lease is lost, because this process stood
still, two may prune for a moment: they skip what the other has locked, and nothing is done twice.
"""

import asyncio
from datetime import timedelta
from typing import Final

from mainstay.errors import MainstayError
from mainstay.message import worker_name
from mainstay.service import Service, cancel
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, execute, fetch_value
from mainstay.storage.postgres.retention import Retention, pause, prune
from mainstay.telemetry import get_logger

EVERY: Final = timedelta(hours=1)
"""Time between the end of a run and the next."""
LEASE: Final = 60.0
"""Seconds after which one who died is followed by another."""

logger = get_logger(__name__)


class Pruner(Service):
    """Prunes now and then, beside workers; start as many as you like, in any process: one prunes at a time.

    Args:
        pool: Open.
        retention: What to keep.
        every: Time between the end of a run and the next, in all processes together.
    """

    def __init__(self, pool: Pool, retention: Retention, *, every: timedelta = EVERY) -> None:
        super().__init__()
        self._pool = pool
        self._retention = retention
        self._every = every
        self._name = worker_name()
        self._sql = queries.load("operations")

    async def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                seconds = await self._take()
                if not seconds:
                    await self._prune()
            except MainstayError as error:
                logger.warning("could not prune; will try again: %s", error)
                seconds = LEASE
            await pause(self.stopping, min(seconds, LEASE))

    async def _prune(self) -> None:
        """One run, which is ours as long as the lease is renewed."""
        over = asyncio.Event()
        keeping = asyncio.create_task(self._keep(over))
        has_ended = False
        try:
            done = await prune(self._pool, self._retention, stopping=over)
            has_ended = not over.is_set()
            logger.info("pruned %d commands, %d processes and %d audit events", done.pruned, done.processes, done.audit)
        finally:
            await cancel(keeping)
            await self._end(self._every.total_seconds() if has_ended else None)

    async def _keep(self, over: asyncio.Event) -> None:
        """Renew the lease; the run is over if that fails, or this service is to stop."""
        try:
            while not self.stopping.is_set() and not await self._take():
                await pause(self.stopping, LEASE / 4)
        except MainstayError as error:
            logger.warning("could not keep the lease of pruning: %s", error)
        finally:
            over.set()

    async def _take(self) -> float:
        asked = {"holder": self._name, "seconds": LEASE}
        async with autocommit(self._pool) as conn:
            return float(await fetch_value(conn, self._sql["take_pruning"], asked))

    async def _end(self, every: float | None) -> None:
        async with autocommit(self._pool) as conn:
            await execute(conn, self._sql["end_pruning"], {"holder": self._name, "every": every})
