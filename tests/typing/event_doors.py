"""Read by mypy, never run: events as users of `eventsource` write them, and the testing kit."""

from typing import assert_type
from uuid import UUID

from pydantic import BaseModel

import mainstay
from eventsource import (
    AggregateId,
    AggregateRepository,
    AggregateRoot,
    AppendResult,
    DatabaseProjection,
    DeclarativeAggregate,
    DeclarativeProjection,
    DomainEvent,
    EventRegistry,
    EventStream,
    ExpectedVersion,
    InMemoryEventStore,
    OptimisticLockError,
    ReadDirection,
    ReadModel,
    ReadModelProjection,
    ReadModelRepository,
    ReadOptions,
    StoredEvent,
    SubscriptionConfig,
    SubscriptionManager,
    default_registry,
    get_event_class_or_none,
    handles,
    json_dumps,
    register_event,
)
from eventsource.protocols import EventHandler, EventSubscriber, FlexibleEventHandler, SyncEventHandler
from eventsource.testing import EventAssertions, EventBuilder, InMemoryTestHarness, then_event_published, when_command
from mainstay.testing.factories import OneEventBuilder
from mainstay.testing.projecting import Calls, Projected, project
from mainstay.testing.waiting import eventually

assert_type(default_registry, EventRegistry)
assert_type(json_dumps({"id": UUID(int=1)}), str)


@register_event
class Sold(DomainEvent):
    price: int


@register_event(event_type="shop.Refunded")
class Refunded(DomainEvent):
    pass


assert_type(Sold, type[Sold])
assert_type(Refunded, type[Refunded])
assert_type(get_event_class_or_none("Sold"), type[DomainEvent] | None)


class Sale(BaseModel):
    price: int = 0


class Deal(DeclarativeAggregate[Sale]):
    requires_creation_event = True

    def sell(self, price: int) -> None:
        assert_type(self.create_event(Sold, price=price), Sold)
        assert_type(self.state_or_none, Sale | None)
        assert_type(self.is_created, bool)

    @handles(Sold)
    def _sold(self, event: Sold) -> None:
        self._state = Sale(price=event.price)


class Plain(AggregateRoot[Sale]):
    def _apply(self, event: DomainEvent) -> None:
        self._state = Sale()


class Takings(DeclarativeProjection):
    total = 0

    @handles(Sold)
    async def sold(self, event: Sold) -> None:
        self.total += event.price


class Rows(DatabaseProjection):
    @handles(Sold)
    async def sold(self, conn: object, event: Sold) -> None: ...


class Row(ReadModel):
    price: int = 0


class Kept(ReadModelProjection[Row]):
    @handles(Sold)
    async def sold(self, event: Sold, repo: ReadModelRepository[Row]) -> None:
        assert_type(await repo.get(event.aggregate_id), Row | None)
        await repo.save(Sale())  # type: ignore[arg-type]  # of no table


class Report:
    def subscribed_to(self) -> list[type[DomainEvent]]:
        return [Sold]

    async def handle(self, event: DomainEvent) -> None: ...


class Blocking:
    def handle(self, event: DomainEvent) -> None: ...


class Gate(EventSubscriber):
    def subscribed_to(self) -> list[type[DomainEvent]]:
        return [Sold]

    async def handle(self, event: DomainEvent) -> None: ...


_async: EventHandler = Report()
_sync: SyncEventHandler = Blocking()
_either: list[FlexibleEventHandler] = [Report(), Blocking(), Gate()]
_wrong: EventHandler = Blocking()  # type: ignore[assignment]  # is not awaited


async def stored(store: InMemoryEventStore, own: AggregateId) -> None:
    assert_type(await store.append_events(own, "Deal", [Sold(price=1)], 0), AppendResult)
    await store.append_events(own, "Deal", [Sold(price=1)], ExpectedVersion.STREAM_EXISTS)
    await store.append_events(own, "Deal", [Sold(price=1)], ExpectedVersion.exact(2))
    await store.append_events(own, "Deal", Sold)  # type: ignore[arg-type]  # a class is no list of events
    found = await store.get_events(own, "Deal")
    assert_type(found, EventStream)
    assert_type(found.events, list[DomainEvent])
    async for each in store.read_all(ReadOptions(direction=ReadDirection.FORWARD, limit=3)):
        assert_type(each, StoredEvent)
        assert_type(each.global_position, int)
    async for each in store.read_stream(f"{own}:Deal"):
        assert_type(each.event, DomainEvent)
    assert_type(await store.get_global_position(), int)


async def kept(store: InMemoryEventStore) -> None:
    deals = AggregateRepository(event_store=store, aggregate_factory=Deal, aggregate_type="Deal")
    assert_type(deals, AggregateRepository[Deal])
    assert_type(await deals.load("1"), Deal)
    assert_type(deals.create_new("1"), Deal)
    await deals.save(Plain("1"))  # type: ignore[arg-type]  # of another repository
    AggregateRepository(store, Deal, snapshot_mode="never")  # type: ignore[arg-type]  # no such mode
    try:
        await deals.save(await deals.load("1"))
    except OptimisticLockError as error:
        assert_type(error.expected_version, int)
        assert_type(error.actual_version, int)


async def subscribed(store: InMemoryEventStore) -> None:
    manager = SubscriptionManager(event_store=store)
    await manager.subscribe(Takings(), SubscriptionConfig(start_from="beginning"), name="takings")
    await manager.subscribe(Rows())
    await manager.subscribe(Report())
    await manager.subscribe(Blocking())
    await manager.subscribe(Gate())
    await manager.subscribe(Sold(price=1))  # type: ignore[arg-type]  # takes no events
    SubscriptionConfig(start_from="now")  # type: ignore[arg-type]  # says "end"
    await mainstay.SubscriptionManager(store).subscribe(Report(), mainstay.SubscriptionConfig(start="now"))


async def tested(harness: InMemoryTestHarness) -> None:
    done = await project(Takings(), Sold(price=3))
    assert_type(done, Projected[Takings])
    assert_type(done.then(lambda takings: takings.total == 3).then_called(Calls()).projection, Takings)
    done.then_rows(Row(id="a"))
    done.then_rows(Sale())  # type: ignore[arg-type]  # no read model
    assert_type(harness.read_models.of(Row), ReadModelRepository[Row])
    done.then(lambda takings: takings.totl)  # type: ignore[attr-defined]  # misspelled
    assert_type(EventBuilder(Sold).with_version(2).with_fields(price=1).build(), Sold)
    assert_type(OneEventBuilder(Refunded).build(), Refunded)
    assert_type(EventAssertions(harness.published_events).assert_event_published(Sold), Sold)
    assert_type(then_event_published(harness, Sold, price=1), Sold)
    assert_type(harness.get_events_of_type(Sold), list[Sold])
    assert_type(when_command(Deal("1"), lambda deal: deal.sell(1)), list[DomainEvent])
    assert_type(harness.repository(Deal), mainstay.AggregateRepository[Deal])
    assert_type(await eventually(lambda: harness.published_events), list[DomainEvent])
    assert_type(await eventually(harness.event_store.horizon), mainstay.Horizon)
