"""Rehearsals on a pool: what handlers would do, without a trace."""

from typing import Any

from mainstay.app import event_aggregates
from mainstay.commands import rehearsal
from mainstay.commands.handler import HandlerRegistry
from mainstay.events.store import EventStore
from mainstay.storage.postgres.commands import command_store


class Rehearsal(rehearsal.Rehearsal):
    """Tries the handlers of a registry: `dry_run` one command, or `shadow` what was decided. Nothing stays of it.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
        registry: Who handles what.
        event_store: As that of `Worker`; with its inline projections, a dry run tells what they would change.

    Raises:
        ConfigurationError: Not a registry, or events and commands cannot be one COMMIT.
    """

    def __init__(self, pool: Any, registry: HandlerRegistry, *, event_store: EventStore | None = None) -> None:
        store = command_store(pool)
        super().__init__(store, registry, event_aggregates(store, event_store, None))
