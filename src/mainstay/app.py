"""Where rooms meet storage: the classes that users construct from a pool.

A room never knows its database. These subclasses add nothing but the store: from a psycopg pool the one on PostgreSQL,
and any object that keeps the `CommandStore` protocol as it is (`MemoryCommandStore()` in unit tests).
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from mainstay.commands import bus, process_manager, process_records, processes, troubleshooting, worker
from mainstay.commands.checks import checked_flag
from mainstay.commands.handler import HandlerRegistry
from mainstay.commands.process_records import ProcessRepository, TState, TStep
from mainstay.commands.store import CommandStore
from mainstay.conversations import DEFAULT_LIMIT, Conversation, Conversations
from mainstay.deciding import EventAggregates
from mainstay.errors import ConfigurationError, shown
from mainstay.events.codec import UnknownPolicy
from mainstay.events.inline import InlineProjection
from mainstay.events.memory import MemoryEventLog
from mainstay.events.reading import EventReader
from mainstay.events.registry import EventRegistry
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore
from mainstay.positions import Positioned
from mainstay.projections import read_models, subscription
from mainstay.projections.elsewhere import PATIENCE, Elsewhere
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.projections.store import ProjectionStore
from mainstay.retry import DEFAULT_MAX_ATTEMPTS, RetryPolicy, as_seconds
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT
from mainstay.storage.postgres.commands import PostgresCommandStore, command_store
from mainstay.storage.postgres.database import Pool, open_pool
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.groups import group_deciders
from mainstay.storage.postgres.migrate import require_current
from mainstay.storage.postgres.operations import reach
from mainstay.storage.postgres.projections import projection_store
from mainstay.storage.postgres.pruner import EVERY, Pruner
from mainstay.storage.postgres.retention import Retention
from mainstay.storage.postgres.snapshots import PostgresSnapshotStore


class CommandBus(bus.CommandBus):
    """Sends commands and answers questions about them.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
        default_max_attempts: For commands that do not say themselves.
        payload_limit: Bytes of JSON that one command's data may have.
        use_notify: Be woken when the reply to a `request` is there, through a connection of its own; False behind a
            pooler that cannot: looking for it finds it.
        listen_dsn: Where to listen, if the pool goes through a pooler: the server itself. Only with a pool.
    """

    def __init__(
        self,
        pool: Any,
        default_max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        *,
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        use_notify: bool = True,
        listen_dsn: str | None = None,
    ) -> None:
        store = command_store(pool, listen_dsn=listen_dsn)
        super().__init__(store, default_max_attempts, payload_limit=payload_limit, use_notify=use_notify)


class Worker(worker.Worker):
    """Handles the commands of one domain; see `mainstay.commands.worker` for what it promises.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
        domain: Whose commands.
        registry: Who handles what.
        visibility_timeout: Seconds (or timedelta) until a command whose worker died is received again.
        retry_policy: Delays between attempts.
        use_notify: Listen for wake-ups on a connection of its own.
        name: For the audit trail; drawn if None.
        listen_dsn: Where to listen, if the pool goes through a pooler: the server itself. Only with a pool.
        retention: Prune beside handling what ended long ago; of all workers that have this, one does. Only with a pool.
        prune_every: Time (or seconds) between the end of a run and the next, of all workers together.
        event_store: For handlers on aggregates: in the database of the commands, or `InMemoryEventStore` with a store
            in memory. With a pool the one of that database, unless given.
        snapshots: When handlers leave a snapshot of their aggregate; never, unless given.
        group_commit: Decide on the commands of deciders many at a time, and commit them together; False: each in a
            transaction of its own, as with an event store that has inline projections.

    Raises:
        ConfigurationError: An argument is out of range, or events and commands cannot be one COMMIT.
    """

    def __init__(
        self,
        pool: Any,
        domain: str,
        registry: HandlerRegistry | None = None,
        visibility_timeout: timedelta | float = 30,
        retry_policy: RetryPolicy | None = None,
        *,
        use_notify: bool = True,
        name: str | None = None,
        listen_dsn: str | None = None,
        retention: Retention | None = None,
        prune_every: timedelta | float = EVERY,
        event_store: EventStore | None = None,
        snapshots: SnapshotPolicy | None = None,
        group_commit: bool = True,
    ) -> None:
        store = command_store(pool, listen_dsn=listen_dsn)
        aggregates = event_aggregates(store, event_store, snapshots)
        services = []
        if retention is not None:
            if store is pool:
                raise ConfigurationError("retention needs a pool: a store in memory keeps everything")
            services.append(Pruner(pool, retention, every=timedelta(seconds=as_seconds(prune_every))))
        options: dict[str, Any] = {"use_notify": use_notify, "name": name, "services": services}
        options["aggregates"] = aggregates
        if checked_flag(group_commit, "group_commit") and aggregates is not None:
            options["deciders"] = group_deciders(store, aggregates.store, snapshots)
        super().__init__(store, domain, registry, visibility_timeout, retry_policy, **options)


def event_aggregates(
    store: CommandStore, event_store: EventStore | None, snapshots: SnapshotPolicy | None
) -> EventAggregates | None:
    """What handlers on aggregates get theirs from; None if there is nothing.

    Raises:
        ConfigurationError: Commands and events are not in one place.
    """
    is_postgres = isinstance(store, PostgresCommandStore)
    if event_store is None:
        if not isinstance(store, PostgresCommandStore):
            return None
        event_store = PostgreSQLEventStore(store.pool)
    found = EventAggregates(event_store, joins=is_postgres, snapshots=snapshots)
    if isinstance(event_store.log, PostgresEventLog) is not is_postgres:
        message = (
            "the events of handlers on aggregates must be in the database of the commands: PostgreSQLEventStore with a "
            "pool, InMemoryEventStore with a MemoryCommandStore"
        )
        raise ConfigurationError(message)
    return found


class TroubleshootingQueue(troubleshooting.TroubleshootingQueue):
    """Lists the commands that wait for an operator, and carries out decisions.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
        registry: The handlers, whose models an edited payload must fit.
    """

    def __init__(self, pool: Any, *, registry: HandlerRegistry | None = None) -> None:
        super().__init__(command_store(pool), registry=registry)


class ProcessManager(processes.ProcessManager):
    """Starts processes and answers questions about them.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__(command_store(pool))


