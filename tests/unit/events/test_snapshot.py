"""Snapshots, and the repositories that leave them."""

import logging
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from mainstay.errors import (
    ConfigurationError,
    OptimisticLockError,
    StorageError,
)
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.registry import EventRegistry
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import MemorySnapshotStore, Snapshot, SnapshotPolicy
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId

ID = UUID("00000000-0000-4000-8000-000000000001")


class Counted(DomainEvent):
    by: int = 1


class Total(BaseModel):
    total: int = 0
    events: int = 0


class Counter(DeclarativeAggregate[Total]):
    applied = 0

    def count(self, by: int = 1) -> None:
        self.raise_event(Counted, by=by)

    @handles(Counted)
    def _counted(self, event: Counted) -> None:
        Counter.applied += 1
        self._state = Total(total=self._state.total + event.by, events=self._state.events + 1)


@pytest.fixture
def store() -> InMemoryEventStore:
    return InMemoryEventStore(registry=EventRegistry([Counted]))


@pytest.fixture
def repo(store: InMemoryEventStore) -> AggregateRepository[Counter]:
    return AggregateRepository(store, Counter)


async def counted(repo: AggregateRepository[Counter], times: int, aggregate_id: UUID | str = ID) -> Counter:
    counter = await repo.load_or_create(aggregate_id)
    for _ in range(times):
        counter.count()
        await repo.save(counter)
    return counter


@pytest.fixture
def snapshots() -> MemorySnapshotStore:
    return MemorySnapshotStore()


@pytest.fixture
def snapping(store: InMemoryEventStore, snapshots: MemorySnapshotStore) -> AggregateRepository[Counter]:
    return AggregateRepository(store, Counter, snapshots=SnapshotPolicy.every(5), snapshot_store=snapshots)


STREAM = StreamId("Counter", ID)


async def test_loading_begins_at_the_snapshot(
    snapping: AggregateRepository[Counter], snapshots: MemorySnapshotStore
) -> None:
    await counted(snapping, 12)
    found = await snapshots.load(STREAM)
    assert found is not None
    assert found.version == 10
    before = Counter.applied

    counter = await snapping.load(ID)

    assert Counter.applied - before == 2
    assert (counter.version, counter.state) == (12, Total(total=12, events=12))
    counter.count()
    await snapping.save(counter)


async def test_a_save_that_passes_several_multiples_leaves_one_snapshot(
    snapping: AggregateRepository[Counter], snapshots: MemorySnapshotStore
) -> None:
    counter = snapping.create_new(ID)
    for _ in range(13):
        counter.count()
    await snapping.save(counter)

    found = await snapshots.load(STREAM)
    assert found is not None
    assert found.version == 13


async def test_a_snapshot_holds_committed_state_only(store: InMemoryEventStore, snapshots: MemorySnapshotStore) -> None:
    """Somebody goes on with the aggregate while it is saved; what it raises then is not stored."""

    class Slow(InMemoryEventStore):
        async def append(self, *args: Any, **options: Any) -> Any:
            done = await super().append(*args, **options)
            counter.count(1_000)
            return done

    repo = AggregateRepository(
        Slow(registry=EventRegistry([Counted])), Counter, snapshots=SnapshotPolicy.every(1), snapshot_store=snapshots
    )
    counter = repo.create_new(ID)
    counter.count(1)
    await repo.save(counter)

    assert counter.uncommitted_events[0].aggregate_version == 2
    assert (await repo.load(ID)).state == Total(total=1, events=1)


async def test_no_snapshot_is_left_by_a_transaction_that_may_roll_back(
    store: InMemoryEventStore, snapping: AggregateRepository[Counter], snapshots: MemorySnapshotStore
) -> None:
    async with store.transaction() as conn:
        counter = snapping.create_new(ID)
        for _ in range(5):
            counter.count()
        await snapping.save(counter, conn=conn)

    assert await snapshots.load(STREAM) is None


