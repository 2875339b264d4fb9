"""Where commands meet events: aggregates for handlers that are called with one.

`EventAggregates` answers what `mainstay.commands.aggregates` asks. The events are appended on the connection that
completes the command, so both are one COMMIT. In memory there is no such connection: events are appended when the
handler has returned, in one step of the event loop, and the command is completed in the next that nothing can prevent.

A decider whose stream is held is kept in memory when it is committed. The next time it is held, what came after it is
read in the same round trip, from its own last event on: if that is another event, it is loaded anew.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

from mainstay.commands.aggregates import RaisedEvent, StreamHeldError
from mainstay.commands.ledger import StreamName
from mainstay.deciding.repositories import Repositories, naming_an_aggregate
from mainstay.deciding.store import stream_name
from mainstay.deciding.versions import PastDeciders
from mainstay.errors import ConfigurationError, InvalidInputError, InvalidOperationError, shown
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.decider import DeciderAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.log import Appended
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.serialization import from_json

MOST_KEPT = 100
"""Deciders that are kept in memory, of streams that several append to."""


class EventAggregates:
    """Loads aggregates from a store of events and appends what they raise; see `mainstay.commands.aggregates`.

    Args:
        store: Where the events are.
        joins: Whether the transaction of commands is one of its own.
        snapshots: When to leave a snapshot; it is taken after the COMMIT. Never, unless given.

    Raises:
        ConfigurationError: Not a store of events.
    """

    def __init__(self, store: EventStore, *, joins: bool, snapshots: SnapshotPolicy | None = None) -> None:
        if not isinstance(store, EventStore):
            raise ConfigurationError(f"event_store must be a store of events, not {shown(store)}")
        self.store = store
        self._joins = joins
        self._policy = SnapshotPolicy.checked(snapshots)
        self._repositories = Repositories(store, self._policy)
        self._past = PastDeciders(store)
        self._kept: dict[StreamId, AggregateRoot[Any]] = {}
        """Deciders of streams that were held, as they were when they were committed; the one used last comes last."""

    def check(self, kind: type) -> None:
        """Refuse what is no aggregate, or one whose snapshots cannot be kept.

        Raises:
            ConfigurationError: It is.
        """
        self._repositories.of(kind)

    def ahead(self, kind: type, aggregate_id: Any) -> Any:
        """What `opened` will ask; None if it cannot be told."""
        if not self._joins:
            return None
        try:
            return self._repositories.of(kind).read_along(aggregate_id)
        except InvalidInputError:  # as `opened` says
            return None

    @asynccontextmanager
    async def opened(
        self, kind: type, aggregate_id: Any, conn: Any, ahead: Any = None, *, hold: bool = False
    ) -> AsyncIterator["_Opened"]:
        """An aggregate; what it has raised is appended at the end of the block, or left."""
        repository = self._repositories.of(kind)
        async with self._transaction(conn) as mine:
            with naming_an_aggregate():
                made = repository.create_new(aggregate_id)
            aggregate = None if ahead is None else repository.loaded_along(made, ahead)
            if hold and self._joins:
                aggregate = await self._held(repository, made, mine)
            if aggregate is None:
                aggregate = await repository.get_or_none(aggregate_id, conn=mine) or made
            opened = _Opened(repository, aggregate, self._policy, self._keep if hold else None)
            yield opened
            await opened.append(mine, may_leave=self._joins)

    async def _held(self, repository: AggregateRepository[Any], made: AggregateRoot[Any], conn: Any) -> Any:
        """Hold the stream of a new aggregate; the one that was kept, as it is now, or None if there is none.

        Raises:
            StreamHeldError: Somebody else has held it for too long.
        """
        kept = self._kept.pop(made.stream, None)
        if kept is None or type(kept) is not type(made):
            is_held, kept = await self.store.hold(made.stream, conn=conn), None
        else:
            found = await self.store.hold_and_load(made.stream, kept.version - 1, conn=conn)
            is_held = found is not None
            kept = kept if found is not None and repository.caught_up(kept, found) else None
        if not is_held:
            raise StreamHeldError(f"{made.stream} is held by another transaction")
        return kept

    def _keep(self, aggregate: AggregateRoot[Any]) -> None:
        """Keep what is committed of a decider, for its next command."""
        if isinstance(aggregate, DeciderAggregate) and aggregate.version and not aggregate.has_uncommitted_events:
            self._kept[aggregate.stream] = aggregate
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]

    @asynccontextmanager
    async def tried(
        self, kind: type, aggregate_id: Any, conn: Any, *, version: int | None = None
    ) -> AsyncIterator["_Tried"]:
        """An aggregate to try a decision on; nothing stays of what is appended."""
        repository = AggregateRepository[Any](self.store, kind)
        with naming_an_aggregate():
            aggregate = repository.create_new(aggregate_id)
        with suppress(_UndoneError):
            async with self._transaction(conn) if conn is not None else nullcontext() as mine:
                if version and isinstance(aggregate, DeciderAggregate):
                    await self._past.load(aggregate, version, mine)
                elif version != 0:
                    aggregate = await repository.get_or_none(aggregate_id, version=version, conn=mine) or aggregate
                if version not in (None, aggregate.version):
                    raise InvalidOperationError(f"{aggregate.stream} has no version {version}")
                yield _Tried(self.store, repository, aggregate, mine)
                if not self._joins:
                    raise _UndoneError

    async def recorded(self, stream: StreamName, after: int, up_to: int) -> tuple[RaisedEvent, ...]:
        """Events of a stream, as this code would write them."""
        there = StreamId(*stream)
        found = await self.store.load_stream(there, after_version=after, up_to_version=up_to)
        return _raised(self.store, there, found.events)

    @asynccontextmanager
    async def _transaction(self, conn: Any) -> AsyncIterator[Any]:
        if self._joins:
            yield conn
        else:
            own: AbstractAsyncContextManager[Any] = self.store.transaction()
            async with own as mine:
                yield mine


class _Opened:
    """An aggregate in a transaction; see `mainstay.commands.aggregates.Opened`."""

    def __init__(
        self,
        repository: AggregateRepository[Any],
        aggregate: AggregateRoot[Any],
        policy: SnapshotPolicy | None,
        keep: Callable[[AggregateRoot[Any]], None] | None = None,
    ) -> None:
        self.aggregate = aggregate
        self.version_read = aggregate.version
        self.events = 0
        self.left: Any = None
        self._appended: Appended | None = None
        self._repository = repository
        self._policy = policy
        self._keep = keep

    @property
    def stream(self) -> StreamName:
        """Where its events are."""
        return stream_name(self.aggregate.stream)

    async def append(self, conn: Any, *, may_leave: bool) -> None:
        """Append what the aggregate has raised, or leave it to who commits."""
        self.events = len(self.aggregate.uncommitted_events)
        if may_leave and self.events:
            self.left = self._repository.save_along(self.aggregate)
        if self.left is None:
            self._appended = await self._repository.save(self.aggregate, conn=conn)

    @property
    def answer(self) -> dict[str, int]:
        """Version of the stream, and position of its last event here, if there is one."""
        position = None if self._appended is None else self._appended.position
        return {"version": self.aggregate.version} | ({} if position is None else {"position": position})

    async def committed(self) -> None:
        """Leave a snapshot, if it is time to."""
        if self.left is not None:
            self._repository.saved_along(self.aggregate, self.left)
        if self._keep is not None:
            self._keep(self.aggregate)
        if self._policy is not None and self._policy.is_due(self.version_read, self.aggregate.version):
            await self._repository.create_snapshot(self.aggregate)


class _UndoneError(Exception):
    """Ends a transaction of which nothing is to stay."""


class _Tried(_Opened):
    """An aggregate to try a decision on; see `mainstay.commands.aggregates.Tried`."""

    def __init__(
        self, store: EventStore, repository: AggregateRepository[Any], aggregate: AggregateRoot[Any], conn: Any
    ) -> None:
        super().__init__(repository, aggregate, None)
        self._store = store
        self._conn = conn

    def raised(self) -> tuple[RaisedEvent, ...]:
        """What it has raised, and was not appended."""
        return _raised(self._store, self.aggregate.stream, self.aggregate.uncommitted_events)

    async def append_tried(self) -> None:
        """Append that."""
        await self.append(self._conn, may_leave=False)


def _raised(store: EventStore, stream: StreamId, events: Iterable[DomainEvent]) -> tuple[RaisedEvent, ...]:
    return tuple(
        RaisedEvent(each.event_type, each.event_version, from_json(each.payload))
        for each in store.codec.written(events, stream)
    )
