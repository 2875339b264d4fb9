"""Typed commands without a store: names, signatures, upcasters, schemas."""

import functools
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field

from mainstay import (
    BatchCommand,
    Command,
    CommandModel,
    ConfigurationError,
    HandlerContext,
    HandlerNotFoundError,
    HandlerRegistry,
    PayloadProblem,
    PermanentCommandError,
    SendRequest,
    Step,
    TransientCommandError,
    handler,
    upcast,
)
from mainstay.commands.handler import get_handler_meta
from mainstay.commands.model import CommandName, name_of, version_of, with_version
from mainstay.errors import InvalidInputError, InvalidPayloadError

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]  # on purpose


class Ship(CommandModel, domain="orders", version=3):
    order: int
    express: bool = False


class Loose(BaseModel):
    n: int


def command(data: Any, version: int = 1, command_type: str = "Ship") -> Command[Any]:
    return Command("orders", command_type, uuid4(), data, headers=with_version({}, version) or {})


async def dispatched(registry: HandlerRegistry, sent: Command[Any]) -> Any:
    return await registry.dispatch(sent, HandlerContext(sent, 1, 3, 1))


@pytest.fixture
def registry():
    return HandlerRegistry()


class TestNames:
    def test_a_type_is_the_name_of_its_class_and_its_version_1_unless_said(self):
        class Pay(CommandModel, domain="billing"):
            pass

        class Refund(CommandModel, domain="billing", type="billing.Refund", version=2):
            pass

        assert name_of(Ship) == CommandName("orders", "Ship", 3)
        assert name_of(Pay) == CommandName("billing", "Pay", 1)
        assert name_of(Refund) == CommandName("billing", "billing.Refund", 2)

    def test_a_base_gives_its_domain_and_nothing_else(self):
        class Base(CommandModel, domain="billing", type="Other", version=7):
            pass

        class Pay(Base):
            pass

        assert name_of(Pay) == CommandName("billing", "Pay", 1)

    @pytest.mark.parametrize(
        "said", [{"domain": "No Domain"}, {"type": ""}, {"version": 0}, {"version": True}, {"version": "2"}]
    )
    def test_what_is_no_name_is_refused_where_it_is_written(self, said):
        with pytest.raises(ConfigurationError, match="Wrong"):
            type("Wrong", (CommandModel,), {}, **{"domain": "orders"} | said)

    @pytest.mark.parametrize("model", [CommandModel, Loose, "Ship", 7], ids=str)
    def test_what_has_no_name_says_so(self, model):
        with pytest.raises(ConfigurationError):
            name_of(model)

    def test_fields_may_be_called_as_commands_call_theirs(self):
        class Odd(CommandModel, domain="orders"):
            domain: str
            type: str
            version: int

        assert Odd(domain="a", type="b", version=9).model_dump() == {"domain": "a", "type": "b", "version": 9}
        assert name_of(Odd) == CommandName("orders", "Odd", 1)

    def test_a_command_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            Ship(order=1).order = 2  # type: ignore[misc]  # on purpose

    def test_a_field_that_is_not_read_as_it_is_written_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"Lost\.n is written as 'out' and not read by that name"):

            class Lost(CommandModel, domain="orders"):
                n: int = Field(serialization_alias="out")

        with pytest.raises(ConfigurationError, match="written as 'n'"):

            class Hidden(CommandModel, domain="orders"):
                n: int = Field(validation_alias="in")

    def test_aliases_that_meet_are_taken(self):
        class Fine(CommandModel, domain="orders"):
            model_config = ConfigDict(populate_by_name=True)

            a: int = Field(alias="A")
            b: int = Field(validation_alias=AliasChoices("old", "b"))
            c: int = Field(validation_alias=AliasChoices(AliasPath("c"), AliasPath("deep", "c")))
            d: int = Field(validation_alias="D")

        assert name_of(Fine).version == 1

    @pytest.mark.parametrize("request_of", [SendRequest.of, BatchCommand.of, Step.of])
    def test_a_request_for_it_loses_no_number(self, request_of):
        class Measured(CommandModel, domain="orders"):
            found: Any = None

        with pytest.raises(InvalidPayloadError, match=r"data\.found\[0\] is nan: JSON has no such number"):
            request_of(Measured(found=[float("nan")]))
        assert request_of(Measured()).data == {"found": None}

    def test_version_1_is_not_said(self):
        assert with_version(None, 1) is None
        assert with_version({"a": 1}, 1) == {"a": 1}
        assert version_of(with_version({"a": 1}, 4)) == 4
        assert version_of(None) == version_of({}) == 1

    @pytest.mark.parametrize("said", ["2", 0, -1, 1.5, True, None, []], ids=str)
    def test_what_is_no_version_is_refused(self, said):
        with pytest.raises(InvalidInputError, match="command_version"):
            version_of({"command_version": said})


