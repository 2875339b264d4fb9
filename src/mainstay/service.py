"""Starting and stopping what runs in the background.

A service can be started, stopped twice, and stopped unstarted. Stopping waits until its loop has ended; a loop that
died raises its error at the stop, so that nothing fails in silence.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

STILL = 30.0
"""Seconds without a turn of the event loop after which it is taken for blocked."""
RECENT = 20.0
"""Seconds for which an answer of the database counts."""
_AGAIN: Final = 1.0
"""Seconds after which a task that goes on is canceled again."""


@dataclass(slots=True)
class Pulse:
    """Signs of life, by the monotonic clock: of the event loop, and of the database. May be read from any thread."""

    turned: float = field(default_factory=time.monotonic)
    reached: float | None = None

    def turn(self) -> None:
        """The event loop turned."""
        self.turned = time.monotonic()

    def reach(self) -> None:
        """The database answered."""
        self.reached = time.monotonic()

    def faults(self, who: str, *, is_running: bool) -> tuple[list[str], list[str]]:
        """Why it is not live, and why else it is not ready.

        Args:
            who: Is asked about: "the worker".
            is_running: Whether it runs.
        """
        now = time.monotonic()
        if not is_running:
            return [], [f"{who} does not run"]
        live, ready = [], []
        if (still := now - self.turned) > STILL:
            live.append(f"the event loop has not turned for {still:.0f} s: a handler blocks it")
        if self.reached is None:
            ready.append("the database has not been reached yet")
        elif (ago := now - self.reached) > RECENT:
            ready.append(f"the database was last reached {ago:.0f} s ago")
        return live, ready


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

    async def ended(self) -> None:
        """Wait until the loop has ended, however; how, `stop` tells."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they have ended; what they raised, they keep.

    `asyncio.wait_for`, which drivers wait with, forgets a cancellation that comes when what it waits for has just been
    done (until Python 3.12: https://github.com/python/cpython/issues/86296). A task that asks a server again and again
    would go on for ever; so it is canceled again.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN)


async def first_of(*waits: Awaitable[object]) -> None:
    """Wait until one of several has come, and cancel the others."""
    tasks = {asyncio.ensure_future(each) for each in waits}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
