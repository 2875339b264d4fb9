"""A worker process of the test of transfers: one account in a COMMIT, and with it the command for the other."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from psycopg_pool import AsyncConnectionPool

from mainstay import (
    BusinessRuleException,
    Command,
    CommandModel,
    DeclarativeAggregate,
    DomainEvent,
    HandlerContext,
    HandlerRegistry,
    Worker,
    handles,
)

DOMAIN = "bank"
LEASE = 2.0


class Open(CommandModel, domain=DOMAIN):
    account_id: str
    amount: int


class Transfer(CommandModel, domain=DOMAIN):
    account_id: str
    to: str
    amount: int


class Credit(CommandModel, domain=DOMAIN):
    account_id: str
    amount: int


class Credited(DomainEvent, event_type="bank.Credited"):
    amount: int


class Debited(DomainEvent, event_type="bank.Debited"):
    amount: int


@dataclass(frozen=True)
class Balance:
    amount: int = 0


class Account(DeclarativeAggregate[Balance]):
    aggregate_type = "BankAccount"

    @handles(Credited)
    def _credited(self, event: Credited) -> None:
        self._state = Balance(self.state.amount + event.amount)

    @handles(Debited)
    def _debited(self, event: Debited) -> None:
        self._state = Balance(self.state.amount - event.amount)


def bank() -> HandlerRegistry:
    """The handlers."""
    registry = HandlerRegistry()

    @registry.handler(Open, aggregate=Account, stream="account_id")
    async def begin(account: Account, command: Command[Open], context: HandlerContext) -> None:
        account.raise_event(Credited, amount=command.data.amount)

    @registry.handler(Transfer, aggregate=Account, stream="account_id")
    async def transfer(account: Account, command: Command[Transfer], context: HandlerContext) -> None:
        if account.state.amount < command.data.amount:
            raise BusinessRuleException("NOT_ENOUGH", f"there are {account.state.amount} only")
        account.raise_event(Debited, amount=command.data.amount)
        await context.send(Credit(account_id=command.data.to, amount=command.data.amount))

    @registry.handler(Credit, aggregate=Account, stream="account_id")
    async def credit(account: Account, command: Command[Credit], context: HandlerContext) -> None:
        account.raise_event(Credited, amount=command.data.amount)

    return registry


async def work(dsn: str) -> None:
    """Until killed."""
    options: dict[str, Any] = {"min_size": 1, "max_size": 8, "open": False}
    async with AsyncConnectionPool(dsn, **options) as pool:
        await Worker(pool, DOMAIN, bank(), visibility_timeout=LEASE).run(concurrency=4, poll_interval=0.2)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
