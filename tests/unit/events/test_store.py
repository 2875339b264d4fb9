"""The typed store; what every log promises is tested by the contract suite."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.clock import FrozenClock
from mainstay.errors import (
    AppendConditionError,
    ConfigurationError,
    CorruptEventError,
    DuplicateEventTypeError,
    InvalidInputError,
    OptimisticLockError,
    StreamTombstonedError,
    UnknownEventTypeError,
)
from mainstay.events.event import DomainEvent, EventTombstone
from mainstay.events.log import NewEvent, Query, QueryItem, StreamAppend
from mainstay.events.memory import MemoryEventLog
from mainstay.events.registry import EventRegistry
from mainstay.events.snapshot import Snapshot
from mainstay.events.store import Append, EventStore, InMemoryEventStore
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.message import correlated

ID = UUID("00000000-0000-4000-8000-000000000001")
SEAT = StreamId("Seat", ID)


class Booked(DomainEvent):
    who: str

    def tags(self) -> list[str]:
        return [f"who:{self.who}", f"who:{self.who}"]


class Freed(DomainEvent):
    pass


@pytest.fixture
def store() -> InMemoryEventStore:
    return InMemoryEventStore(registry=EventRegistry([Booked, Freed]))


async def names(envelopes: Any) -> list[str]:
    return [envelope.event.who async for envelope in envelopes]


def booked(*who: str, **envelope: Any) -> list[Booked]:
    return [Booked(who=each, **envelope) for each in who]


# --- appending --------------------------------------------------------------------------------------------------------


async def test_an_event_gets_its_place_when_it_is_appended(store: InMemoryEventStore) -> None:
    stream = StreamId("Seat", ID, "acme")

    done = await store.append(stream, [*booked("ann", "bob"), Freed()], expected=0)

    assert (done.version, done.position, done.repeated) == (3, 3, False)
    first, second, third = [envelope async for envelope in store.read_stream(stream)]
    assert (first.position, first.version, first.stream) == (1, 1, stream)
    event = second.event
    assert (event.aggregate_id, event.aggregate_type, event.aggregate_version) == (ID, "Seat", 2)
    assert (event.tenant_id, event.correlation_id) == ("acme", None)
    assert isinstance(third.event, Freed)


async def test_what_is_handled_gives_the_correlation(store: InMemoryEventStore) -> None:
    own = uuid4()
    with correlated(ID):
        await store.append(SEAT, [*booked("ann"), *booked("bob", correlation_id=own)])
    with correlated("no uuid"):
        await store.append(SEAT, booked("cid"))

    found = [envelope.event.correlation_id async for envelope in store.read_stream(SEAT)]

    assert found == [ID, own, None]


async def test_an_expectation_that_does_not_hold_is_refused(store: InMemoryEventStore) -> None:
    await store.append(SEAT, booked("ann"))

    with pytest.raises(OptimisticLockError) as caught:
        await store.append(SEAT, booked("bob"), expected=ExpectedVersion.no_stream())
    assert (caught.value.stream, caught.value.actual) == (SEAT, 1)
    with pytest.raises(OptimisticLockError):
        await store.append(SEAT, booked("bob"), expected=3)


async def test_the_same_events_again_give_the_first_result(store: InMemoryEventStore) -> None:
    events = booked("ann", "bob")
    first = await store.append(SEAT, events, expected=0)

    again = await store.append(SEAT, events, expected=0)

    assert (again.version, again.position, again.repeated) == (first.version, first.position, True)


@pytest.mark.parametrize(
    "envelope",
    [
        {"aggregate_id": "another"},
        {"aggregate_id": uuid4()},
        {"aggregate_type": "Table"},
        {"tenant_id": "acme"},
        {"aggregate_version": 7},
    ],
)
async def test_an_event_that_says_it_belongs_elsewhere_is_refused(
    store: InMemoryEventStore, envelope: dict[str, Any]
) -> None:
    (name,) = envelope

    with pytest.raises(InvalidInputError, match=f"says {name} .* Nothing was written"):
        await store.append(SEAT, [*booked("ann"), *booked("bob", **envelope)], expected=0)
    assert await store.stream_version(SEAT) == 0


async def test_an_event_of_another_tenant_is_refused(store: InMemoryEventStore) -> None:
    with pytest.raises(InvalidInputError, match="tenant_id 'acme'"):
        await store.append(StreamId("Seat", ID, "bolt"), booked("ann", tenant_id="acme"))


async def test_an_event_that_says_where_it_belongs_is_taken_there(store: InMemoryEventStore) -> None:
    own = {"aggregate_id": str(ID), "aggregate_type": "Seat", "aggregate_version": 1}

    assert (await store.append(SEAT, booked("ann", **own), expected=0)).version == 1


@pytest.mark.parametrize("bad", [{"event_type": "Freed"}, {"event_version": 2}])
async def test_an_event_that_says_it_is_another_is_refused(store: InMemoryEventStore, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"says {next(iter(bad))}"):
        await store.append(SEAT, booked("ann", **bad))


@pytest.mark.parametrize("bad", [None, "Booked", {"who": "ann"}, Booked])
async def test_what_is_no_event_is_refused(store: InMemoryEventStore, bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="instances of DomainEvent"):
        await store.append(SEAT, [bad])
    with pytest.raises(InvalidInputError, match="instances of DomainEvent"):
        await store.append_if([bad], fail_if=Query(), after=0)


async def test_what_would_not_be_read_as_what_it_is_is_not_appended(store: InMemoryEventStore) -> None:
    class Unknown(DomainEvent):
        pass

    class Pretender(DomainEvent, event_type="Booked"):
        pass

    with pytest.raises(UnknownEventTypeError, match="'Unknown'"):
        await store.append(SEAT, [Unknown()])
    with pytest.raises(DuplicateEventTypeError, match=r"Booked.*Pretender"):
        await store.append(SEAT, [Pretender()])


async def test_an_append_over_streams_is_whole_or_not_at_all(store: InMemoryEventStore) -> None:
    other, guard = StreamId("Seat", "b"), StreamId("Seat", "c")

    done = await store.append_all(
        [Append(SEAT, booked("ann"), 0), Append(other, booked("bob")), Append(guard, expected=0)]
    )
    assert [(each.stream, each.version, each.position) for each in done] == [
        (SEAT, 1, 1),
        (other, 1, 2),
        (guard, 0, None),
    ]

    with pytest.raises(OptimisticLockError) as caught:
        await store.append_all([Append(SEAT, booked("cid"), 1), Append(other, expected=7)])
    assert caught.value.stream == other
    assert await store.stream_version(SEAT) == 1


async def test_a_condition_refuses_what_was_overtaken(store: InMemoryEventStore) -> None:
    horizon = (await store.horizon()).position
    mine = booked("ann", aggregate_type="Seat", aggregate_id=ID)
    forbidden = store.query(Booked, tags=["who:ann"])

    await store.append_if(booked("bob"), fail_if=forbidden, after=horizon, stream=StreamId("Seat", "b"))
    (done,) = await store.append_if(mine, fail_if=forbidden, after=horizon)
    assert done.stream == SEAT

    with pytest.raises(AppendConditionError) as caught:
        await store.append_if(booked("ann"), fail_if=forbidden, after=horizon, stream=SEAT)
    assert caught.value.position == 2


async def test_a_conditional_append_needs_to_know_its_stream(store: InMemoryEventStore) -> None:
    with pytest.raises(InvalidInputError, match="does not say which stream"):
        await store.append_if(booked("ann"), fail_if=Query(), after=0)
    with pytest.raises(InvalidInputError, match="an event at least"):
        await store.append_if([], fail_if=Query(), after=0)


async def test_very_many_events_are_imported_from_any_iterable(store: InMemoryEventStore) -> None:
    streams = [StreamId("Seat", f"{index % 3}") for index in range(30)]

    assert await store.import_events((stream, Booked(who=str(n))) for n, stream in enumerate(streams)) == 30

    async def later() -> Any:
        yield SEAT, Freed()

    assert await store.import_events(later()) == 1
    assert await store.stream_version(StreamId("Seat", "2")) == 10


async def test_a_transaction_holds_appends_together(store: InMemoryEventStore) -> None:
    async def rolled_back() -> None:
        async with store.transaction() as conn:
            await store.append(SEAT, booked("ann"), conn=conn)
            assert await store.stream_version(SEAT, conn=conn) == 1
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await rolled_back()

    assert await store.stream_state(SEAT) is None


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_a_stream_is_read_in_pages_forwards_and_backwards(store: InMemoryEventStore, page: int) -> None:
    await store.append(SEAT, booked(*"abcdefg"))

    assert await names(store.read_stream(SEAT, page=page)) == list("abcdefg")
    assert await names(store.read_stream(SEAT, page=page, backwards=True)) == list("gfedcba")
    assert await names(store.read_stream(SEAT, page=page, after_version=2, up_to_version=6)) == list("cdef")
    assert await names(store.read_stream(SEAT, page=page, backwards=True, after_version=2, limit=3)) == list("gfe")
    assert await names(store.read_stream(SEAT, page=page, limit=3)) == list("abc")
    assert await names(store.read_stream(SEAT, page=page, limit=0)) == []


async def test_a_stream_is_read_as_it_was_at_a_time() -> None:
    clock = FrozenClock()
    store = InMemoryEventStore(clock=clock, registry=EventRegistry([Booked]))
    await store.append(SEAT, booked("ann"))
    then = clock.now()
    clock.advance(60)
    await store.append(SEAT, booked("bob"))

    assert await names(store.read_stream(SEAT, up_to_time=then)) == ["ann"]
    assert await names(store.read_stream(SEAT, up_to_time=then + timedelta(seconds=60))) == ["ann", "bob"]


@pytest.mark.parametrize("page", [1, 2, 100])
async def test_the_feed_is_read_in_pages(store: InMemoryEventStore, page: int) -> None:
    other = StreamId("Table", "t", "acme")
    for index, who in enumerate("abcdef"):
        await store.append(other if index % 2 else SEAT, booked(who))
    await store.append(SEAT, [Freed()])

    assert await names(store.read_all(page=page, limit=6)) == list("abcdef")
    assert await names(store.read_all(page=page, types=[Booked])) == list("abcdef")
    assert await names(store.read_all(page=page, types=["Booked"], after=2)) == list("cdef")
    assert await names(store.read_all(page=page, types=[Booked], categories=["Seat"])) == list("ace")
    assert await names(store.read_all(page=page, tenant_id="acme")) == list("bdf")
    assert await names(store.read_all(page=page, query=Query((QueryItem(tags=frozenset({"who:c"})),)))) == ["c"]
    assert await names(store.read_all(page=page, types=[])) == []
    assert [each.event.event_type async for each in store.read_category("Seat", after=5)] == ["Freed"]
    assert await names(store.read_category("Table", limit=2)) == list("bd")


async def test_a_page_says_where_to_go_on(store: InMemoryEventStore) -> None:
    await store.append(SEAT, [*booked("ann", "bob"), Freed()])

    page = await store.read_page(limit=2)
    assert ([each.position for each in page.events], page.position, page.horizon) == ([1, 2], 2, 3)
    page = await store.read_page(after=2, wanted=store.filter(types=[Booked]))
    assert (page.events, page.position) == ([], 3)


async def test_an_archived_stream_can_be_left_out_of_the_feed(store: InMemoryEventStore) -> None:
    await store.append(SEAT, booked("ann"))
    await store.append(StreamId("Seat", "b"), booked("bob"))
    assert (await store.archive(SEAT)).archived

    assert await names(store.read_all(archived=False)) == ["bob"]
    assert await names(store.read_all()) == ["ann", "bob"]
    assert not (await store.archive(SEAT, archived=False)).archived


async def test_what_is_tombstoned_is_told_to_the_feed_and_forgotten_by_snapshots(store: InMemoryEventStore) -> None:
    await store.append(SEAT, booked("ann", metadata={"secret": 1}))
    assert store.snapshots is not None
    await store.snapshots.save(Snapshot(SEAT, 1, uuid4(), "1", b'{"who": "ann"}'))

    state = await store.tombstone(SEAT, reason="asked to", actor="me")

    assert state.tombstoned
    assert await store.snapshots.load(SEAT) is None
    (found,) = [envelope.event async for envelope in store.read_all()]
    assert isinstance(found, EventTombstone)
    assert (found.event_type, found.aggregate_id, found.metadata) == ("Booked", ID, {})
    with pytest.raises(StreamTombstonedError):
        await names(store.read_stream(SEAT))


async def test_streams_are_listed_in_pages(store: InMemoryEventStore) -> None:
    for index in range(5):
        await store.append(StreamId("Seat", f"{index}", "acme" if index % 2 else None), booked("ann"))

    assert len([state async for state in store.streams(page=2)]) == 5
    assert [state.stream.id async for state in store.streams(category="Seat", tenant_id="acme")] == ["1", "3"]
    assert [state async for state in store.streams(category="Table")] == []


async def test_one_event_is_found_by_its_position(store: InMemoryEventStore) -> None:
    await store.append(SEAT, booked("ann"))

    (found,) = await store.event_at(1)
    assert found.version == 1
    assert await store.event_at(2) == []


async def test_waiting_gives_the_horizon(store: InMemoryEventStore) -> None:
    await store.append(SEAT, booked("ann"))

    assert await store.wait(0, timeout=60) == 1


# --- what cannot be read ----------------------------------------------------------------------------------------------


async def stored(payload: bytes, event_type: str = "Booked", **options: Any) -> EventStore:
    """A store with three events, of which the second is this one."""
    log = MemoryEventLog()
    now = Freed().occurred_at
    documents = [
        NewEvent(uuid4(), "Freed", b"{}", now),
        NewEvent(uuid4(), event_type, payload, now),
        NewEvent(uuid4(), "Freed", b"{}", now),
    ]
    await log.append([StreamAppend(SEAT, tuple(documents))])
    return EventStore(log, registry=EventRegistry([Booked, Freed, *options.pop("classes", ())]), **options)


async def test_an_event_that_does_not_fit_is_named_and_not_skipped() -> None:
    store = await stored(b'{"who": 7}')

    with pytest.raises(CorruptEventError) as caught:
        _ = [each async for each in store.read_all()]

    error = caught.value
    assert (error.position, error.stream, error.version, error.event_type) == (2, SEAT, 2, "Booked")
    assert error.reason == "who: Input should be a valid string"
    with pytest.raises(CorruptEventError):
        await store.load_stream(SEAT)
    with pytest.raises(CorruptEventError):
        await store.event_at(2)


async def test_an_event_of_an_unknown_type_is_named() -> None:
    store = await stored(b"{}", "Vanished")

    with pytest.raises(UnknownEventTypeError) as caught:
        _ = [each async for each in store.read_stream(SEAT)]

    assert (caught.value.event_type, caught.value.position) == ("Vanished", 2)


async def test_unknown_types_are_skipped_by_choice_and_nothing_else_is() -> None:
    store = await stored(b"{}", "Vanished", unknown="skip")
    assert [each.version async for each in store.read_stream(SEAT)] == [1, 3]

    store = await stored(b'{"who": 7}', unknown="skip")
    with pytest.raises(CorruptEventError):
        _ = [each async for each in store.read_stream(SEAT)]


async def test_a_validator_that_raises_anything_is_a_corrupt_event() -> None:
    class Touchy(DomainEvent):
        def model_post_init(self, _: Any, /) -> None:
            raise ZeroDivisionError("oh")

    store = await stored(b"{}", "Touchy", classes=[Touchy])

    with pytest.raises(CorruptEventError, match=r"at position 2 .* ZeroDivisionError: oh"):
        _ = [each async for each in store.read_all()]


async def test_an_id_that_a_class_does_not_take_is_a_corrupt_event() -> None:
    class Numbered(DomainEvent):
        tenant_id: UUID
        aggregate_id: UUID = ID

    store = await stored(b"{}", "Numbered", classes=[Numbered])

    with pytest.raises(CorruptEventError, match="tenant_id"):
        _ = [each async for each in store.read_all()]


async def test_a_class_with_a_mandatory_envelope_is_read() -> None:
    class Owned(DomainEvent):
        tenant_id: UUID
        aggregate_id: str
        weight: int = 0

    store = InMemoryEventStore(registry=EventRegistry([Owned]))
    stream = StreamId("Thing", ID, ID)
    first = Owned(tenant_id=ID, aggregate_id=str(ID), weight=3)
    await store.append(stream, [first, Owned(tenant_id=ID, aggregate_id=str(ID))])

    found = [envelope.event async for envelope in store.read_stream(stream)]

    assert found[0] == first.model_copy(update={"aggregate_type": "Thing", "aggregate_version": 1})
    assert [type(each.aggregate_id) for each in found] == [str, str]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'error' or 'skip'"):
        InMemoryEventStore(unknown="ignore")  # type: ignore[arg-type]  # that is what is refused
