"""Starting and stopping what runs in the background.

A service can be started, stopped twice, and stopped unstarted. Stopping waits until its loop has ended; a loop that
died raises its error at the stop, so that nothing fails in silence.
"""

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Service(ABC):
    """One background loop with a beginning and an end.

    A subclass writes `_run`, which returns soon after `stopping` is set.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def _run(self) -> None:
        """The loop."""

    @property
    def is_running(self) -> bool:
        """Whether the loop is under way."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Start the loop; does nothing if it runs already.

        Raises:
            Exception: What ended the loop before, if nobody was told yet.
        """
        if self.is_running:
            return
        await self.stop()
        self.stopping.clear()
        self._task = asyncio.create_task(self._run(), name=type(self).__name__)

    async def stop(self) -> None:
        """Ask the loop to end and wait for it.

        Raises:
            Exception: What ended the loop before it was asked to.
        """
        self.stopping.set()
        task = self._task
        if task is None:
            return
        await asyncio.wait({task})
        if self._task is task:  # of several who stop it at once, one is told how it ended
            self._task = None
            task.result()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()