class TestSignatures:
    async def both_ways(self, function, data, **said):
        registry = HandlerRegistry()
        registry.handler(**said)(function)
        return await dispatched(registry, command(data, 3))

    async def test_the_annotation_says_what_a_handler_gets(self, registry):
        def typed(command: Command[Ship], context):
            return command.data

        def plain(command: Command, context):
            return command.data

        def silent(command, context):
            return command.data

        data = {"order": 1}
        assert await self.both_ways(typed, data) == Ship(order=1)
        assert await self.both_ways(typed, data, domain="orders", command_type="Ship") == Ship(order=1)
        assert await self.both_ways(typed, data, domain=Ship) == Ship(order=1)
        assert await self.both_ways(plain, data, domain="orders", command_type="Ship") is data
        assert await self.both_ways(plain, data, domain=Ship) == data
        assert await self.both_ways(silent, data, domain="orders", command_type="Ship") is data
        assert await self.both_ways(silent, data, domain=Ship) == Ship(order=1)
        with pytest.raises(PermanentCommandError, match="INVALID_PAYLOAD"):
            await self.both_ways(plain, {}, domain=Ship)

    async def test_functions_methods_partials_wrappers_and_objects_are_read(self, registry):
        async def function(command: Command[Ship], context):
            return command.data

        class Service:
            async def method(self, command: Command[Ship], context):
                return command.data

            async def __call__(self, command: "Command[Ship]", context):
                return command.data

        @functools.wraps(function)
        async def wrapped(*args):
            return await function(*args)

        def more(extra, command: Command[Ship], context):
            return command.data

        for each in (function, Service().method, Service(), wrapped, functools.partial(more, 1)):
            registry.clear()
            registry.register(Ship, each)
            assert await dispatched(registry, command({"order": 1}, 3)) == Ship(order=1)
            assert registry.find("orders", "Ship").reader.gives_model

    async def test_an_annotation_in_quotes_is_found_in_the_closure_too(self, registry):
        class Local(CommandModel, domain="orders"):
            n: int

        def local(command: "Command[Local]", context: "Missing"):
            assert isinstance(command.data, Local)
            return command.data

        registry.decorator()(local)

        assert await dispatched(registry, command({"n": 1}, command_type="Local")) == Local(n=1)

    def test_an_annotation_that_cannot_be_found_says_what_to_do(self, registry):
        def lost(command: "Command[Missing]", context):
            pass

        with pytest.raises(ConfigurationError, match="cannot be found from here: annotate it"):
            handler()(lost)
        with pytest.raises(ConfigurationError, match=r"name the model in the decorator"):
            registry.register("orders", "Ship", lost)
        registry.register(Ship, lost)

        assert registry.find("orders", "Ship").reader.model is Ship

    @pytest.mark.parametrize("wrong", [Command, Command[Loose], None], ids=str)
    def test_a_handler_without_names_needs_a_model_that_has_them(self, wrong):
        def function(command, context):
            pass

        if wrong is not None:
            function.__annotations__["command"] = wrong

        with pytest.raises(ConfigurationError, match="names no CommandModel"):
            handler()(function)

    def test_what_contradicts_itself_is_refused(self, registry):
        class Pay(CommandModel, domain="billing"):
            pass

        def ships(command: Command[Ship], context):
            pass

        def numbers(command: Command[int], context):  # type: ignore[type-var]  # on purpose
            pass

        with pytest.raises(ConfigurationError, match="its annotation names Ship"):
            registry.register(Pay, ships)
        with pytest.raises(ConfigurationError, match=r"registered for orders\.Send, but .* which is orders\.Ship"):
            registry.register("orders", "Send", ships)
        with pytest.raises(ConfigurationError, match="must be a pydantic model or a dict"):
            registry.register("orders", "Send", numbers)
        with pytest.raises(ConfigurationError, match="leave out 'Ship'"):
            handler(Ship, "Ship")
        with pytest.raises(ConfigurationError, match="has no domain"):
            handler(CommandModel)
        assert registry.registered_handlers() == []

    async def test_any_pydantic_model_will_do_beside_names(self, registry):
        @registry.handler("orders", "Loose")
        def loose(command: Command[Loose], context):
            return command.data

        assert await dispatched(registry, command({"n": 1}, command_type="Loose")) == Loose(n=1)

    def test_a_mark_names_domain_and_type(self):
        @handler()
        async def ship(command: Command[Ship], context):
            pass

        assert (get_handler_meta(ship).domain, get_handler_meta(ship).command_type) == ("orders", "Ship")

    async def test_a_command_that_holds_its_model_is_not_read_again(self, registry):
        @registry.handler()
        def ship(command: Command[Ship], context):
            return command.data

        model = Ship(order=1)

        assert await dispatched(registry, command(model)) is model


