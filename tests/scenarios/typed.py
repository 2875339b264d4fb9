"""Typed commands from the sender to the handler: a suite for every store."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from mainstay import (
    AuditEventType,
    BatchCommand,
    Command,
    CommandModel,
    CommandNotFoundError,
    CommandStatus,
    HandlerContext,
    HandlerNotFoundError,
    HandlerRegistry,
    InvalidInputError,
    InvalidOperationError,
    InvalidPayloadError,
    Selection,
    SendRequest,
    Success,
    TroubleshootingQueue,
    handler,
    upcast,
)
from mainstay.commands.store import Action
from tests.scenarios.world import DOMAIN, REPLIES, World, WorldSuite
from tests.support.waiting import eventually

S = CommandStatus


class Item(BaseModel):
    sku: str
    price: Decimal = Decimal(1)


class CreateOrder(CommandModel, domain=DOMAIN, version=3):
    """Version 1 had one name, version 2 had names of items."""

    customer: str = Field(alias="customerName")
    items: list[Item]


class Created(BaseModel):
    order_id: UUID
    total: Decimal


@upcast(CreateOrder, from_version=1)
def from_1(data: dict[str, Any]) -> dict[str, Any]:
    return {"customerName": data.pop("name"), "items": data["items"]}


@upcast(CreateOrder, from_version=2)
def from_2(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "items": [{"sku": name} for name in data["items"]]}


class Orders:
    def __init__(self) -> None:
        self.seen: list[CreateOrder] = []

    @handler()
    async def create(self, command: Command[CreateOrder], context: Any) -> Success[Created]:
        self.seen.append(command.data)
        assert context.command is command
        return Success(
            Created(order_id=command.command_id, total=sum((i.price for i in command.data.items), Decimal()))
        )


ORDER = CreateOrder(customerName="Ada", items=[Item(sku="tea", price=Decimal("1.10")), Item(sku="milk")])


class TypedScenarios(WorldSuite):
    """Models go in, models come out, and old payloads fit."""

    @pytest.fixture
    def orders(self, world: World) -> Orders:
        orders = Orders()
        world.registry.register_instance(orders)
        world.registry.add(from_1)
        world.registry.add(from_2)
        return orders

    async def test_a_model_that_is_sent_is_the_model_that_is_handled(self, world: World, orders: Orders) -> None:
        sent = await world.bus.send(ORDER, reply_to=REPLIES)
        async with world.working():
            done = await world.settled(sent.command_id)

        assert orders.seen == [ORDER]
        assert done.status is S.COMPLETED
        assert done.data == {
            "customerName": "Ada",
            "items": [{"sku": "tea", "price": "1.10"}, {"sku": "milk", "price": "1"}],
        }
        assert Created.model_validate(done.result) == Created(order_id=sent.command_id, total=Decimal("2.10"))
        assert (await self.replies(world.store, REPLIES))[0]["data"] == done.result

    async def test_every_way_to_send_takes_models(self, world: World, orders: Orders) -> None:
        ids = [uuid4() for _ in range(3)]
        await world.bus.send(ORDER, command_id=ids[0])
        await world.bus.send_batch([SendRequest.of(ORDER, ids[1], headers={"trace": "x"})])
        await world.bus.create_batch(DOMAIN, [BatchCommand.of(ORDER, ids[2])])
        async with world.working():
            await world.settled(*ids)

        assert orders.seen == [ORDER] * 3

    async def test_old_payloads_are_lifted_step_by_step(self, world: World, orders: Orders) -> None:
        first = await world.send("CreateOrder", {"name": "Ada", "items": ["tea"]})
        second = await world.send(
            "CreateOrder", {"customerName": "Bob", "items": ["milk"]}, headers={"command_version": 2}
        )
        async with world.working():
            await world.settled(first, second)

        assert {(order.customer, order.items[0].sku) for order in orders.seen} == {("Ada", "tea"), ("Bob", "milk")}
        assert (await world.known(first)).data == {"name": "Ada", "items": ["tea"]}

    async def test_the_version_survives_a_retry_a_delay_and_an_operator(self, world: World) -> None:
        seen: list[int] = []

        @world.registry.handler(CreateOrder)
        async def create(command: Command[CreateOrder], context: Any) -> None:
            seen.append(context.attempt)
            if len(seen) < 3:
                raise RuntimeError("not yet")

        sent = await world.bus.send(ORDER, max_attempts=2, delay=0.01)
        async with world.working():
            assert (await world.settled(sent.command_id)).status is S.IN_TROUBLESHOOTING_QUEUE
            await world.tsq.operator_retry(DOMAIN, sent.command_id)
            assert (await world.settled(sent.command_id)).status is S.COMPLETED

        assert seen == [1, 2, 1]

    async def test_a_payload_that_does_not_fit_goes_to_troubleshooting_before_the_handler(
        self, world: World, orders: Orders
    ) -> None:
        bad = await world.send("CreateOrder", {"customerName": 7, "items": [{}]}, headers={"command_version": 3})
        async with world.working():
            found = await world.settled(bad)
            trail = await world.bus.get_audit_trail(bad)
            failed = next(event for event in trail if event.event_type is AuditEventType.FAILED)

            assert orders.seen == []
            assert (found.status, found.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 1)
            assert (found.last_error_type, found.last_error_code) == ("PERMANENT", "INVALID_PAYLOAD")
            assert found.last_error_msg is not None
            assert "items.0.sku: Field required" in found.last_error_msg
            assert failed.details is not None
            assert [error["loc"] for error in failed.details["details"]["errors"]] == [
                ["customerName"],
                ["items", 0, "sku"],
            ]

            mended = {"customerName": "Ada", "items": [{"sku": "tea"}]}
            await world.tsq.operator_retry(DOMAIN, bad, data=mended)
            assert (await world.settled(bad)).status is S.COMPLETED
        assert orders.seen[0].customer == "Ada"

    async def test_a_newer_payload_waits_for_a_newer_worker(self, world: World, orders: Orders) -> None:
        newer = await world.send("CreateOrder", {"who": "Ada"}, headers={"command_version": 4}, max_attempts=2)
        async with world.working():
            found = await world.settled(newer)

            assert orders.seen == []
            assert (found.status, found.attempts) == (S.IN_TROUBLESHOOTING_QUEUE, 2)
            assert (found.last_error_type, found.last_error_code) == ("TRANSIENT", "NEWER_VERSION")
            assert found.data == {"who": "Ada"}
        world.registry.clear()

        @world.registry.handler(DOMAIN, "CreateOrder")
        async def newest(command: Command, context: Any) -> Any:
            return command.data

        async with world.working():
            await world.tsq.operator_retry(DOMAIN, newer)
            assert (await world.settled(newer)).result == {"who": "Ada"}

    async def test_a_typed_handler_in_a_transaction_gets_the_model(self, world: World) -> None:
        seen: list[Any] = []

        @world.registry.handler(CreateOrder, transactional=True)
        async def create(command: Command[CreateOrder], context: Any) -> None:
            seen.append(command.data)

        good = await world.bus.send(ORDER)
        bad = await world.send("CreateOrder", {}, headers={"command_version": 3})
        async with world.working():
            await world.settled(good.command_id, bad)

        assert seen == [ORDER]
        assert (await world.known(bad)).last_error_code == "INVALID_PAYLOAD"

    async def test_a_plain_handler_gets_the_dict_as_it_was_sent(self, world: World) -> None:
        seen: list[Any] = []

        @world.registry.handler(DOMAIN, "CreateOrder")
        def create(command: Command, context: Any) -> None:
            seen.append(command.data)

        sent = await world.bus.send(ORDER)
        async with world.working():
            await eventually(lambda: seen)

        assert seen == [(await world.known(sent.command_id)).data]

    async def test_a_handler_sends_models_on(self, world: World, orders: Orders) -> None:
        for transactional in (True, False):

            @world.registry.handler(DOMAIN, f"Start{transactional}", transactional=transactional)
            async def start(command: Command, context: HandlerContext) -> None:
                await context.send(ORDER)

            sent = await world.send(f"Start{transactional}")
            async with world.working():
                await world.settled(sent)
                await eventually(lambda: orders.seen)

            assert orders.seen == [ORDER]
            orders.seen.clear()

    async def test_what_cannot_be_sent_is_refused_and_leaves_nothing(self, world: World) -> None:
        class Base(CommandModel):
            pass

        broken = CreateOrder.model_construct(customer=object(), items=[])
        with pytest.raises(InvalidPayloadError):
            await world.bus.send(broken)
        with pytest.raises(InvalidInputError, match="Base has no domain"):
            await world.bus.send(Base())
        with pytest.raises(InvalidInputError, match="give it alone"):
            await world.bus.send(ORDER, "CreateOrder")  # type: ignore[call-overload]  # on purpose
        with pytest.raises(InvalidInputError, match="this batch is of 'billing'"):
            await world.bus.create_batch("billing", [BatchCommand.of(ORDER)])

        assert await world.bus.query_commands() == []

    async def test_the_version_travels_in_a_header_and_the_message_stays_as_it_is(self, world: World) -> None:
        class Plain(CommandModel, domain=DOMAIN, type="Plain.Old"):
            n: int

        seen: dict[str, Any] = {}

        @world.registry.handler(DOMAIN, "Plain.Old")
        @world.registry.handler(DOMAIN, "CreateOrder")
        async def see(command: Command, context: Any) -> None:
            seen[command.command_type] = (command.data, command.headers)

        first, second = await world.bus.send(Plain(n=1)), await world.bus.send(ORDER, headers={"trace": "x"})
        async with world.working():
            await world.settled(first.command_id, second.command_id)

        assert seen["Plain.Old"] == ({"n": 1}, {})
        assert seen["CreateOrder"][1] == {"trace": "x", "command_version": 3}

    async def test_what_an_operator_types_can_be_checked_first(self, world: World, orders: Orders) -> None:
        bad = await world.send("CreateOrder", {"name": "Ada"})
        async with world.working():
            assert (await world.settled(bad)).status is S.IN_TROUBLESHOOTING_QUEUE
        problems = world.registry.problems(DOMAIN, "CreateOrder", {"name": "Ada"}, headers={})

        assert [problem.kind for problem in problems] == ["UPCAST_FAILED"]
        assert world.registry.problems(DOMAIN, "CreateOrder", {"name": "Ada", "items": ["tea"]}, headers={}) == []

    @pytest.mark.parametrize(
        ("version", "misfit", "fit"),
        [
            (1, {"name": "Ada", "items": [7]}, {"name": "Ada", "items": ["tea"]}),
            (3, {"customerName": "Ada", "items": [{}]}, {"customerName": "Ada", "items": [{"sku": "tea"}]}),
        ],
        ids=["old", "new"],
    )
    async def test_an_edit_must_fit_the_model_at_the_version_that_the_command_has(
        self, world: World, orders: Orders, version: int, misfit: dict[str, Any], fit: dict[str, Any]
    ) -> None:
        headers = {} if version == 1 else {"command_version": version}
        bad = await world.send("CreateOrder", {}, headers=headers)
        async with world.working():
            await world.settled(bad)
        tsq = TroubleshootingQueue(world.store, registry=world.registry)
        item = await tsq.get(DOMAIN, bad)
        seen = await tsq.preview_edit(DOMAIN, bad, misfit)
        with pytest.raises(InvalidPayloadError, match=r"items\.0\.sku") as one:
            await tsq.operator_retry(DOMAIN, bad, data=misfit)
        with pytest.raises(InvalidPayloadError, match=r"items\.0\.sku") as many:
            await tsq.begin(Action.RETRY, Selection(DOMAIN), data=misfit)
        assert await tsq.list_actions() == []
        await tsq.operator_retry(DOMAIN, bad, data=fit)
        async with world.working():
            found = await world.settled(bad)

        assert item is not None
        assert (item.headers or {}) == (found.headers or {}) == headers
        assert [each["path"] for each in seen.diff] == [f"/{name}" for name in sorted(misfit)]
        assert [each.path for each in seen.problems] == ["items.0.sku"]
        assert list(one.value.problems) == list(many.value.problems) == seen.problems
        assert found.status is S.COMPLETED

    async def test_a_registry_without_the_handler_takes_no_edit(self, world: World, orders: Orders) -> None:
        bad = await world.send("CreateOrder", {})
        async with world.working():
            await world.settled(bad)
        tsq = TroubleshootingQueue(world.store, registry=HandlerRegistry())

        with pytest.raises(HandlerNotFoundError):
            await tsq.operator_retry(DOMAIN, bad, data={"name": "Ada", "items": []})
        with pytest.raises(HandlerNotFoundError):
            await tsq.preview_edit(DOMAIN, bad, {})
        with pytest.raises(InvalidOperationError, match="PENDING"):
            await tsq.preview_edit(DOMAIN, await world.send("Other", {}), {})
        with pytest.raises(CommandNotFoundError):
            await tsq.preview_edit(DOMAIN, uuid4(), {})
