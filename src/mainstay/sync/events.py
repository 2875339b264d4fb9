"""Event stores and repositories for code without an event loop.

Every call is the asynchronous one, carried to the event loop in a thread and waited for, as all of `mainstay.sync`. Two
things are different here.

*Inside a running event loop* a call works, too, and blocks that loop until it is done: a notebook has a loop always.
Nothing that a call needs runs in the caller's loop, so it does not wait for itself; what it may wait for is a
transaction that the same thread has open elsewhere. Code that is called in the portal's own loop (asynchronous
handlers, projections) is refused: there the asynchronous store is at hand.

*Events are read in pages.* An iterator asks for the next page when the one before is used up, and yields what precedes
an event that cannot be read before it raises.
"""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar
from uuid import UUID

from mainstay.app import PostgreSQLEventStore
from mainstay.commands.store import CommandStore
from mainstay.errors import ConfigurationError, shown
from mainstay.events.codec import UnknownPolicy
from mainstay.events.decider import DeciderAggregate
from mainstay.events.inline import InlineProjection
from mainstay.events.log import PAGE, Appended, FeedFilter, Query
from mainstay.events.reading import EventType
from mainstay.events.registry import EventRegistry
from mainstay.events.repository import DEFAULT_ATTEMPTS, AggregateRepository, AggregateT
from mainstay.events.snapshot import SnapshotPolicy, SnapshotStore
from mainstay.events.store import EventStore
from mainstay.portal import on_callers_thread
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT
from mainstay.sync.batches import leave
from mainstay.sync.bridge import Blocking, Bridge, Dsn, Opened, blocking

P = ParamSpec("P")
T = TypeVar("T")
RoomT = TypeVar("RoomT")

StoreSource: TypeAlias = Dsn | EventStore | Callable[[], EventStore] | Bridge
"""What an adapter stands on; see `SyncEventStoreAdapter`."""


class BlockingEvents(Blocking[RoomT]):
    """What the blocking faces of events share.

    Args:
        source: A `Bridge`.
        make: Makes the room from what it has open.
        timeout: Seconds that a call may take; None for as long as it takes.
        is_owner: Whether to close the bridge.
    """

    _blocks_loop: ClassVar[bool] = True

    def __init__(self, source: Bridge, make: Callable[[Any], RoomT], timeout: float | None, *, is_owner: bool) -> None:
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
            raise ConfigurationError(f"timeout must be seconds, more than 0, or None, not {shown(timeout)}")
        super().__init__(source, make, is_owner=is_owner)
        self._timeout = timeout

    def _call(self, function: Callable[[RoomT], Coroutine[Any, Any, T]]) -> T:
        async def in_time(opened: Opened) -> T:
            async with asyncio.timeout(self._timeout):
                return await function(self._room(opened))

        return self._home.per_process.call(in_time, blocks_loop=self._blocks_loop)

    def _room(self, opened: Opened) -> RoomT:
        return opened.room(self, self._make)


class _Page(NamedTuple):
    """What one call brings of an iterator."""

    items: list[Any]
    error: BaseException | None
    is_last: bool


async def _page_of(items: AsyncIterator[Any], size: int) -> _Page:
    found: list[Any] = []
    try:
        async for item in items:
            found.append(item)
            if len(found) == size:
                return _Page(found, None, is_last=False)
    except Exception as error:  # noqa: BLE001 - raised after what precedes it
        return _Page(found, error, is_last=True)
    return _Page(found, None, is_last=True)


