"""Opening an event store in the event loop that blocking code stands on."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any

from mainstay.errors import ConfigurationError
from mainstay.events.store import EventStore
from mainstay.storage.postgres.database import translate_errors
from mainstay.storage.postgres.events import PostgresEventLog


@asynccontextmanager
async def opened_here(store: EventStore) -> AsyncIterator[None]:
    """Open what a store stands on for the length of a block, in the event loop that will use it.

    Args:
        store: One that nobody has opened yet.

    Raises:
        ConfigurationError: It is open: in another event loop, which it belongs to, or in the process that this one was
            forked from.
        StorageError: It cannot be opened.
    """
    log: Any = store.log
    resource: AbstractAsyncContextManager[Any]
    if isinstance(log, PostgresEventLog):
        is_open, resource = not log.pool.closed, log.pool
    elif isinstance(log, AbstractAsyncContextManager):
        is_open, resource = getattr(log, "is_open", False), log
    else:
        is_open, resource = False, nullcontext()
    if is_open:
        message = (
            f"this {type(store).__name__} is open already, and belongs to the event loop that opened it: give one that "
            "nobody has opened (a pool made with open=False), a function that makes one, or a connection string"
        )
        raise ConfigurationError(message)
    async with AsyncExitStack() as stack:
        with translate_errors():
            await stack.enter_async_context(resource)
        yield
