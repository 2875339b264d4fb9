"""Waiting for conditions, so that tests never sleep.

A condition is looked at again and again, until it gives something true or the time is over.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast, overload

T = TypeVar("T")

INTERVAL = 0.02
"""Seconds between two looks."""


class Patience:
    """Looks at a condition until it holds or the time is over.

    An AssertionError of the condition counts as "not yet", and is the one that is raised at the end.
    """

    def __init__(self, timeout: float, what: str) -> None:
        self._end = time.monotonic() + timeout
        self._timeout = timeout
        self._what = what
        self._last: AssertionError | None = None

    def look(self, condition: Callable[[], Any]) -> Any:
        """What a condition gives; None if it asserts."""
        self._last = None
        try:
            return condition()
        except AssertionError as error:
            self._last = error
            return None

    async def look_async(self, condition: Callable[[], Any]) -> Any:
        """As `look`, of a condition that may be async."""
        self._last = None
        try:
            found = condition()
            return await found if inspect.isawaitable(found) else found
        except AssertionError as error:
            self._last = error
            return None

    def check(self) -> None:
        """Fail if the time is over."""
        if time.monotonic() >= self._end:
            message = f"not within {self._timeout:g} s: {self._what}"
            raise self._last or AssertionError(message)


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, timeout: float = 60.0, what: str = "") -> T: ...
@overload
async def eventually(condition: Callable[[], T], *, timeout: float = 60.0, what: str = "") -> T: ...
async def eventually(condition: Callable[[], Any], *, timeout: float = 60.0, what: str = "") -> Any:
    """Wait until a condition, sync or async, gives something true, and return that.

    Raises:
        AssertionError: It does not hold in time.
    """
    patience = Patience(timeout, what or _name(condition))
    while not (found := await patience.look_async(condition)):
        patience.check()
        await pause()
    return found


async def pause() -> None:
    """Leave the machine to others between two looks."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), INTERVAL)


def eventually_sync(condition: Callable[[], T], *, timeout: float = 60.0, what: str = "") -> T:
    """`eventually` for tests without an event loop."""
    patience = Patience(timeout, what or _name(condition))
    never = threading.Event()
    while not (found := patience.look(condition)):
        patience.check()
        never.wait(INTERVAL)
    return cast("T", found)


def _name(condition: Callable[..., Any]) -> str:
    return getattr(condition, "__qualname__", repr(condition))
