"""Subscriptions for programs without an event loop: started and stopped from any thread."""

from types import TracebackType
from typing import Any, Self

from mainstay.app import SubscriptionManager
from mainstay.errors import ConfigurationError, shown
from mainstay.sync.bridge import Opened, blocking
from mainstay.sync.events import BlockingEvents, SyncEventStoreAdapter


class SyncSubscriptionManager(BlockingEvents[SubscriptionManager]):
    """`SubscriptionManager` for code that blocks: the same calls, arguments, results and errors.

    ::

        manager = SyncSubscriptionManager(store)
        manager.subscribe(Revenue())
        with manager:
            ...

    Projections are handled in the event loop behind the store: their methods are asynchronous, or do not block. A
    process that forks begins anew: subscribe and start in the process that is to read.

    Args:
        store: Where events are read from.
        checkpoints: As that of `SubscriptionManager`; a pool belongs to its event loop, so leave it out.
        owner: Who we are, for leases; drawn if None.

    Raises:
        ConfigurationError: Not an adapter.
    """

    def __init__(self, store: SyncEventStoreAdapter, checkpoints: Any = None, *, owner: str | None = None) -> None:
        if not isinstance(store, SyncEventStoreAdapter):
            raise ConfigurationError(f"expected a SyncEventStoreAdapter, not {shown(store)}")
        self._store = store
        self._checkpoints = checkpoints
        self._owner = owner
        super().__init__(store._home, lambda room: room, None, is_owner=False)  # noqa: SLF001 - of one family

    def _room(self, opened: Opened) -> SubscriptionManager:
        def make(_: Any) -> SubscriptionManager:
            store = self._store._room(opened)  # noqa: SLF001 - of one family
            return SubscriptionManager(store, self._checkpoints, owner=self._owner)

        return opened.room(self, make)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    subscribe = blocking(SubscriptionManager.subscribe)
    start = blocking(SubscriptionManager.start)
    stop = blocking(SubscriptionManager.stop)
    pause = blocking(SubscriptionManager.pause)
    resume = blocking(SubscriptionManager.resume)
    replay = blocking(SubscriptionManager.replay)
    wait_until = blocking(SubscriptionManager.wait_until)
    lag = blocking(SubscriptionManager.lag)
    health = blocking(SubscriptionManager.health)
    is_healthy = blocking(SubscriptionManager.is_healthy)
    drain = blocking(SubscriptionManager.drain)
    rebuild = blocking(SubscriptionManager.rebuild)
    cancel_rebuild = blocking(SubscriptionManager.cancel_rebuild)
