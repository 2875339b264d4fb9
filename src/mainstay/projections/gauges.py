"""What can be read of subscriptions, for whoever reads metrics: OpenTelemetry's readers, and Prometheus.

Nothing is asked of the database unless somebody reads, and then seldom: see `mainstay.metrics.Reading`.
"""

from collections.abc import Iterable
from typing import Protocol

from mainstay.events.reading import EventReader
from mainstay.metrics import DEAD_LETTERS, HORIZON_AGE, LAG, LAG_EVENTS, STOPPED, Observation, Reading
from mainstay.projections.questions import SubscriptionHealth


class Gauged(Protocol):
    """What is asked of a manager."""

    async def health(self) -> list[SubscriptionHealth]:
        """How its subscriptions are."""
        ...


class Gauges:
    """The gauges of one manager; made on its event loop.

    Args:
        manager: Which.
        source: Where its events come from.
    """

    def __init__(self, manager: Gauged, source: EventReader) -> None:
        self._manager = manager
        self._source = source
        self._read = Reading(self._ask)

    def observe(self) -> Iterable[Observation]:
        """What is known now; called from any thread."""
        yield from self._read.latest() or ()

    async def _ask(self) -> list[Observation]:
        found = [Observation(HORIZON_AGE, await self._source.log.held_back(), ())]
        for each in await self._manager.health():
            labels = (each.subscription,)
            found += [
                Observation(LAG, each.lag.seconds, labels),
                Observation(LAG_EVENTS, each.lag.events, labels),
                Observation(DEAD_LETTERS, each.dead_letters, labels),
                Observation(STOPPED, each.stopped, labels),
            ]
        return found
