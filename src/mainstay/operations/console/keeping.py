"""Answers that are kept for a while, so that many who look ask once.

What everybody sees costs the database the same whether one looks or a hundred: of each question at most one is on its
way, and its answer is given to all who ask meanwhile.

All questions of a console share one `Budget`: together they take little more than `SHARE` of one connection, so that
fourteen pages cost no more than one that asks much. A question that is asked alone and takes a second is asked again
after five. Of several, each is given in proportion to the root of what it takes, which keeps the answers the newest
that so much time can buy: what is cheap is asked more often than what is dear, what nobody wants that often leaves the
rest to the others, and as long as all of them together are cheap, nothing rests. None rests longer than `LONGEST_REST`
for the others' sake: answers are a few seconds old where the server is busy, and so are slow.

What is counted is the time that passes, not the processor's, which nobody tells us: where many wait for the processors,
looking takes the smaller part of them. Of the last two times of a question the shorter one counts, since to have waited
once says nothing of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import sqrt
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from mainstay.telemetry import get_logger

SHARE: Final = 0.2
"""Of the time of one connection all questions together may take so much."""
LONGEST_REST: Final = 10.0
"""Seconds for which a question rests at most, unless what it takes by itself asks for more."""
FORGOTTEN: Final = 60.0
"""Seconds after which an answer that nobody asked for is let go."""

T = TypeVar("T")
logger = get_logger(__name__)


class Budget:
    """What all questions of a console may take of the database together.

    Args:
        share: Of the time of one connection.
        clock: Tells seconds.
    """

    def __init__(self, share: float = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._spent: WeakKeyDictionary[Kept[Any], tuple[float, float, float]] = WeakKeyDictionary()

    def rest(self, question: "Kept[Any]", took: float, fresh: float) -> float:
        """Seconds for which a question that was answered is not asked again, beside all that are asked.

        Args:
            question: Which.
            took: How many seconds its answer takes.
            fresh: Nobody wants it again within so many seconds.
        """
        now = self._clock()
        self._spent[question] = (now, took, fresh)
        for old in [each for each, (at, _, _) in self._spent.items() if now - at > FORGOTTEN]:
            del self._spent[old]
        alone = took / self._share - took
        return min(max(self._per_root() * sqrt(took) - took, 0.0), max(alone, LONGEST_REST))

    def _per_root(self) -> float:
        """After how many seconds, for each root of a second that it takes, a question is asked again.

        Those that are fresh for longer than that take less than they might: what they leave, the others have.
        """
        left, scarce = self._share, [(took, fresh) for _, took, fresh in self._spent.values() if took > 0]
        while scarce:
            per_root = sum(sqrt(took) for took, _ in scarce) / left
            content = [(took, fresh) for took, fresh in scarce if fresh >= per_root * sqrt(took)]
            if not content:
                return per_root
            left -= sum(took / fresh for took, fresh in content)
            scarce = [each for each in scarce if each not in content]
        return 0.0


class Kept(Generic[T]):
    """An answer that is kept for a while.

    Args:
        ask: Asks.
        fresh: Seconds for which it is not asked again.
        patience: Seconds for which the answer is given while a newer one is on its way.
        budget: Says for how long it rests; one of its own, unless given.
        clock: Tells seconds.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        *,
        fresh: float,
        patience: float,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._fresh = fresh
        self._patience = patience
        self._budget = budget or Budget(clock=clock)
        self._clock = clock
        self._rest = 0.0
        self._took = float("inf")
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
        self._rest = self._budget.rest(self, min(ended - began, self._took), self._fresh)
        self._took = ended - began
        self._found = (ended, found)
        return found


class Shared:
    """What streams ask: the same question of several is asked once.

    Args:
        fresh: Seconds for which an answer is given to all.
        budget: What they may take; one of their own, unless given.
        clock: Tells seconds.
    """

    def __init__(self, fresh: float, budget: Budget | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh = fresh
        self._budget = budget or Budget(clock=clock)
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
        return Kept(ask, fresh=self._fresh, patience=self._fresh, budget=self._budget, clock=self._clock)


def _noted(task: asyncio.Task[Any]) -> None:
    """Say that nobody was answered; whoever waits is told, too."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("the console could not look: %s", error)