class BaseProcessManager(process_manager.BaseProcessManager[TState, TStep]):
    """Says how one kind of process goes; what it promises is in `mainstay.commands.process_manager`.

    Args:
        command_bus: For methods of subclasses; kept as it is.
        process_repo: The same.
        reply_queue: Names the domain in which replies arrive: give `ProcessReplyRouter` the same.
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
    """

    def __init__(
        self, command_bus: bus.CommandBus, process_repo: ProcessRepository, reply_queue: str, pool: Any
    ) -> None:
        super().__init__(command_bus, process_repo, reply_queue, pool, command_store(pool))


class PostgresProcessRepository(process_records.StoredProcessRepository):
    """Processes as rows.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__(command_store(pool))


class ProcessReplyRouter(process_manager.ProcessReplyRouter):
    """Moves processes on with the replies to their steps.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``, or a store.
        process_repo: Kept for those who gave it; processes are moved where they are stored.
        managers: One of each kind, by its ``process_type``.
        reply_queue: That of the managers.
        domain: For logs; the steps go where each manager says.
        visibility_timeout: Seconds (or timedelta) until a reply whose router died is received again.
    """

    def __init__(  # noqa: PLR0917 - the signature is a promise to users of `commandbus`
        self,
        pool: Any,
        process_repo: ProcessRepository,
        managers: Mapping[str, process_manager.BaseProcessManager[Any, Any]],
        reply_queue: str,
        domain: str,
        visibility_timeout: timedelta | float = 30,
    ) -> None:
        super().__init__(command_store(pool), managers, reply_queue, domain, visibility_timeout)
        self.process_repo = process_repo


class PostgreSQLEventStore(EventStore):
    """Events and snapshots on PostgreSQL; `EventStore` says what it does.

    Args:
        pool: A ``psycopg_pool.AsyncConnectionPool``.
        registry: Which class a type belongs to; unless given, every class derived from `DomainEvent` is known.
        unknown: What reading does with an event whose type has no class: ``"error"``, or ``"skip"`` it.
        payload_limit: Bytes of JSON that one event may have.
        inline: Projections that write in the transaction that appends; see `mainstay.events.inline`.
        use_notify: While subscriptions run, wake them by notifications, through a connection of its own; False behind a
            pooler that cannot: then they look.
        listen_dsn: Where to listen, if the pool goes through a pooler: the server itself.
    """

    def __init__(
        self,
        pool: Any,
        *,
        registry: EventRegistry | None = None,
        unknown: UnknownPolicy = "error",
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        inline: Sequence[InlineProjection] = (),
        use_notify: bool = True,
        listen_dsn: str | None = None,
    ) -> None:
        if not hasattr(pool, "connection"):
            raise ConfigurationError(
                "a PostgreSQLEventStore needs a psycopg_pool.AsyncConnectionPool: `async with Mainstay.connect(dsn) as "
                f"app` opens one, app.pool; not {shown(pool)}"
            )
        super().__init__(
            PostgresEventLog(pool, use_notify=use_notify, listen_dsn=listen_dsn),
            registry=registry,
            unknown=unknown,
            payload_limit=payload_limit,
            snapshots=PostgresSnapshotStore(pool),
            inline=inline,
        )


class SQLiteEventStore(EventStore):
    """Events and snapshots in a SQLite file; `EventStore` says what it does.

    It opens itself when it is first used, and is to be closed: ``async with SQLiteEventStore(path) as store``.

    Args:
        path: Of the file, which is made if it is missing; ``":memory:"`` is one that ends with the store.
        registry: Which class a type belongs to; unless given, every class derived from `DomainEvent` is known.
        unknown: What reading does with an event whose type has no class: ``"error"``, or ``"skip"`` it.
        payload_limit: Bytes of JSON that one event may have.
        inline: Projections that write in the transaction that appends; see `mainstay.events.inline`.

    Raises:
        MissingDependencyError: The extra ``sqlite`` is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        registry: EventRegistry | None = None,
        unknown: UnknownPolicy = "error",
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        inline: Sequence[InlineProjection] = (),
    ) -> None:
        from mainstay.storage.sqlite.events import SQLiteEventLog  # noqa: PLC0415 - an extra, which others do without

        self._file = SQLiteEventLog(path)
        super().__init__(
            self._file,
            registry=registry,
            unknown=unknown,
            payload_limit=payload_limit,
            snapshots=self._file.snapshots(),
            inline=inline,
        )

    async def __aenter__(self) -> Self:
        await self._file.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def initialize(self) -> None:
        """Open the file, and install the schema if it is not there; does nothing if it is open."""
        await self._file.open()

    async def close(self) -> None:
        """Close the file; does nothing if it is closed."""
        await self._file.close()

    def projections(self) -> ProjectionStore:
        """Where subscriptions keep their checkpoints in the same file, as they do unless told otherwise."""
        return self._file.projections()

    def read_models(self) -> ReadModelStore:
        """Read models in the same file."""
        return self._file.read_models()


