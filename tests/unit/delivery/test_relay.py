"""The relay on memory: what is published, in which order, and what an error of the broker means."""

import json
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from mainstay.delivery.memory import MemoryBus
from mainstay.errors import BusForgotError, BusUnavailableError, ConfigurationError, MessageRefusedError
from mainstay.events.event import DomainEvent
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.store import Checkpoint, ShardStatus
from mainstay.projections.subscription import SubscriptionManager
from mainstay.relay import Relay
from mainstay.retry import RetryPolicy
from tests.support.waiting import eventually

NAME = "relay to events"
QUICK = SubscriptionConfig(batch_size=5, poll=0.05, retry_policy=RetryPolicy(max_attempts=2, backoff_schedule=[0.0]))


class Shipped(DomainEvent, aggregate_type="Parcel", event_type="TestShipped"):
    number: int


class Weighed(DomainEvent, aggregate_type="Parcel", event_type="TestWeighed"):
    grams: int


class Written(DomainEvent, aggregate_type="Letter", event_type="TestWritten"):
    words: int


class Unwilling(MemoryBus):
    """Refuses some numbers, and is away a few times."""

    def __init__(self, *, refuses=(), away=0):
        super().__init__()
        self.refuses = set(refuses)
        self.away = away
        self.answers_lost = 0

    async def publish(self, messages, *, sender=None):
        if self.away:
            self.away -= 1
            raise BusUnavailableError("away")
        for message in messages:
            if message.data.get("number") in self.refuses:
                raise MessageRefusedError(message.id, "not this one")
        await super().publish(messages, sender=sender)
        if self.answers_lost:
            self.answers_lost -= 1
            raise BusUnavailableError("the answer was lost")


@pytest.fixture
def store():
    return InMemoryEventStore()


@pytest.fixture
def checkpoints():
    return MemoryProjectionStore()


@pytest.fixture
async def manager(store, checkpoints):
    manager = SubscriptionManager(store, checkpoints)
    yield manager
    await manager.stop()


async def ship(store, *numbers, parcel="p"):
    done = await store.append(StreamId("Parcel", parcel), [Shipped(number=number) for number in numbers])
    return done.position


def numbers(bus):
    return [message.data["number"] for message in bus.published]


async def test_events_are_published_in_order_with_what_is_known_of_them(store, manager) -> None:
    bus, tenant, correlation = MemoryBus("parcels"), uuid4(), uuid4()
    event = Shipped(number=1, correlation_id=correlation, actor_id="ann", metadata={"shop": "Köln"})
    await store.append(StreamId("Parcel", "p", tenant), [event])
    await manager.subscribe(Relay(bus), QUICK)
    await manager.start()

    await manager.wait_until(await ship(store, 2, 3))

    first = bus.published[0]
    assert numbers(bus) == [1, 2, 3]
    assert list(manager.subscriptions) == ["relay to parcels"]
    assert (first.id, first.type, first.version, first.position) == (event.event_id, "TestShipped", 1, 1)
    assert first.stream == f"Parcel/p@{tenant}"
    assert json.loads(first.headers["metadata"]) == {"shop": "Köln"}
    assert dict(first.headers) == {
        "category": "Parcel",
        "aggregate-id": "p",
        "tenant-id": str(tenant),
        "event-version": "1",
        "occurred-at": event.occurred_at.isoformat(),
        "recorded-at": first.headers["recorded-at"],
        "correlation-id": str(correlation),
        "actor-id": "ann",
        "metadata": first.headers["metadata"],
    }


async def test_only_wanted_events_are_published(store, manager) -> None:
    by_type, by_category = MemoryBus("a"), MemoryBus("b")
    await manager.subscribe(Relay(by_type, types=[Weighed]), QUICK)
    await manager.subscribe(Relay(by_category, categories=["Crate"]), QUICK)
    await manager.start()
    await ship(store, 1)
    await store.append(StreamId("Parcel", "p"), [Weighed(grams=7)])

    await manager.wait_until((await store.append(StreamId("Crate", "c"), [_crate()])).position)

    assert [message.type for message in by_type.published] == ["TestWeighed"]
    assert [message.stream for message in by_category.published] == ["Crate/c"]


@pytest.mark.parametrize(
    "wrong",
    [{"categories": "Parcel"}, {"categories": []}, {"categories": [1]}, {"types": Weighed}, {"types": "TestWeighed"}],
)
def test_one_name_instead_of_several_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} are given as a list"):
        Relay(MemoryBus(), **wrong)


