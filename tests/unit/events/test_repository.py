"""Repositories."""

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from mainstay.clock import FrozenClock
from mainstay.errors import (
    AggregateNotFoundError,
    BusinessRuleException,
    ConfigurationError,
    InvalidInputError,
    OptimisticLockError,
    StreamTombstonedError,
)
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.decider import DeciderAggregate
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.registry import EventRegistry
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore, InMemoryEventStore
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


class Purse(DeciderAggregate[Total, int]):
    @staticmethod
    def initial_state() -> Total:
        return Total()

    @staticmethod
    def decide(state: Total, command: int) -> Iterable[DomainEvent]:
        if state.total + command < 0:
            raise BusinessRuleException("EMPTY", "not enough")
        return [Counted(by=command)]

    @staticmethod
    def evolve(state: Total, event: DomainEvent) -> Total:
        assert isinstance(event, Counted)
        return Total(total=state.total + event.by, events=state.events + 1)


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


# --- loading and saving -----------------------------------------------------------------------------------------------


async def test_what_is_saved_is_loaded(repo: AggregateRepository[Counter]) -> None:
    counter = repo.create_new(ID)
    counter.count(3)
    counter.count(4)

    done = await repo.save(counter)

    assert done is not None
    assert done.version == 2
    assert (counter.has_uncommitted_events, counter.committed_version) == (False, 2)
    loaded = await repo.load(ID)
    assert (loaded.state, loaded.version) == (Total(total=7, events=2), 2)
    assert await repo.save(loaded) is None


async def test_an_aggregate_without_events_is_not_there(repo: AggregateRepository[Counter]) -> None:
    with pytest.raises(AggregateNotFoundError) as caught:
        await repo.load(ID)

    assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("Counter", ID)
    assert await repo.get_or_none(ID) is None
    assert (await repo.load_or_create(ID)).version == 0
    assert not await repo.exists(ID)
    assert await repo.get_version(ID) == 0


async def test_existence_and_version_are_told_without_loading(repo: AggregateRepository[Counter]) -> None:
    await counted(repo, 3)
    before = Counter.applied

    assert await repo.exists(str(ID))
    assert await repo.get_version(ID) == 3
    assert Counter.applied == before


async def test_a_tombstoned_aggregate_is_gone(store: InMemoryEventStore, repo: AggregateRepository[Counter]) -> None:
    await counted(repo, 3)
    await store.tombstone(StreamId("Counter", ID), reason="asked to", actor="me")

    assert not await repo.exists(ID)
    with pytest.raises(StreamTombstonedError):
        await repo.load(ID)


async def test_who_comes_second_is_refused_and_keeps_its_events(repo: AggregateRepository[Counter]) -> None:
    await counted(repo, 1)
    first, second = await repo.load(ID), await repo.load(ID)
    first.count()
    second.count()
    await repo.save(first)

    with pytest.raises(OptimisticLockError):
        await repo.save(second)

    assert second.has_uncommitted_events
    assert (await repo.load(ID)).version == 2


async def test_an_aggregate_is_loaded_as_it_was() -> None:
    clock = FrozenClock()
    repo = AggregateRepository(
        InMemoryEventStore(clock=clock, registry=EventRegistry([Counted])), Counter, snapshots=SnapshotPolicy.every(2)
    )
    times = []
    for _ in range(5):
        await counted(repo, 1)
        times.append(clock.now())
        clock.advance(60)

    for version in range(1, 6):
        assert (await repo.load(ID, version=version)).state.events == version
        assert (await repo.load(ID, at=times[version - 1])).version == version
    old = await repo.load(ID, version=3)
    old.count()
    with pytest.raises(OptimisticLockError):
        await repo.save(old)


async def test_a_tenants_aggregates_are_not_anothers(store: InMemoryEventStore) -> None:
    acme = AggregateRepository(store, Counter, tenant_id="acme")
    bolt = AggregateRepository(store, Counter, tenant_id="bolt")
    counter = await counted(acme, 2)

    assert counter.tenant_id == "acme"
    assert not await bolt.exists(ID)
    counter.count()
    with pytest.raises(InvalidInputError, match=r"Counter/.*@acme does not belong"):
        await bolt.save(counter)
    with pytest.raises(InvalidInputError, match="does not belong"):
        await AggregateRepository(store, Purse).save(counter)  # type: ignore[arg-type]  # that is what is refused


async def test_a_save_in_a_transaction_is_gone_with_it(
    store: InMemoryEventStore, repo: AggregateRepository[Counter]
) -> None:
    async def rolled_back() -> None:
        async with store.transaction() as conn:
            counter = repo.create_new(ID)
            counter.count()
            await repo.save(counter, conn=conn)
            assert (await repo.load(ID, conn=conn)).version == 1
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await rolled_back()

    assert not await repo.exists(ID)


