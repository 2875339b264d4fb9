"""Read by mypy, never run: typed commands, their handlers, and those who want no types."""

from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from mainstay import (
    BatchCommand,
    Command,
    CommandBus,
    CommandModel,
    HandlerContext,
    HandlerRegistry,
    SendRequest,
    SendResult,
    Step,
    Success,
    handler,
    upcast,
)

registry = HandlerRegistry()


class CreateOrder(CommandModel, domain="orders", type="orders.Create", version=2):
    customer: str


class Created(BaseModel):
    order_id: UUID


class Orders:
    @handler()
    async def create(self, command: Command[CreateOrder], context: HandlerContext) -> Success[Created]:
        assert_type(command.data, CreateOrder)
        print(command.data.costumer)  # type: ignore[attr-defined]  # misspelled
        return Success(Created(order_id=command.command_id))

    @handler(CreateOrder, timeout=5)
    async def typed(self, command: Command[CreateOrder], context: HandlerContext) -> None: ...

    @handler("orders", "CreateOrder")
    async def untyped(self, command: Command, context: HandlerContext) -> dict[str, Any]:
        assert_type(await context.send(CreateOrder(customer="Ada"), name="first", delay=3), SendResult)
        await context.send(CreateOrder(customer="Ada"), "CreateOrder")  # type: ignore[call-overload]  # knows its type
        assert_type(command.data, dict[str, Any])
        return command.data


@registry.handler(domain="orders", command_type="Old", transactional=True)
async def old(command: Command, context: HandlerContext) -> Any:
    return command.data["anything"]


@upcast(CreateOrder, from_version=1)
def lift(data: dict[str, Any]) -> dict[str, Any]:
    return data


@registry.upcast(CreateOrder, from_version=1)  # type: ignore[type-var]  # not a dict
def not_a_dict(data: dict[str, Any]) -> int:
    return len(data)


registry.register("orders", "CreateOrder", old, timeout=3)
registry.register(CreateOrder, old)
registry.register(CreateOrder, old, timeout="soon")  # type: ignore[call-overload]  # not a duration
registry.register("orders", old)  # type: ignore[call-overload]  # no type


async def send(bus: CommandBus, key: UUID, conn: Any) -> None:
    order = CreateOrder(customer="Ada")
    assert_type(await bus.send(order), SendResult)
    await bus.send(order, command_id=key, reply_to="replies", delay=3, headers={"a": 1}, conn=conn, idempotent=True)
    await bus.send("orders", "CreateOrder", key, {"customer": "Ada"})
    await bus.send("orders", "CreateOrder", key, {}, key, "replies", 3, None, conn, delay=2)
    await bus.send(domain="orders", command_type="CreateOrder", command_id=key, data={}, not_before=None)
    await bus.send("orders", "CreateOrder")  # type: ignore[call-overload]  # neither id nor data
    await bus.send(Created(order_id=key))  # type: ignore[call-overload]  # no command
    await bus.send(order, "CreateOrder")  # type: ignore[call-overload]  # knows its type
    assert_type(SendRequest.of(order, key, delay=3), SendRequest)
    SendRequest.of(order, dalay=3)  # type: ignore[call-arg]  # misspelled
    assert_type(BatchCommand.of(order), BatchCommand)
    assert_type(Step.of(order, deadline=3), Step)
    Step.of(order, dedline=3)  # type: ignore[call-arg]  # misspelled