async def test_no_snapshot_is_left_by_a_save_that_was_refused(
    snapping: AggregateRepository[Counter], snapshots: MemorySnapshotStore
) -> None:
    await counted(snapping, 4)
    stale = await snapping.load(ID)
    stale.count(100)
    await counted(snapping, 0)
    other = await snapping.load(ID)
    other.count(1)
    other.count(1)
    await snapping.save(other)

    with pytest.raises(OptimisticLockError):
        await snapping.save(stale)

    found = await snapshots.load(STREAM)
    assert found is not None
    assert found.version == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_id": uuid4()},
        {"version": 400},
        {"schema": "2-0000000000000000"},
        {"state": b"{"},
        {"state": b'{"total": "many"}'},
        {"state": b"[]"},
    ],
)
async def test_a_snapshot_that_is_wrong_is_ignored(
    snapping: AggregateRepository[Counter], snapshots: MemorySnapshotStore, wrong: dict[str, Any]
) -> None:
    await counted(snapping, 7)
    found = await snapshots.load(STREAM)
    assert found is not None
    await snapshots.delete(STREAM)
    await snapshots.save(replace(found, **{"state": b'{"total": 666, "events": 5}', **wrong}))

    counter = await snapping.load(ID)

    assert (counter.version, counter.state) == (7, Total(total=7, events=7))


async def test_a_snapshot_of_a_state_that_looks_otherwise_is_ignored(store: InMemoryEventStore) -> None:
    class Old(BaseModel):
        total: int = 0

    class OldCounter(DeclarativeAggregate[Old]):
        aggregate_type = "Counter"

        @handles(Counted)
        def _counted(self, event: Counted) -> None:
            self._state = Old(total=self._state.total + event.by)

    class NextCounter(Counter):
        aggregate_type = "Counter"
        schema_version = 2

    always = SnapshotPolicy.every(1)
    for kind in (OldCounter, Counter, NextCounter, Counter):
        repo: AggregateRepository[Any] = AggregateRepository(store, kind, snapshots=always)
        loaded = await repo.load_or_create(ID)
        before = loaded.version
        assert loaded.state.total == before
        assert getattr(loaded.state, "events", before) == before
        loaded.raise_event(Counted)
        await repo.save(loaded)


async def test_a_state_that_is_another_when_it_is_read_back_gets_no_snapshot(
    store: InMemoryEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Lossy(BaseModel):
        seen: Any = ()

    class Forgetful(DeclarativeAggregate[Lossy]):
        @handles(Counted)
        def _counted(self, event: Counted) -> None:
            self._state = Lossy(seen=(*self._state.seen, event.by))

    repo = AggregateRepository(store, Forgetful, snapshots=SnapshotPolicy.every(1))
    with caplog.at_level(logging.WARNING):
        await repo.execute(ID, lambda each: each.raise_event(Counted))

    assert store.snapshots is not None
    assert await store.snapshots.load(StreamId("Forgetful", ID)) is None
    assert "is another when it is read back" in caplog.text


async def test_a_snapshot_that_cannot_be_kept_costs_nothing_but_time(
    store: InMemoryEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(MemorySnapshotStore):
        async def save(self, snapshot: Snapshot, *, conn: Any = None) -> None:
            raise StorageError("full")

    repo = AggregateRepository(store, Counter, snapshots=SnapshotPolicy.every(1), snapshot_store=Full())
    with caplog.at_level(logging.WARNING):
        counter = await counted(repo, 1)

    assert not counter.has_uncommitted_events
    assert "could not be kept" in caplog.text
    assert not await repo.create_snapshot(counter)


async def test_a_snapshot_is_taken_by_hand(store: InMemoryEventStore, snapshots: MemorySnapshotStore) -> None:
    repo = AggregateRepository(store, Counter, snapshot_store=snapshots)
    counter = await counted(repo, 3)
    assert await snapshots.load(STREAM) is None

    assert await repo.create_snapshot(counter)

    found = await snapshots.load(STREAM)
    assert found is not None
    assert found.version == 3
    counter.count()
    with pytest.raises(ConfigurationError, match="committed state only"):
        await repo.create_snapshot(counter)
    with pytest.raises(ConfigurationError, match="keeps no snapshots"):
        await AggregateRepository(store, Counter).create_snapshot(counter)


async def test_an_older_snapshot_does_not_replace_a_newer_one(snapshots: MemorySnapshotStore) -> None:
    newer = Snapshot(STREAM, 5, uuid4(), "1", b"{}")
    await snapshots.save(newer)

    await snapshots.save(replace(newer, version=4))

    assert await snapshots.load(STREAM) == newer


@pytest.mark.parametrize(("before", "after", "due"), [(0, 4, False), (4, 5, True), (5, 9, False), (3, 12, True)])
def test_a_snapshot_is_due_when_a_multiple_is_passed(before: int, after: int, due: bool) -> None:  # noqa: FBT001 - data
    assert SnapshotPolicy.every(5).is_due(before, after) is due
    assert not SnapshotPolicy.never().is_due(before, after)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "5"])
def test_a_policy_takes_a_number_of_events(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"SnapshotPolicy\.every"):
        SnapshotPolicy.every(bad)