async def test_events_whose_class_is_unknown_are_published_too(store, checkpoints) -> None:
    from mainstay.events.registry import EventRegistry  # noqa: PLC0415 - one that knows nothing
    from mainstay.events.store import EventStore  # noqa: PLC0415 - as above

    position = await ship(store, 1, 2)
    elsewhere = EventStore(store.log, registry=EventRegistry([]))
    bus = MemoryBus()

    async with SubscriptionManager(elsewhere, checkpoints) as manager:
        await manager.subscribe(Relay(bus), QUICK)
        await manager.wait_until(position)

    assert numbers(bus) == [1, 2]


async def test_a_relay_may_be_told_of_fewer_types_by_name_where_nothing_knows_them(store, checkpoints) -> None:
    from mainstay.events.registry import EventRegistry  # noqa: PLC0415 - one that knows nothing
    from mainstay.events.store import EventStore  # noqa: PLC0415 - as above

    elsewhere, bus = EventStore(store.log, registry=EventRegistry([])), MemoryBus()
    async with SubscriptionManager(elsewhere, checkpoints) as manager:
        await manager.subscribe(Relay(bus, name="narrowed", types=["TestShipped", "TestWeighed"]), QUICK)
        await manager.wait_until(await ship(store, 1))

    async with SubscriptionManager(elsewhere, checkpoints) as manager:
        await manager.subscribe(Relay(bus, name="narrowed", types=["TestWeighed"]), QUICK)
        await store.append(StreamId("Parcel", "p"), [Weighed(grams=7)])
        await manager.wait_until(await ship(store, 2))

    assert [message.type for message in bus.published] == ["TestShipped", "TestWeighed"]


async def test_a_broker_that_is_away_is_waited_for_and_costs_no_attempt(store, manager, checkpoints) -> None:
    bus = Unwilling(away=2)
    await manager.subscribe(Relay(bus), QUICK)
    position = await ship(store, 1, 2, 3)
    await manager.start()

    await manager.wait_until(position)

    assert numbers(bus) == [1, 2, 3]
    assert (await checkpoints.states(NAME))[0].status is ShardStatus.ACTIVE


async def test_a_batch_whose_answer_was_lost_is_not_stored_twice_by_a_bus_that_can_tell(store, manager) -> None:
    bus = Unwilling()
    bus.answers_lost = 2
    await manager.subscribe(Relay(bus), QUICK)
    position = await ship(store, *range(12))
    await manager.start()

    await manager.wait_until(position)

    assert numbers(bus) == list(range(12))


async def test_a_batch_whose_answer_was_lost_is_stored_twice_without_a_sender(store, manager) -> None:
    """What the highest position is kept for: the naive way doubles."""

    class Naive(Unwilling):
        deduplicates = False

        async def publish(self, messages, *, sender=None):
            del sender
            await super().publish(messages)

    bus = Naive()
    bus.answers_lost = 1
    await manager.subscribe(Relay(bus), QUICK)
    position = await ship(store, *range(5))
    await manager.start()

    await manager.wait_until(position)

    assert numbers(bus) == [*range(5), *range(5)]


async def test_a_refused_event_stops_the_relay(store, manager, checkpoints) -> None:
    bus = Unwilling(refuses=[3])
    await manager.subscribe(Relay(bus), QUICK)
    await ship(store, 1, 2, 3, 4)
    await manager.start()

    await eventually(lambda: _is_stopped(checkpoints))

    assert numbers(bus) == [1, 2]
    (state,) = await checkpoints.states(NAME)
    assert "MessageRefusedError" in state.reason
    bus.refuses.clear()
    await manager.resume(NAME, actor="ann")
    await manager.wait_until(await ship(store, 5))
    assert numbers(bus) == [1, 2, 3, 4, 5]


async def test_a_refused_event_is_laid_apart_with_its_stream_and_published_in_order_by_a_replay(
    store, manager, checkpoints
) -> None:
    bus = Unwilling(refuses=[2])
    await manager.subscribe(Relay(bus, on_error="dead_letter"), QUICK)
    await ship(store, 1, 2, 3)
    await ship(store, 10, 11, parcel="q")
    await manager.start()
    await manager.wait_until(await ship(store, 4))

    assert numbers(bus) == [1, 10, 11]
    assert [letter.position for letter in await checkpoints.dead_letters(NAME)] == [2, 3, 6]
    bus.refuses.clear()

    await manager.replay(NAME, actor="ann")

    assert numbers(bus) == [1, 10, 11, 2, 3, 4]
    await manager.wait_until(await ship(store, 5))
    assert numbers(bus)[-1] == 5


async def test_a_relay_that_begins_again_publishes_nothing_twice(store, manager, checkpoints) -> None:
    bus = MemoryBus()
    await manager.subscribe(Relay(bus), QUICK)
    await manager.start()
    await manager.wait_until(await ship(store, 1, 2, 3))

    await checkpoints.reset(NAME, Checkpoint(), actor="ann")
    await manager.wait_until(await ship(store, 4))

    assert numbers(bus) == [1, 2, 3, 4]