class Lifts:
    @upcast(Ship, from_version=1)
    def first(self, data):
        return {"order": data["id"]}

    @upcast(Ship, from_version=2)
    def second(self, data):
        return {**data, "express": True}

    @handler()
    def ship(self, command: Command[Ship], context):
        return command.data


class TestUpcasting:
    async def test_each_version_takes_the_steps_it_needs(self, registry):
        registry.register_instance(Lifts())

        assert await dispatched(registry, command({"id": 7}, 1)) == Ship(order=7, express=True)
        assert await dispatched(registry, command({"order": 7}, 2)) == Ship(order=7, express=True)
        assert await dispatched(registry, command({"order": 7}, 3)) == Ship(order=7)

    async def test_a_version_that_is_newer_is_transient(self, registry):
        registry.register_instance(Lifts())

        with pytest.raises(TransientCommandError) as caught:
            await dispatched(registry, command({"order": 7}, 4))

        assert caught.value.code == "NEWER_VERSION"
        assert "version 4" in str(caught.value)

    @pytest.mark.parametrize(
        ("function", "code"),
        [
            (None, "NO_UPCASTER"),
            (lambda data: data["gone"], "UPCAST_FAILED"),
            (lambda data: None, "UPCAST_FAILED"),
            (lambda data: {"order": object()}, "UPCAST_FAILED"),
        ],
        ids=["none", "raises", "no-dict", "no-json"],
    )
    async def test_a_step_that_fails_is_permanent(self, registry, function, code):
        registry.register(Ship, lambda command, context: command.data)
        if function is not None:
            registry.upcast(Ship, from_version=2)(function)

        with pytest.raises(PermanentCommandError) as caught:
            await dispatched(registry, command({"order": 7}, 2))

        assert caught.value.code == code

    async def test_a_version_that_is_none_is_permanent(self, registry):
        registry.register_instance(Lifts())
        sent = Command("orders", "Ship", uuid4(), {"order": 1}, headers={"command_version": "new"})

        with pytest.raises(PermanentCommandError, match="INVALID_PAYLOAD"):
            await dispatched(registry, sent)

    @pytest.mark.parametrize("version", [0, 3, 4, "1", True], ids=repr)
    def test_only_steps_below_the_newest_version_exist(self, version):
        with pytest.raises(ConfigurationError, match="from_version"):
            upcast(Ship, from_version=version)

    def test_a_step_has_one_plain_upcaster(self, registry):
        registry.upcast(Ship, from_version=1)(lambda data: data)

        with pytest.raises(ConfigurationError, match="already"):
            registry.upcast(Ship, from_version=1)(lambda data: data)
        with pytest.raises(ConfigurationError, match="plain function"):

            @registry.upcast(Ship, from_version=2)
            async def lift(data):
                return data

    def test_registries_do_not_share_upcasters(self, registry):
        registry.register_instance(Lifts())
        other = HandlerRegistry()
        other.register_instance(Lifts())

        assert other.problems("orders", "Ship", {"id": 1}, {}) == []


