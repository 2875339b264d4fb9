"""A projection that writes one row for each event, so that what happened twice, or never, is there to be seen."""

from collections.abc import Iterable
from typing import Any

from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.log import Appended
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.declarative import DatabaseProjection
from mainstay.projections.store import ShardState, ShardStatus
from mainstay.storage.postgres.database import Pool
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.waiting import eventually

PATIENCE = 90.0
QUICK = SubscriptionConfig(batch_size=10, poll=0.05, lease=5.0)
TABLE = "create table entry (number int generated always as identity, stream text, amount int, position bigint)"


class Entered(DomainEvent, aggregate_type="Ledger", event_type="TestEntered"):
    amount: int


class Ignored(DomainEvent, aggregate_type="Ledger", event_type="TestIgnored"):
    """Nobody wants it."""


class Ledger(DatabaseProjection):
    name = "ledger"

    @handles(Entered)
    async def entered(self, event: Entered, conn: Any) -> None:
        await conn.execute(
            "insert into entry (stream, amount) values (%s, %s)", [str(event.aggregate_id), event.amount]
        )


async def enter(store: EventStore, *amounts: int, stream: str = "a", conn: Any = None) -> int:
    """Append an event for each amount, one append each; the last one's position."""
    done: Appended | None = None
    for amount in amounts:
        done = await store.append(StreamId("Ledger", stream), [Entered(amount=amount)], conn=conn)
    assert done is not None
    return done.position or 0


async def make_table(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute(TABLE)


async def entries(pool: Pool) -> list[int]:
    """The amounts, in the order in which they were written."""
    async with pool.connection() as conn:
        cursor = await conn.execute("select amount from entry order by number")
        return [amount for (amount,) in await cursor.fetchall()]


async def state_of(pool: Pool, name: str = "ledger") -> ShardState:
    (state,) = await PostgresProjectionStore(pool).states(name)
    return state


async def stopped(pool: Pool, name: str = "ledger") -> str:
    """Wait until the subscription has stopped; why."""

    async def has_stopped() -> bool:
        return (await state_of(pool, name)).status is ShardStatus.STOPPED

    await eventually(has_stopped, timeout=PATIENCE)
    return (await state_of(pool, name)).reason or ""


def numbers(*ranges: Iterable[int]) -> list[int]:
    return [number for each in ranges for number in each]
