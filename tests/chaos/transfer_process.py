"""A process of the test of transfers: two workers, whose accounts decide, and the projections that follow.

``python -m tests.chaos.transfer_process PLAN``, with a `Part` as JSON. It works until it is killed.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from psycopg_pool import AsyncConnectionPool

from mainstay import (
    BusinessRuleException,
    CommandModel,
    DatabaseProjection,
    DeciderAggregate,
    DomainEvent,
    HandlerRegistry,
    PostgreSQLEventStore,
    ReadModel,
    ReadModelProjection,
    ReadModelRepository,
    RetryPolicy,
    SnapshotPolicy,
    StorageUnavailableError,
    SubscriptionConfig,
    SubscriptionManager,
    Worker,
    handles,
)
from tests.support.waiting import eventually

DOMAIN = "bank"
LEASE = 2.0
WORKERS = 2
PATIENCE = 180.0
AGAIN = RetryPolicy(backoff_schedule=(0.2,))
FOLLOWING = SubscriptionConfig(shards=2, lease=LEASE, poll=0.1)
Mode = Literal["group", "single", "inline"]
"""Many decisions in a COMMIT; one in each; one in each, with a projection in it."""
TABLE = "create table balance_at_once (account text primary key, amount bigint not null, events bigint not null)"


@dataclass(frozen=True)
class Part:
    """What a process does; with a snapshot every so many events, if that is not 0."""

    dsn: str
    mode: Mode
    snapshots: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


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


class Credited(DomainEvent, aggregate_type="BankAccount", event_type="bank.Credited"):
    amount: int


class Debited(DomainEvent, aggregate_type="BankAccount", event_type="bank.Debited"):
    amount: int


@dataclass(frozen=True)
class Balance:
    amount: int = 0


class Account(DeciderAggregate[Balance, Open | Transfer | Credit]):
    aggregate_type = "BankAccount"

    @staticmethod
    def initial_state() -> Balance:
        return Balance()

    @staticmethod
    def decide(state: Balance, command: Open | Transfer | Credit) -> Iterable[Any]:
        if not isinstance(command, Transfer):
            return [Credited(amount=command.amount)]
        if state.amount < command.amount:
            raise BusinessRuleException("NOT_ENOUGH", f"there are {state.amount} only")
        return [Debited(amount=command.amount), Credit(account_id=command.to, amount=command.amount)]

    @staticmethod
    def evolve(state: Balance, event: DomainEvent) -> Balance:
        return Balance(state.amount + change(event))


def change(event: DomainEvent) -> int:
    """What an event adds to a balance."""
    if isinstance(event, Credited):
        return event.amount
    return -event.amount if isinstance(event, Debited) else 0


class BalanceView(ReadModel):
    """A read model, by subscription."""

    amount: int = 0
    events: int = 0


class Balances(ReadModelProjection[BalanceView]):
    @handles(Credited)
    @handles(Debited)
    async def moved(self, event: Credited | Debited, repo: ReadModelRepository[BalanceView]) -> None:
        view = await repo.get(event.aggregate_id) or BalanceView(id=event.aggregate_id)
        view.amount += change(event)
        view.events += 1
        await repo.save(view)


class AtOnce(DatabaseProjection):
    """A read model in the transaction that appends."""

    name = "balances-at-once"

    @handles(Credited)
    @handles(Debited)
    async def moved(self, event: Credited | Debited, conn: Any) -> None:
        await conn.execute(
            "insert into balance_at_once as b values (%s, %s, 1)"
            " on conflict (account) do update set amount = b.amount + excluded.amount, events = b.events + 1",
            [str(event.aggregate_id), change(event)],
        )


def bank() -> HandlerRegistry:
    """Who decides."""
    registry = HandlerRegistry()
    registry.register_decider(domain=DOMAIN, decider=Account, stream="account_id")
    return registry


async def follow(manager: SubscriptionManager) -> None:
    """Subscribe, as soon as the server is there."""

    async def is_subscribed() -> bool:
        with suppress(StorageUnavailableError):
            await manager.subscribe(Balances(), FOLLOWING)
            return True
        return False

    await eventually(is_subscribed, timeout=PATIENCE)


async def work(part: Part) -> None:
    """Until killed."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # the server is killed on purpose
    options: dict[str, Any] = {"min_size": 1, "max_size": 12, "open": False, "reconnect_timeout": 2.0}
    async with AsyncConnectionPool(part.dsn, **options) as pool:
        store = PostgreSQLEventStore(pool, inline=[AtOnce()] if part.mode == "inline" else [])
        workers = [
            Worker(
                pool,
                DOMAIN,
                bank(),
                visibility_timeout=LEASE,
                retry_policy=AGAIN,
                event_store=store,
                snapshots=SnapshotPolicy.every(part.snapshots) if part.snapshots else None,
                group_commit=part.mode == "group",
            )
            for _ in range(WORKERS)
        ]
        manager = SubscriptionManager(PostgreSQLEventStore(pool))
        await follow(manager)
        async with manager:
            await asyncio.gather(*(worker.run(concurrency=8, poll_interval=0.2) for worker in workers))


if __name__ == "__main__":
    asyncio.run(work(Part(**json.loads(sys.argv[1]))))
