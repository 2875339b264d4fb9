"""Rehearsals of what a user names as ``module:name``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstay.errors import ConfigurationError
from mainstay.events.store import EventStore
from mainstay.operations.cli.connection import connected
from mainstay.operations.loading import ANYTHING, called, here, registry_of
from mainstay.operations.operator import Operator
from mainstay.rehearsing import Rehearsal


@asynccontextmanager
async def rehearsing(
    dsn: str | None, registry: str, event_store: str | None
) -> AsyncIterator[tuple[Operator, Rehearsal]]:
    """Handlers to try, on the database that a user named.

    Args:
        dsn: As `connected` takes it.
        registry: Where the handlers are.
        event_store: Where the store of events is; None: that of the database.

    Raises:
        ConfigurationError: They are not there.
        MainstayError: As `connected`.
    """
    found = here(registry)
    events = None if event_store is None else here(event_store, ANYTHING)
    async with connected(dsn) as operator:
        handlers = await registry_of(found, registry, operator.pool)
        if callable(events) and not isinstance(events, EventStore):
            events = await called(events, event_store or "", operator.pool)
        if events is not None and not isinstance(events, EventStore):
            raise ConfigurationError(f"{event_store} is a {type(events).__name__}: it must be a store of events")
        yield operator, Rehearsal(operator.pool, handlers, event_store=events)
