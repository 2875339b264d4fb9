"""Where all who wait in one process for the feed to go on are woken.

Promises. `HorizonWatch.beyond` answers when the horizon lies beyond a position, or when the time is over, and then it
has looked. Nobody sleeps through an event: whatever fails here, who waits looks when his time is over.

What it costs. While it watches: one connection to listen on, and what `HorizonPublisher` needs. Those who wait ask
nothing of the database before their time is over, and then one question answers all whose time is over at about the
same time. While nobody watches, who waits looks by himself, after longer and longer pauses, and shares what others
found.

A notification is a hint. Whoever may connect can send one, so the position in it is believed until a question that was
asked later says otherwise.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from mainstay.joining import Shared
from mainstay.service import cancel
from mainstay.storage.postgres.database import Pool
from mainstay.storage.postgres.horizon import CHANNEL, HorizonPublisher
from mainstay.storage.postgres.notifications import Listener

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25
_STALEST = 0.5
"""Seconds for which an answer will do for those who look now and then."""
_EAR_PATIENCE = 60.0
_DIGITS = 19


class HorizonWatch:
    """Tells those who wait how far the feed can be read.

    Args:
        pool: Open.
        ask: Finds the horizon's position.
        use_notify: Listen, on a connection of its own; else look at what is published.
        listen_dsn: Where to listen, if not where the pool connects.
    """

    def __init__(
        self, pool: Pool, ask: Callable[[], Awaitable[int]], *, use_notify: bool = True, listen_dsn: str | None = None
    ) -> None:
        self._ask = ask
        self._look = Shared(self._question)
        self._ear = Listener(pool, CHANNEL, conninfo=listen_dsn) if use_notify else None
        self._publisher = HorizonPublisher(pool, tell=self._tell, hears=self._hears)
        self._watchers = 0
        self._changing = asyncio.Lock()
        self._hearing: asyncio.Task[None] | None = None
        self._position = 0
        self._hints = 0
        self._grown = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Listen, and offer to publish, for the length of the block."""
        async with self._changing:
            self._watchers += 1
            if self._watchers == 1:
                await self._begin()
        try:
            yield
        finally:
            async with self._changing:
                self._watchers -= 1
                if not self._watchers:
                    await self._end()

    async def _begin(self) -> None:
        if self._ear is not None:
            await self._ear.start()
            self._hearing = asyncio.create_task(self._hear(self._ear), name="mainstay-horizon")
        await self._publisher.start()

    async def _end(self) -> None:
        await self._publisher.stop()
        if self._hearing is not None:
            await cancel(self._hearing)
            self._hearing = None
        if self._ear is not None:
            await self._ear.stop()
        self._wake()  # they go on by themselves

    # -- being told ----------------------------------------------------------------------------------------------------

    def _hears(self) -> bool:
        return self._ear is not None and self._ear.is_listening

    async def _hear(self, ear: Listener) -> None:
        while True:
            if not await ear.wait(_EAR_PATIENCE):
                continue
            told = [int(each) for each in ear.payloads() if each.isascii() and each.isdigit() and len(each) <= _DIGITS]
            if told:
                self._tell(max(told))
            else:
                self._publisher.nudge()  # something may have been missed

    def _tell(self, position: int) -> None:
        self._hints += 1
        if position > self._position:
            self._position = position
            self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def nudge(self) -> None:
        """This process has appended, or is about to."""
        if self._watchers:
            self._publisher.nudge()

    # -- finding out ---------------------------------------------------------------------------------------------------

    @property
    def mark(self) -> int:
        """To be had before the database is asked, for `found`."""
        return self._hints

    def found(self, mark: int, position: int) -> None:
        """The horizon was seen here by a question that was asked after the mark."""
        if position > self._position:
            self._position = position
            self._wake()
        elif mark == self._hints:
            self._position = position

    async def beyond(self, position: int, timeout: float) -> int:
        """Wait until the horizon lies beyond a position, or the time (seconds) is over; gives the horizon.

        Raises:
            StorageError: It could not be asked.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        pause = 0.0
        while self._position <= position:
            grown, left = self._grown, end - loop.time()
            if left <= 0:
                return await self._look.answer(min(timeout / 2, _STALEST))
            with suppress(TimeoutError):
                async with asyncio.timeout(left if self._watchers else min(left, pause)):
                    await grown.wait()
                    continue
            if not self._watchers:
                await self._look.answer(pause)
                pause = min(max(pause * 1.5, _FIRST_PAUSE), _LONGEST_PAUSE)
        return self._position

    async def _question(self) -> int:
        mark = self.mark
        position = await self._ask()
        self.found(mark, position)
        return position
