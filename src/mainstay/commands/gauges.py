"""What can be read of a worker and its queue, for whoever reads metrics: OpenTelemetry's readers, and Prometheus.

Nothing is asked of the database unless somebody reads, and then seldom: see `mainstay.metrics.Reading`.
"""

from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

from mainstay.commands.store import Backlog
from mainstay.metrics import BREAKERS, IN_FLIGHT, LEASED, OLDEST, READY, SLOTS, TROUBLED, Observation, Reading


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

    def backlog(self) -> Coroutine[Any, Any, Backlog]:
        """How much waits in its domain."""
        ...


class Gauges:
    """The gauges of one worker; made on its event loop.

    Args:
        worker: Which.
    """

    def __init__(self, worker: Gauged) -> None:
        self._worker = worker
        self._backlog = Reading(worker.backlog)

    def observe(self) -> Iterable[Observation]:
        """What is known now; called from any thread."""
        labels = (self._worker.domain,)
        yield Observation(IN_FLIGHT, self._worker.in_flight_count, labels)
        yield Observation(SLOTS, self._worker.slot_count, labels)
        if found := self._backlog.latest():
            yield Observation(READY, found.ready, labels)
            yield Observation(LEASED, found.in_flight, labels)
            yield Observation(OLDEST, found.oldest_ready_seconds or 0.0, labels)
            yield Observation(TROUBLED, found.troubleshooting, labels)
            yield Observation(BREAKERS, found.open_breakers, labels)
