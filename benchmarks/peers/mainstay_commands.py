"""mainstay: commands with their full audit trail, run in the interpreter that runs the benchmarks."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from protocol import COMMAND_TYPE, DEPOSIT, DOMAIN, LARGEST_BALANCE, Peer, Work, deposit, main
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    BusinessRuleException,
    Command,
    CommandBus,
    CommandModel,
    DeciderAggregate,
    DomainEvent,
    HandlerContext,
    HandlerRegistry,
    PermanentCommandError,
    SendRequest,
    Worker,
    collect_rarely,
    setup_database,
)

WORKER_POOL = 20  # connections at most, as for the peers


class Deposit(CommandModel, domain=DOMAIN):
    account_id: uuid.UUID
    amount: int
    number: int


class Deposited(DomainEvent):
    amount: int


@dataclass(frozen=True)
class Balance:
    amount: int = 0


def account(work: Work) -> type[DeciderAggregate[Balance, Deposit]]:
    """Accounts that tell what they decide on."""

    class Account(DeciderAggregate[Balance, Deposit]):
        @staticmethod
        def initial_state() -> Balance:
            return Balance()

        @staticmethod
        def decide(state: Balance, command: Deposit) -> Iterable[DomainEvent]:
            work.mark(command.number)
            if state.amount + command.amount > LARGEST_BALANCE:
                raise BusinessRuleException("TOO_MUCH", f"there are {state.amount} already")
            return [Deposited(amount=command.amount)]

        @staticmethod
        def evolve(state: Balance, event: DomainEvent) -> Balance:
            return Balance(state.amount + event.amount) if isinstance(event, Deposited) else state

    return Account


class Mainstay(Peer):
    distributions = ("pgmq", "psycopg")

    async def install(self) -> str:
        await self.open(1)
        await setup_database(self._pool)
        collector = "collect_rarely(), as `mainstay worker` does"
        return f"default settings, full audit, AsyncConnectionPool of {WORKER_POOL}, {collector}"

    async def open(self, connections: int) -> None:
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            self.dsn, min_size=connections, max_size=max(connections, WORKER_POOL), open=False
        )
        await self._pool.open(wait=True)
        self._bus = CommandBus(self._pool)

    async def close(self) -> None:
        if hasattr(self, "_pool"):
            await self._bus.close()
            await self._pool.close()

    async def send(self, number: int) -> None:
        await self._bus.send(domain=DOMAIN, command_type=COMMAND_TYPE, command_id=uuid.uuid4(), data={"number": number})

    async def request(self, number: int) -> None:
        reply = await self._bus.request(DOMAIN, COMMAND_TYPE, None, {"number": number}, timeout=60)
        assert reply.unwrap() == number  # noqa: S101  # a measurement of something else is none

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        await self._bus.send_batch([_command(number, delay=delay) for number in numbers])

    async def send_keyed(self, numbers: range, keys: int) -> None:
        await self._bus.send_batch([_command(number, key=f"{number % keys} of {keys}") for number in numbers])

    async def send_deposits(self, numbers: range, accounts: int) -> None:
        await self._bus.send_batch(
            [SendRequest(DOMAIN, DEPOSIT, uuid.uuid4(), deposit(number, accounts)) for number in numbers]
        )

    async def work(self, work: Work) -> None:
        registry = HandlerRegistry()

        async def noop(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])

        async def transactional(command: Command, context: HandlerContext) -> None:
            work.mark(command.data["number"])
            await context.conn.execute("insert into effect (number) values (%s)", (command.data["number"],))

        def sync(command: Command, _context: HandlerContext) -> None:
            work.mark_in_thread(command.data["number"])

        async def reply(command: Command, _context: HandlerContext) -> Any:
            work.mark(command.data["number"])
            return command.data["number"]

        async def refuse(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])
            raise PermanentCommandError("REFUSED", "on purpose")

        handlers: dict[str, Any] = {
            "noop": noop,
            "transactional": transactional,
            "sync": sync,
            "reply": reply,
            "refuse": refuse,
        }
        if work.handler in handlers:
            handle = handlers[work.handler]
            registry.register(DOMAIN, COMMAND_TYPE, handle, transactional=work.handler == "transactional")
        else:
            registry.register_decider(domain=DOMAIN, decider=account(work))
        worker = Worker(pool=self._pool, domain=DOMAIN, registry=registry, group_commit=work.handler == "group")
        collect_rarely()  # as `mainstay worker` does
        await worker.run(concurrency=work.concurrency, poll_interval=1.0)


def _command(number: int, **options: Any) -> SendRequest:
    return SendRequest(DOMAIN, COMMAND_TYPE, uuid.uuid4(), {"number": number}, **options)


if __name__ == "__main__":
    main(Mainstay)
