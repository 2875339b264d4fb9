"""Rehearsals for code that blocks."""

from collections.abc import Callable
from typing import Any

from mainstay.commands.handler import HandlerRegistry
from mainstay.events.store import EventStore
from mainstay.rehearsing import Rehearsal
from mainstay.sync.bridge import Blocking, Source, blocking


class SyncRehearsal(Blocking[Rehearsal]):
    """`Rehearsal` for code that blocks: the same calls, arguments, results and errors.

    Args:
        source: As that of `SyncCommandBus`.
        registry: Who handles what.
        event_store: Makes the store of events of the pool, which belongs to an event loop; that of the database without
            inline projections, unless given.
    """

    def __init__(
        self, source: Source, registry: HandlerRegistry, *, event_store: Callable[[Any], EventStore] | None = None
    ) -> None:
        def make(pool: Any) -> Rehearsal:
            return Rehearsal(pool, registry, event_store=None if event_store is None else event_store(pool))

        super().__init__(source, make)

    dry_run = blocking(Rehearsal.dry_run)
    dry_run_again = blocking(Rehearsal.dry_run_again)
    shadow = blocking(Rehearsal.shadow)
