"""Answers that are kept for a while, so that many who look ask once.

What everybody sees costs the database the same whether one looks or a hundred: of each question at most one is on its
way, and its answer is given to all who ask meanwhile. What took long is not asked again before it has rested `REST`
times as long, so that looking never takes more than a tenth of one connection.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from mainstay.telemetry import get_logger

REST: Final = 9.0
"""So many times as long as it took, a question is not asked again."""
LONGEST_REST: Final = 10.0
"""Seconds."""
NO_BURDEN: Final = 0.02
"""Seconds: what takes no longer needs no rest."""
FORGOTTEN: Final = 60.0
"""Seconds after which an answer that nobody asked for is let go."""

T = TypeVar("T")
logger = get_logger(__name__)


class Kept(Generic[T]):
    """An answer that is kept for a while.

    Args:
        ask: Asks.
        fresh: Seconds for which it is not asked again.
        patience: Seconds for which the answer is given while a newer one is on its way.
        clock: Tells seconds.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        *,
        fresh: float,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._fresh = fresh
        self._patience = patience
        self._clock = clock
        self._rest = 0.0
        self._found: tuple[float, T] | None = None
        self._asking: asyncio.Task[T] | None = None

    @property
    def age(self) -> float:
        """Seconds since it was answered; endless if it was not."""
        return float("inf") if self._found is None else self._clock() - self._found[0]

    def now(self) -> T | None:
        """The answer if there is one, however old; asks in the background if it is not fresh."""
        if self.age > max(self._fresh, self._rest):
            self._begin()
        return None if self._found is None else self._found[1]

    async def get(self, patience: float | None = None) -> T:
        """The answer, no older than the patience, or than it must rest.

        Raises:
            MainstayError: It cannot be asked.
        """
        age = self.age
        if self._found is not None and age <= max(self._patience if patience is None else patience, self._rest):
            if age > max(self._fresh, self._rest):
                self._begin()
            return self._found[1]
        return await asyncio.shield(self._begin())

    async def soon(self, seconds: float) -> T | None:
        """The answer that `get` gives, if it comes within so many seconds; None if not: then it is on its way.

        Raises:
            MainstayError: It cannot be asked.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.get()
        except TimeoutError:
            return None

    def _begin(self) -> asyncio.Task[T]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._look())
            self._asking.add_done_callback(_noted)
        return self._asking

    async def _look(self) -> T:
        began = self._clock()
        found = await self._ask()
        ended = self._clock()
        self._rest = min(REST * (ended - began), LONGEST_REST) if ended - began > NO_BURDEN else 0.0
        self._found = (ended, found)
        return found


class Shared:
    """What streams ask: the same question of several is asked once.

    Args:
        fresh: Seconds for which an answer is given to all.
        clock: Tells seconds.
    """

    def __init__(self, fresh: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh = fresh
        self._clock = clock
        self._kept: dict[str, tuple[float, Kept[Any]]] = {}

    async def get(self, question: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, as fresh as it is kept.

        Args:
            question: Says what is asked; the same text, the same question.
            ask: Asks.

        Raises:
            MainstayError: It cannot be asked.
        """
        now = self._clock()
        for old in [each for each, (asked, _) in self._kept.items() if now - asked > FORGOTTEN]:
            del self._kept[old]
        kept = self._kept[question][1] if question in self._kept else self._keep(ask)
        self._kept[question] = (now, kept)
        return await kept.get()

    def forget(self) -> None:
        """Something was changed: whoever asks is told of it."""
        self._kept.clear()

    def _keep(self, ask: Callable[[], Awaitable[Any]]) -> Kept[Any]:
        return Kept(ask, fresh=self._fresh, patience=self._fresh, clock=self._clock)


def _noted(task: asyncio.Task[Any]) -> None:
    """Say that nobody was answered; whoever waits is told, too."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("the console could not look: %s", error)
