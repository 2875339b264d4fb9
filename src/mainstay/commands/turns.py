"""Whose turn it is with a stream that several append to, where deciders are run one by one.

A decider's command loads a stream, decides, and appends if nobody was quicker; else all that was for nothing. Few
streams are ever appended to by two at once. Where it happens the stream is taken to be *contended* for `WARY` seconds,
and its commands queue up: in this worker for their turn, in the order in which they came; and whose turn it is holds
the stream from the beginning of its transaction, so that among workers, too, each waits instead of losing a race.

Of a worker one command for a contended stream is in the database, the others wait without a connection, and without a
slot: they are *parked*, and other commands are handled meanwhile (`mainstay.commands.slots`). Whoever waits here holds
nothing, and whoever has a transaction never waits here: nobody waits in a circle. A crash lets all go.

Deciders only: they do nothing but decide. Another handler may wait for whatever it likes, for somebody who appends to
the very same stream on a connection of his own, or for the reply to a command that does; while it held the stream that
would never end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from mainstay.commands.aggregates import WARY


class _Queue:
    """Those who want one stream, and until when it is taken to be contended."""

    __slots__ = ("turn", "until", "wanted")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.until = 0.0
        self.wanted = 0


class Turns:
    """The turns of one worker.

    Args:
        on_parked: Called when one more only waits.
    """

    def __init__(self, on_parked: Callable[[], None] = lambda: None) -> None:
        self._queues: dict[Hashable, _Queue] = {}
        self._on_parked = on_parked
        self.parked = 0
        """How many only wait: of each stream all but one, who has his turn or is next."""

    @asynccontextmanager
    async def of(self, stream: Hashable | None, *, parks: bool = True) -> AsyncIterator[bool]:
        """The turn with a stream, at once if nobody contends for it; whether somebody does, so that it is to be held.

        Args:
            stream: Which; None: one that nobody queues for.
            parks: Whether who waits is counted among the `parked`.
        """
        queue = None if stream is None else self._queues.get(stream)
        if queue is None or (queue.until <= _now() and not queue.wanted):
            yield False
            return
        queue.wanted += 1
        is_parked = parks and queue.wanted > 1
        if is_parked:
            self.parked += 1
            self._on_parked()
        try:
            async with queue.turn:
                if is_parked:
                    self.parked -= 1
                    is_parked = False
                yield True
        finally:
            queue.wanted -= 1
            if is_parked:
                self.parked -= 1

    def contend(self, stream: Hashable | None) -> None:
        """Note that somebody else was quicker to append to a stream, or holds it.

        Args:
            stream: Which; None: one that nobody queues for.
        """
        if stream is None:
            return
        now = _now()
        self._queues = {name: each for name, each in self._queues.items() if each.wanted or each.until > now}
        self._queues.setdefault(stream, _Queue()).until = now + WARY


def _now() -> float:
    return asyncio.get_running_loop().time()
