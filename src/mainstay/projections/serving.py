"""A process that does nothing but subscriptions, stopped by signals.

The first SIGTERM or SIGINT lets the batches in hand end, for a time of grace; a second one, or the end of that time,
cancels the handlers. What they had begun is undone, and another process goes on with it, as after SIGKILL.
"""

import asyncio
import signal
from typing import Protocol

from mainstay.service import first_of
from mainstay.telemetry import get_logger

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = get_logger(__name__)


class Served(Protocol):
    """What is asked of a manager."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self, timeout: float | None = None) -> None:
        """End."""
        ...

    def cancel(self) -> None:
        """End at once what runs."""
        ...

    async def ended(self) -> None:
        """Wait until a part has ended that nobody stopped."""
        ...


async def serve(manager: Served, grace: float) -> None:
    """Start, wait for a signal, and stop.

    Args:
        manager: Whose subscriptions.
        grace: Seconds that batches in hand get.

    Raises:
        Exception: What ended a subscription before it was asked to.
    """
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (second if first.is_set() else first).set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, signalled)
    try:
        await manager.start()
        await first_of(first.wait(), manager.ended())
        log.info("stopping; a second signal stops at once")
        stopping = asyncio.create_task(manager.stop(grace))
        await first_of(asyncio.shield(stopping), second.wait())
        if not stopping.done():
            log.warning("stopping at once")
            manager.cancel()
        await stopping
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        await manager.stop(0.0)
