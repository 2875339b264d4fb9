"""Calls by an aggregate's id and type, versions as numbers, options as one value, and the default registry."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import (
    ConfigurationError,
    DuplicateEventTypeError,
    InvalidInputError,
    OptimisticLockError,
    UnknownEventTypeError,
)
from mainstay.events import defaults
from mainstay.events.by_aggregate import AppendResult, EventStream
from mainstay.events.event import DomainEvent
from mainstay.events.options import ReadDirection, ReadOptions
from mainstay.events.registry import EventRegistry
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import ExpectedVersion, StreamId


class PagePrinted(DomainEvent, event_type="by-aggregate.PagePrinted"):
    number: int


@pytest.fixture
def clock():
    return FrozenClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def store(clock):
    return InMemoryEventStore(clock=clock, registry=EventRegistry([PagePrinted]))


def printed(count, first=1, **fields):
    return [PagePrinted(number=number, **fields) for number in range(first, first + count)]


def numbers(events):
    return [event.number for event in events]


# --- versions as numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (-1, ExpectedVersion.any()),
        (0, ExpectedVersion.no_stream()),
        (-2, ExpectedVersion.stream_exists()),
        (7, ExpectedVersion.exact(7)),
        (None, ExpectedVersion.any()),
    ],
)
def test_a_number_is_an_expectation_and_back(number, expected):
    assert ExpectedVersion.of(number) == expected
    assert ExpectedVersion.of(expected) is expected
    assert int(expected) == (-1 if number is None else number)


@pytest.mark.parametrize("number", [-3, True, "1", 1.0])
def test_other_numbers_are_refused(number):
    with pytest.raises(InvalidInputError):
        ExpectedVersion.of(number)


# --- append and read --------------------------------------------------------------------------------------------------


async def test_events_are_appended_and_read_by_an_aggregates_id_and_type(store):
    book = uuid4()

    done = await store.append_events(book, "Book", printed(2), 0)
    stream = await store.get_events(book, "Book")

    assert done == AppendResult(success=True, new_version=2, global_position=2)
    assert (stream.aggregate_id, stream.aggregate_type, stream.version, stream.is_empty) == (book, "Book", 2, False)
    assert numbers(stream.events) == [1, 2]
    assert stream.latest_event == stream.events[-1]
    assert await store.get_stream_version(book, "Book") == 2
    assert await store.get_global_position() == 2


async def test_what_was_never_written_is_empty(store):
    assert await store.get_events("none", "Book") == EventStream("none", "Book", [], 0)
    assert await store.get_stream_version("none", "Book") == 0


@pytest.mark.parametrize(
    ("expected", "there"),
    [(0, True), (2, True), (ExpectedVersion.STREAM_EXISTS, False), (ExpectedVersion.exact(1), False)],
)
async def test_a_stream_that_is_not_as_expected_takes_nothing(store, expected, there):
    if there:
        await store.append_events("b", "Book", printed(1), ExpectedVersion.NO_STREAM)

    with pytest.raises(OptimisticLockError) as raised:
        await store.append_events("b", "Book", printed(1, 9), expected)

    error = raised.value
    assert (error.aggregate_id, error.expected_version, error.actual_version) == ("b", int(expected), int(there))
    assert len((await store.get_events("b", "Book")).events) == int(there)


async def test_events_of_a_tenant_go_into_the_tenants_stream(store):
    await store.append_events("b", "Book", printed(1, tenant_id="acme"), 0)

    assert (await store.get_events("b", "Book")).is_empty
    assert not (await store.get_events("b", "Book", tenant_id="acme")).is_empty
    assert await store.get_stream_version("b", "Book", tenant_id="acme") == 1
    assert numbers(await store.get_events_by_type("Book", "acme")) == [1]


async def test_an_id_alone_names_no_stream(store):
    with pytest.raises(InvalidInputError, match="of which type"):
        await store.get_events("b")


async def test_a_part_of_a_stream_still_tells_its_version(store):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    events = [PagePrinted(number=day, occurred_at=start + timedelta(days=day)) for day in range(1, 5)]
    await store.append_events("b", "Book", events, 0)

    later = await store.get_events("b", "Book", from_version=2)
    window = await store.get_events(
        "b", "Book", from_timestamp=start + timedelta(days=2), to_timestamp=start + timedelta(days=3)
    )

    assert (numbers(later.events), later.version) == ([3, 4], 4)
    assert (numbers(window.events), window.version) == ([2, 3], 4)
    assert (await store.get_events("b", "Book", from_version=4)).version == 4


async def test_all_events_of_a_type_come_in_the_order_of_the_feed(store):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number, book in enumerate(["b", "a", "b"]):
        event = PagePrinted(number=number, occurred_at=start + timedelta(hours=number))
        await store.append_events(book, "Book", [event])
    await store.append_events("x", "Leaflet", printed(1, 9))

    assert numbers(await store.get_events_by_type("Book")) == [0, 1, 2]
    assert numbers(await store.get_events_by_type("Book", from_timestamp=start + timedelta(hours=1))) == [1, 2]
    assert numbers(await store.get_events_by_type("Book", from_timestamp=start.timestamp() + 7200)) == [2]


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ReadOptions(), [1, 2, 3, 4]),
        (ReadOptions(from_position=2), [3, 4]),
        (ReadOptions(limit=2), [1, 2]),
        (ReadOptions(direction=ReadDirection.BACKWARD, limit=2), [4, 3]),
        (ReadOptions(direction=ReadDirection.BACKWARD, from_position=3), [2, 1]),
        (ReadOptions(from_timestamp=datetime(2026, 1, 3, tzinfo=UTC)), [3, 4]),
        (ReadOptions(from_timestamp=datetime(2026, 1, 2, tzinfo=UTC), limit=1), [2]),
        (ReadOptions(to_timestamp=datetime(2026, 1, 2, tzinfo=UTC)), [1, 2]),
    ],
)
async def test_options_say_what_of_a_stream_is_wanted(store, clock, options, expected):
    book = UUID(int=5)
    for number in range(1, 5):
        await store.append_events(book, "Book", printed(1, number))
        clock.advance(timedelta(days=1))

    found = [each async for each in store.read_stream(f"{book}:Book", options)]

    assert numbers(each.event for each in found) == expected
    assert {each.stream_id for each in found} == {f"{book}:Book"}
    if options.direction is ReadDirection.FORWARD:
        assert numbers([each.event async for each in store.read_all(options)]) == expected


async def test_the_feed_is_not_read_backward(store):
    with pytest.raises(InvalidInputError, match="forward"):
        await anext(aiter(store.read_all(ReadOptions(direction=ReadDirection.BACKWARD))))


async def test_options_may_name_a_tenant(store):
    await store.append_events("b", "Book", printed(1))
    await store.append_events("b", "Book", printed(1, 2, tenant_id="acme"))

    assert numbers([each.event async for each in store.read_all(ReadOptions(tenant_id="acme"))]) == [2]


async def test_a_text_without_a_colon_names_no_stream(store):
    with pytest.raises(InvalidInputError, match="id:category"):
        await anext(aiter(store.read_stream("Book")))


async def test_an_envelope_tells_where_its_event_stands_in_other_words(store):
    await store.append_events("b", "Book", printed(1))

    (each,) = [each async for each in store.read_all()]

    assert (each.global_position, each.stream_position, each.stored_at) == (1, 1, each.recorded_at)
    assert (each.event_id, each.event_type) == (each.event.event_id, "by-aggregate.PagePrinted")
    assert (each.aggregate_id, each.aggregate_type) == ("b", "Book")


async def test_events_are_appended_in_the_callers_transaction(store):
    async with store.transaction() as tx:
        await store.append_events("b", "Book", printed(1), 0, conn=tx)
        assert (await store.get_events("b", "Book", conn=tx)).version == 1
        assert (await store.get_events("b", "Book")).is_empty
    assert StreamId("Book", "b") == (await anext(aiter(store.read_all()))).stream


# --- the default registry ---------------------------------------------------------------------------------------------


def test_a_class_is_in_the_default_registry_by_being_defined_and_by_being_registered():
    @defaults.register_event
    class FirstRegistered(DomainEvent):
        pass

    assert defaults.get_event_class("FirstRegistered") is FirstRegistered
    assert defaults.get_event_class("by-aggregate.PagePrinted") is PagePrinted
    assert defaults.get_event_class_or_none("nobody's") is None
    assert defaults.is_event_registered("FirstRegistered")
    assert {"FirstRegistered", "by-aggregate.PagePrinted"} <= set(defaults.list_registered_events())
    with pytest.raises(UnknownEventTypeError):
        defaults.get_event_class("nobody's")


async def test_a_class_may_be_given_its_type_when_it_is_registered():
    registry = EventRegistry([])

    @defaults.register_event(event_type="registered.Named", registry=registry)
    class Named(DomainEvent):
        number: int

    store = InMemoryEventStore(registry=registry)
    await store.append_events("b", "Book", [Named(number=3)])
    (event,) = (await store.get_events("b", "Book")).events

    assert (type(event), event.number, event.event_type) == (Named, 3, "registered.Named")
    assert registry.list_types() == ["registered.Named"]
    assert not defaults.is_event_registered("Named")


def test_a_type_that_the_class_says_otherwise_or_that_is_no_name_is_refused():
    with pytest.raises(ConfigurationError, match="say it once"):
        defaults.register_event(event_type="other")(PagePrinted)

    class Nameless(DomainEvent):
        pass

    with pytest.raises(ConfigurationError, match="printable"):
        defaults.register_event(event_type=" ")(Nameless)
    assert Nameless.__event_type__ == Nameless().event_type == "Nameless"


def test_two_registered_classes_of_one_type_are_refused():
    registry = EventRegistry([])

    @defaults.register_event(registry=registry)
    class FirstTwin(DomainEvent, event_type="registered.Twin"):
        pass

    class SecondTwin(DomainEvent, event_type="registered.Twin"):
        pass

    with pytest.raises(DuplicateEventTypeError):
        defaults.register_event(registry=registry)(SecondTwin)