async def test_events_that_upcasters_drop_still_count(store: InMemoryEventStore) -> None:
    repo = AggregateRepository(store, Counter)
    await counted(repo, 3)
    store.registry.upcast(Counted, from_version=1)(lambda _: None)

    counter = await repo.load(ID)

    assert (counter.version, counter.state) == (3, Total())
    assert counter.committed_version == 3


async def test_an_aggregate_whose_events_were_all_dropped_is_created_all_the_same(store: InMemoryEventStore) -> None:
    class Opened(Counter):
        aggregate_type = "Opened"
        requires_creation_event = True

    repository = AggregateRepository(store, Opened)
    await repository.execute(ID, lambda counter: counter.count())
    store.registry.upcast(Counted, from_version=1)(lambda _: None)

    counter = await repository.load(ID)

    assert (counter.version, counter.is_created, counter.state) == (1, True, Total())


# --- executing --------------------------------------------------------------------------------------------------------


async def test_a_command_is_decided_and_saved(store: InMemoryEventStore) -> None:
    repo = AggregateRepository(store, Purse)

    purse = await repo.execute("mine", 5)
    await repo.execute("mine", -3)

    assert purse.has_uncommitted_events is False
    assert (await repo.load("mine")).state.total == 2


async def test_a_refused_command_writes_nothing(store: InMemoryEventStore) -> None:
    repo = AggregateRepository(store, Purse)

    with pytest.raises(BusinessRuleException):
        await repo.execute("mine", -3)

    assert not await repo.exists("mine")


async def test_commands_at_once_are_all_carried_out(store: InMemoryEventStore) -> None:
    repo = AggregateRepository(store, Purse, attempts=100)

    await asyncio.gather(*(repo.execute("mine", 1) for _ in range(30)))

    assert (await repo.load("mine")).state == Total(total=30, events=30)


async def test_other_aggregates_are_given_a_function(repo: AggregateRepository[Counter]) -> None:
    async def later(counter: Counter) -> None:
        await asyncio.Event().wait() if counter.version > 5 else counter.count(2)

    await repo.execute(ID, lambda counter: counter.count(3))
    counter = await repo.execute(ID, later)

    assert counter.state.total == 5
    with pytest.raises(InvalidInputError, match="Counter is no decider"):
        await repo.execute(ID, 7)


class Overtaken(InMemoryEventStore):
    """A store in which somebody else always appends first."""

    def __init__(self, times: int) -> None:
        super().__init__(registry=EventRegistry([Counted]))
        self.times = times

    async def append(self, stream: StreamId, *args: Any, **options: Any) -> Any:
        if self.times:
            self.times -= 1
            await super().append(stream, [Counted(by=100)], conn=options.get("conn"))
        return await super().append(stream, *args, **options)


async def test_a_conflict_is_retried_with_a_fresh_load() -> None:
    repo = AggregateRepository(Overtaken(2), Purse, attempts=3)

    purse = await repo.execute("mine", 1)

    assert purse.state == Total(total=201, events=3)


async def test_a_conflict_is_not_retried_for_ever() -> None:
    store = Overtaken(1_000)
    repo = AggregateRepository(store, Purse, attempts=3)

    with pytest.raises(OptimisticLockError):
        await repo.execute("mine", 1)

    assert store.times == 997


async def test_a_conflict_in_a_callers_transaction_is_not_retried() -> None:
    store = Overtaken(1_000)

    async with store.transaction() as conn:
        with pytest.raises(OptimisticLockError):
            await AggregateRepository(store, Purse).execute("mine", 1, conn=conn)

    assert store.times == 999


def test_a_repository_that_cannot_work_is_refused(store: InMemoryEventStore) -> None:
    class Untyped(AggregateRoot):  # type: ignore[type-arg]  # that is what is refused
        pass

    class Strange(AggregateRoot[asyncio.Event]):
        pass

    for arguments, options, reason in [
        ((store, int), {}, "derived from AggregateRoot"),
        ((store, Counter), {"attempts": 0}, "attempts"),
        ((EventStore(store.log), Counter), {"snapshots": SnapshotPolicy.every(1)}, "keeps no snapshots"),
        ((store, Untyped), {"snapshots": SnapshotPolicy.every(1)}, "does not say what its state is"),
        ((store, Strange), {"snapshots": SnapshotPolicy.every(1)}, "cannot be written as JSON"),
    ]:
        with pytest.raises(ConfigurationError, match=reason):
            AggregateRepository(*arguments, **options)  # type: ignore[type-var,arg-type]  # that is what is refused
