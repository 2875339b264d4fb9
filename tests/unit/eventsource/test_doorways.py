"""Classes with the arguments that users of `eventsource` write."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys

import pytest

import mainstay
from mainstay.doorways import (
    AggregateRepository,
    CheckpointFile,
    CheckpointTrackingProjection,
    DatabaseProjection,
    DeclarativeProjection,
    SnapshotFile,
    SubscriptionConfig,
    SubscriptionManager,
)
from mainstay.errors import AggregateNotFoundError, ConfigurationError, OptimisticLockError
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.snapshot import MemorySnapshotStore
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.projections.memory import MemoryProjectionStore


class Stamped(DomainEvent, event_type="doorways.Stamped"):
    pass


class Letter(DeclarativeAggregate[int]):
    def stamp(self):
        self.create_event(Stamped)

    def _get_initial_state(self):
        return 0

    @handles(Stamped)
    def _stamped(self, event):
        self._state = self.state + 1


class Publisher:
    def __init__(self, error=None):
        self.error = error
        self.told = []

    async def publish(self, events):
        if self.error:
            raise self.error
        self.told += events


@pytest.fixture
def store():
    return InMemoryEventStore()


async def stamped(repository, name, times=1):
    letter = await repository.load_or_create(name)
    for _ in range(times):
        letter.stamp()
    await repository.save(letter)
    return letter


# --- repositories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
async def test_a_repository_is_made_from_a_store_and_a_factory(store, named):
    repository = (
        AggregateRepository(event_store=store, aggregate_factory=Letter, aggregate_type="Letter")
        if named
        else AggregateRepository(store, Letter, "Letter")
    )

    await stamped(repository, "a", times=2)

    assert isinstance(repository, mainstay.AggregateRepository)
    assert (await repository.get_or_raise("a")).state == 2
    assert (repository.event_store, repository.aggregate_type) == (store, "Letter")
    with pytest.raises(AggregateNotFoundError):
        await repository.get_or_raise("b")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"aggregate_type": "Parcel"}, "let the class say it"),
        ({"snapshot_mode": "now"}, "snapshot_mode is"),
        ({"event_publisher": "bus"}, r"publish\(events\)"),
        ({"snapshot_threshold": 0}, "at least 1"),
    ],
)
def test_a_repository_refuses_what_it_cannot_mean(store, arguments, reason):
    with pytest.raises(ConfigurationError, match=reason):
        AggregateRepository(store, Letter, **arguments)


async def test_a_publisher_is_told_of_what_is_committed(store):
    publisher = Publisher()
    repository = AggregateRepository(store, Letter, event_publisher=publisher)

    letter = await stamped(repository, "a", times=2)
    await repository.save(letter)
    other = repository.create_new("a")
    other.stamp()
    with pytest.raises(OptimisticLockError):
        await repository.save(other)
    async with store.transaction() as tx:
        letter.stamp()
        await repository.save(letter, conn=tx)

    assert [event.aggregate_version for event in publisher.told] == [1, 2]


async def test_a_publisher_that_fails_does_not_undo_what_is_stored(store, caplog):
    repository = AggregateRepository(store, Letter, event_publisher=Publisher(OSError("no line")))

    letter = await stamped(repository, "a")

    assert not letter.has_uncommitted_events
    assert (await repository.load("a")).version == 1
    assert "1 events of Letter/a are stored, and could not be published" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        ({"snapshot_threshold": 2}, 2),
        ({"snapshot_threshold": 2, "snapshot_mode": "background"}, 2),
        ({"snapshot_threshold": 2, "snapshot_mode": "manual"}, None),
        ({}, None),
    ],
)
async def test_snapshots_are_left_as_the_arguments_say(store, arguments, version):
    kept = MemorySnapshotStore()
    repository = AggregateRepository(store, Letter, snapshot_store=kept, **arguments)

    await stamped(repository, "a", times=2)

    found = await kept.load(StreamId("Letter", "a"))
    assert (None if found is None else found.version) == version
    assert await repository.await_pending_snapshots() == 0


async def test_a_manual_snapshot_goes_to_the_stores_own_place(store):
    repository = AggregateRepository(store, Letter, snapshot_mode="manual")

    letter = await stamped(repository, "a")

    assert await repository.create_snapshot(letter)
    assert await store.snapshots.load(letter.stream) is not None


# --- subscriptions ----------------------------------------------------------------------------------------------------


class Count:
    def __init__(self):
        self.seen = 0

    async def handle(self, event):
        self.seen += 1


@pytest.mark.parametrize("bus", [None, Publisher()])
async def test_a_manager_takes_a_bus_that_it_does_not_need(store, bus):
    checkpoints = MemoryProjectionStore()
    manager = SubscriptionManager(store, bus, checkpoints, dlq_repo=MemoryProjectionStore())
    count = Count()

    await manager.subscribe(count, SubscriptionConfig(start_from="beginning", batch_size=10), name="count")
    await manager.start()
    await stamped(AggregateRepository(store, Letter), "a", times=3)
    await manager.wait_until(3)
    await manager.stop()

    assert count.seen == 3
    assert [state.subscription for state in await checkpoints.states()] == ["count"]


def test_a_place_for_checkpoints_is_not_taken_for_a_bus(store):
    with pytest.raises(ConfigurationError, match="checkpoint_repo="):
        SubscriptionManager(store, MemoryProjectionStore())


@pytest.mark.parametrize(
    ("start_from", "start"), [("beginning", "beginning"), ("checkpoint", "beginning"), ("end", "now"), (7, 7)]
)
def test_where_a_new_subscription_begins(start_from, start):
    assert SubscriptionConfig(start_from=start_from).start == start


@pytest.mark.parametrize("start_from", ["now", None, -1, True])
def test_a_start_that_is_none_is_refused(start_from):
    with pytest.raises(ConfigurationError):
        SubscriptionConfig(start_from=start_from)


def test_the_other_settings_are_those_of_the_room():
    config = SubscriptionConfig("end", 7, shards=3)

    assert (config.batch_size, config.shards, config.start) == (7, 3, "now")


async def test_who_pauses_and_resumes_need_not_say_who_it_is(store):
    manager = SubscriptionManager(store, checkpoint_repo=MemoryProjectionStore())
    await manager.subscribe(Count())

    await manager.pause("Count")
    (paused,) = await manager.health()
    await manager.resume("Count")
    (resumed,) = await manager.health()

    assert (str(paused.status), str(resumed.status)) == ("PAUSED", "ACTIVE")


async def test_a_manager_runs_until_it_is_shut_down(store):
    manager = SubscriptionManager(store, checkpoint_repo=MemoryProjectionStore(), shutdown_timeout=5)
    count = Count()
    await manager.subscribe(count)
    running = asyncio.create_task(manager.run_until_shutdown())
    await stamped(AggregateRepository(store, Letter), "a")
    await manager.wait_until(1)

    os.kill(os.getpid(), signal.SIGTERM)
    await running

    assert count.seen == 1


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "number"), [(1, 1), (ExpectedVersion.stream_exists(), -2)])
def test_a_lock_error_is_made_from_an_id_and_two_versions(expected, number):
    error = OptimisticLockError("letter", expected, 2)

    assert (error.aggregate_id, error.expected_version, error.actual_version) == ("letter", number, 2)
    assert pickle.loads(pickle.dumps(error)).expected_version == number


# --- projections ------------------------------------------------------------------------------------------------------


class Post(DeclarativeProjection):
    def __init__(self, checkpoint_repo=None, dlq_repo=None):
        super().__init__(checkpoint_repo=checkpoint_repo, dlq_repo=dlq_repo, enable_tracing=True)
        self.stamps = 0

    @handles(Stamped)
    async def _stamped(self, event):
        self.stamps += 1

    async def _truncate_read_models(self):
        self.stamps = 0


class Tracking(CheckpointTrackingProjection):
    def __init__(self, checkpoint_repo=None):
        super().__init__(checkpoint_repo)
        self.stamps = 0

    def subscribed_to(self):
        return [Stamped]

    async def _process_event(self, event):
        self.stamps += 1


@pytest.mark.parametrize("kind", [Post, Tracking])
async def test_a_projection_is_made_from_the_place_of_its_checkpoint(store, kind):
    checkpoints = MemoryProjectionStore()
    projection = kind(checkpoint_repo=checkpoints)
    manager = SubscriptionManager(store, checkpoint_repo=checkpoints)
    await manager.subscribe(projection)

    async with manager:
        await stamped(AggregateRepository(store, Letter), "a", times=2)
        await manager.wait_until(2)

    assert projection.stamps == 2
    assert [state.checkpoint.position for state in await checkpoints.states(kind.__name__)] == [2]
    await projection.reset()


@pytest.mark.parametrize("kept", [None, MemoryProjectionStore()])
async def test_a_projection_whose_checkpoint_would_be_elsewhere_is_refused(store, kept):
    manager = SubscriptionManager(store, checkpoint_repo=kept)

    with pytest.raises(ConfigurationError, match="Post wants its checkpoint elsewhere"):
        await manager.subscribe(Post(checkpoint_repo=MemoryProjectionStore()))
    await manager.subscribe(Post())


async def test_a_projection_may_begin_again():
    post = Post()
    await post.handle(Stamped())

    await post.reset()

    assert post.stamps == 0


def test_a_database_projection_is_one_of_the_rooms():
    class Rows(DatabaseProjection):
        @handles(Stamped)
        async def _stamped(self, conn, event):
            pass

    assert isinstance(Rows(checkpoint_repo=None), mainstay.DatabaseProjection)
    assert Rows.name == "Rows"


# --- SQLite, or not ---------------------------------------------------------------------------------------------------


async def test_snapshots_and_checkpoints_may_have_a_file_of_their_own(store, tmp_path):
    count = Count()
    async with (
        SnapshotFile(tmp_path / "snapshots.sqlite") as kept,
        CheckpointFile(tmp_path / "checkpoints.sqlite") as at,
    ):
        repository = AggregateRepository(store, Letter, snapshot_store=kept, snapshot_threshold=2)
        letter = await stamped(repository, "a", times=2)
        manager = SubscriptionManager(store, checkpoint_repo=at)
        await manager.subscribe(count)
        async with manager:
            await manager.wait_until(2)

        found = await kept.load(letter.stream)
        (state,) = await at.states("Count")

    assert (found.version, state.checkpoint.position, count.seen) == (2, 2, 2)


def test_without_the_extra_the_door_opens_and_what_needs_it_says_what_to_install():
    program = (
        "import sys; sys.modules['aiosqlite'] = None; import eventsource\n"
        "assert eventsource.SQLITE_AVAILABLE is False\n"
        "for kind in (eventsource.SQLiteSnapshotStore, eventsource.SQLiteCheckpointRepository, "
        "eventsource.SQLiteEventStore):\n"
        "    try: kind('events.sqlite')\n"
        "    except eventsource.EventSourceError as error: assert 'mainstay[sqlite]' in str(error)\n"
        "    else: raise AssertionError(kind)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""
