"""Typed stores and repositories on every engine: classes in, classes out, snapshots, and one transaction."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from mainstay import (
    AggregateRepository,
    DeclarativeAggregate,
    DomainEvent,
    EventRegistry,
    EventTombstone,
    InMemoryEventStore,
    OptimisticLockError,
    PostgreSQLEventStore,
    Snapshot,
    SnapshotPolicy,
    SQLiteEventStore,
    StreamId,
    handles,
)

ID = UUID("00000000-0000-4000-8000-00000000000a")
STREAM = StreamId("Meter", ID)


class MeterRead(DomainEvent):
    value: Decimal
    reader: UUID | None = None

    def tags(self):
        return [f"reader:{self.reader}"]


class Sum(BaseModel):
    total: Decimal = Decimal(0)
    readings: int = 0


class Meter(DeclarativeAggregate[Sum]):
    def read(self, value):
        self.raise_event(MeterRead, value=value)

    @handles(MeterRead)
    def _read(self, event):
        self._state = Sum(total=self._state.total + event.value, readings=self._state.readings + 1)


class StoreContract:
    """What holds on every engine."""

    snapshots_roll_back = True

    @pytest.fixture
    def repo(self, store):
        return AggregateRepository(store, Meter, snapshots=SnapshotPolicy.every(5), attempts=200)

    async def test_what_is_appended_is_read_as_it_was(self, store):
        event = MeterRead(
            value=Decimal("1.10"), reader=uuid4(), actor_id="me", correlation_id=uuid4(), metadata={"a": [1, None, "é"]}
        )
        done = await store.append(STREAM, [event, MeterRead(value=2)], expected=0)

        first, second = [envelope async for envelope in store.read_all()]

        assert done.version == 2
        assert first.event == event.model_copy(
            update={"aggregate_id": ID, "aggregate_type": "Meter", "aggregate_version": 1}
        )
        assert (first.stream, first.version, second.version) == (STREAM, 1, 2)
        assert (await store.load_stream(STREAM)).events == [first.event, second.event]
        (done,) = await store.append_if(
            [MeterRead(value=3)], fail_if=store.query(MeterRead), after=done.position, stream=STREAM
        )
        assert done.version == 3

    async def test_saves_at_once_are_all_kept_and_leave_snapshots(self, store, repo):
        await asyncio.gather(*(repo.execute(ID, lambda meter: meter.read(1)) for _ in range(12)))

        meter = await repo.load(ID)

        assert (meter.version, meter.state) == (12, Sum(total=Decimal(12), readings=12))
        snapshot = await store.snapshots.load(STREAM)
        assert snapshot is not None
        assert snapshot.version in {5, 10}
        stale = await repo.load(ID, version=11)
        stale.read(1)
        with pytest.raises(OptimisticLockError):
            await repo.save(stale)

    async def test_a_save_and_its_snapshot_store_follow_the_callers_transaction(self, store, repo):
        async def rolled_back():
            async with store.transaction() as conn:
                meter = await repo.load_or_create(ID, conn=conn)
                meter.read(7)
                await repo.save(meter, conn=conn)
                await store.snapshots.save(Snapshot(STREAM, 1, uuid4(), "1", b"{}"), conn=conn)
                assert (await repo.load(ID, conn=conn)).version == 1
                assert await store.snapshots.load(STREAM, conn=conn) is not None
                raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            await rolled_back()

        assert not await repo.exists(ID)
        assert (await store.snapshots.load(STREAM) is None) == self.snapshots_roll_back

    async def test_the_newest_snapshot_of_a_schema_is_kept(self, store):
        kept = Snapshot(STREAM, 5, uuid4(), "1", '{"é": 1}'.encode())
        await store.snapshots.save(kept)

        await store.snapshots.save(replace(kept, version=4))
        assert await store.snapshots.load(STREAM) == kept
        await store.snapshots.save(replace(kept, version=6))
        assert (await store.snapshots.load(STREAM)).version == 6
        await store.snapshots.save(replace(kept, version=2, schema="2"))
        assert (await store.snapshots.load(STREAM)).schema == "2"
        assert await store.snapshots.load(StreamId("Meter", ID, "acme")) is None
        await store.snapshots.delete(STREAM)
        await store.snapshots.delete(STREAM)
        assert await store.snapshots.load(STREAM) is None

    async def test_a_tombstone_forgets_the_snapshot_too(self, store, repo):
        for _ in range(5):
            await repo.execute(ID, lambda meter: meter.read(1))
        assert await store.snapshots.load(STREAM) is not None

        await store.tombstone(STREAM, reason="asked to", actor="me")

        assert await store.snapshots.load(STREAM) is None
        assert not await repo.exists(ID)
        assert {type(envelope.event) async for envelope in store.read_all()} == {EventTombstone}


class TestInMemoryEventStore(StoreContract):
    snapshots_roll_back = False
    """They take no notice of transactions, which a cache can bear: one without its event is ignored."""

    @pytest.fixture
    def store(self):
        return InMemoryEventStore(registry=EventRegistry([MeterRead]))


class TestSQLiteEventStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with SQLiteEventStore(tmp_path / "events.sqlite", registry=EventRegistry([MeterRead])) as opened:
            yield opened


class TestPostgreSQLEventStore(StoreContract):
    @pytest.fixture
    def store(self, pool):
        return PostgreSQLEventStore(pool, registry=EventRegistry([MeterRead]))
