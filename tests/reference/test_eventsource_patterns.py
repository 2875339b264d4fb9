"""The guide of `eventsource`: its architecture, its key patterns, and what its users write with them."""

import asyncio
import json
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ValidationError

from eventsource import (
    KAFKA_AVAILABLE,
    SQLITE_AVAILABLE,
    AggregateId,
    AggregateNotFoundError,
    AggregateRepository,
    AggregateRoot,
    DatabaseProjection,
    DeclarativeAggregate,
    DeclarativeProjection,
    DomainEvent,
    EventSourceError,
    EventStore,
    ExpectedVersion,
    InMemoryCheckpointRepository,
    InMemoryEventStore,
    OptimisticLockError,
    PostgreSQLCheckpointRepository,
    PostgreSQLEventStore,
    PostgreSQLSnapshotStore,
    ReadModel,
    ReadModelProjection,
    SQLiteEventStore,
    SyncEventStoreAdapter,
    default_registry,
    handles,
    register_event,
)
from eventsource.protocols import EventHandler, EventSubscriber
from eventsource.readmodels import Filter, Query
from eventsource.repositories import CheckpointRepository
from eventsource.serialization import EventSourceJSONEncoder, json_dumps, json_loads
from eventsource.subscriptions import SubscriptionConfig, SubscriptionManager
from eventsource.testing import (
    EventAssertions,
    EventBuilder,
    InMemoryTestHarness,
    given_events,
    then_event_count,
    then_event_published,
    when_command,
)

SOON = 30.0


@register_event
class TicketBought(DomainEvent):
    event_type: str = "TicketBought"
    aggregate_type: str = "Ticket"
    buyer: UUID
    price: Decimal


class TicketUsed(DomainEvent):
    event_type: str = "TicketUsed"
    aggregate_type: str = "Ticket"


class TicketState(BaseModel):
    ticket_id: UUID
    buyer: UUID | None = None
    status: str = "draft"


# -- Aggregates: AggregateRoot, DeclarativeAggregate, AggregateRepository ----------------------------------------------


class Ticket(AggregateRoot[TicketState]):
    aggregate_type = "Ticket"

    def _get_initial_state(self) -> TicketState:
        return TicketState(ticket_id=self.aggregate_id)

    def _apply(self, event: DomainEvent) -> None:
        if isinstance(event, TicketBought):
            self._state = TicketState(ticket_id=self.aggregate_id, buyer=event.buyer, status="bought")
        elif isinstance(event, TicketUsed) and self._state:
            self._state = self._state.model_copy(update={"status": "used"})

    def buy(self, buyer: UUID, price: Decimal) -> None:
        if self.version > 0:
            raise ValueError("it is bought")
        self.apply_event(
            TicketBought(
                aggregate_id=self.aggregate_id, buyer=buyer, price=price, aggregate_version=self.get_next_version()
            )
        )

    def use(self) -> None:
        if not self.state or self.state.status != "bought":
            raise ValueError("it cannot be used")
        self.create_event(TicketUsed)


class DeclaredTicket(DeclarativeAggregate[TicketState]):
    aggregate_type = "Ticket"
    requires_creation_event = True

    def buy(self, buyer: UUID, price: Decimal) -> None:
        self.create_event(TicketBought, buyer=buyer, price=price)

    def use(self) -> None:
        self.create_event(TicketUsed)

    @handles(TicketBought)
    def _on_bought(self, event: TicketBought) -> None:
        self._state = TicketState(ticket_id=self.aggregate_id, buyer=event.buyer, status="bought")

    @handles(TicketUsed)
    def _on_used(self, event: TicketUsed) -> None:
        self._state = self._state.model_copy(update={"status": "used"})


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def store(request, tmp_path, pool):
    """Backend-agnostic: the same code on each."""
    if request.param == "memory":
        yield InMemoryEventStore()
    elif request.param == "sqlite":
        async with SQLiteEventStore(str(tmp_path / "events.db")) as opened:
            await opened.initialize()
            yield opened
    else:
        yield PostgreSQLEventStore(pool)


@pytest.mark.parametrize("kind", [Ticket, DeclaredTicket])
async def test_an_aggregate_is_saved_loaded_and_saved_again(store, kind):
    repo = AggregateRepository(event_store=store, aggregate_factory=kind, aggregate_type="Ticket")
    ticket_id, buyer = uuid4(), uuid4()

    ticket = repo.create_new(ticket_id)
    ticket.buy(buyer, Decimal("9.50"))
    assert ticket.has_uncommitted_events
    await repo.save(ticket)
    assert not ticket.has_uncommitted_events

    ticket = await repo.load(ticket_id)
    ticket.use()
    await repo.save(ticket)

    ticket = await repo.load(ticket_id)
    assert (ticket.state.status, ticket.state.buyer, ticket.version) == ("used", buyer, 2)
    assert await repo.exists(ticket_id)
    assert await repo.get_version(ticket_id) == 2
    assert (await repo.load_or_create(uuid4())).version == 0
    with pytest.raises(AggregateNotFoundError):
        await repo.load(uuid4())


