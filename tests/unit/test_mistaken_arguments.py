"""What people hand over by mistake: the error says what is right, not that some attribute is missing."""

import logging
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from mainstay import (
    AggregateRepository,
    CommandBus,
    CommandModel,
    ConfigurationError,
    DatabaseProjection,
    DeclarativeAggregate,
    DomainEvent,
    HandlerRegistry,
    InMemoryEventStore,
    InvalidInputError,
    MemoryCommandStore,
    PostgreSQLEventStore,
    ReadModel,
    ReadModelProjection,
    RetryPolicy,
    StreamId,
    SubscriptionHeldError,
    SubscriptionManager,
    Worker,
    handles,
)
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.read_model import table_of

STREAM = StreamId("Mistake", "one")


class Mistaken(DomainEvent, event_type="mistakes.Mistaken"):
    number: int


class Mistakes(DeclarativeAggregate[int]):
    @handles(Mistaken)
    def _mistaken(self, event: Mistaken) -> None:
        self._state = event.number


class MakeMistake(CommandModel, domain="mistakes"):
    mistakes_id: UUID


class Noted(DatabaseProjection):
    @handles(Mistaken)
    async def mistaken(self, event: Mistaken, conn) -> None:
        del event, conn


class MistakeRow(ReadModel):
    number: int = 0


class MistakeRows(ReadModelProjection[MistakeRow]):
    @handles(Mistaken)
    async def mistaken(self, event: Mistaken, repo) -> None:
        await repo.save(MistakeRow(id=event.aggregate_id, number=event.number))


@pytest.fixture
def store() -> InMemoryEventStore:
    return InMemoryEventStore()


async def test_a_single_event_is_not_taken_for_its_fields(store) -> None:
    event = Mistaken(number=1, aggregate_type="Mistake", aggregate_id="one")
    with pytest.raises(InvalidInputError, match=r"as a list, one alone, too: \[event\]"):
        await store.append(STREAM, event)
    with pytest.raises(InvalidInputError, match=r"as a list"):
        await store.append_if(event, fail_if=store.query(Mistaken), after=0)


async def test_a_stream_that_is_a_text_is_refused_by_what_a_stream_looks_like(store) -> None:
    with pytest.raises(InvalidInputError, match=r"such as StreamId\('Order', order_id\), not 'Mistake/one'"):
        await store.append("Mistake/one", [Mistaken(number=1)])


async def test_an_expectation_that_is_no_number_is_told_what_there_is_besides(store) -> None:
    with pytest.raises(InvalidInputError, match=r"ExpectedVersion\.any\(\), \.no_stream\(\)"):
        await store.append(STREAM, [Mistaken(number=1)], expected="any")


@pytest.mark.parametrize("types", [Mistaken, "mistakes.Mistaken", [int], [7], 7])
async def test_types_that_are_no_list_of_types_give_no_empty_answer(store, types) -> None:
    with pytest.raises(InvalidInputError, match=r"as a list|classes or their types"):
        [each async for each in store.read_all(types=types)]


async def test_a_class_is_no_query(store) -> None:
    with pytest.raises(InvalidInputError, match=r"such as store\.query\(OrderPlaced\)"):
        await store.append_if([Mistaken(number=1)], fail_if=Mistaken, after=0, stream=STREAM)


@pytest.mark.parametrize("other", ["postgresql://localhost/shop", None, 7])
def test_what_is_no_pool_and_no_store_is_refused_at_once(other) -> None:
    with pytest.raises(ConfigurationError, match=r"Mainstay\.connect\(dsn\)"):
        PostgreSQLEventStore(other)
    with pytest.raises(ConfigurationError, match=r"such as PostgreSQLEventStore\(pool\)"):
        SubscriptionManager(other)
    with pytest.raises(ConfigurationError, match=r"such as PostgreSQLEventStore\(pool\)"):
        AggregateRepository(other, Mistakes)


async def test_sending_takes_an_instance() -> None:
    bus = CommandBus(MemoryCommandStore())
    for call in (bus.send, bus.request):
        with pytest.raises(InvalidInputError, match=r"MakeMistake is a class; give an instance: MakeMistake\(\.\.\.\)"):
            await call(MakeMistake)


async def test_a_time_to_wait_that_cannot_be_is_named_like_any_duration() -> None:
    bus, command_id = CommandBus(MemoryCommandStore()), uuid4()
    with pytest.raises(InvalidInputError, match="timeout: a duration must be finite and not negative"):
        await bus.request("mistakes", "Do", command_id, {}, timeout=-1)
    with pytest.raises(InvalidInputError, match="timeout: a duration must be finite and not negative"):
        await bus.wait_for("mistakes", command_id, timeout=-1)