def in_pages(
    method: Callable[Concatenate[RoomT, P], AsyncIterator[T]],
) -> Callable[Concatenate[Blocking[Any], P], Iterator[T]]:
    """A method of a store that is an asynchronous iterator, as its blocking face has it: a plain one."""
    name = method.__name__

    @functools.wraps(method)
    def read(self: Blocking[Any], /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        async def begin(store: Any) -> AsyncIterator[T]:
            items: AsyncIterator[T] = getattr(store, name)(*args, **options)
            return items

        size: Any = options.get("page", PAGE)
        called = contextvars.copy_context()  # a tenant's scope counts where this is called, not where it is used up

        def pages() -> Iterator[T]:
            items = called.run(self._call, begin)
            is_last = False
            while not is_last:
                page, error, is_last = self._call(lambda _: _page_of(items, size))
                yield from page
                if error is not None:
                    raise error

        return pages()

    return read


class SyncEventStoreAdapter(BlockingEvents[EventStore]):
    """`EventStore` for code that blocks: the same calls, arguments, results and errors; what it reads are iterators.

    A ``conn`` is a transaction of the caller's: a ``psycopg.Connection``, a connection or session of SQLAlchemy, or
    Django's, whose statements run on the caller's thread; or what `transaction` gives.

    Args:
        source: Connection string, or a function that returns one; an `EventStore` that nobody has opened, or a function
            that makes one in each process; or a `SyncMainstay`, to share its pool.
        timeout: Seconds that one call may take, one page of an iterator; None for as long as it takes.
        registry: As that of `PostgreSQLEventStore`; not for a store, which has its own.
        unknown: The same.
        payload_limit: The same.
        inline: The same.

    Raises:
        ConfigurationError: Not one of these sources.
    """

    def __init__(
        self,
        source: StoreSource,
        timeout: float | None = None,
        *,
        registry: EventRegistry | None = None,
        unknown: UnknownPolicy = "error",
        payload_limit: int = DEFAULT_PAYLOAD_LIMIT,
        inline: Sequence[InlineProjection] = (),
    ) -> None:
        def make(opened: Any) -> EventStore:
            if isinstance(opened, CommandStore):
                raise ConfigurationError("this SyncMainstay stands on a command store, which keeps no events")
            if isinstance(opened, EventStore):
                return opened
            return PostgreSQLEventStore(
                opened, registry=registry, unknown=unknown, payload_limit=payload_limit, inline=inline
            )

        is_owner = not isinstance(source, Bridge)
        home = source if isinstance(source, Bridge) else Bridge(source, store=EventStore)
        super().__init__(home, make, timeout, is_owner=is_owner)

    if not TYPE_CHECKING:  # who checks types is to hear of every other name that is not there

        def __getattr__(self, name: str) -> Any:
            """Each call also by its name with ``_sync`` behind it, as it was called in eventsource-py."""
            plain = name.removesuffix("_sync")
            if plain == name or plain.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
            return getattr(self, plain)

    append = blocking(EventStore.append)
    append_all = blocking(EventStore.append_all)
    append_if = blocking(EventStore.append_if)
    import_events = blocking(EventStore.import_events)
    load_stream = blocking(EventStore.load_stream)
    read_page = blocking(EventStore.read_page)
    event_at = blocking(EventStore.event_at)
    stream_version = blocking(EventStore.stream_version)
    stream_state = blocking(EventStore.stream_state)
    horizon = blocking(EventStore.horizon)
    wait = blocking(EventStore.wait)
    tombstone = blocking(EventStore.tombstone)
    archive = blocking(EventStore.archive)
    append_events = blocking(EventStore.append_events)
    get_events = blocking(EventStore.get_events)
    get_events_by_type = blocking(EventStore.get_events_by_type)
    get_stream_version = blocking(EventStore.get_stream_version)
    get_global_position = blocking(EventStore.get_global_position)
    read_stream = in_pages(EventStore.read_stream)
    read_all = in_pages(EventStore.read_all)
    read_category = in_pages(EventStore.read_category)
    streams = in_pages(EventStore.streams)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A transaction of the store's own, to be passed as ``conn``, in this thread or another."""

        async def enter(store: EventStore) -> tuple[AbstractAsyncContextManager[Any], Any]:
            block = store.transaction()
            return block, await block.__aenter__()

        block, conn = self._call(enter)
        try:
            yield conn
        except BaseException as error:
            raised = error
            self._call(lambda _: leave(block, raised))
            raise
        self._call(lambda _: leave(block, None))

    def filter(
        self,
        *,
        types: Iterable[EventType] | None = None,
        categories: Iterable[str] | None = None,
        tenant_id: UUID | str | None = None,
        query: Query | None = None,
    ) -> FeedFilter:
        """As `EventStore.filter`."""

        async def made(store: EventStore) -> FeedFilter:
            return store.filter(types=types, categories=categories, tenant_id=tenant_id, query=query)

        return self._call(made)

    def query(self, *types: EventType, tags: Iterable[str] = ()) -> Query:
        """As `EventStore.query`."""

        async def made(store: EventStore) -> Query:
            return store.query(*types, tags=tags)

        return self._call(made)


class SyncAggregateRepository(BlockingEvents[AggregateRepository[AggregateT]], Generic[AggregateT]):
    """`AggregateRepository` for code that blocks: the same calls, arguments, results and errors.

    Args:
        store: Where the events are.
        aggregate: The class.
        snapshots: As that of `AggregateRepository`, and so on.
        snapshot_store: The same.
        tenant_id: The same.
        attempts: The same.

    Raises:
        ConfigurationError: As `AggregateRepository`; what depends on the store at the first call.
    """

    def __init__(
        self,
        store: SyncEventStoreAdapter,
        aggregate: type[AggregateT],
        *,
        snapshots: SnapshotPolicy | None = None,
        snapshot_store: SnapshotStore | None = None,
        tenant_id: UUID | str | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
    ) -> None:
        if not isinstance(store, SyncEventStoreAdapter):
            raise ConfigurationError(f"expected a SyncEventStoreAdapter, not {shown(store)}")
        self._store = store
        self._aggregate = aggregate
        self._options: dict[str, Any] = {
            "snapshots": snapshots,
            "snapshot_store": snapshot_store,
            "tenant_id": tenant_id,
            "attempts": attempts,
        }
        super().__init__(store._home, lambda room: room, store._timeout, is_owner=False)  # noqa: SLF001 - of one family

    def _room(self, opened: Opened) -> AggregateRepository[AggregateT]:
        def make(_: Any) -> AggregateRepository[AggregateT]:
            return AggregateRepository(self._store._room(opened), self._aggregate, **self._options)  # noqa: SLF001 - so

        return opened.room(self, make)

    def load(
        self, aggregate_id: UUID | str, *, version: int | None = None, at: datetime | None = None, conn: Any = None
    ) -> AggregateT:
        """As `AggregateRepository.load`."""
        return self._call(lambda repo: repo.load(aggregate_id, version=version, at=at, conn=conn))

    def load_or_create(self, aggregate_id: UUID | str, *, conn: Any = None) -> AggregateT:
        """As `AggregateRepository.load_or_create`."""
        return self._call(lambda repo: repo.load_or_create(aggregate_id, conn=conn))

    def get_or_none(
        self, aggregate_id: UUID | str, *, version: int | None = None, at: datetime | None = None, conn: Any = None
    ) -> AggregateT | None:
        """As `AggregateRepository.get_or_none`."""
        return self._call(lambda repo: repo.get_or_none(aggregate_id, version=version, at=at, conn=conn))

    def create_new(self, aggregate_id: UUID | str) -> AggregateT:
        """As `AggregateRepository.create_new`."""

        async def made(repo: AggregateRepository[AggregateT]) -> AggregateT:
            return repo.create_new(aggregate_id)

        return self._call(made)

    def exists(self, aggregate_id: UUID | str, *, conn: Any = None) -> bool:
        """As `AggregateRepository.exists`."""
        return self._call(lambda repo: repo.exists(aggregate_id, conn=conn))

    def get_version(self, aggregate_id: UUID | str, *, conn: Any = None) -> int:
        """As `AggregateRepository.get_version`."""
        return self._call(lambda repo: repo.get_version(aggregate_id, conn=conn))

    def save(self, aggregate: AggregateT, *, conn: Any = None) -> Appended | None:
        """As `AggregateRepository.save`."""
        return self._call(lambda repo: repo.save(aggregate, conn=conn))

    def execute(self, aggregate_id: UUID | str, command: Any, *, conn: Any = None) -> AggregateT:
        """As `AggregateRepository.execute`; a plain function is called in this thread, where it may block."""
        if callable(command) and not issubclass(self._aggregate, DeciderAggregate):
            command = _on_callers_thread(command)
        return self._call(lambda repo: repo.execute(aggregate_id, command, conn=conn))

    def create_snapshot(self, aggregate: AggregateT) -> bool:
        """As `AggregateRepository.create_snapshot`."""
        return self._call(lambda repo: repo.create_snapshot(aggregate))


def _on_callers_thread(command: Callable[[Any], Any]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def called(aggregate: Any) -> None:
        given = await on_callers_thread(lambda: command(aggregate))
        if inspect.isawaitable(given):
            await given

    return called
