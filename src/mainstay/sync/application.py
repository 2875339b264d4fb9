"""Everything, joined to one database, for code that blocks."""

from datetime import timedelta
from typing import Any, Self

from mainstay.app import PostgreSQLEventStore
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.store import CommandStore
from mainstay.positions import Positioned
from mainstay.projections.elsewhere import PATIENCE, Elsewhere
from mainstay.storage.postgres.projections import projection_store
from mainstay.sync.bridge import Blocking, Bridge, Dsn, blocking
from mainstay.sync.rehearsing import SyncRehearsal
from mainstay.sync.rooms import SyncCommandBus, SyncTroubleshootingQueue
from mainstay.sync.worker import SyncWorker


class _Elsewhere(Blocking[Elsewhere]):
    wait = blocking(Elsewhere.caught_up)


class SyncMainstay(Bridge):
    """Everything, joined to one database, for code that blocks; it opens at the first call.

    Args:
        dsn: libpq connection string or URL; a function that returns one; or a command store, in unit tests.
        min_size: Connections kept open, in each process.
        max_size: Connections at most, in each process.
        check_schema: Refuse a database that is not prepared.
    """

    def __init__(
        self, dsn: Dsn | CommandStore, *, min_size: int = 1, max_size: int = 10, check_schema: bool = True
    ) -> None:
        super().__init__(dsn, min_size=min_size, max_size=max_size, check_schema=check_schema)
        self.bus = SyncCommandBus(self)
        self.troubleshooting = SyncTroubleshootingQueue(self)
        self._elsewhere = _Elsewhere(self, lambda pool: Elsewhere(PostgreSQLEventStore(pool), projection_store(pool)))

    @classmethod
    def connect(cls, dsn: Dsn, *, min_size: int = 1, max_size: int = 10, check_schema: bool = True) -> Self:
        """Open a pool and check the schema at once; used in a ``with`` block, everything is closed at its end.

        Args:
            dsn: libpq connection string or URL, or a function that returns one.
            min_size: Connections kept open, in each process.
            max_size: Connections at most, in each process.
            check_schema: Refuse a database that is not prepared.

        Raises:
            SchemaError: Run `mainstay schema upgrade`.
            StorageUnavailableError: No connection could be had.
            ConfigurationError: Not a connection string, or this thread runs an event loop.
        """
        one = cls(dsn, min_size=min_size, max_size=max_size, check_schema=check_schema)
        one.per_process.open()
        return one

    def wait_until(
        self, projection: str, position: int | Positioned | None, *, timeout: timedelta | float = PATIENCE
    ) -> None:
        """Wait until a projection has seen what was just written; arguments and errors are those of `Mainstay`'s."""
        self._elsewhere.wait(projection, position, timeout=timeout)

    def rehearsal(self, registry: HandlerRegistry, **options: Any) -> SyncRehearsal:
        """Tries handlers on this pool and leaves no trace; the options are those of `SyncRehearsal`."""
        return SyncRehearsal(self, registry, **options)

    def worker(self, domain: str, registry: HandlerRegistry, **options: Any) -> SyncWorker:
        """A worker on this pool; the options are those of `SyncWorker`."""
        return SyncWorker(self, domain, registry, **options)
