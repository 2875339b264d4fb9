"""Commands that wait to be decided on in groups, and what is known of the streams that they are for.

A stream *rests* for a moment when somebody else was seen to hold it. It is *unsure* while its decider is to be loaded
anew. It is *contended* for `WARY` seconds after others were quicker: then it is held before anything is decided on, and
its commands are *parked*, they wait without a slot of the worker. Contended streams are held together, as far as nobody
else holds them. One that was passed by `MOST_PASSED` times in a row is *hot* as long as it is contended: it is waited
for, apart from the others, which would else wait with it.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterable
from uuid import UUID

from mainstay.commands.aggregates import FIRST_PAUSE, WARY
from mainstay.commands.grouped import Item

MOST_PASSED = 3
"""How often in a row a stream is passed by that others hold, before it is waited for."""
LONGEST_REST = 7
"""How often the time is doubled for which a stream rests that somebody else holds."""


def now() -> float:
    """Seconds, by the event loop's clock."""
    return asyncio.get_running_loop().time()


class Gathering:
    """The commands of one worker.

    Args:
        hurry: Called when a stream has rested.
        on_parked: Called when one more is parked.
    """

    def __init__(self, hurry: Callable[[], None], on_parked: Callable[[], None]) -> None:
        self._hurry = hurry
        self._on_parked = on_parked
        self._resting: dict[Hashable, asyncio.TimerHandle] = {}
        self._passed = Counter[Hashable]()
        self._hot: dict[Hashable, None] = {}
        self.waiting: deque[Item] = deque()
        self.unsure: set[Hashable] = set()
        self.contended: dict[Hashable, float] = {}
        """Streams that others append to, and until when that is taken to be so."""
        self.parked = 0

    # -- commands -----------------------------------------------------------------------------------------------------
    def add(self, item: Item) -> None:
        """Let a command wait."""
        self.waiting.append(item)
        if item.stream in self.contended:
            self._park(item)

    def put_back(self, items: Iterable[Item]) -> None:
        """Let commands wait again that came before all who wait."""
        self.waiting.extendleft(sorted(items, key=lambda each: each.number, reverse=True))

    def leave(self, item: Item) -> None:
        """A command has ended."""
        self.parked -= item.is_parked

    def taken(self, most: int, *, held: Collection[Hashable] | None = None) -> list[Item]:
        """The next group, in the order of arrival; one stream's commands stand one after the other.

        Args:
            most: Commands.
            held: Of these streams; else of all to which nobody else appends.
        """
        share = max(1, most // 2) if held is None else most
        chosen: dict[Hashable, list[Item]] = {}
        ids: set[UUID] = set()
        self._calm_down()
        for limit in (share, most):
            kept: deque[Item] = deque()
            for item in self.waiting:
                if item.end.done():  # it was called off
                    continue
                stream, command_id = item.stream, item.received.lease.command_id
                if (
                    len(ids) >= most
                    or command_id in ids
                    or (self._resting and stream in self._resting)
                    or (self.unsure and stream in self.unsure)
                    or (stream in self.contended if held is None else stream not in held)
                    or not _has_room(chosen.get(stream), item, limit)
                ):
                    kept.append(item)
                else:
                    chosen.setdefault(stream, []).append(item)
                    ids.add(command_id)
            self.waiting = kept
        return [item for items in chosen.values() for item in items]

    def clear(self) -> None:
        """Cancel those who wait, and forget all streams."""
        for timer in self._resting.values():
            timer.cancel()
        for item in self.waiting:
            item.end.cancel()
        for each in (self.waiting, self._resting, self.unsure, self.contended, self._passed, self._hot):
            each.clear()

    # -- streams ------------------------------------------------------------------------------------------------------
    def beware(self, item: Item) -> None:
        """Somebody else was quicker, once more."""
        if item.tries > 1:
            if item.stream not in self.contended:
                for each in self.waiting:
                    if each.stream == item.stream:
                        self._park(each)
            self._park(item)
            self.contended[item.stream] = now() + WARY

    def passed(self, streams: Iterable[Hashable], held: Collection[Hashable]) -> None:
        """Note which streams were held, of those that were to be."""
        for stream in streams:
            if stream in held:
                self._passed.pop(stream, None)
            elif self._passed[stream] + 1 < MOST_PASSED:
                self._passed[stream] += 1
            elif stream in self.contended:
                self._hot[stream] = None

    def wanted(self) -> list[Hashable]:
        """The contended streams that something waits for, but for those that are hot."""
        return [each for each in self._wanted() if each not in self._hot]

    def wanted_hot(self) -> list[Hashable]:
        """The next hot stream that something waits for, alone; each in its turn."""
        wanted = self._wanted()
        for stream in self._hot:
            if stream in wanted:
                del self._hot[stream]
                self._hot[stream] = None  # comes last
                return [stream]
        return []

    def calm(self, streams: Iterable[Hashable]) -> None:
        """Take streams for others' no longer."""
        for stream in streams:
            self.contended.pop(stream, None)
            self._hot.pop(stream, None)
            self._passed.pop(stream, None)

    def rest(self, stream: Hashable, tries: int) -> None:
        """Leave a stream alone for a short while."""
        if stream in self._resting:
            return
        pause = random.uniform(0, FIRST_PAUSE * 2 ** min(tries, LONGEST_REST))  # noqa: S311 - spreads, guards nothing

        def rested() -> None:
            del self._resting[stream]
            self._hurry()

        self._resting[stream] = asyncio.get_running_loop().call_later(pause, rested)

    def _wanted(self) -> dict[Hashable, None]:
        self._calm_down()
        return dict.fromkeys(
            item.stream
            for item in self.waiting
            if item.stream in self.contended
            and item.stream not in self._resting
            and item.stream not in self.unsure
            and not item.end.done()
        )

    def _calm_down(self) -> None:
        if self.contended:
            time = now()
            self.calm([stream for stream, until in self.contended.items() if until <= time])

    def _park(self, item: Item) -> None:
        if not item.is_parked and not item.end.done():
            item.is_parked = True
            self.parked += 1
            self._on_parked()


def _has_room(of_stream: list[Item] | None, item: Item, limit: int) -> bool:
    """Whether a group can hold one more command of a stream."""
    return not of_stream or (len(of_stream) < limit and of_stream[0].kind is item.kind)