class SubscriptionManager(subscription.SubscriptionManager):
    """All subscriptions of a process.

    ::

        manager = SubscriptionManager(store)
        await manager.subscribe(Revenue())
        async with manager:
            ...

    Args:
        store: Where events are read from.
        checkpoints: Where checkpoints and dead letters are kept: a pool, or a projection store. The event store's own
            database (or memory) if None, which is right where the projections write to it, too.
        owner: Who we are, for leases; drawn if None.

    Raises:
        ConfigurationError: There is no projection store that goes with the event store.
    """

    def __init__(self, store: EventReader, checkpoints: Any = None, *, owner: str | None = None) -> None:
        super().__init__(store, _projection_store(store, checkpoints), owner=owner)


def _projection_store(store: EventReader, checkpoints: Any) -> ProjectionStore:
    if not hasattr(store, "log"):
        message = f"a SubscriptionManager reads an event store, such as PostgreSQLEventStore(pool), not {shown(store)}"
        raise ConfigurationError(message)
    if checkpoints is not None:
        return projection_store(checkpoints)
    if isinstance(store.log, PostgresEventLog):
        return projection_store(store.log.pool)
    if isinstance(store, SQLiteEventStore):
        return store.projections()
    if isinstance(store.log, MemoryEventLog):
        return MemoryProjectionStore()
    message = (
        f"subscriptions of {type(store).__name__} need a place for their checkpoints: "
        "SubscriptionManager(store, pool), or a MemoryProjectionStore() in tests"
    )
    raise ConfigurationError(message)


