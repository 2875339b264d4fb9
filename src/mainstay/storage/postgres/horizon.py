"""Publishing how far the feed can be read: by one of all the processes that offer to.

Promises. Of any number of publishers on a database one publishes at a time; what it publishes never goes back, and is
safe whoever does: two at once could at worst send one notification too many. Whoever listens on `CHANNEL` hears of
every event soon after its commit. Replicas read what is published; on the primary everybody may find the horizon
himself.

States::

    following ──the lease is over──> publishing ──stopped──> stopped; another one goes on at once
        ^                                └── this process died: another one goes on when the lease is over
        └── another one holds the lease

How it looks. An append tells nobody, for a NOTIFY would make appends wait for each other; so the one who publishes
looks, often while events flow, and more and more seldom: when nothing has come for a time, he looks after a twentieth
of that time, within `BUSY` and `IDLE`. A look that finds nothing writes nothing. Whoever appends in the same process
nudges it, and it looks at once.

Followers ask when the lease that they were told of is over, and again by then. A process that cannot hear (a pooler
refuses LISTEN) looks as often as one that publishes, but only at what is published, which costs next to nothing.

How it fails. A database that cannot be reached is asked again, and meanwhile nobody is woken: readers look by
themselves now and then.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mainstay.errors import MainstayError, StorageUnavailableError
from mainstay.message import worker_name
from mainstay.service import Service
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, execute, fetch_one, sealed
from mainstay.telemetry import get_logger

CHANNEL: Final = "mainstay.events"
"""Where the one who publishes notifies; the payload is the position."""
LEASE: Final = 3.0
"""Seconds after which one who died is followed by another."""
BUSY: Final = 0.005
IDLE: Final = 0.05
_SHARE: Final = 20
_RETRY: Final = 0.5
_REFUSED: Final = 30.0
"""Seconds after which one who may not publish tries again."""

logger = get_logger(__name__)


class HorizonPublisher(Service):
    """Publishes the horizon; start as many as you like, in any process: one publishes at a time.

    Args:
        pool: Open.
        tell: Called with the horizon whenever this one finds out that it is higher.
        hears: Whether this process is told by others what they publish; one that is not looks by itself.
    """

    def __init__(
        self, pool: Pool, *, tell: Callable[[int], None] = lambda _: None, hears: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__()
        self.is_publishing = False
        self._pool = pool
        self._tell = tell
        self._hears = hears
        self._name = worker_name()
        self._sql = queries.load("events")
        self._position = 0
        self._told = 0
        self._moved = time.monotonic()
        self._awake = asyncio.Event()
        self._is_nudged = False

    def nudge(self) -> None:
        """Something was appended in this process, or is about to be: look at once, and often for a while."""
        self._is_nudged = True
        self._moved = time.monotonic()
        self._awake.set()

    async def _run(self) -> None:
        stopping = asyncio.create_task(self.stopping.wait())
        stopping.add_done_callback(lambda _: self._awake.set())
        due = 0.0
        try:
            while not self.stopping.is_set():
                began, is_nudged = time.monotonic(), self._is_nudged
                self._is_nudged = False  # before the look: who nudges during it may have committed what it did not see
                self._awake.clear()
                try:
                    if is_nudged and not self.is_publishing and began < due:
                        await self._look()
                    else:
                        due = began + await self._publish()
                except MainstayError as error:
                    self.is_publishing = False
                    wait = _RETRY if isinstance(error, StorageUnavailableError) else _REFUSED
                    due = began + wait
                    logger.warning("could not publish the horizon; will try again in %g s: %s", wait, error)
                await self._rest(began, due)
        finally:
            stopping.cancel()
            await self._end()

    async def _rest(self, began: float, due: float) -> None:
        """Wait until it is time, or for a nudge, but not less than `BUSY`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(due - time.monotonic()):
                await self._awake.wait()
        left = began + BUSY - time.monotonic()
        if left > 0 and not self.stopping.is_set():
            await asyncio.sleep(left)

    async def _publish(self) -> float:
        """Publish, or find out who does; seconds until the next time."""
        asked = {"holder": self._name, "lease": LEASE, "told": self._told}
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["publish_horizon"], asked)
        if row is None:
            return _RETRY
        position, lease = int(row["position"]), row["seconds"]
        self.is_publishing = lease is None
        self._told = position if self.is_publishing else 0
        if self.is_publishing and position < self._position:
            self._position = position  # positions are given out again: another epoch, or another server
        self._learn(position)
        pace = min(max((time.monotonic() - self._moved) / _SHARE, BUSY), IDLE)
        if lease is None:
            return pace
        return float(lease) if self._hears() else min(pace, float(lease))

    async def _look(self) -> None:
        """Find the horizon out without publishing it: somebody else does, but this process has just appended."""
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["horizon"])
        if row is not None:
            self._learn(int(row["horizon"]))

    def _learn(self, position: int) -> None:
        if position > self._position:
            self._position, self._moved = position, time.monotonic()
            self._tell(position)

    async def _end(self) -> None:
        self.is_publishing = False
        try:
            async with sealed(autocommit(self._pool)) as conn:
                await execute(conn, self._sql["end_publishing"], {"holder": self._name})
        except MainstayError as error:
            logger.info("could not give the lease of publishing back; it ends by itself: %s", error)