# -- Optimistic locking ------------------------------------------------------------------------------------------------


async def test_two_who_change_one_aggregate_meet(store):
    repo = AggregateRepository(store, Ticket, "Ticket")
    ticket = repo.create_new(uuid4())
    ticket.buy(uuid4(), Decimal(1))
    await repo.save(ticket)
    first, second = await repo.load(ticket.aggregate_id), await repo.load(ticket.aggregate_id)
    first.use()
    second.use()
    await repo.save(first)

    with pytest.raises(OptimisticLockError) as raised:
        await repo.save(second)

    error = raised.value
    assert (error.aggregate_id, error.expected_version, error.actual_version) == (ticket.aggregate_id, 1, 2)
    assert isinstance(error, EventSourceError)


async def test_a_store_is_appended_to_with_an_expected_version(store):
    ticket_id = uuid4()
    bought = TicketBought(aggregate_id=ticket_id, buyer=uuid4(), price=Decimal(3))

    result = await store.append_events(
        aggregate_id=ticket_id, aggregate_type="Ticket", events=[bought], expected_version=0
    )
    assert (result.success, result.new_version, result.conflict) == (True, 1, False)
    for expected in (ExpectedVersion.STREAM_EXISTS, ExpectedVersion.ANY, 3):
        await store.append_events(ticket_id, "Ticket", [TicketUsed(aggregate_id=ticket_id)], expected)
    with pytest.raises(OptimisticLockError):
        await store.append_events(ticket_id, "Ticket", [TicketUsed()], ExpectedVersion.NO_STREAM)

    stream = await store.get_events(ticket_id, "Ticket")
    assert (stream.version, [event.event_type for event in stream.events]) == (4, ["TicketBought", *["TicketUsed"] * 3])
    ticket = Ticket(ticket_id)
    ticket.load_from_history(stream.events)
    assert (ticket.version, ticket.state.status) == (4, "used")
    positions = [stored.global_position async for stored in store.read_all()]
    assert positions == sorted(positions)
    assert [stored.stream_position async for stored in store.read_stream(f"{ticket_id}:Ticket")] == [1, 2, 3, 4]


def test_code_that_blocks_uses_the_same_store(dsn):
    ticket_id = uuid4()
    with SyncEventStoreAdapter(dsn) as store:
        result = store.append_events_sync(
            aggregate_id=ticket_id,
            aggregate_type="Ticket",
            events=[TicketBought(aggregate_id=ticket_id, buyer=uuid4(), price=Decimal(3))],
            expected_version=ExpectedVersion.NO_STREAM,
        )
        stream = store.get_events_sync(ticket_id, "Ticket")

        assert (result.new_version, len(stream.events)) == (1, 1)
        with pytest.raises(OptimisticLockError):
            store.append_events_sync(ticket_id, "Ticket", [TicketUsed()], 0)


# -- Pydantic: events are frozen, validated, and register themselves ---------------------------------------------------


def test_events_register_themselves():
    assert default_registry.get("TicketUsed") is TicketUsed
    assert {"TicketBought", "TicketUsed"} <= set(default_registry.list_types())


def test_events_are_frozen_and_validated():
    event = TicketBought(aggregate_id=uuid4(), buyer=uuid4(), price="9.50")

    with pytest.raises(ValidationError):
        event.price = Decimal(1)
    with pytest.raises(ValidationError):
        TicketBought(aggregate_id=uuid4(), buyer="nobody", price=1)
    assert TicketBought.from_dict(event.to_dict()) == event
    assert event.with_causation(TicketUsed(aggregate_id=uuid4())).causation_id is not None
    assert event.with_metadata(gate="north").metadata == {"gate": "north"}


# -- Projections and subscriptions -------------------------------------------------------------------------------------


class Takings(DeclarativeProjection):
    def __init__(self) -> None:
        self.total = Decimal(0)

    @handles(TicketBought)
    async def _on_bought(self, event: TicketBought) -> None:
        self.total += event.price


class Report:
    """A subscriber by its methods alone."""

    def __init__(self) -> None:
        self.used = 0

    def subscribed_to(self) -> list[type[DomainEvent]]:
        return [TicketUsed]

    async def handle(self, event: DomainEvent) -> None:
        assert isinstance(event, TicketUsed)
        self.used += 1


class Gate(EventSubscriber):
    def __init__(self) -> None:
        self.opened = asyncio.Event()

    def subscribed_to(self) -> list[type[DomainEvent]]:
        return [TicketUsed]

    async def handle(self, event: DomainEvent) -> None:
        self.opened.set()