class ReadModels(read_models.ReadModels):
    """Read models outside of projections; `mainstay.projections.read_models.ReadModels` says what it does.

    Args:
        source: A ``psycopg_pool.AsyncConnectionPool``, an event store in whose database they are, a projection store,
            or a store of read models. In memory take `SubscriptionManager.read_models`.

    Raises:
        ConfigurationError: There are no read models there.
    """

    def __init__(self, source: Any) -> None:
        super().__init__(_read_model_store(source))


def _read_model_store(source: Any) -> ReadModelStore:
    if isinstance(source, EventReader) and not isinstance(source.log, MemoryEventLog):
        return _projection_store(source, None).read_models
    there: Any = projection_store(source)
    store: ReadModelStore = getattr(there, "read_models", there)
    if not all(hasattr(store, name) for name in ("fetch", "find", "put", "create")):
        message = (
            f"read models are in a pool, an event store on a database, or a store of read models, not in "
            f"{shown(source)}; in memory take SubscriptionManager.read_models"
        )
        raise ConfigurationError(message)
    return store


@dataclass(frozen=True, slots=True)
class Mainstay:
    """Everything, joined to one database.

    Args:
        pool: Open.
        bus: Sends commands.
        troubleshooting: What operators do.
        processes: Starts processes.
        elsewhere: Asks after projections, in whichever process they run.
    """

    pool: Pool
    bus: CommandBus
    troubleshooting: TroubleshootingQueue
    processes: ProcessManager
    elsewhere: Elsewhere

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, dsn: str, *, min_size: int = 2, max_size: int = 10, check_schema: bool = True
    ) -> "AsyncIterator[Mainstay]":
        """Open a pool, check the schema, and close everything at the end.

        Args:
            dsn: libpq connection string or URL.
            min_size: Connections kept open.
            max_size: Connections at most.
            check_schema: Refuse a database that is not prepared.

        Raises:
            ConfigurationError: Not a connection string.
            SchemaError: Run `mainstay schema upgrade`.
            StorageUnavailableError: No connection could be had.
        """
        pool_of = open_pool(dsn, min_size=min_size, max_size=max_size)
        await reach(dsn)
        async with pool_of as pool:
            if check_schema:
                await require_current(pool)
            elsewhere = Elsewhere(PostgreSQLEventStore(pool), projection_store(pool))
            one = cls(pool, CommandBus(pool), TroubleshootingQueue(pool), ProcessManager(pool), elsewhere)
            try:
                yield one
            finally:
                await one.bus.close()

    async def wait_until(
        self, projection: str, position: int | Positioned | None, *, timeout: timedelta | float = PATIENCE
    ) -> None:
        """Wait until a projection has seen what was just written: ``await app.wait_until("orders", reply.position)``.

        Args:
            projection: Its name, in whichever process it runs.
            position: Of a `Reply`, an `Appended` or a `CommandMetadata`, or one of these itself; None, of a command
                that appended nothing, is waited for by nobody.
            timeout: Seconds (or timedelta).

        Raises:
            SubscriptionNotFoundError: No process has ever started it; at once.
            SubscriptionHeldError: It is paused, or an error has stopped it, before it came so far; at once.
            SubscriptionLateError: It has not come so far in time (also a TimeoutError); it says where it is, and
                whether anybody runs it.
            InvalidInputError: Not a position.
            StorageUnavailableError: The database cannot be reached.
        """
        await self.elsewhere.caught_up(projection, position, timeout=timeout)

    async def trace(self, asked: UUID | str, *, limit: int = DEFAULT_LIMIT) -> Conversation:
        """All that led to a command, an event, a batch or a process, and all that followed: as `Conversations.find`."""
        return await Conversations(command_store(self.pool), PostgresEventLog(self.pool)).find(asked, limit=limit)

    def worker(self, domain: str, registry: HandlerRegistry, **options: Any) -> Worker:
        """A worker on this pool; the options are those of `Worker`."""
        return Worker(self.pool, domain, registry, **options)