class TestChecking:
    def test_problems_say_where_and_what(self, registry):
        registry.register_instance(Lifts())

        assert registry.problems("orders", "Ship", {"order": 1}) == []
        assert registry.problems("orders", "Ship", {"order": "x", "express": 7}) == [
            PayloadProblem(
                "order", "Input should be a valid integer, unable to parse string as an integer", "int_parsing"
            ),
            PayloadProblem("express", "Input should be a valid boolean, unable to interpret input", "bool_parsing"),
        ]

    @pytest.mark.parametrize("data", [None, [], "text", 7], ids=str)
    def test_a_payload_is_an_object(self, registry, data):
        registry.register_instance(Lifts())
        registry.register("orders", "Plain", lambda command, context: None)

        for command_type in ("Ship", "Plain"):
            (problem,) = registry.problems("orders", command_type, data)
            assert problem.kind == "INVALID_PAYLOAD"
        assert registry.problems("orders", "Plain", {"anything": 1}) == []

    def test_the_version_is_that_of_the_command_that_it_is_for(self, registry):
        registry.register_instance(Lifts())

        assert registry.problems("orders", "Ship", {"id": 1}, {}) == []
        assert [each.kind for each in registry.problems("orders", "Ship", {"id": 1})] == ["missing"]
        assert [each.kind for each in registry.problems("orders", "Ship", {}, {"command_version": 9})] == [
            "NEWER_VERSION"
        ]
        assert registry.problems("orders", "Ship", {}, {"command_version": "x"})[0].kind == "INVALID_PAYLOAD"

    def test_checking_changes_nothing(self, registry):
        registry.register(Ship, lambda command, context: None)
        registry.upcast(Ship, from_version=2)(lambda data: {"order": data.pop("id")})
        data = {"id": 1}

        assert registry.problems("orders", "Ship", data, {"command_version": 2}) == []
        assert data == {"id": 1}

    def test_what_cannot_be_json_is_a_problem(self, registry):
        registry.register_instance(Lifts())

        assert registry.problems("orders", "Ship", {"order": object()})[0].kind == "INVALID_PAYLOAD"

    def test_an_unknown_type_has_no_answer(self, registry):
        with pytest.raises(HandlerNotFoundError):
            registry.problems("orders", "Ship", {})

    def test_every_registered_command_has_a_schema(self, registry):
        registry.register_instance(Lifts())
        registry.register("billing", "Pay", lambda command, context: None)

        schemas = registry.json_schemas()

        assert schemas["orders"]["Ship"]["properties"]["order"] == {"title": "Order", "type": "integer"}
        assert schemas["orders"]["Ship"]["required"] == ["order"]
        assert schemas["orders"]["Ship"]["x-command"] == {"domain": "orders", "command_type": "Ship", "version": 3}
        assert schemas["billing"]["Pay"]["type"] == "object"
        assert {domain: list(types) for domain, types in schemas.items()} == {"billing": ["Pay"], "orders": ["Ship"]}
