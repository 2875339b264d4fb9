"""Buses of events, as users of the door write them."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from eventsource import (
    AggregateRepository,
    DeclarativeAggregate,
    DomainEvent,
    EventBus,
    InMemoryEventBus,
    InMemoryEventStore,
    handles,
)
from mainstay.delivery.consumer import ConsumerConfig
from mainstay.delivery.memory import MemoryBus
from mainstay.errors import ConfigurationError, InvalidInputError
from mainstay.event_bus import BrokerEventBus, RedisEventBusConfig
from mainstay.event_messages import EventMessages, as_message, as_recorded
from mainstay.events.stream import StreamId
from mainstay.retry import RetryPolicy
from tests.support.waiting import eventually


class ParcelSent(DomainEvent, aggregate_type="BusParcel", event_type="TestBusParcelSent"):
    to: str


class ParcelLost(DomainEvent, aggregate_type="BusParcel", event_type="TestBusParcelLost"):
    pass


class Parcel(DeclarativeAggregate[dict]):
    aggregate_type = "BusParcel"

    @handles(ParcelSent)
    def _sent(self, event):
        self._state = {"to": event.to}


class Desk:
    def __init__(self, fails=0):
        self.seen = []
        self.fails = fails

    def subscribed_to(self):
        return [ParcelSent]

    async def handle(self, event):
        if self.fails:
            self.fails -= 1
            raise ValueError("not yet")
        self.seen.append(event)


def sent(to="Bonn", **changes):
    return ParcelSent(to=to, aggregate_id="p", **changes)


async def test_events_are_handed_to_those_who_want_them_in_any_way() -> None:
    bus, desk, everything, plain = InMemoryEventBus(), Desk(), [], []

    async def take(event):
        plain.append(event)

    bus.subscribe_all(desk)
    bus.subscribe_to_all_events(everything.append)
    bus.subscribe(ParcelLost, take)
    events = [sent(), ParcelLost(aggregate_id="p")]

    await bus.publish(events)

    assert (desk.seen, everything, plain) == (events[:1], events, events[1:])
    assert bus.unsubscribe(ParcelLost, take)
    assert not bus.unsubscribe(ParcelLost, take)
    assert bus.unsubscribe_from_all_events(everything.append) in {True, False}
    await bus.publish([ParcelLost(aggregate_id="p")])
    assert len(plain) == 1


async def test_a_handler_that_fails_hinders_no_other(caplog) -> None:
    bus, seen = InMemoryEventBus(), []
    bus.subscribe_all(Desk(fails=1))
    bus.subscribe(ParcelSent, seen.append)

    await bus.publish([sent()])

    assert len(seen) == 1
    assert "a handler of TestBusParcelSent failed" in caplog.text


async def test_what_is_published_in_the_background_is_waited_for_at_the_end() -> None:
    bus, seen = InMemoryEventBus(), []
    bus.subscribe(ParcelSent, seen.append)

    await bus.publish([sent()], background=True)
    await bus.shutdown(timeout=5.0)

    assert len(seen) == 1


async def test_what_hangs_in_the_background_is_canceled_at_the_end() -> None:
    bus = InMemoryEventBus()

    async def hang(_):
        await asyncio.Event().wait()

    bus.subscribe(ParcelSent, hang)
    await bus.publish([sent()], background=True)

    await bus.shutdown(timeout=0.0)

    await eventually(lambda: not bus._under_way)


async def test_a_repository_tells_a_bus_what_it_saved() -> None:
    bus, desk = InMemoryEventBus(), Desk()
    bus.subscribe_all(desk)
    repo = AggregateRepository(event_store=InMemoryEventStore(), aggregate_factory=Parcel, event_publisher=bus)
    parcel = repo.create_new(uuid4())
    parcel.create_event(ParcelSent, to="Ulm")

    await repo.save(parcel)

    assert [event.to for event in desk.seen] == ["Ulm"]


async def test_a_bus_on_a_broker_hands_events_to_handlers_once_they_work() -> None:
    topic, desk = MemoryBus(), Desk(fails=1)
    config = ConsumerConfig(retry_policy=RetryPolicy(max_attempts=3, backoff_schedule=[0.0]), on_error="dead_letter")
    bus = BrokerEventBus(topic, group="desk", config=config)
    bus.subscribe_all(desk)
    event = sent(metadata={"shop": "Köln"}, correlation_id=uuid4(), actor_id="ann", tenant_id=uuid4())

    async with bus:
        await bus.start_consuming()
        await bus.publish([event])
        await bus.publish([sent("Ulm")], background=True)
        await eventually(lambda: len(desk.seen) == 2)
        await bus.shutdown()

    assert desk.seen[0] == event.model_copy(update={"aggregate_version": desk.seen[0].aggregate_version})
    assert [event.to for event in desk.seen] == ["Bonn", "Ulm"]


async def test_an_event_that_no_stream_has_is_not_published() -> None:
    async with BrokerEventBus(MemoryBus()) as bus:
        with pytest.raises(InvalidInputError, match="does not say which stream"):
            await bus.publish([ParcelSent(to="Bonn")])


@pytest.mark.parametrize(("what", "handler"), [("Parcel", print), (str, print), (ParcelSent, 7)])
def test_what_cannot_be_subscribed_is_refused(what, handler) -> None:
    with pytest.raises(ConfigurationError, match=r"subscribe\(\) takes|a handler has"):
        InMemoryEventBus().subscribe(what, handler)


async def test_a_bus_of_ones_own_derives_from_the_base() -> None:
    with pytest.raises(NotImplementedError):
        await EventBus().publish([])


def test_settings_of_eventsource_are_settings_of_a_consumer() -> None:
    config = RedisEventBusConfig(max_retries=2, retry_base_delay=0.5, retry_jitter=0.0).consuming()

    assert config.retry_policy.max_attempts == 3
    assert [config.retry_policy.delay_after(attempt) for attempt in (1, 2)] == [0.5, 1.0]
    assert config.on_error == "dead_letter"


async def test_a_message_is_the_event_again() -> None:
    store = InMemoryEventStore()
    await store.append(StreamId("BusParcel", "p"), [sent(metadata={"a": 1}, causation_id=uuid4())])
    (recorded,) = (await store.log.read_feed(after=0, limit=1)).events

    message = as_message(recorded)

    assert as_recorded(message) == recorded
    (event,) = EventMessages().events(message)
    assert (event.to, event.metadata, event.aggregate_version) == ("Bonn", {"a": 1}, 1)


@pytest.mark.parametrize("changed", [{"occurred-at": "yesterday"}, {"category": None}, {"event-version": "x"}])
def test_a_message_that_is_no_events_is_refused(changed) -> None:
    (message,) = EventMessages().messages([sent()])
    headers = {name: value for name, value in {**message.headers, **changed}.items() if value is not None}

    with pytest.raises(InvalidInputError, match="is no event's"):
        as_recorded(replace(message, headers=headers))
