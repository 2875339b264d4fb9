"""The slots of a worker: tasks in which handlers run, and how many may be at once.

A command that only waits for a stream to which many append does nothing with its slot. So it is not counted: another
task takes its place, and as many commands more are in hand, up to `MOST_PARKED`. Else the commands for one hot stream
would fill all slots, and whatever else the worker could do would wait with them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mainstay.telemetry import get_logger

GRACE = 5.0
"""Seconds that handlers may take to put their things away when they are canceled."""
MOST_PARKED = 128
"""Commands that wait without a slot at most: each has a lease that is kept."""

logger = get_logger(__name__)


class Slots:
    """The tasks of one worker.

    Args:
        work: What each of them does, until it is canceled.
        parked: How many commands in hand only wait.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], parked: Callable[[], int]) -> None:
        self._work = work
        self._parked = parked
        self._tasks: list[asyncio.Task[None]] = []
        self._count = 1

    @property
    def most(self) -> int:
        """How many commands may be in hand, those that wait included."""
        return self._count + min(self._parked(), MOST_PARKED)

    def open(self, count: int) -> None:
        """Begin.

        Args:
            count: Handlers that may run at once.
        """
        self._count = count
        self.grow()

    def grow(self) -> None:
        """Have as many tasks as may be in hand; one too many finds nothing to do."""
        while len(self._tasks) < self.most:
            self._tasks.append(asyncio.create_task(self._work(), name=f"mainstay-slot-{len(self._tasks)}"))

    async def end(self) -> None:
        """Cancel them, and leave behind those whose handlers ignore it."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=GRACE)
            if left:
                logger.error(
                    "%d handlers ignore their cancellation; their commands run again when their leases end", len(left)
                )
