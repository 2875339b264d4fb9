"""Projections as they are seen by those who do not run them: the process that answers requests, for instance."""

from datetime import timedelta

from mainstay.errors import InvalidInputError, shown
from mainstay.events.reading import EventReader
from mainstay.positions import Positioned
from mainstay.projections.questions import Questions
from mainstay.projections.store import ProjectionStore
from mainstay.retry import as_seconds

PATIENCE = 30.0
"""Seconds that who waits waits, unless he says otherwise."""


class Elsewhere(Questions):
    """Asks after subscriptions in whichever process they run; runs none.

    Args:
        source: Where their events come from.
        store: Where their checkpoints are.
    """

    def __init__(self, source: EventReader, store: ProjectionStore) -> None:
        self._source = source
        self._store = store
        self._owner = ""
        self._subscriptions = {}
        self._asked = {}

    async def caught_up(
        self, projection: str, position: int | Positioned | None, *, timeout: timedelta | float = PATIENCE
    ) -> None:
        """Wait until a projection has seen everything up to a position; `Mainstay.wait_until` says the rest."""
        wanted = position.position if isinstance(position, Positioned) else position
        if not isinstance(projection, str):
            raise InvalidInputError(f"a projection is named by a text, not {shown(projection)}")
        seconds = as_seconds(timeout)
        if wanted is not None:
            await self.wait_until(wanted, subscription=projection, timeout=seconds)
