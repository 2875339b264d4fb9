"""Repeating what is safe to repeat, while the database cannot be reached."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mainstay.errors import PoolClosedError, StorageUnavailableError
from mainstay.telemetry import get_logger

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between tries while the database cannot be reached; doubled from the first to the longest."""

logger = get_logger(__name__)


async def until_reached(action: Callable[[], Awaitable[None]], give_up: asyncio.Event) -> None:
    """Repeat an action while the database cannot be reached.

    Args:
        action: Safe to repeat.
        give_up: Set: the next failure is raised.

    Raises:
        PoolClosedError: Nobody can reach it through this pool any more.
        StorageUnavailableError: It failed and ``give_up`` is set.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            await action()
        except PoolClosedError:
            raise
        except StorageUnavailableError as error:
            if give_up.is_set():
                raise
            logger.warning("the database cannot be reached; trying again in %.2f s: %s", pause, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await give_up.wait()
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return
