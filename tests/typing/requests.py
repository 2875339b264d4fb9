"""Read by mypy, never run: requests and their replies."""

from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from mainstay import CommandBus, CommandModel, Reply, SyncCommandBus


class Add(CommandModel, domain="sums"):
    a: int


class Sum(BaseModel):
    total: int


async def ask(bus: CommandBus, key: UUID) -> None:
    assert_type(await bus.request("sums", "Add", None, {"a": 1}, timeout=5), Reply[Any])
    assert_type(await bus.request("sums", "Add", key, {"a": 1}, reply_model=Sum, key="a", priority=3), Reply[Sum])
    assert_type(await bus.request(Add(a=1)), Reply[Any])
    typed = await bus.request(Add(a=1), reply_model=Sum, command_id=key, idempotent=True)
    assert_type(typed.unwrap(), Sum)
    typed.data.totl  # type: ignore[attr-defined]  # noqa: B018  # misspelled
    assert_type(await bus.wait_for("sums", key), Reply[Any])
    assert_type(await bus.wait_for("sums", key, reply_model=Sum, timeout=0), Reply[Sum])
    assert_type(await bus.get_result("sums", key), Reply[Any] | None)
    assert_type(await bus.get_result("sums", key, reply_model=Sum), Reply[Sum] | None)
    await bus.request(Add(a=1), conn=None)  # type: ignore[call-overload]  # joins no transaction
    await bus.request(Add(a=1), reply_model=int)  # type: ignore[type-var]  # no model
    await bus.request("sums", "Add")  # type: ignore[call-overload]  # no data


def block(bus: SyncCommandBus, reply: Reply) -> None:
    bus.request(Add(a=1), reply_model=Sum, timeout=5)
    reply.data["anything"]