async def test_a_relay_waits_if_the_broker_lost_what_it_had_confirmed(store, checkpoints) -> None:
    position = await ship(store, 1, 2)
    async with SubscriptionManager(store, checkpoints) as manager:
        await manager.subscribe(Relay(MemoryBus()), QUICK)
        await manager.wait_until(position)

    empty = MemoryBus()
    async with SubscriptionManager(store, checkpoints) as manager:
        subscription = await manager.subscribe(Relay(empty), QUICK)
        await ship(store, 3)
        assert subscription.name == NAME
        with pytest.raises(TimeoutError):
            await manager.wait_until(position + 1, timeout=0.3)
        assert empty.published == []

        await checkpoints.reset(NAME, Checkpoint(), actor="ann")
        await manager.wait_until(position + 1)

    assert numbers(empty) == [1, 2, 3]


async def test_a_bus_that_forgets_while_a_relay_runs_is_found_out(store, manager) -> None:
    class Spied(MemoryBus):
        found = None

        async def publish(self, messages, *, sender=None):
            try:
                await super().publish(messages, sender=sender)
            except BusForgotError as error:
                self.found = error
                raise

    bus = Spied()
    await manager.subscribe(Relay(bus), QUICK)
    await manager.start()
    await manager.wait_until(await ship(store, 1, 2))
    bus._sent.clear()
    await ship(store, 3)

    error = await eventually(lambda: bus.found)

    assert (error.confirmed, error.found) == (2, 0)


async def test_shards_keep_the_order_of_each_stream(store, manager) -> None:
    bus = MemoryBus(partitions=2)
    await manager.subscribe(Relay(bus), SubscriptionConfig(batch_size=7, poll=0.05, shards=3))
    await manager.start()
    position = 0
    for round_ in range(6):
        for parcel in "abcdef":
            position = await ship(store, 2 * round_, 2 * round_ + 1, parcel=parcel)

    await manager.wait_until(position)

    assert len(bus.published) == 72
    for parcel in "abcdef":
        assert [each.version for each in bus.published if each.stream == f"Parcel/{parcel}"] == list(range(1, 13))


async def test_what_is_no_bus_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"publishes to a bus, such as MemoryBus\(\), not to 'redis"):
        Relay("redis://localhost")


async def _is_stopped(checkpoints):
    return (await checkpoints.states(NAME))[0].status is ShardStatus.STOPPED


def _crate():
    class Filled(DomainEvent, aggregate_type="Crate", event_type=f"TestFilled{uuid4().hex}"):
        pass

    return Filled()


async def test_a_relay_that_does_not_wait_for_the_answer_loses_events(store, manager) -> None:
    """What the checkpoint waits for: the naive way loses."""

    class Naive(Relay):
        @asynccontextmanager
        async def batch(self, conn, events):
            try:
                async with super().batch(conn, events) as outgoing:
                    yield outgoing
            except BusUnavailableError:
                pass

    bus = Unwilling(away=1)
    await manager.subscribe(Naive(bus), QUICK)
    position = await ship(store, *range(12))
    await manager.start()

    await manager.wait_until(position)

    assert numbers(bus) == list(range(5, 12))


async def relayed(store, checkpoints, bus, **options):
    """Subscribe a relay, as one process after another does, and let it publish what it wants."""
    manager = SubscriptionManager(store, checkpoints)
    await manager.subscribe(Relay(bus, **options), QUICK)
    async with manager:
        await manager.wait_until((await store.log.horizon()).position)


@pytest.mark.parametrize(
    ("narrow", "wide", "said"),
    [
        ({"categories": ["Letter"]}, {"categories": ["Letter", "Parcel"]}, "events of category Parcel"),
        ({"types": ["TestWritten"]}, {"types": ["TestWritten", "TestShipped"]}, "events of type TestShipped"),
        ({"types": [Written]}, {}, "events of every type"),
    ],
)
async def test_a_relay_that_is_told_of_more_says_what_it_has_passed_by(store, caplog, narrow, wide, said):
    checkpoints = MemoryProjectionStore()
    bus = MemoryBus()
    await ship(store, 1)
    await store.append(StreamId("Letter", "l"), [Written(words=5)])
    unheard_of = {key: [*value, "Unheard"] for key, value in narrow.items()}
    for options in (narrow, narrow, unheard_of, narrow):
        await relayed(store, checkpoints, bus, **options)
    assert caplog.messages == []

    for _ in range(2):
        await relayed(store, checkpoints, bus, **wide)

    (message,) = caplog.messages
    assert said in message
    assert "another name" in message
    assert [each.type for each in bus.published] == ["TestWritten"]
