"""Handlers on aggregates: what is refused when they are registered."""

from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from mainstay import (
    AggregateRoot,
    Command,
    CommandModel,
    ConfigurationError,
    DeciderAggregate,
    HandlerAlreadyRegisteredError,
    HandlerContext,
    HandlerRegistry,
    InvalidOperationError,
    MemoryCommandStore,
    PermanentCommandError,
    Worker,
)
from mainstay.commands.aggregates import Target

DOMAIN = "accounts"


class OrderLine(AggregateRoot[dict[str, str]]):
    pass


class Open(CommandModel, domain=DOMAIN):
    account_id: UUID


class Close(CommandModel, domain=DOMAIN):
    account_id: UUID


class Elsewhere(CommandModel, domain="elsewhere"):
    account_id: UUID


class Unnamed(BaseModel):
    account_id: UUID


class Account(DeciderAggregate[int, Open | Close], abstract=True):
    pass


class OfAnother(DeciderAggregate[int, Elsewhere], abstract=True):
    pass


class Untyped(DeciderAggregate[int, Unnamed], abstract=True):
    pass


class Silent(DeciderAggregate, abstract=True):
    pass


async def handle(aggregate: OrderLine, command: Command, context: HandlerContext) -> None:
    return None


@pytest.fixture
def registry() -> HandlerRegistry:
    return HandlerRegistry()


def test_the_field_is_called_after_the_aggregate_unless_said(registry):
    registry.register(DOMAIN, "Do", handle, aggregate=OrderLine)
    registry.register(DOMAIN, "Other", handle, aggregate=OrderLine, stream="line")

    assert [target.stream for target in registry.targets(DOMAIN)] == ["order_line_id", "line"]
    assert registry.targets("another") == []


def test_a_handler_on_an_aggregate_is_transactional(registry):
    registry.register(DOMAIN, "Do", handle, aggregate=OrderLine)

    assert registry.find(DOMAIN, "Do").options.transactional


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"aggregate": OrderLine, "transactional": False},
            "a handler on an aggregate is transactional, since its events",
        ),
        ({"aggregate": dict}, "aggregate must be a class derived from AggregateRoot, not"),
        ({"aggregate": OrderLine("1")}, "aggregate must be a class derived from AggregateRoot, not"),
        ({"aggregate": OrderLine, "stream": 3}, "stream must be a function of the command, or the name of a field"),
        ({"aggregate": OrderLine, "stream": ""}, "stream must be a function of the command, or the name of a field"),
        ({"stream": "order_id"}, "say aggregate=, too"),
        ({"version": 1}, "version= is for the ledger of decisions on aggregates: say aggregate=, too"),
        ({"aggregate": OrderLine, "version": -1}, "version must be a whole number, or a text of at most 50 characters"),
        ({"aggregate": OrderLine, "version": True}, "version must be a whole number"),
        ({"aggregate": OrderLine, "version": ""}, "version must be a whole number"),
        ({"aggregate": OrderLine, "version": "x" * 51}, "version must be a whole number"),
        ({"aggregate": OrderLine, "version": "\0"}, "version must be a whole number"),
    ],
)
def test_what_is_no_aggregate_is_refused(registry, options, message):
    with pytest.raises(ConfigurationError, match=message):
        registry.register(DOMAIN, "Do", handle, **options)

    assert registry.registered_handlers() == []


def test_a_model_without_the_field_is_refused(registry):
    with pytest.raises(
        ConfigurationError, match="Open has no field 'order_line_id' that says which OrderLine it is for"
    ):
        registry.register(Open, handle, aggregate=OrderLine)

    assert registry.registered_handlers() == []


@pytest.mark.parametrize(
    ("data", "told"), [({}, "not None"), ({"order_line_id": 3}, "not 3"), ({"order_line_id": None}, "not None")]
)
def test_a_payload_that_names_no_aggregate_is_a_permanent_error(data, told):
    target = Target.of(OrderLine, None)

    assert target is not None
    with pytest.raises(PermanentCommandError, match=told):
        target.id_of(Command(DOMAIN, "Do", uuid4(), data))


def test_a_function_tells_which_aggregate():
    target = Target.of(OrderLine, lambda command: command.command_id)
    command = Command(DOMAIN, "Do", uuid4(), {})

    assert target is not None
    assert target.id_of(command) == command.command_id


# -- deciders ----------------------------------------------------------------------------------------------------------
def test_a_decider_handles_the_commands_in_its_brackets(registry):
    registry.register_decider(domain=DOMAIN, decider=Account)

    assert registry.registered_handlers() == [(DOMAIN, "Close"), (DOMAIN, "Open")]
    assert registry.json_schemas()[DOMAIN]["Open"]["properties"].keys() == {"account_id"}


def test_a_decider_is_registered_whole_or_not_at_all(registry):
    registry.register(Close, handle, aggregate=OrderLine, stream="account_id")

    with pytest.raises(HandlerAlreadyRegisteredError):
        registry.register_decider(domain=DOMAIN, decider=Account)
    assert registry.registered_handlers() == [(DOMAIN, "Close")]


@pytest.mark.parametrize(
    ("decider", "message"),
    [
        (OrderLine, "decider must be a class derived from DeciderAggregate"),
        (OfAnother, "Elsewhere is a command of 'elsewhere': OfAnother cannot decide on it in 'accounts'"),
        (Silent, "Silent does not say what it decides on"),
        (Untyped, "Untyped cannot be sent commands: expected a class derived from CommandModel"),
    ],
)
def test_what_decides_on_no_commands_of_the_domain_is_refused(registry, decider, message):
    with pytest.raises(ConfigurationError, match=message):
        registry.register_decider(domain=DOMAIN, decider=decider)


# -- without a store of events -----------------------------------------------------------------------------------------
async def test_dispatch_says_that_only_a_worker_loads_aggregates(registry):
    registry.register(DOMAIN, "Do", handle, aggregate=OrderLine)
    command = Command(DOMAIN, "Do", uuid4(), {})

    with pytest.raises(ConfigurationError, match="call its handler with one, or run a worker"):
        await registry.dispatch(command, HandlerContext(command, 1, 3, 1))


async def test_a_worker_in_memory_must_be_told_where_the_events_are(registry):
    registry.register(DOMAIN, "Do", handle, aggregate=OrderLine)

    with pytest.raises(
        ConfigurationError, match=r"give the worker the store of its events, Worker\(\.\.\., event_store="
    ):
        await Worker(MemoryCommandStore(), DOMAIN, registry).run()


async def test_who_has_no_transaction_is_told_how_to_get_one_when_he_asks(registry):
    command = Command(DOMAIN, "Do", uuid4(), {})
    context, lent = HandlerContext(command, 1, 3, 1), HandlerContext(command, 1, 3, 1, conn=object())

    for ask in (lambda: context.conn, lambda: context.conn.execute, context.session):
        with pytest.raises(
            InvalidOperationError, match=r"^ctx\.(conn|session\(\)) needs .* register it transactional=True"
        ):
            ask()
    assert not hasattr(context, "pool")
    assert (context.is_transactional, lent.is_transactional, lent.conn is not None) == (False, True, True)
    assert repr(context).startswith("HandlerContext(command=")
    assert context == HandlerContext(command, 1, 3, 1, sends=context.sends)
