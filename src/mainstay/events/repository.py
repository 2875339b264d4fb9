"""Repositories: aggregates out of streams, and into them."""

import asyncio
import hashlib
import inspect
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import anyio
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from mainstay.errors import (
    AggregateNotFoundError,
    ConfigurationError,
    InvalidInputError,
    MainstayError,
    OptimisticLockError,
    shown,
)
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.decider import DeciderAggregate
from mainstay.events.log import Appended
from mainstay.events.reading import LoadedStream, Tail
from mainstay.events.scope import scoped
from mainstay.events.snapshot import Snapshot, SnapshotPolicy, SnapshotStore
from mainstay.events.store import EventStore
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.events.tracing import loading
from mainstay.metrics import is_observed
from mainstay.telemetry import get_logger
from mainstay.tenancy import current_tenant

_log = get_logger(__name__)

AggregateT = TypeVar("AggregateT", bound=AggregateRoot[Any])

DEFAULT_ATTEMPTS = 10
"""How often `AggregateRepository.execute` tries, if somebody else is quicker each time."""

_FIRST_PAUSE = 0.002
"""Seconds; up to this, drawn, between the first two attempts, doubled each time, so that writers get apart."""


class AggregateRepository(Generic[AggregateT]):
    """Loads aggregates of one class, and saves them.

    Args:
        store: Where the events are.
        aggregate: The class; it is called with the id, and with ``tenant_id`` if there is one.
        snapshots: When to leave a snapshot; never, unless given.
        snapshot_store: Where; the store's own unless given.
        tenant_id: Whose aggregates; in a tenant's scope that tenant's unless given.
        attempts: How often `execute` tries.

    Raises:
        ConfigurationError: Snapshots are wanted, and there is no place for them, or the class does not say what its
            state is, or the state cannot be written as JSON.
    """

    def __init__(
        self,
        store: EventStore,
        aggregate: type[AggregateT],
        *,
        snapshots: SnapshotPolicy | None = None,
        snapshot_store: SnapshotStore | None = None,
        tenant_id: UUID | str | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
    ) -> None:
        if not isinstance(aggregate, type) or not issubclass(aggregate, AggregateRoot):
            raise ConfigurationError(f"expected a class derived from AggregateRoot, not {shown(aggregate)}")
        if not hasattr(store, "append"):
            raise ConfigurationError(
                f"aggregates are kept in an event store, such as PostgreSQLEventStore(pool), not in {shown(store)}"
            )
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ConfigurationError(f"attempts must be a whole number of at least 1, not {shown(attempts)}")
        self._store = store
        self._aggregate = aggregate
        self._tenant_id = tenant_id
        self._attempts = attempts
        self._policy = SnapshotPolicy.checked(snapshots)
        self._snapshots = None
        if self._policy.events is not None or snapshot_store is not None:
            kept = snapshot_store or store.snapshots
            if kept is None:
                raise ConfigurationError("this store keeps no snapshots: pass snapshot_store, or leave out snapshots")
            self._snapshots = _Snapshots(kept, aggregate)

    # -- loading -------------------------------------------------------------------------------------------------------

    async def load(
        self, aggregate_id: UUID | str, *, version: int | None = None, at: datetime | None = None, conn: Any = None
    ) -> AggregateT:
        """An aggregate as it is, or as it was.

        Args:
            aggregate_id: Which one.
            version: As it was at this version; one that is saved after that meets a conflict.
            at: As it was at this time, by the log's clock.
            conn: The caller's transaction, which sees what it has appended.

        Raises:
            AggregateNotFoundError: It has no events, or had none.
            StreamTombstonedError: It is gone for good.
            CorruptEventError: An event cannot be read.
            UnhandledEventError: The class has nothing that handles an event.
        """
        found = await self.get_or_none(aggregate_id, version=version, at=at, conn=conn)
        if found is None:
            raise AggregateNotFoundError(self._aggregate.aggregate_type, aggregate_id)
        return found

    async def load_or_create(self, aggregate_id: UUID | str, *, conn: Any = None) -> AggregateT:
        """An aggregate as it is; a new one if it has no events."""
        return await self.get_or_none(aggregate_id, conn=conn) or self.create_new(aggregate_id)

    def read_along(self, aggregate_id: UUID | str) -> Any:
        """What `load` asks, to go along in another's round trip, and then to `loaded_along`; None if it cannot be told.

        Raises:
            InvalidInputError: No id of an aggregate.
        """
        if self._snapshots is not None or is_observed():
            return None
        return self._store.read_along(self._stream(aggregate_id))

    def loaded_along(self, made: AggregateT, along: Any) -> AggregateT | None:
        """A new aggregate as it is, of what `read_along` gave; None if it was not asked, or not all is there.

        Raises:
            StreamTombstonedError: As `load`, and CorruptEventError and UnhandledEventError.
        """
        found = self._store.loaded_along(made.stream, along)
        return None if found is None else self._replayed(made, found, None) or made

    async def get_or_none(
        self, aggregate_id: UUID | str, *, version: int | None = None, at: datetime | None = None, conn: Any = None
    ) -> AggregateT | None:
        """As `load`; None if it has no events."""
        made = self.create_new(aggregate_id)
        if not is_observed():
            return await self._filled(made, version, at, conn)
        with loading(made.stream.category, str(made.stream)) as span:
            found = await self._filled(made, version, at, conn)
            if span is not None:
                span.set_attribute("mainstay.version", 0 if found is None else found.version)
        return found

    async def _filled(self, made: AggregateT, version: int | None, at: datetime | None, conn: Any) -> AggregateT | None:
        there = None
        if at is None and self._snapshots is not None:
            there = await self._snapshots.load(made.stream, version, conn)
        after = 0 if there is None else there.snapshot.version - 1
        found = await self._store.load_stream(
            made.stream, after_version=after, up_to_version=version, up_to_time=at, conn=conn
        )
        if there is not None and not there.is_of(found):
            found, there = await self._store.load_stream(made.stream, up_to_version=version, conn=conn), None
        return self._replayed(made, found, there)

    @staticmethod
    def _replayed(made: AggregateT, found: LoadedStream, there: "KnownState | None") -> AggregateT | None:
        """Let an aggregate become what a stream says, from a state of it on; None if there is nothing."""
        if there is None:
            made.load_from_history(found.events)
        else:
            made.restore_state(there.state, there.snapshot.version, there.snapshot.event_id)
            made.load_from_history(event for event in found.events if event.aggregate_version > there.snapshot.version)
        if found.last is None:
            return None
        made.restore_state(made.state_or_none, found.last.version, found.last.event.event_id)
        return made

    async def load_all(
        self,
        made: Sequence[AggregateT],
        *,
        conn: Any = None,
        read: Mapping[StreamId, Tail] | None = None,
    ) -> None:
        """Load many aggregates by one question; those without events stay new.

        With snapshots it is a question more for each that is new.

        Args:
            made: New ones of `create_new`; or ones that have nothing to save, which are brought up to date.
            conn: The caller's transaction, which sees what it has appended.
            read: What was read before of some of them, in the same transaction.

        Raises:
            StreamTombstonedError: One of them is gone for good.
            CorruptEventError: An event cannot be read.
            UnhandledEventError: The class has nothing that handles an event.
        """
        there: dict[StreamId, KnownState] = {}
        if self._snapshots is not None:
            new = [each.stream for each in made if not each.version]
            found = await asyncio.gather(*(self._snapshots.load(each, None, conn) for each in new))
            there = {stream: state for stream, state in zip(new, found, strict=True) if state is not None}
        after = [
            (each.stream, there[each.stream].snapshot.version - 1 if each.stream in there else each.version)
            for each in made
        ]
        for aggregate, loaded in zip(made, await self._store.load_streams(after, conn=conn, read=read), strict=True):
            state = there.get(aggregate.stream)
            if state is not None and not state.is_of(loaded):
                await self._filled(aggregate, None, None, conn)
            else:
                self._replayed(aggregate, loaded, state)

    def caught_up(self, aggregate: AggregateT, found: LoadedStream) -> bool:
        """Let an aggregate become what others have made of its stream; False if it never was what the stream says.

        Args:
            aggregate: At a version that was committed; if something fails it is to be thrown away.
            found: Its stream, from the event of that version on.
        """
        version = aggregate.version
        if found.first is None or found.last is None or found.first.event.event_id != aggregate.last_event_id:
            return False
        aggregate.load_from_history(event for event in found.events if event.aggregate_version > version)
        aggregate.restore_state(aggregate.state_or_none, found.last.version, found.last.event.event_id)
        return True

    def create_new(self, aggregate_id: UUID | str) -> AggregateT:
        """An aggregate without events; nothing is looked up."""
        if self._tenant_id is None:
            return self._aggregate(aggregate_id)
        return self._aggregate(aggregate_id, tenant_id=self._tenant_id)

    async def exists(self, aggregate_id: UUID | str, *, conn: Any = None) -> bool:
        """Whether it has events and is not tombstoned; they are not loaded."""
        state = await self._store.stream_state(self._stream(aggregate_id), conn=conn)
        return state is not None and state.version > 0 and not state.tombstoned

    async def get_version(self, aggregate_id: UUID | str, *, conn: Any = None) -> int:
        """The number of its events; they are not loaded."""
        return await self._store.stream_version(self._stream(aggregate_id), conn=conn)

    def _stream(self, aggregate_id: UUID | str) -> StreamId:
        tenant = current_tenant() if self._tenant_id is None else self._tenant_id
        return StreamId(self._aggregate.aggregate_type, aggregate_id, tenant)

    # -- saving --------------------------------------------------------------------------------------------------------

    async def save(self, aggregate: AggregateT, *, conn: Any = None) -> Appended | None:
        """Store what an aggregate has raised, if nobody else has appended meanwhile.

        Args:
            aggregate: Of this repository's class.
            conn: The caller's transaction. If that is rolled back, the aggregate is to be thrown away. No snapshot is
                taken, because nothing is committed yet.

        Returns:
            What the store says; None if there was nothing to save.

        Raises:
            OptimisticLockError: Somebody else has appended; nothing was written. Load it again and retry, or use
                `execute`.
            InvalidInputError: Of another class or tenant.
            TenantScopeError: Of another tenant than the scope that this runs in.
        """
        stream = self._checked(aggregate)
        events = aggregate.uncommitted_events
        if not events:
            return None
        before = aggregate.committed_version
        snapshot = self.due_snapshot(aggregate, before) if conn is None else None
        done = await self._store.append(stream, events, expected=ExpectedVersion.exact(before), conn=conn)
        aggregate.mark_events_as_committed(len(events))
        if snapshot is not None:
            await self.keep(snapshot)
        return done

    def due_snapshot(self, aggregate: AggregateT, before: int) -> Snapshot | None:
        """A snapshot of an aggregate as it is, if its way there from a version on says that it is time to.

        Args:
            aggregate: What it has raised is about to be saved; the snapshot is kept only after that.
            before: The version.
        """
        if self._snapshots is None or not self._policy.is_due(before, aggregate.version):
            return None
        return self._snapshots.taken(aggregate)

    async def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, now that its event is committed; a failure costs time only, and is logged."""
        if self._snapshots is not None:
            await self._snapshots.keep(snapshot)

    def save_along(self, aggregate: AggregateT) -> Any:
        """What `save` does in a caller's transaction, to go along in another's round trip; None if it cannot.

        When that transaction is committed, `saved_along` is to be called. Raises as `save` does.
        """
        if is_observed():
            return None
        stream, before = self._checked(aggregate), aggregate.committed_version
        return self._store.append_along(stream, aggregate.uncommitted_events, expected=ExpectedVersion.exact(before))

    def saved_along(self, aggregate: AggregateT, along: Any) -> None:
        """What `save_along` gave is committed."""
        self._store.appended_along(along)
        aggregate.mark_events_as_committed(len(aggregate.uncommitted_events))

    def _checked(self, aggregate: AggregateT) -> StreamId:
        """An aggregate's stream.

        Raises:
            InvalidInputError: Of another class or tenant.
            TenantScopeError: Of another tenant than the scope that this runs in.
        """
        stream = aggregate.stream
        scoped(stream)
        if stream != self._stream(aggregate.aggregate_id):
            raise InvalidInputError(f"{stream} does not belong into this repository, of {self._stream('...')}")
        return stream

    async def execute(
        self,
        aggregate_id: UUID | str,
        command: Any,
        *,
        conn: Any = None,
    ) -> AggregateT:
        """Load, decide, save; again with a fresh load if somebody else was quicker.

        Args:
            aggregate_id: Which one; it is new if it has no events.
            command: For a `DeciderAggregate` what ``decide`` takes. For others a function of the aggregate, async or
                plain, which may be called several times: ``lambda order: order.place(total)``.
            conn: The caller's transaction. Then a conflict is not retried: the transaction is lost.

        Returns:
            The aggregate, saved.

        Raises:
            OptimisticLockError: Somebody else was quicker each time.
            BusinessRuleException: The command is refused; nothing was written.
            InvalidInputError: Not a function, and the aggregate is no decider.
        """
        attempt = 1
        while True:
            aggregate = await self.load_or_create(aggregate_id, conn=conn)
            await _executed(aggregate, command)
            try:
                await self.save(aggregate, conn=conn)
            except OptimisticLockError:
                if conn is not None or attempt >= self._attempts:
                    raise
                await anyio.sleep(random.uniform(0, _FIRST_PAUSE * 2**attempt))  # noqa: S311 - spreads, guards nothing
                attempt += 1
            else:
                return aggregate

    async def create_snapshot(self, aggregate: AggregateT) -> bool:
        """Leave a snapshot now, whatever the policy says; whether there is one.

        Raises:
            ConfigurationError: There is no place for it, or the aggregate has events that are not saved.
        """
        if self._snapshots is None:
            raise ConfigurationError("this repository keeps no snapshots: pass snapshots, or snapshot_store")
        if aggregate.has_uncommitted_events or not aggregate.version:
            raise ConfigurationError(f"{aggregate.stream} is not saved: snapshots are of committed state only")
        snapshot = self._snapshots.taken(aggregate)
        return snapshot is not None and await self._snapshots.keep(snapshot)


async def _executed(aggregate: AggregateRoot[Any], command: Any) -> None:
    if isinstance(aggregate, DeciderAggregate):
        aggregate.execute(command)
        return
    if not callable(command):
        raise InvalidInputError(
            f"{type(aggregate).__name__} is no decider: execute takes a function of it, not {shown(command)}"
        )
    function: Callable[[Any], Awaitable[Any] | Any] = command
    given = function(aggregate)
    if inspect.isawaitable(given):
        await given


@dataclass(frozen=True, slots=True)
class KnownState:
    """A snapshot, and the state that was read out of it."""

    snapshot: Snapshot
    state: Any

    def is_of(self, found: LoadedStream) -> bool:
        """Whether a stream that was read from right before it on holds its event; else it is not to be trusted."""
        if found.first is not None and found.first.event.event_id == self.snapshot.event_id:
            return True
        stream, version = self.snapshot.stream, self.snapshot.version
        _log.warning("the snapshot of %s is of other events, at version %d: ignored", stream, version)
        return False


class _Snapshots:
    """What a repository knows of the snapshots of its class."""

    def __init__(self, store: SnapshotStore, aggregate: type[AggregateRoot[Any]]) -> None:
        self._store = store
        kind = aggregate.__state_type__
        if kind is None:
            raise ConfigurationError(f"{aggregate.__name__} does not say what its state is: derive it from Base[State]")
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
            looks = json.dumps(self._adapter.json_schema(mode="serialization"), sort_keys=True)
        except PydanticUserError as error:
            raise ConfigurationError(f"the state of {aggregate.__name__} cannot be written as JSON: {error}") from error
        self._schema = f"{aggregate.schema_version}-{hashlib.sha256(looks.encode()).hexdigest()[:16]}"

    async def load(self, stream: StreamId, version: int | None, conn: Any) -> "KnownState | None":
        """A snapshot that fits, and the state that it holds."""
        found = await self._store.load(stream, conn=conn)
        if found is None or found.schema != self._schema or (version is not None and found.version > version):
            return None
        try:
            return KnownState(found, self._adapter.validate_json(found.state))
        except ValueError:
            _log.warning("the snapshot of %s at version %d cannot be read: ignored", stream, found.version)
            return None

    def taken(self, aggregate: AggregateRoot[Any]) -> Snapshot | None:
        """A snapshot of the state as it is; None if what is read back would be another state."""
        event_id = aggregate.last_event_id
        try:
            document = self._adapter.dump_json(aggregate.state, by_alias=True, round_trip=True, warnings="error")
            same = self._adapter.validate_json(document) == aggregate.state
        except ValueError:
            same, document = False, b""
        if not same or event_id is None:
            _log.warning("%s gets no snapshot: its state is another when it is read back", aggregate.stream)
            return None
        return Snapshot(aggregate.stream, aggregate.version, event_id, self._schema, document)

    async def keep(self, snapshot: Snapshot) -> bool:
        """Keep a snapshot of what is committed; a failure costs time only, and is logged."""
        try:
            await self._store.save(snapshot)
        except MainstayError:
            _log.warning("the snapshot of %s could not be kept", snapshot.stream, exc_info=True)
            return False
        return True
