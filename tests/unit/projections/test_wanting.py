"""A class of events that has another name now: nobody passes by what was stored under the old one, and nobody knows."""

import pytest

from mainstay.errors import ConfigurationError
from mainstay.events.event import DomainEvent
from mainstay.events.memory import MemoryEventLog
from mainstay.events.registry import EventRegistry
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.projection import Projection
from mainstay.projections.subscription import SubscriptionManager
from tests.support.waiting import eventually

STREAM = StreamId("Parcel", "one")


class Posted(DomainEvent, aggregate_type="Parcel", event_type="ParcelPosted"):
    number: int


class Mailed(DomainEvent, aggregate_type="Parcel", event_type="ParcelMailed"):
    number: int


class Weighed(DomainEvent, aggregate_type="Parcel", event_type="ParcelWeighed"):
    grams: int


class Posts(Projection):
    """Takes what it is told to."""

    name = "posts"

    def __init__(self, *kinds):
        self.kinds = kinds
        self.seen = []

    def wanted(self, source):
        return source.filter(types=self.kinds or None)

    async def handle(self, envelope, conn):
        self.seen.append(envelope.event)


class Place:
    """A log and checkpoints, which code of one day after the other meets."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.checkpoints = MemoryProjectionStore()

    async def run(self, registry: EventRegistry, *kinds, append=(), until=None):
        """What a projection that wants these is given, by code that knows what is in the registry."""
        store = EventStore(self.log, registry=registry)
        posts = Posts(*kinds)
        manager = SubscriptionManager(store, self.checkpoints)
        await manager.subscribe(posts)
        if append:
            await store.append(STREAM, list(append))
        async with manager:
            await eventually(lambda: len(posts.seen) >= (len(append) if until is None else until))
        return posts.seen


@pytest.fixture
async def place():
    """A day on which a parcel was posted, and that was handled."""
    found = Place()
    await found.run(EventRegistry([Posted, Weighed]), Posted, append=[Posted(number=1)])
    return found


async def test_a_class_that_was_renamed_in_silence_stops_its_subscription(place) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"ParcelPosted.*registry\.rename\(.*registry\.retire\("):
            await place.run(EventRegistry([Mailed, Weighed]), Mailed)


async def test_a_class_whose_new_name_is_told_goes_on(place) -> None:
    registry = EventRegistry([Mailed, Weighed])
    registry.rename("ParcelPosted", Mailed)
    await EventStore(place.log, registry=EventRegistry([Posted])).append(STREAM, [Posted(number=2)])

    seen = await place.run(registry, Mailed, append=[Mailed(number=3)], until=2)

    assert [each.number for each in seen] == [2, 3]


async def test_what_is_known_need_not_be_wanted_for_ever(place) -> None:
    assert await place.run(EventRegistry([Posted, Weighed]), Weighed) == []
    assert await place.run(EventRegistry([Weighed]), Weighed) == []


async def test_a_type_that_was_retired_is_let_go(place) -> None:
    registry = EventRegistry([Weighed])
    registry.retire("ParcelPosted")

    assert await place.run(registry, Weighed) == []
    assert await place.run(EventRegistry([Weighed]), Weighed) == []


async def test_a_type_of_which_nothing_is_stored_may_change_its_name() -> None:
    place = Place()
    await place.run(EventRegistry([Posted]), Posted)

    assert await place.run(EventRegistry([Mailed]), Mailed) == []


async def test_who_wants_all_passes_by_nothing(place) -> None:
    registry = EventRegistry([Mailed, Weighed])
    registry.rename("ParcelPosted", Mailed)

    assert [type(each) for each in await place.run(registry, append=[Weighed(grams=5)])] == [Weighed]
