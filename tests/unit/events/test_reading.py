"""Pages on their way, and what is known of a class: the short cuts of reading change nothing."""

import asyncio
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest

from mainstay.clock import SystemClock
from mainstay.errors import CorruptEventError, UnknownEventTypeError
from mainstay.events.event import DomainEvent
from mainstay.events.log import FeedPage
from mainstay.events.memory import MemoryEventLog
from mainstay.events.registry import EventRegistry
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId

STREAM = StreamId("Lamp", "hall")


class Lit(DomainEvent):
    watts: int


class Dimmed(DomainEvent):
    watts: int


class WatchedLog(MemoryEventLog):
    """Remembers what it was asked, and may keep a question waiting."""

    def __init__(self, patient_until: int = 2**62) -> None:
        super().__init__(SystemClock())
        self.asked: list[int] = []
        self.canceled: list[int] = []
        self._patient_until = patient_until

    async def read_feed(self, **asked: Any) -> FeedPage:
        after = asked.get("after", 0)
        self.asked.append(after)
        if after >= self._patient_until:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.canceled.append(after)
                raise
        return await super().read_feed(**asked)


async def lit(log: MemoryEventLog, count: int) -> EventStore:
    store = EventStore(log, registry=EventRegistry([Lit, Dimmed]))
    await store.append(STREAM, [Lit(watts=number) for number in range(count)])
    return store


async def test_from_the_second_page_on_the_next_one_is_asked_for_while_one_is_used() -> None:
    log = WatchedLog()
    store = await lit(log, 4)

    seen = [(each.position, list(log.asked)) async for each in store.read_all(page=1)]

    assert seen == [(1, [0]), (2, [0, 1, 2]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3])]


async def test_no_page_is_asked_for_beyond_the_limit() -> None:
    log = WatchedLog(patient_until=3)
    store = await lit(log, 9)

    assert [each.position async for each in store.read_all(page=1, limit=3)] == [1, 2, 3]
    assert log.asked == [0, 1, 2]


async def test_who_stops_reading_leaves_no_question_behind() -> None:
    log = WatchedLog(patient_until=2)
    store = await lit(log, 4)

    async with aclosing(store.read_all(page=1)) as events:  # type: ignore[type-var]  # it is a generator
        async for each in events:
            if each.position == 2:
                break

    assert log.canceled == [2]


async def test_an_error_of_a_page_on_its_way_comes_in_its_turn() -> None:
    class Failing(WatchedLog):
        async def read_feed(self, **asked: Any) -> FeedPage:
            if asked["after"] >= 2:
                raise ConnectionError("lost")
            return await super().read_feed(**asked)

    events = (await lit(Failing(), 4)).read_all(page=1)

    assert [(await anext(events)).position for _ in range(2)] == [1, 2]
    with pytest.raises(ConnectionError):
        await anext(events)


async def test_what_is_registered_after_a_type_was_read_is_heeded() -> None:
    store = await lit(MemoryEventLog(), 1)

    async def read() -> Any:
        (event,) = [each.event async for each in store.read_all()]
        return event

    assert type(await read()) is Lit
    store.registry.rename("Lit", Dimmed)
    assert type(await read()) is Dimmed
    store.registry.upcast("Dimmed", from_version=1, into=["Lit"])(lambda _: None)
    assert [each async for each in store.read_all()] == []
    store.registry.upcasters.clear()
    assert type(await read()) is Lit
    store.registry.unregister("Lit")
    with pytest.raises(UnknownEventTypeError):
        await read()
    store.registry.register(Lit)
    assert type(await read()) is Lit


async def test_a_class_that_is_defined_again_replaces_the_one_that_was_read() -> None:
    name = f"Lamp{uuid4().hex}"

    def defined() -> type[DomainEvent]:
        class Again(DomainEvent, event_type=name):
            watts: int = 0

        return Again

    store = EventStore(MemoryEventLog())
    first = defined()
    await store.append(STREAM, [first()])
    assert [type(each.event) async for each in store.read_all()] == [first]

    second = defined()

    assert [type(each.event) async for each in store.read_all()] == [second]


async def test_a_payload_that_does_not_fit_is_named_though_others_of_its_type_were_read() -> None:
    store = await lit(MemoryEventLog(), 1)
    (recorded,) = (await store.log.read_feed()).events
    assert len(store.codec.read(recorded)) == 1
    recorded.event.payload = b'{"watts": "many"}'

    with pytest.raises(CorruptEventError, match=r"at position 1 .*watts"):
        store.codec.read(recorded)
