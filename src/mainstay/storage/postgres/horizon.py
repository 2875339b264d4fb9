"""Publishing how far the feed can be read: by one of all the processes that offer to.

Promises. Of any number of publishers on a database one publishes at a time; what it publishes never goes back, and is
safe whoever does: two at once could at worst send one notification too many. Whoever listens on `CHANNEL` hears of
every event soon after its commit. Replicas read what is published; on the primary everybody may find the horizon
himself.

States::

    following ──the lease is free──> publishing ──stopped──> stopped; another one goes on at once
        ^                                └── this process died: another one goes on when the lease is over
        └── another one holds the lease

How it fails. A database that cannot be reached is asked again, and meanwhile nobody is woken: readers look by
themselves now and then.
"""

from typing import Final

from mainstay.errors import MainstayError
from mainstay.message import worker_name
from mainstay.service import Service
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, execute, fetch_one, sealed
from mainstay.storage.postgres.retention import pause
from mainstay.telemetry import get_logger

CHANNEL: Final = "mainstay.events"
"""Where the one who publishes notifies; the payload is the position."""
LEASE: Final = 5.0
"""Seconds after which one who died is followed by another."""
_BUSY: Final = 0.01
_IDLE: Final = 0.05
_RETRY: Final = 1.0

logger = get_logger(__name__)


class HorizonPublisher(Service):
    """Publishes the horizon; start as many as you like, in any process: one publishes at a time.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool
        self._name = worker_name()
        self._sql = queries.load("events")

    async def _run(self) -> None:
        before = 0
        try:
            while not self.stopping.is_set():
                try:
                    position, seconds = await self._publish()
                except MainstayError as error:
                    logger.warning("could not publish the horizon; will try again: %s", error)
                    position, seconds = before, _RETRY
                if seconds is None:
                    seconds = _IDLE if position == before else _BUSY
                before = position
                await pause(self.stopping, min(seconds, LEASE))
        finally:
            await self._end()

    async def _publish(self) -> tuple[int, float | None]:
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["publish_horizon"], {"holder": self._name, "lease": LEASE})
        if row is None:
            return 0, _RETRY
        return int(row["position"]), row["seconds"]

    async def _end(self) -> None:
        try:
            async with sealed(autocommit(self._pool)) as conn:
                await execute(conn, self._sql["end_publishing"], {"holder": self._name})
        except MainstayError as error:
            logger.info("could not give the lease of publishing back; it ends by itself: %s", error)