async def test_how_often_may_be_tried_is_told_with_its_limits() -> None:
    bus, wrong = CommandBus(MemoryCommandStore()), r"max_attempts must be a whole number from 1 to 2,147,483,647, not "
    for number in (0, 2**31):
        with pytest.raises(InvalidInputError, match=f"{wrong}{number}"):
            await bus.send("mistakes", "Do", uuid4(), {}, max_attempts=number)
        with pytest.raises(ConfigurationError, match=f"{wrong}{number}"):
            RetryPolicy(max_attempts=number)


async def test_subscribing_takes_an_instance_and_a_config(store) -> None:
    manager = SubscriptionManager(store)
    with pytest.raises(ConfigurationError, match=r"make one, Noted\(\)"):
        await manager.subscribe(Noted)
    with pytest.raises(ConfigurationError, match="config is a SubscriptionConfig"):
        await manager.subscribe(Noted(), {"shards": 2})


@pytest.mark.parametrize("on_error", ["skip", "Stop", "deadletter", None])
async def test_an_event_is_never_laid_apart_because_of_a_typing_error(store, on_error) -> None:
    projection = Noted()
    projection.on_error = on_error
    with pytest.raises(ConfigurationError, match="'stop' or 'dead_letter'"):
        await SubscriptionManager(store).subscribe(projection)


async def test_waiting_asks_for_a_position_not_for_what_an_append_gave(store) -> None:
    manager = SubscriptionManager(store)
    await manager.subscribe(Noted())
    appended = await store.append(STREAM, [Mistaken(number=1)])
    with pytest.raises(InvalidInputError, match="a position must be a whole number"):
        await manager.wait_until(appended)


def test_a_handler_that_cannot_be_called_is_refused_when_it_is_registered() -> None:
    registry = HandlerRegistry()

    async def of_a_command(command, ctx):
        del command, ctx

    async def of_an_aggregate(mistakes, command, ctx):
        del mistakes, command, ctx

    with pytest.raises(ConfigurationError, match=r"\(aggregate, command, context\)"):
        registry.register(MakeMistake, of_a_command, aggregate=Mistakes)
    with pytest.raises(ConfigurationError, match=r"\(command, context\).* says aggregate="):
        registry.register(MakeMistake, of_an_aggregate)
    assert not registry.registered_handlers()

    registry.register(MakeMistake, of_an_aggregate, aggregate=Mistakes)
    registry.register("mistakes", "Other", lambda *both: None)
    registry.register("mistakes", "Builtin", print)


def test_a_handler_that_yields_is_refused_when_it_is_registered() -> None:
    def plain(_command: object, _context: object) -> Iterator[None]:
        yield

    async def asynchronous(_command: object, _context: object) -> AsyncIterator[None]:
        yield

    for each in (plain, asynchronous):
        with pytest.raises(ConfigurationError, match="yields, so it never runs"):
            HandlerRegistry().register("shop", "Buy", each)


async def test_a_policy_of_snapshots_is_asked_for() -> None:
    options = {"event_store": InMemoryEventStore(), "snapshots": 100}
    with pytest.raises(ConfigurationError, match=r"SnapshotPolicy\.every\(100\), not 100"):
        Worker(MemoryCommandStore(), "mistakes", HandlerRegistry(), **options)
    with pytest.raises(ConfigurationError, match=r"SnapshotPolicy\.every\(100\), not True"):
        AggregateRepository(InMemoryEventStore(), Mistakes, snapshots=True)


async def test_the_feed_is_asked_for_several_categories() -> None:
    with pytest.raises(InvalidInputError, match=r"\['Order'\], not 'Order'"):
        InMemoryEventStore().filter(categories="Order")


def test_a_command_to_be_run_names_a_subscription_as_a_shell_takes_it() -> None:
    error = SubscriptionHeldError("relay to orders", "PAUSED", None, 1, 2)
    assert str(error).endswith("run `mainstay projections resume 'relay to orders'`")


async def test_the_ledger_is_asked_for_a_stream_by_its_name() -> None:
    bus = CommandBus(MemoryCommandStore())
    with pytest.raises(InvalidInputError, match=r"StreamName\('Order', '17'\), not 'Mistakes/one'"):
        await bus.list_decisions(stream="Mistakes/one")
    with pytest.raises(InvalidInputError, match="after must be a whole number"):
        await bus.list_decisions(after=-1)


async def test_a_table_that_was_lost_is_not_made_anew_in_silence(store, caplog) -> None:
    checkpoints = MemoryProjectionStore()
    manager = SubscriptionManager(store, checkpoints)
    with caplog.at_level(logging.WARNING):
        await manager.subscribe(MistakeRows())
    assert not caplog.records, "a new subscription has lost nothing"
    async with manager:
        appended = await store.append(STREAM, [Mistaken(number=1)])
        await manager.wait_until(appended.position)

    await checkpoints.read_models.drop(table_of(MistakeRow))
    with caplog.at_level(logging.WARNING):
        await SubscriptionManager(store, checkpoints).subscribe(MistakeRows())

    (record,) = caplog.records
    assert "mistake_rows of subscription MistakeRows was missing" in record.getMessage()
    assert "to position 1: rebuild it" in record.getMessage()
