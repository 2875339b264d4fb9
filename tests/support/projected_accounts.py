"""Projections that fail until somebody drops a constraint of the table that they write to."""

from typing import Any

from mainstay import (
    DatabaseProjection,
    DomainEvent,
    EventRegistry,
    PostgreSQLEventStore,
    RetryPolicy,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
)

TABLES = """
create table balance (account text primary key, amount int);
create table paid (projection text, account text, amount int constraint not_negative check (amount >= 0))
"""
MEND = "alter table paid drop constraint not_negative"
QUICK = SubscriptionConfig(poll=0.05, lease=5.0, retry_policy=RetryPolicy(max_attempts=1))


class AmountPaid(DomainEvent, aggregate_type="PaidAccount", event_type="PaidAccountAmountPaid"):
    amount: int


class Apart(DatabaseProjection):
    """Lays apart what it cannot handle."""

    name = "apart"
    on_error = "dead_letter"

    @handles(AmountPaid)
    async def paid(self, event: AmountPaid, conn: Any) -> None:
        await conn.execute("insert into paid values (%s, %s, %s)", [self.name, str(event.aggregate_id), event.amount])


class Strict(Apart):
    """Stops at what it cannot handle."""

    name = "strict"
    on_error = "stop"


class Balances(DatabaseProjection):
    """Can be rebuilt."""

    name = "balances"
    tables = ("balance",)

    @handles(AmountPaid)
    async def paid(self, event: AmountPaid, conn: Any) -> None:
        table = self.table("balance")
        await conn.execute(
            f"insert into {table} as b values (%s, %s) on conflict (account) do update set amount = b.amount + %s",
            [str(event.aggregate_id), event.amount, event.amount],
        )


class Broken(Apart):
    """Cannot be made without an argument."""

    name = "broken"

    def __init__(self, needed: int, also: int) -> None:
        self.needed = (needed, also)


async def manager(pool: Any) -> SubscriptionManager:
    """Both, with a setting each."""
    made = SubscriptionManager(PostgreSQLEventStore(pool))
    await made.subscribe(Apart(), QUICK)
    await made.subscribe(Strict(), QUICK)
    return made


async def balances(pool: Any) -> SubscriptionManager:
    """What can be rebuilt."""
    made = SubscriptionManager(PostgreSQLEventStore(pool))
    await made.subscribe(Balances(), QUICK)
    return made


def empty(pool: Any) -> SubscriptionManager:
    """A manager of nothing."""
    return SubscriptionManager(PostgreSQLEventStore(pool))


apart = Apart()
several = [Apart, Strict()]
number = 7
registry = EventRegistry()
