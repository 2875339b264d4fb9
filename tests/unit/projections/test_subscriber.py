"""Those who take events and know nothing of positions."""

import pytest

from mainstay.errors import ConfigurationError
from mainstay.events.event import DomainEvent
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.projection import Projection
from mainstay.projections.subscriber import (
    AsyncEventHandler,
    EventHandler,
    EventProjection,
    EventSubscriber,
    FlexibleEventHandler,
    FlexibleEventSubscriber,
    Subscriber,
    SyncEventHandler,
    SyncEventProjection,
    as_projection,
)
from mainstay.projections.subscription import SubscriptionManager

QUICK = SubscriptionConfig(poll=0.05)


class Sown(DomainEvent, aggregate_type="Field", event_type="SubscriberSown"):
    seeds: int


class SownTwice(Sown, event_type="SubscriberSownTwice"):
    pass


class Reaped(DomainEvent, aggregate_type="Field", event_type="SubscriberReaped"):
    sheaves: int


class Ledger(EventSubscriber):
    def __init__(self):
        self.seen = []

    def subscribed_to(self):
        return [Sown]

    async def handle(self, event):
        self.seen.append(event)


class Diary:
    """Has no base."""

    def __init__(self):
        self.seen = []

    def handle(self, event):
        self.seen.append(event)


class Gleaner(AsyncEventHandler):
    def __init__(self):
        self.seen = []

    def can_handle(self, event):
        return isinstance(event, Reaped)

    async def handle(self, event):
        self.seen.append(event)


class Chronicle(EventProjection):
    def __init__(self):
        self.seen = []

    async def handle(self, event):
        self.seen.append(event)

    async def reset(self):
        self.seen.clear()


EVENTS = [Sown(seeds=1), Reaped(sheaves=2), SownTwice(seeds=3)]


async def told(subscriber, name=None, *, events=EVENTS, tombstoned=False):
    store = InMemoryEventStore()
    manager = SubscriptionManager(store, MemoryProjectionStore())
    field = StreamId("Field", "a")
    done = await store.append(field, events)
    if tombstoned:
        await store.tombstone(field, reason="sold", actor="ann")
    await manager.subscribe(subscriber, QUICK, name=name)
    async with manager:
        await manager.wait_until(done.position)
    return manager


async def test_a_subscriber_gets_the_classes_that_it_names_and_what_is_derived_from_them():
    ledger = Ledger()

    manager = await told(ledger)

    assert [type(event) for event in ledger.seen] == [Sown, SownTwice]
    assert list(manager.subscriptions) == ["Ledger"]


@pytest.mark.parametrize("kind", [Diary, Chronicle])
async def test_who_names_no_classes_gets_all_events(kind):
    everything = kind()

    manager = await told(everything, name="all of it")

    assert [type(event) for event in everything.seen] == [Sown, Reaped, SownTwice]
    assert list(manager.subscriptions) == ["all of it"]


async def test_a_handler_may_pass_events_by():
    gleaner = Gleaner()

    await told(gleaner)

    assert [type(event) for event in gleaner.seen] == [Reaped]


async def test_what_is_left_of_a_tombstoned_stream_is_kept_from_those_who_name_classes():
    ledger, diary = Ledger(), Diary()

    await told(ledger, tombstoned=True)
    await told(diary, tombstoned=True)

    assert ledger.seen == []
    assert [event.event_type for event in diary.seen] == ["SubscriberSown", "SubscriberReaped", "SubscriberSownTwice"]


@pytest.mark.parametrize("classes", [[], ["Sown"], [int]])
async def test_a_subscriber_must_name_classes_of_events(classes):
    ledger = Ledger()
    ledger.subscribed_to = lambda: classes

    with pytest.raises(ConfigurationError, match="must name classes of events"):
        await told(ledger)


@pytest.mark.parametrize("subscriber", [None, Ledger, lambda event: None, "Ledger"])
async def test_what_takes_no_events_cannot_be_subscribed(subscriber):
    with pytest.raises(ConfigurationError, match=r"handle\(event\)"):
        await told(subscriber)


def test_a_projection_stays_as_it_is_but_for_a_name():
    class Sums(Projection):
        async def handle(self, envelope, conn):
            pass

    sums = Sums()

    assert as_projection(sums) is sums
    assert as_projection(sums, "other").name == "other"
    assert Sums.name == "Sums"


def test_an_error_policy_is_that_of_the_subscriber():
    diary = Diary()
    diary.on_error = "dead_letter"

    assert (Subscriber(diary).on_error, Subscriber(Diary()).on_error) == ("dead_letter", "stop")


def test_shapes_are_recognized_by_their_methods():
    assert isinstance(Ledger(), EventHandler | FlexibleEventSubscriber)
    assert isinstance(Diary(), SyncEventHandler | FlexibleEventHandler)
    assert not isinstance(Diary(), FlexibleEventSubscriber)
    with pytest.raises(TypeError, match="abstract"):
        SyncEventProjection()
