"""Joining concurrent calls into one: the first goes at once, those that come while it is under way go together.

No timer and no size to wait for: a call alone is not delayed, a thousand at once share one round trip and one commit.

How it is held up. One item may have to wait for a stranger (its id is in somebody's open transaction, its row is
locked), and the items of its group with it. Whoever comes later does not: a group that takes longer than `PATIENCE` is
overtaken.

How it fails. If a joined call raises, it is halved until the culprit stands alone and gets its error; the others
succeed. Where that makes no sense, because nothing at all can be reached, all get the error. A caller that is canceled
does not take its item back: what was handed over is under way.

`Shared` is the same for a question that has no item.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from mainstay.errors import StorageUnavailableError

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

DEFAULT_LIMIT = 500
PATIENCE = 0.1
"""Seconds after which a group no longer keeps others from being served."""
MOST = 4
"""Groups under way at once, all but one of them overtaken."""


class Joiner(Generic[ItemT, AnswerT]):
    """Serves items in groups; one group at a time, unless one takes long.

    Args:
        serve: Takes items, answers each, in order.
        limit: Items in a group at most.
    """

    def __init__(
        self, serve: Callable[[Sequence[ItemT]], Awaitable[Sequence[AnswerT]]], limit: int = DEFAULT_LIMIT
    ) -> None:
        self._serve = serve
        self._limit = limit
        self._waiting: list[tuple[ItemT, asyncio.Future[AnswerT]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_starting = False
        self._under_way = 0
        self._overtaken = 0
        self._latest: _Turn | None = None
        """The group under way that is not overtaken."""

    def __len__(self) -> int:
        """Items that wait for the group under way to end."""
        return len(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether a group is under way that is not overtaken, or about to be."""
        return not self._is_free()

    async def serve(self, item: ItemT) -> AnswerT:
        """Hand an item over and wait for its answer; alone, it is served right here, without a task."""
        if not self._is_free():
            return await self.submit(item)
        with _Turn(self):
            (answer,) = await self._serve([item])
        return answer

    def submit(self, item: ItemT) -> "asyncio.Future[AnswerT]":
        """Hand an item over; the future holds its answer or its error."""
        future: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._latest is not None:
            self._latest.is_waited_for()
        self._start()
        return future

    async def idle(self) -> None:
        """Wait until everything submitted so far is served."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _is_free(self) -> bool:
        """Whether a group may begin: none is under way but overtaken ones."""
        return not self._is_starting and self._under_way == self._overtaken < MOST

    def _start(self) -> None:
        """Serve what waits, unless a group is under way after which it is served."""
        if self._waiting and self._is_free():
            self._is_starting = True
            task = asyncio.create_task(self._drain(), name="mainstay-joiner")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        self._is_starting = False
        try:
            while self._waiting and self._is_free():
                group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                with _Turn(self, is_followed=True):
                    await self._serve_group(group)
                self._is_starting = True  # whoever was served and comes again at once goes with those who wait
                try:
                    await asyncio.sleep(0)
                finally:
                    self._is_starting = False
        except asyncio.CancelledError:
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
            raise

    def _begin(self, turn: "_Turn") -> None:
        self._under_way += 1
        self._latest = turn
        if self._waiting:
            turn.is_waited_for()

    def _overtake(self) -> None:
        self._latest = None
        self._overtaken += 1
        self._start()

    def _end(self, turn: "_Turn", *, is_followed: bool) -> None:
        self._under_way -= 1
        if self._latest is turn:
            self._latest = None
        else:
            self._overtaken -= 1
        if not is_followed:
            self._start()

    async def _serve_group(self, group: "Sequence[tuple[ItemT, asyncio.Future[AnswerT]]]") -> None:
        try:
            answers = await self._serve([item for item, _ in group])
        except asyncio.CancelledError:
            for _, future in group:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the answer
            if len(group) == 1 or isinstance(error, StorageUnavailableError):
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                return
            middle = len(group) // 2
            await self._serve_group(group[:middle])
            await self._serve_group(group[middle:])
            return
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)


class Shared(Generic[AnswerT]):
    """One question for all who ask it at about the same time.

    Who asks while it is under way gets its answer; so does who comes later and is content with an older one. An error
    goes to all who wait, and is not kept.

    Args:
        ask: Asks it.
    """

    def __init__(self, ask: Callable[[], Awaitable[AnswerT]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[AnswerT] | None = None
        self._known: tuple[float, AnswerT] | None = None

    async def answer(self, age: float = 0.0) -> AnswerT:
        """The answer.

        Args:
            age: Seconds since the question was asked, at most, if it has been answered already.
        """
        if self._asking is None:
            if self._known is not None and asyncio.get_running_loop().time() - self._known[0] < age:
                return self._known[1]
            self._asking = asyncio.create_task(self._question(), name="mainstay-shared-question")
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    async def _question(self) -> AnswerT:
        began = asyncio.get_running_loop().time()
        found = await self._ask()
        self._known = began, found
        return found

    def _asked(self, done: asyncio.Task[AnswerT]) -> None:
        self._asking = None
        if not done.cancelled():
            done.exception()  # told to whoever still waits; else it is no news


class _Turn:
    """One group under way; what waits meanwhile is served after it, or, if it takes long, beside it.

    Args:
        joiner: Whose group.
        is_followed: Whether whoever began it looks for what waits when it has ended.
    """

    __slots__ = ("_began", "_is_followed", "_joiner", "_timer")

    def __init__(self, joiner: "Joiner[Any, Any]", *, is_followed: bool = False) -> None:
        self._joiner = joiner
        self._is_followed = is_followed
        self._timer: asyncio.TimerHandle | None = None

    def is_waited_for(self) -> None:
        """Somebody waits for its end; a call that is alone needs no timer."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(self._began + PATIENCE, self._joiner._overtake)  # noqa: SLF001 - two halves of one

    def __enter__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._joiner._begin(self)  # noqa: SLF001 - see above

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._joiner._end(self, is_followed=self._is_followed)  # noqa: SLF001 - see above