@pytest.mark.parametrize("store", ["memory", "postgresql"], indirect=True)
async def test_subscriptions_read_what_was_there_and_what_comes(store):
    repo = AggregateRepository(event_store=store, aggregate_factory=Ticket)
    takings, report, gate = Takings(), Report(), Gate()
    checkpoints = InMemoryCheckpointRepository()
    manager = SubscriptionManager(event_store=store, checkpoint_repo=checkpoints)
    early = repo.create_new(uuid4())
    early.buy(uuid4(), Decimal(2))
    await repo.save(early)

    await manager.subscribe(takings, SubscriptionConfig(start_from="beginning", batch_size=100))
    await manager.subscribe(report, SubscriptionConfig(start_from="beginning"), name="TicketReport")
    await manager.subscribe(gate)
    await manager.start()
    late = repo.create_new(uuid4())
    late.buy(uuid4(), Decimal(3))
    late.use()
    await repo.save(late)
    async with asyncio.timeout(SOON):
        await gate.opened.wait()
    await manager.wait_until(await store.get_global_position(), timeout=SOON)
    await manager.stop()

    assert (takings.total, report.used) == (5, 1)
    assert {state.subscription for state in await checkpoints.states()} == {"Takings", "TicketReport", "Gate"}


async def test_a_database_projection_writes_in_the_transaction_of_its_checkpoint(pool):
    class Sales(DatabaseProjection):
        name = "reference-sales"

        @handles(TicketBought)
        async def _on_bought(self, conn, event: TicketBought) -> None:
            await conn.execute("insert into sale values (%s, %s)", [event.aggregate_id, event.price])

    async with pool.connection() as conn:
        await conn.execute("create table sale (ticket uuid primary key, price numeric)")
    store = PostgreSQLEventStore(pool)
    manager = SubscriptionManager(store, checkpoint_repo=PostgreSQLCheckpointRepository(pool))
    await manager.subscribe(Sales())
    async with manager:
        repo = AggregateRepository(store, Ticket, snapshot_store=PostgreSQLSnapshotStore(pool), snapshot_threshold=1)
        ticket = repo.create_new(uuid4())
        ticket.buy(uuid4(), Decimal("4.25"))
        saved = await repo.save(ticket)
        await manager.wait_until(saved.position, timeout=SOON)

    async with pool.connection() as conn:
        cursor = await conn.execute("select * from sale")
        assert await cursor.fetchall() == [(ticket.aggregate_id, Decimal("4.25"))]


async def test_a_read_model_projection_keeps_rows(store):
    class TicketRow(ReadModel):
        __table_name__ = "reference_ticket_row"

        price: Decimal = Decimal(0)
        used: bool = False

    class TicketRows(ReadModelProjection[TicketRow]):
        @handles(TicketBought)
        async def _on_bought(self, repo, event: TicketBought) -> None:
            await repo.save(TicketRow(id=event.aggregate_id, price=event.price))

        @handles(TicketUsed)
        async def _on_used(self, repo, event: TicketUsed) -> None:
            row = await repo.get(event.aggregate_id)
            row.used = True
            await repo.save(row)

    manager = SubscriptionManager(event_store=store)
    await manager.subscribe(TicketRows())
    async with manager:
        repo = AggregateRepository(event_store=store, aggregate_factory=Ticket)
        ticket = repo.create_new(uuid4())
        ticket.buy(uuid4(), Decimal("4.25"))
        ticket.use()
        saved = await repo.save(ticket)
        await manager.wait_until(saved.position, timeout=SOON)

    (row,) = await manager.read_models.of(TicketRow).find(Query(filters=[Filter.eq("used", value=True)]))
    assert (row.id, row.price, row.version) == (ticket.aggregate_id, Decimal("4.25"), 2)


# -- Backend-agnostic interfaces, optional dependencies, serialization -------------------------------------------------


def test_backends_stand_behind_shared_interfaces():
    assert issubclass(InMemoryEventStore, EventStore)
    assert issubclass(PostgreSQLEventStore, EventStore)
    assert issubclass(SQLiteEventStore, EventStore)
    assert isinstance(Report(), EventHandler)
    assert CheckpointRepository.__doc__


def test_flags_say_which_optional_parts_there_are():
    assert SQLITE_AVAILABLE is True
    assert KAFKA_AVAILABLE is True


def test_values_of_events_are_written_as_json():
    ticket_id: AggregateId = uuid4()

    assert json_loads(json_dumps({"id": ticket_id})) == {"id": str(ticket_id)}
    assert json.loads(json.dumps({"id": ticket_id}, cls=EventSourceJSONEncoder)) == {"id": str(ticket_id)}


# -- Test helpers: assertions, BDD, builder, harness -------------------------------------------------------------------


async def test_the_helpers_for_tests_tell_a_story():
    harness = InMemoryTestHarness()
    ticket_id = uuid4()
    bought = (
        EventBuilder(TicketBought).with_aggregate_id(ticket_id).with_fields(buyer=uuid4(), price=Decimal(3)).build()
    )
    await given_events(harness, [bought])
    repo = AggregateRepository(event_store=harness.event_store, aggregate_factory=Ticket)

    ticket = await repo.load(ticket_id)
    raised = when_command(ticket, lambda ticket: ticket.use())
    await repo.save(ticket)

    used = then_event_published(harness, TicketUsed)
    then_event_count(harness, 1)
    assert raised == [used]
    assert EventAssertions(harness.published_events).assert_event_for_aggregate(TicketUsed, ticket_id) == used
