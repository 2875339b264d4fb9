"""Read by mypy, never run: events, stores, aggregates."""

from collections.abc import Iterable
from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from mainstay import (
    AggregateRepository,
    Append,
    Appended,
    DeciderAggregate,
    DeclarativeAggregate,
    DomainEvent,
    EventEnvelope,
    EventRegistry,
    ExpectedVersion,
    InMemoryEventStore,
    SnapshotPolicy,
    StreamId,
    SyncAggregateRepository,
    SyncEventStoreAdapter,
    SyncSubscriptionManager,
    handles,
)
from mainstay.testing.scenario import given


class OrderPlaced(DomainEvent, event_type="orders.Placed", event_version=2, aggregate_type="Order"):
    total: int


class OrderClosed(DomainEvent):
    event_type: str = "orders.Closed"
    aggregate_id: UUID = UUID(int=0)
    tenant_id: str


class OrderState(BaseModel):
    total: int = 0


class Order(DeclarativeAggregate[OrderState]):
    aggregate_type = "Order"

    def place(self, total: int) -> OrderPlaced:
        assert_type(self.state, OrderState)
        self.raise_event(OrderPlaced(totl=total))  # type: ignore[call-arg]  # misspelled
        return self.raise_event(OrderPlaced, total=total)

    @handles(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self._state = OrderState(total=event.total)


class Account(DeciderAggregate[OrderState, int]):
    @staticmethod
    def initial_state() -> OrderState:
        return OrderState()

    @staticmethod
    def decide(state: OrderState, command: int) -> Iterable[DomainEvent]:
        return [OrderPlaced(total=state.total + command)]

    @staticmethod
    def evolve(state: OrderState, event: DomainEvent) -> OrderState:
        return state


registry = EventRegistry([OrderPlaced])


@registry.upcast(OrderPlaced, from_version=1)
def with_total(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "total": 0}


@registry.register
class Registered(DomainEvent):
    pass


assert_type(Registered, type[Registered])


async def stored(store: InMemoryEventStore) -> None:
    stream = StreamId("Order", "1")
    done = await store.append(stream, [OrderPlaced(total=1)], expected=ExpectedVersion.exact(3))
    assert_type(done, Appended)
    await store.append(stream, [OrderPlaced(total=1)], expected=3)
    await store.append(stream, OrderPlaced)  # type: ignore[arg-type]  # a class is no list of events
    assert_type(await store.append_all([Append(stream, [OrderPlaced(total=1)], 3)]), list[Appended])
    async for envelope in store.read_all(types=[OrderPlaced, "OrderSent"]):
        assert_type(envelope, EventEnvelope)
        assert_type(envelope.event, DomainEvent)


async def kept(store: InMemoryEventStore) -> None:
    orders = AggregateRepository(store, Order, snapshots=SnapshotPolicy.every(100))
    order = await orders.load("1")
    assert_type(order, Order)
    assert_type(order.place(3), OrderPlaced)
    await orders.save(order)
    assert_type(await orders.get_or_none("1"), Order | None)
    accounts = AggregateRepository(store, Account)
    assert_type(await accounts.execute("1", 5), Account)
    await orders.save(await accounts.load("1"))  # type: ignore[arg-type]  # of another repository
    assert_type(Account("1").execute(5), list[DomainEvent])
    Account("1").execute("5")  # type: ignore[arg-type]  # a command is a number


def tested() -> None:
    assert_type(given(Order).when(lambda order: order.place(3)).then(OrderPlaced).aggregate, Order)


_blocking = SyncEventStoreAdapter("postgresql://localhost/shop", timeout=5.0)
assert_type(_blocking.append(StreamId("Order", "1"), [OrderPlaced(total=1)], expected=0), Appended)
assert_type(_blocking.stream_version(StreamId("Order", "1")), int)
_blocking.append("Order/1", [])  # type: ignore[arg-type]  # arguments are checked as those of the original
for _envelope in _blocking.read_stream(StreamId("Order", "1"), limit=5):
    assert_type(_envelope, EventEnvelope)
_orders = SyncAggregateRepository(_blocking, Order)
assert_type(_orders.load("1"), Order)
assert_type(_orders.execute("1", lambda order: order.place(3)), Order)
SyncSubscriptionManager(_blocking).start()
