"""reliable-cmd and eventsource-py together, as their users do it: a handler loads an aggregate, decides, and saves.

The events are committed by eventsource-py on a connection of its own, the completion by reliable-cmd on another: what
one of them does is not undone with the other. So a crash in between handles the command twice, and appends twice. A
conflict is met in the handler, by a fresh load, because reliable-cmd would spend an attempt on it, and a delay.
"""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
from protocol import DEPOSIT, DOMAIN, LARGEST_BALANCE, Work, deposit, main
from pydantic import BaseModel
from reliable_cmd import WORKER_POOL, ReliableCmd

from commandbus import Command, HandlerContext, HandlerRegistry, SendRequest, Worker
from commandbus.exceptions import PermanentCommandError
from eventsource import (
    AggregateRepository,
    DeciderAggregate,
    DomainCommand,
    DomainEvent,
    OptimisticLockError,
    PostgreSQLEventStore,
    create_async_engine,
    register_event,
)
from eventsource.migrations import get_all_schemas

CREATE_EXTENSION = 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";'  # nothing of it is used, and not every server has it


class Deposit(DomainCommand):
    amount: int


@register_event
class Deposited(DomainEvent):
    event_type: str = "Deposited"
    aggregate_type: str = "Account"
    amount: int


class Balance(BaseModel):
    account_id: UUID
    amount: int = 0


class Account(DeciderAggregate[Balance]):
    aggregate_type = "Account"

    @staticmethod
    def initial_state(aggregate_id: UUID) -> Balance:
        return Balance(account_id=aggregate_id)

    @staticmethod
    def decide(command: Any, state: Balance) -> list[DomainEvent]:
        if state.amount + command.amount > LARGEST_BALANCE:
            raise PermanentCommandError("TOO_MUCH", f"there are {state.amount} already")
        return [Deposited(aggregate_id=state.account_id, amount=command.amount)]

    @staticmethod
    def evolve(state: Balance, event: DomainEvent) -> Balance:
        if isinstance(event, Deposited):
            return Balance(account_id=state.account_id, amount=state.amount + event.amount)
        return state


class TwoLibraries(ReliableCmd):
    distributions = ("reliable-cmd", "pgmq", "psycopg", "eventsource-py", "sqlalchemy", "asyncpg", "pydantic")

    async def install(self) -> str:
        settings = await super().install()
        conn = await asyncpg.connect(self.dsn)
        await conn.execute(get_all_schemas().replace(CREATE_EXTENSION, ""))
        await conn.close()
        return f"as each of them alone: {settings}; eventsource-py on an engine with a pool of {WORKER_POOL} as well"

    async def send_deposits(self, numbers: range, accounts: int) -> None:
        await self._bus.send_batch(
            [
                SendRequest(domain=DOMAIN, command_type=DEPOSIT, command_id=uuid4(), data=deposit(number, accounts))
                for number in numbers
            ]
        )

    async def work(self, work: Work) -> None:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: asyncpg.connect(self.dsn),
            pool_size=WORKER_POOL,
            max_overflow=0,
        )
        accounts = AggregateRepository(PostgreSQLEventStore(engine), Account)
        registry = HandlerRegistry()

        async def handle(command: Command, _context: HandlerContext) -> dict[str, Any]:
            work.mark(command.data["number"])
            told = Deposit(command_id=command.command_id, amount=command.data["amount"])
            while True:
                account = await accounts.load_or_create(UUID(command.data["account_id"]))
                account.execute(told)
                try:
                    await accounts.save(account)
                except OptimisticLockError:
                    continue
                return {"version": account.version}

        registry.register(DOMAIN, DEPOSIT, handle)
        worker = Worker(self._pool, domain=DOMAIN, registry=registry)
        await worker.run(concurrency=work.concurrency, poll_interval=1.0)


if __name__ == "__main__":
    main(TwoLibraries)
