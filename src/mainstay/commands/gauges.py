"""What can be read of a worker and its queue, for whoever reads metrics: OpenTelemetry's readers, and Prometheus.

Nothing is asked of the database unless somebody reads, and then one question at most every `REFRESH` seconds, on the
worker's event loop. A reader in a thread of its own waits a moment for the answer; one on an event loop, which must not
wait, gets what was known before.
"""

import asyncio
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from mainstay.commands.store import Backlog
from mainstay.metrics import BREAKERS, IN_FLIGHT, LEASED, OLDEST, READY, SLOTS, TROUBLED, Observation

REFRESH: Final = 5.0
"""Seconds for which what was read of the queue is good."""
_PATIENCE = 2.0
"""Seconds that a reader waits for fresh numbers; after that it gets the old ones."""


class Gauged(Protocol):
    """What is asked of a worker."""

    domain: str

    @property
    def in_flight_count(self) -> int:
        """Commands whose handlers are running."""
        ...

    @property
    def slot_count(self) -> int:
        """Handlers that may run at once."""
        ...

    async def backlog(self) -> Backlog:
        """How much waits in its domain."""
        ...


class Gauges:
    """The gauges of one worker; made on its event loop.

    Args:
        worker: Which.
    """

    def __init__(self, worker: Gauged) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._known: Backlog | None = None
        self._read = -REFRESH
        self._lock = threading.Lock()

    def observe(self) -> Iterable[Observation]:
        """What is known now; called from any thread."""
        self._refresh()
        labels = (self._worker.domain,)
        yield Observation(IN_FLIGHT, self._worker.in_flight_count, labels)
        yield Observation(SLOTS, self._worker.slot_count, labels)
        if found := self._known:
            yield Observation(READY, found.ready, labels)
            yield Observation(LEASED, found.in_flight, labels)
            yield Observation(OLDEST, found.oldest_ready_seconds or 0.0, labels)
            yield Observation(TROUBLED, found.troubleshooting, labels)
            yield Observation(BREAKERS, found.open_breakers, labels)

    def _refresh(self) -> None:
        """Ask again if it is time."""
        with self._lock:
            if self._loop.is_closed() or time.monotonic() - self._read < REFRESH:
                return
            self._read = time.monotonic()
            asking = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
            if not _is_on_a_loop():
                with suppress(Exception):  # the old numbers must do
                    asking.result(_PATIENCE)

    async def _ask(self) -> None:
        self._known = await self._worker.backlog()


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
