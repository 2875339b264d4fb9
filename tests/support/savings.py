"""A projection of savings that is rebuilt, and what its tests share."""

from dataclasses import replace

from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.declarative import DatabaseProjection
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore

PATIENCE = 90.0
QUICK = SubscriptionConfig(
    batch_size=10, poll=0.05, lease=5.0, retry_policy=RetryPolicy(max_attempts=4, backoff_schedule=(0.01,))
)
SHORT_LEASE = replace(QUICK, lease=1.0)


class Saved(DomainEvent, aggregate_type="RebuiltAccount", event_type="RebuiltSaved"):
    amount: int


class Savings(DatabaseProjection):
    """A row for each event, and a total for each account; mails are what must not be sent twice."""

    name = "savings"
    tables = ("entry", "total")

    @handles(Saved)
    async def saved(self, event, conn):
        account = str(event.aggregate_id)
        await conn.execute(
            f"insert into {self.table('entry')} (account, amount) values (%s, %s)", [account, event.amount]
        )
        await conn.execute(
            f"insert into {self.table('total')} as t values (%s, %s) "
            "on conflict (account) do update set amount = t.amount + excluded.amount",
            [account, event.amount],
        )
        if not self.rebuilding:
            await conn.execute("insert into mail values (%s, %s)", [account, event.amount])


TABLES = """
create table entry (number int generated always as identity primary key, account text not null, amount int);
create index entry_by_account on entry (account);
create table total (account text primary key, amount int);
create table mail (account text, amount int);
"""


def store_of(pool) -> EventStore:
    return EventStore(PostgresEventLog(pool))


async def store_with_tables(pool) -> EventStore:
    async with pool.connection() as conn:
        await conn.execute(TABLES)
    return store_of(pool)


async def save(store, *amounts, account="ann") -> int:
    done = None
    for amount in amounts:
        done = await store.append(StreamId("RebuiltAccount", account), [Saved(amount=amount)])
    assert done is not None
    return done.position


async def rows(pool, query) -> list[tuple]:
    async with pool.connection() as conn:
        cursor = await conn.execute(query)
        return await cursor.fetchall()


def manager_of(store, pool) -> SubscriptionManager:
    return SubscriptionManager(store, PostgresProjectionStore(pool))


async def subscribed(store, pool, config=QUICK, projection=None) -> SubscriptionManager:
    manager = manager_of(store, pool)
    await manager.subscribe(projection or Savings(), config)
    return manager


async def is_each_event_once(store, pool, factor=1) -> None:
    """Whether the tables are what a fold of all events gives, and each mail was sent once."""
    events = [(str(e.stream.id), e.event.amount) async for e in store.read_all()]
    sums: dict[str, int] = {}
    for account, amount in events:
        sums[account] = sums.get(account, 0) + amount * factor
    entries = await rows(pool, "select account, amount from entry order by number")

    assert sorted(entries) == sorted((account, amount * factor) for account, amount in events)
    for account in sums:
        assert [a for name, a in entries if name == account] == [a * factor for name, a in events if name == account]
    assert dict(await rows(pool, "select account, amount from total")) == sums
    mails = sorted(account for account, _ in await rows(pool, "select * from mail"))
    assert mails == sorted(account for account, _ in events)


async def caught_up(manager, store) -> None:
    await manager.wait_until((await store.horizon()).position, timeout=PATIENCE)


async def caught_up_alone(store, pool, config=QUICK, projection=None) -> None:
    manager = await subscribed(store, pool, config, projection)
    async with manager:
        await caught_up(manager, store)
