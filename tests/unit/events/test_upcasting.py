"""Old events become new ones."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from mainstay.errors import ConfigurationError, CorruptEventError, EventVersionError, UnknownEventTypeError
from mainstay.events.event import DomainEvent
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.memory import MemoryEventLog
from mainstay.events.registry import EventRegistry
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.events.upcasting import RawEvent

STREAM = StreamId("Invoice", "2026-1")


class Billed(DomainEvent, event_version=3):
    amount: Decimal
    currency: str
    to: str


class Taxed(DomainEvent):
    amount: Decimal


class Paid(DomainEvent):
    pass


@pytest.fixture
def registry() -> EventRegistry:
    return EventRegistry([Billed, Taxed, Paid])


class Old:
    """A log that holds old events, and a store in front of it."""

    def __init__(self, registry: EventRegistry, *events: tuple[str, int, bytes]) -> None:
        self.log = MemoryEventLog()
        self.store = EventStore(self.log, registry=registry)
        self._events = events

    async def read(self, **options: Any) -> list[DomainEvent]:
        documents = [
            NewEvent(uuid4(), event_type, payload, Paid().occurred_at, event_version=version)
            for event_type, version, payload in self._events
        ]
        await self.log.append([StreamAppend(STREAM, tuple(documents))])
        return [envelope.event async for envelope in self.store.read_all(**options)]


async def test_upcasters_are_chained_from_the_stored_version_to_the_newest(registry: EventRegistry) -> None:
    @registry.upcast(Billed, from_version=1)
    def with_currency(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "currency": "EUR"}

    @registry.upcast(Billed, from_version=2)
    def renamed(data: dict[str, Any]) -> dict[str, Any]:
        data["to"] = data.pop("customer")
        return data

    first, second, third = await Old(
        registry,
        ("Billed", 1, b'{"amount": "1.10", "customer": "Ann"}'),
        ("Billed", 2, b'{"amount": "2", "customer": "Bob", "currency": "USD"}'),
        ("Billed", 3, b'{"amount": "3", "to": "Cid", "currency": "USD"}'),
    ).read()

    assert isinstance(first, Billed)
    assert (first.amount, first.currency, first.to) == (Decimal("1.10"), "EUR", "Ann")
    assert (first.event_version, first.aggregate_version) == (3, 1)
    assert isinstance(second, Billed)
    assert (second.currency, second.to) == ("USD", "Bob")
    assert isinstance(third, Billed)
    assert third.to == "Cid"


async def test_a_type_is_renamed_and_then_upcast(registry: EventRegistry) -> None:
    registry.rename("InvoiceSent", "InvoiceBilled")
    registry.rename("InvoiceBilled", Billed)

    @registry.upcast(Billed, from_version=2)
    def newest(data: dict[str, Any]) -> dict[str, Any]:
        return {"to": "nobody", **data}

    (event,) = await Old(registry, ("InvoiceSent", 2, b'{"amount": 1, "currency": "EUR"}')).read()

    assert isinstance(event, Billed)
    assert (event.event_type, event.to) == ("Billed", "nobody")


def split_gross(data: dict[str, Any]) -> Iterator[RawEvent]:
    yield RawEvent("Billed", {"amount": data["net"], "currency": "EUR", "to": "Ann"}, 3)
    yield RawEvent("Taxed", {"amount": data["tax"]})


async def test_one_event_becomes_two_at_its_place(registry: EventRegistry) -> None:
    registry.upcast("GrossBilled", from_version=1, into=[Billed, Taxed])(split_gross)

    found = await Old(registry, ("Paid", 1, b"{}"), ("GrossBilled", 1, b'{"net": 5, "tax": 1}')).read()

    assert [type(event) for event in found] == [Paid, Billed, Taxed]
    assert [event.aggregate_version for event in found] == [1, 2, 2]
    assert found[1].event_id == found[2].event_id


@pytest.mark.parametrize("nothing", [None, []])
async def test_an_event_is_dropped(registry: EventRegistry, nothing: Any) -> None:
    registry.upcast("Viewed", from_version=1)(lambda _: nothing)

    found = await Old(registry, ("Viewed", 1, b"{}"), ("Paid", 1, b"{}")).read()

    assert [type(event) for event in found] == [Paid]


async def test_a_filter_by_type_finds_what_is_stored_under_old_types(registry: EventRegistry) -> None:
    registry.upcast("GrossBilled", from_version=1, into=[Billed, Taxed])(split_gross)
    registry.rename("GrossSent", "GrossBilled")
    old = Old(registry, ("Paid", 1, b"{}"), ("GrossSent", 1, b'{"net": 5, "tax": 1}'))

    found = await old.read(types=[Taxed])

    assert registry.stored_types([Taxed]) == {"Taxed", "GrossBilled", "GrossSent"}
    assert Paid not in {type(event) for event in found}
    assert Taxed in {type(event) for event in found}


async def test_numbers_of_any_size_go_through_an_upcaster_unchanged(registry: EventRegistry) -> None:
    class Counted(DomainEvent, event_version=2):
        count: int

    registry.register(Counted)
    registry.upcast(Counted, from_version=1)(lambda data: data)

    (event,) = await Old(registry, ("Counted", 1, b'{"count": %d}' % 10**40)).read()

    assert isinstance(event, Counted)
    assert event.count == 10**40


# --- what goes wrong --------------------------------------------------------------------------------------------------


def failing(data: dict[str, Any]) -> dict[str, Any]:
    return {"amount": data["nothing"]}


@pytest.mark.parametrize(
    ("upcaster", "reason"),
    [
        (failing, "from version 1 failed: KeyError: 'nothing'"),
        (lambda _: 7, "failed: TypeError"),
        (lambda _: ["a"], "gave 'a': a dict, a RawEvent"),
        (lambda _: RawEvent("Billed", []), "a dict, a RawEvent"),  # type: ignore[arg-type]  # that is what is refused
        (lambda data: RawEvent("Paid", data), "gave a Paid, which it does not announce"),
        (lambda data: RawEvent("Billed", data, 1), "which is not newer"),
        (lambda data: data, "it has version 2, Billed has 3, and no upcaster takes it from 2 on"),
        (
            lambda data: RawEvent("Billed", data, 9),
            "it has version 9, and this code knows Billed up to 3: newer code can read it",
        ),
        (lambda data: RawEvent("Billed", data, 3), "currency: Field required; to: Field required"),
    ],
)
async def test_an_upcaster_that_fails_names_the_event(registry: EventRegistry, upcaster: Any, reason: str) -> None:
    registry.upcast(Billed, from_version=1)(upcaster)

    with pytest.raises(CorruptEventError) as caught:
        await Old(registry, ("Paid", 1, b"{}"), ("Billed", 1, b'{"amount": 1}')).read()

    error = caught.value
    assert (error.position, error.stream, error.version, error.event_type) == (2, STREAM, 2, "Billed")
    assert reason in error.reason


async def test_upcasters_that_lead_in_a_circle_are_stopped(registry: EventRegistry) -> None:
    registry.upcast("Ping", from_version=1, into=["Pong"])(lambda data: RawEvent("Pong", data))
    registry.upcast("Pong", from_version=1, into=["Ping"])(lambda data: RawEvent("Ping", data))

    with pytest.raises(CorruptEventError, match="in a circle"):
        await Old(registry, ("Ping", 1, b"{}")).read()


async def test_an_upcaster_into_an_unknown_type_is_an_unknown_type(registry: EventRegistry) -> None:
    registry.rename("Sent", "Shipped")

    with pytest.raises(UnknownEventTypeError, match=r"'Shipped' \(at position 1\)"):
        await Old(registry, ("Sent", 1, b"{}")).read()


async def nothing_plain(_: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("bad", [nothing_plain, 7, None])
def test_what_is_no_plain_function_is_refused(registry: EventRegistry, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="plain function"):
        registry.upcast(Billed, from_version=1)(bad)


@pytest.mark.parametrize("bad", [0, True, "1"])
def test_what_is_no_version_is_refused(registry: EventRegistry, bad: Any) -> None:
    with pytest.raises(EventVersionError, match="from_version"):
        registry.upcast(Billed, from_version=bad)(failing)


def test_a_second_upcaster_of_one_version_is_refused(registry: EventRegistry) -> None:
    registry.upcast(Billed, from_version=1)(failing)

    with pytest.raises(EventVersionError, match="Billed has an upcaster from version 1 already"):
        registry.upcast(Billed, from_version=1)(failing)


def test_a_name_has_one_new_name_and_never_itself(registry: EventRegistry) -> None:
    registry.rename("A", "B")
    registry.rename("A", "B")
    for old, new in (("A", "C"), ("B", "A"), ("D", "D")):
        with pytest.raises(ConfigurationError, match=f"{old} cannot become {new}"):
            registry.rename(old, new)
