"""Where commands meet events: aggregates for handlers that are called with one.

`EventAggregates` answers what `mainstay.commands.aggregates` asks. The events are appended on the connection that
completes the command, so both are one COMMIT. In memory there is no such connection: events are appended when the
handler has returned, in one step of the event loop, and the command is completed in the next that nothing can prevent.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mainstay.commands.ledger import StreamName
from mainstay.errors import ConfigurationError, InvalidInputError, PermanentCommandError, shown
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.log import Appended
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore


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
        self._policy = snapshots
        self._repositories: dict[type, AggregateRepository[Any]] = {}

    def check(self, kind: type) -> None:
        """Refuse what is no aggregate, or one whose snapshots cannot be kept.

        Raises:
            ConfigurationError: It is.
        """
        self._repository(kind)

    def ahead(self, kind: type, aggregate_id: Any) -> Any:
        """What `opened` will ask; None if it cannot be told."""
        if not self._joins:
            return None
        try:
            return self._repository(kind).read_along(aggregate_id)
        except InvalidInputError:  # as `opened` says
            return None

    @asynccontextmanager
    async def opened(self, kind: type, aggregate_id: Any, conn: Any, ahead: Any = None) -> AsyncIterator["_Opened"]:
        """An aggregate; what it has raised is appended at the end of the block, or left."""
        repository = self._repository(kind)
        async with self._transaction(conn) as mine:
            try:
                repository.create_new(aggregate_id)
            except InvalidInputError as error:
                raise PermanentCommandError("NO_AGGREGATE_ID", str(error)) from error
            aggregate = None if ahead is None else repository.loaded_along(aggregate_id, ahead)
            if aggregate is None:
                aggregate = await repository.load_or_create(aggregate_id, conn=mine)
            opened = _Opened(repository, aggregate, self._policy)
            yield opened
            await opened.append(mine, may_leave=self._joins)

    @asynccontextmanager
    async def _transaction(self, conn: Any) -> AsyncIterator[Any]:
        if self._joins:
            yield conn
        else:
            own: AbstractAsyncContextManager[Any] = self.store.transaction()
            async with own as mine:
                yield mine

    def _repository(self, kind: type) -> AggregateRepository[Any]:
        found = self._repositories.get(kind)
        if found is None:
            found = AggregateRepository[Any](self.store, kind, snapshots=self._policy)
            self._repositories[kind] = found
        return found


class _Opened:
    """An aggregate in a transaction; see `mainstay.commands.aggregates.Opened`."""

    def __init__(
        self, repository: AggregateRepository[Any], aggregate: AggregateRoot[Any], policy: SnapshotPolicy | None
    ) -> None:
        self.aggregate = aggregate
        self.version_read = aggregate.version
        self.events = 0
        self.left: Any = None
        self._appended: Appended | None = None
        self._repository = repository
        self._policy = policy

    @property
    def stream(self) -> StreamName:
        """Where its events are."""
        stream = self.aggregate.stream
        tenant_id = None if stream.tenant_id is None else str(stream.tenant_id)
        return StreamName(stream.category, str(stream.id), tenant_id)

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
        if self._policy is not None and self._policy.is_due(self.version_read, self.aggregate.version):
            await self._repository.create_snapshot(self.aggregate)
