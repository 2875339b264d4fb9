"""Projections with a method for each event."""

import pytest

from mainstay.errors import ConfigurationError, UnknownEventTypeError
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.registry import EventRegistry
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.declarative import DatabaseProjection, DeclarativeProjection
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.memory_transaction import MemoryTransaction
from mainstay.projections.subscription import SubscriptionManager

QUICK = SubscriptionConfig(poll=0.05)


class Opened(DomainEvent, aggregate_type="Account", event_type="ProjectedOpened"):
    name: str


class Paid(DomainEvent, aggregate_type="Account", event_type="ProjectedPaid"):
    amount: int


class PaidLate(Paid, aggregate_type="Account", event_type="ProjectedPaidLate"):
    days: int = 1


class Balances(DeclarativeProjection):
    def __init__(self):
        self.seen = []

    @handles(Opened)
    def opened(self, event):
        self.seen.append(event.name)

    @handles(Paid)
    async def paid(self, event):
        self.seen.append(event.amount)


async def told(projection, *events):
    store = InMemoryEventStore()
    manager = SubscriptionManager(store, MemoryProjectionStore())
    await manager.subscribe(projection, QUICK)
    async with manager:
        done = await store.append(StreamId("Account", "a"), events)
        await manager.wait_until(done.position)


async def test_each_event_goes_to_its_method_and_a_derived_one_to_its_bases() -> None:
    balances = Balances()

    await told(balances, Opened(name="ann"), Paid(amount=5), PaidLate(amount=7))

    assert balances.seen == ["ann", 5, 7]


async def test_only_what_is_handled_is_wanted() -> None:
    store = InMemoryEventStore()

    assert Balances().wanted(store).types == {"ProjectedOpened", "ProjectedPaid", "ProjectedPaidLate"}


async def test_a_database_projection_gets_the_transaction() -> None:
    class Rows(DatabaseProjection):
        given = []  # noqa: RUF012 - of this test

        @handles(Opened)
        async def opened(self, event, conn):
            self.given.append((event.name, type(conn)))

    await told(Rows(), Opened(name="ann"))

    assert Rows.given == [("ann", MemoryTransaction)]


def test_the_name_is_the_classes_unless_given() -> None:
    class Renamed(Balances):
        name = "balances"

    assert (Balances.name, Renamed.name) == ("Balances", "balances")


def test_two_methods_for_one_event_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="both first and second handle Opened"):

        class Twice(DeclarativeProjection):
            @handles(Opened)
            def first(self, event): ...

            @handles(Opened)
            def second(self, event): ...


def test_a_method_that_cannot_be_called_so_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"Wrong\.opened must take self and 2 arguments"):

        class Wrong(DatabaseProjection):
            @handles(Opened)
            async def opened(self, event): ...


async def test_a_projection_that_handles_nothing_is_refused() -> None:
    class Nothing(DeclarativeProjection):
        pass

    manager = SubscriptionManager(InMemoryEventStore(), MemoryProjectionStore())
    with pytest.raises(ConfigurationError, match="Nothing handles no event"):
        await manager.subscribe(Nothing())


async def test_an_event_that_the_store_does_not_know_is_refused() -> None:
    manager = SubscriptionManager(InMemoryEventStore(registry=EventRegistry([Opened])), MemoryProjectionStore())

    with pytest.raises(UnknownEventTypeError, match="ProjectedPaid"):
        await manager.subscribe(Balances())


async def test_an_event_in_hand_is_taken_like_one_of_the_feed() -> None:
    balances = Balances()

    await balances.handle(Opened(name="ann"))
    await balances.handle(PaidLate(amount=7, aggregate_id="a"))

    assert balances.seen == ["ann", 7]
    assert balances.subscribed_to() == [Opened, Paid]


async def test_a_method_may_take_the_transaction_first_by_its_name() -> None:
    class Written(DatabaseProjection):
        def __init__(self):
            self.seen = []

        @handles(Opened)
        async def opened(self, conn, event):
            self.seen.append((conn, event.name))

        @handles(Paid)
        async def paid(self, event, conn):
            self.seen.append((conn, event.amount))

    written = Written()

    await written.handle(Opened(name="ann"), "tx")
    await written.handle(Paid(amount=5), "tx")

    assert written.seen == [("tx", "ann"), ("tx", 5)]
