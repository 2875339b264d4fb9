"""Waiting for the ends of commands in memory: a commit rings those who wait for what it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

from mainstay.commands.command import Reply
from mainstay.commands.lifecycle import TERMINAL
from mainstay.commands.memory_unit import State, Unit, as_value
from mainstay.commands.replies import Key, reply_from


class MemoryWakeups:
    """Somebody's ear: a ring before the wait is not lost."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake it."""
        self._rung.set()

    async def wait(self, timeout: float) -> bool:
        """Wait for a wake-up, at most ``timeout`` seconds; True if there was one."""
        try:
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True

    def heard(self, payload: str) -> bool:  # noqa: ARG002 - the protocol's; keepers are told directly
        """Nothing is said here."""
        return False


class MemoryReplies:
    """`ReplyStore` in memory."""

    _state: State
    _unit: Callable[..., AbstractAsyncContextManager[Unit]]

    async def get_replies(self, keys: Sequence[Key]) -> Mapping[Key, Reply]:
        """The replies of those of these commands that have ended."""
        found: dict[Key, Reply] = {}
        for key in keys:
            row = self._state.rows.get(key)
            if row is None:
                continue
            result = as_value(row.result)
            told = row.error_code, row.error_message, row.position
            if reply := reply_from(key[1], row.new.correlation_id, row.status, result, *told):
                found[key] = reply
        return found

    async def about_to_wait(self, keys: Sequence[Key], waiter: str, seconds: float) -> None:  # noqa: ARG002 - gone with the process anyway
        """Ask to be told when one of these commands ends."""
        for key in keys:
            self._state.waiters.setdefault(key, set()).add(waiter)

    async def stop_waiting(self, keys: Sequence[Key], waiter: str) -> None:
        """Take `about_to_wait` back."""
        for key in keys:
            waiters = self._state.waiters.get(key, set())
            waiters.discard(waiter)
            if not waiters:
                self._state.waiters.pop(key, None)

    async def reply_again(self, domain: str, command_id: UUID, reply_to: str, *, conn: Any = None) -> bool:
        """Answer who sent a command again that has ended."""
        async with self._unit(conn) as unit:
            row = unit.row((domain, command_id))
            if row is None or row.status not in TERMINAL or not self._state.takes_replies(reply_to):
                return False
            unit.reply_again(row, reply_to)
        return True

    @asynccontextmanager
    async def replies_heard(self, waiter: str) -> AsyncIterator[MemoryWakeups]:
        """Listen for what `about_to_wait` asks for."""
        ear = MemoryWakeups()
        self._state.bells[waiter] = ear.ring
        try:
            yield ear
        finally:
            del self._state.bells[waiter]
