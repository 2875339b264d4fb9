"""Deciders for groups of commands: many streams loaded at once, states kept in memory, what they decide written down.

What a decider has in memory after a commit is what the log has, and a stream's version says whether it still is: no
event ever changes, so a state at a version is the state. So the newest states are kept, and a command for one of them
costs no question. The commit compares the versions; what was not written is forgotten, and so is everything when the
connection breaks: the server that answers then may know less than the one before.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from mainstay.commands.deciders import Decided, Decider, Fate, Held
from mainstay.deciding.repositories import Repositories, naming_an_aggregate
from mainstay.deciding.store import GroupStore, HeldStreams, StreamConsequence, ToCommit, stream_name
from mainstay.errors import MainstayError, StorageUnavailableError
from mainstay.events.checks import check_appends
from mainstay.events.decider import DeciderAggregate
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import Snapshot, SnapshotPolicy
from mainstay.events.store import Append, EventStore
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.events.tracing import GroupAppending, carrying
from mainstay.tenancy import current_tenant

_ENDS = {Fate.APPLIED: "appended", Fate.MOVED: "conflict", Fate.LOCKED: "conflict", Fate.CLOSED: "refused"}
"""How telemetry calls what became of an append."""
MOST_KEPT = 10_000
"""States that are kept in memory."""


class StreamDecider:
    """An aggregate in memory that decides; see `mainstay.commands.deciders.Decider`."""

    __slots__ = ("_name", "_repository", "_store", "aggregate", "committed")

    def __init__(
        self, store: EventStore, repository: AggregateRepository[Any], aggregate: DeciderAggregate[Any, Any]
    ) -> None:
        self.aggregate = aggregate
        self.committed = 0
        self._store = store
        self._repository = repository
        self._name = stream_name(aggregate.stream)

    @property
    def is_settled(self) -> bool:
        """Whether all that it has decided is committed."""
        return self.aggregate.version == self.committed

    def decide(self, command: Any) -> StreamConsequence:
        """Decide on a command; the next one is decided on with what follows from it."""
        aggregate = self.aggregate
        before = aggregate.version
        events, others = aggregate.decide_on(command)
        if not events:
            return StreamConsequence(aggregate.stream, before, sends=others, name=self._name)
        append = self._store.written(Append(aggregate.stream, events, ExpectedVersion.exact(before)))
        check_appends([append])
        snapshot = self._repository.due_snapshot(aggregate, before)
        aggregate.mark_events_as_committed()
        return StreamConsequence(aggregate.stream, before, carrying(append.events), others, snapshot, self._name)

    def unchanged(self) -> StreamConsequence:
        """That nothing follows, in the state as it is."""
        return StreamConsequence(self.aggregate.stream, self.aggregate.version, name=self._name)


class EventDeciders:
    """Loads deciders from a store of events, and commits what they decide; see `mainstay.commands.deciders`.

    Args:
        store: Where the events are.
        groups: Where groups are committed.
        snapshots: When to leave a snapshot; it is kept after the COMMIT. Never, unless given.
    """

    def __init__(self, store: EventStore, groups: GroupStore, *, snapshots: SnapshotPolicy | None = None) -> None:
        self._store = store
        self._groups = groups
        self._repositories = Repositories(store, snapshots)
        self._kept: OrderedDict[StreamId, StreamDecider] = OrderedDict()
        self._keeping: set[asyncio.Task[None]] = set()
        self._named: dict[tuple[type, UUID | str, UUID | str | None], StreamId] = {}
        """Streams that were asked for lately: to see that an id is one takes longer than to find it."""

    def check(self, kind: type) -> None:
        """Refuse what is no aggregate, or one whose snapshots cannot be kept.

        Raises:
            ConfigurationError: It is.
        """
        self._repositories.of(kind)

    def stream_of(self, kind: type, aggregate_id: UUID | str) -> StreamId:
        """What names the stream of an aggregate, in the scope that this is called in."""
        asked = kind, aggregate_id, current_tenant()
        try:
            named = self._named.get(asked)
        except TypeError:  # a list, for instance: no id either
            named = None
        if named is None:
            decider = cast("type[DeciderAggregate[Any, Any]]", kind)
            with naming_an_aggregate():
                named = StreamId(decider.aggregate_type, aggregate_id, current_tenant())
            if len(self._named) >= MOST_KEPT:
                self._named.clear()
            self._named[asked] = named
        return named

    # -- loading -------------------------------------------------------------------------------------------------------
    async def load(
        self, wanted: Mapping[Hashable, type], *, fresh: bool = False, held: Held | None = None
    ) -> dict[Hashable, Decider | Exception]:
        """The deciders of streams, new ones for streams without events; of one that cannot be loaded the reason."""
        found: dict[Hashable, Decider | Exception] = {}
        missing: dict[type, list[StreamDecider]] = {}
        for name, kind in wanted.items():
            stream = cast("StreamId", name)
            kept = self._kept.get(stream)
            if kept is None or type(kept.aggregate) is not kind:
                made = StreamDecider(self._store, self._repositories.of(kind), _new(kind, stream))
                missing.setdefault(kind, []).append(made)
                continue
            self._kept.move_to_end(stream)
            found[stream] = kept
            if fresh and kept.is_settled:
                missing.setdefault(kind, []).append(kept)
        for kind, deciders in missing.items():
            found |= await self._loaded(self._repositories.of(kind), deciders, cast("HeldStreams | None", held))
        return found

    async def _loaded(
        self, repository: AggregateRepository[Any], deciders: Sequence[StreamDecider], held: HeldStreams | None
    ) -> dict[Hashable, Decider | Exception]:
        try:
            await repository.load_all(
                [each.aggregate for each in deciders],
                conn=None if held is None else held.conn,
                read=None if held is None else held.found,
            )
        except StorageUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - of one of them; what a class raises may be anything
            if len(deciders) == 1:
                return {deciders[0].aggregate.stream: error}
            found: dict[Hashable, Decider | Exception] = {}
            for each in deciders:
                anew = _new(type(each.aggregate), each.aggregate.stream)
                found |= await self._loaded(repository, [StreamDecider(self._store, repository, anew)], held)
            return found
        for each in deciders:
            each.committed = each.aggregate.version
            self._kept[each.aggregate.stream] = each
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return {each.aggregate.stream: each for each in deciders}

    # -- committing ----------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def holding(self, streams: Sequence[Hashable]) -> AsyncIterator[HeldStreams]:
        """A transaction that holds streams, as far as nobody else does; if others hold all, it waits for one.

        What others have appended to those that are kept is read in the same round trip.
        """
        mine = cast("Sequence[StreamId]", streams)
        after = {each: self._kept[each].committed for each in mine if each in self._kept}
        async with self._groups.holding(mine, after) as held:
            yield held
        for each in held.snapshots:
            self._keep(each)

    async def commit(self, domain: str, group: Sequence[Decided], *, held: Held | None = None) -> list[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing."""
        decisions = [ToCommit(each.outcome, cast("StreamConsequence", each.consequence)) for each in group]
        seen, held_streams = GroupAppending(), cast("HeldStreams | None", held)
        try:
            fates = await self._groups.commit(domain, decisions, held=held_streams)
        except MainstayError as error:
            if isinstance(error, StorageUnavailableError):
                self._kept.clear()
            raise
        for each, fate in zip(decisions, fates, strict=True):
            if fate is Fate.APPLIED and each.consequence.written:
                self._applied(each.consequence, held_streams)
        seen.done(
            (each.consequence.stream_id.category, each.consequence.written, _ENDS[fate])
            for each, fate in zip(decisions, fates, strict=True)
            if each.consequence.written and fate in _ENDS
        )
        return fates

    def _applied(self, done: StreamConsequence, held: HeldStreams | None) -> None:
        """Note that events are written; a snapshot of them is kept when they are committed."""
        decider = self._kept.get(done.stream_id)
        if decider is not None:
            decider.committed = done.version
        if done.snapshot is not None and held is not None:
            held.snapshots.append(done.snapshot)
        elif done.snapshot is not None:
            self._keep(done.snapshot)

    def _keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, beside what goes on."""
        decider = self._kept.get(snapshot.stream)
        if decider is not None:
            keeping = self._repositories.of(type(decider.aggregate)).keep(snapshot)
            task = asyncio.create_task(keeping, name="mainstay-snapshot")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    def forget(self, deciders: Iterable[Decider]) -> None:
        """Load their streams anew when they are asked for next: what these have in memory does not come true."""
        for each in deciders:
            stream = cast("StreamDecider", each).aggregate.stream
            if self._kept.get(stream) is each:
                del self._kept[stream]

    async def close(self) -> None:
        """Finish keeping snapshots, and forget all states."""
        while self._keeping:
            await asyncio.wait(self._keeping)
        self._kept.clear()
        await self._groups.close()


def _new(kind: type, stream: StreamId) -> DeciderAggregate[Any, Any]:
    made: DeciderAggregate[Any, Any] = kind(stream.id, tenant_id=stream.tenant_id)
    return made
