"""Waiting for the ends of commands: any number at once, with one ear and one question.

Promises. A reply is found as long as its command's row is there, because the row is the reply. Whoever waits is woken
by the worker that ended the command, after its COMMIT; if the wake-up gets lost, or nobody can listen, he looks
himself, first after `FIRST_LOOK` seconds, then less and less often, at least every `LONGEST_PAUSE`.

How it moves. The first to wait opens the ear, which stays open for `LINGER` seconds after the last. Everybody says in
the database which command he waits for *before* it is sent, so the worker that ends it sees that. Whenever something is
heard, one question asks for all commands that are waited for.

How it fails. A database that cannot be reached is asked again; each who waits keeps his own time. A closed pool ends
all waiting with that error: there is nothing to wait for.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from mainstay.commands.command import Reply
from mainstay.commands.replies import Key, ReplyStore
from mainstay.commands.store import Wakeups
from mainstay.errors import MainstayError, PoolClosedError
from mainstay.joining import Joiner
from mainstay.message import worker_name
from mainstay.telemetry import get_logger

FIRST_LOOK = 0.05
LONGEST_PAUSE = 1.0
LINGER = 60.0
LONGEST_WISH = 3600.0
"""Seconds after which the database forgets who waits; looking goes on."""
_EAR_PATIENCE = 1.0
"""Seconds that a request waits for the ear before it is sent without one."""

logger = get_logger(__name__)


class WaitingRoom:
    """Where those wait who want to know how a command ends.

    Args:
        store: Where commands live.
        listens: Be woken; else only look from time to time.
    """

    def __init__(self, store: ReplyStore, *, listens: bool) -> None:
        self._store = store
        self._listens = listens
        self._name = worker_name()
        self._waiting: dict[Key, list[asyncio.Future[Reply]]] = {}
        self._left: list[Key] = []
        self._task: asyncio.Task[None] | None = None
        self._wishes: Joiner[tuple[Key, float], None] = Joiner(self._wish)
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._heard = False
        self._pause = FIRST_LOOK
        self._next_look = 0.0

    def __len__(self) -> int:
        """How many commands are waited for."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, key: Key, seconds: float, *, look: bool = False) -> "AsyncIterator[asyncio.Future[Reply]]":
        """Wait here for the end of a command; the future gets its reply.

        Args:
            key: Which command; it need not be sent yet.
            seconds: How long this may take.
            look: It may have ended already: look at once.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        try:
            await self._begin()
            if self._listens:
                with suppress(MainstayError):  # then looking will do
                    await self._wishes.serve((key, min(seconds, LONGEST_WISH)))
            self._look_within(0.0 if look else FIRST_LOOK)
            yield future
        finally:
            future.cancel()
            others = self._waiting.get(key)
            if others is not None and future in others:  # nobody has answered it
                others.remove(future)
                if not others:
                    del self._waiting[key]
                    self._left.append(key)
                    self._changed.set()

    async def close(self) -> None:
        """End; whoever still waits goes on until his time is over, and is not woken."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    async def _begin(self) -> None:
        """Let the loop run, and wait a moment until it listens."""
        if self._task is None or self._task.done():
            self._ready.clear()
            self._task = asyncio.create_task(self._run(), name="mainstay-waiting-room")
        with suppress(TimeoutError):
            async with asyncio.timeout(_EAR_PATIENCE):
                await self._ready.wait()

    def _look_within(self, seconds: float) -> None:
        self._pause = FIRST_LOOK
        self._next_look = min(self._next_look, asyncio.get_running_loop().time() + seconds)
        self._changed.set()

    async def _wish(self, wishes: Sequence[tuple[Key, float]]) -> list[None]:
        await self._store.about_to_wait([key for key, _ in wishes], self._name, max(each for _, each in wishes))
        return [None] * len(wishes)

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            if self._listens:
                try:
                    ear = await stack.enter_async_context(self._store.replies_heard(self._name))
                    stack.callback(asyncio.create_task(self._listen(ear)).cancel)
                except MainstayError as error:
                    logger.warning("cannot listen for replies; looking for them instead: %s", error)
            self._ready.set()
            await self._look_until_idle()

    async def _listen(self, ear: Wakeups) -> None:
        while True:
            if await ear.wait(60.0):
                self._heard = True
                self._changed.set()

    async def _look_until_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_look = loop.time() + FIRST_LOOK
        while True:
            await self._clear_away()
            if not self._heard and (delay := self._next_look - loop.time()) > 0:
                self._changed.clear()
                if self._left:  # since it was cleared away
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._changed.wait()
            elif self._waiting:
                was_heard, self._heard = self._heard, False
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
                self._next_look = loop.time() + (FIRST_LOOK if was_heard else self._pause)
                await self._look()
                if not self._waiting:
                    self._next_look = loop.time() + LINGER
            elif self._heard:
                self._heard = False
            else:
                return

    async def _look(self) -> None:
        """Ask for all at once, and answer those whose command has ended."""
        try:
            found = await self._store.get_replies(list(self._waiting))
        except PoolClosedError as error:
            for futures in self._waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            self._waiting.clear()
            return
        except MainstayError as error:
            logger.warning("cannot look for replies; trying again: %s", error)
            return
        for key, reply in found.items():
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(reply)

    async def _clear_away(self) -> None:
        """Take back the wishes of those who left unanswered."""
        left, self._left = [key for key in self._left if key not in self._waiting], []
        if left and self._listens:
            with suppress(MainstayError):  # then they end by themselves
                await self._store.stop_waiting(left, self._name)
