"""A read model with its events and projections; and a process that keeps it, to be killed.

``python -m tests.support.spending PATH SHARDS [WHEN NTH STATEMENT]`` for a SQLite file, with WHEN and what follows as
in `tests.support.sqlite_reader`; ``python -m tests.support.spending DSN SHARDS`` for PostgreSQL. It says ``reading``.
"""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from typing import Any

from mainstay import (
    DomainEvent,
    PostgreSQLEventStore,
    ReadModel,
    ReadModelProjection,
    SQLiteEventStore,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
)
from mainstay.storage.postgres.database import open_pool
from tests.support.sqlite_reader import deadly

CUSTOMERS = 3


def config(shards: int = 1) -> SubscriptionConfig:
    return SubscriptionConfig(batch_size=10, poll=0.05, lease=1.0, shards=shards)


class Bought(DomainEvent, aggregate_type="RmCustomer", event_type="RmBought"):
    price: Decimal


class Spending(ReadModel):
    __indexes__ = ("total",)

    total: Decimal = Decimal(0)
    count: int = 0


class Spendings(ReadModelProjection[Spending]):
    """A row for each customer."""

    @handles(Bought)
    async def bought(self, event, repo):
        spending = await repo.get(event.aggregate_id) or Spending(id=event.aggregate_id)
        spending.total += event.price
        spending.count += 1
        await repo.save(spending)


class Everything(ReadModelProjection[Spending]):
    """One row, to which all shards write."""

    name = "everything"

    @handles(Bought)
    async def bought(self, event, repo):
        spending = await repo.get("all") or Spending(id="all")
        spending.total += event.price
        spending.count += 1
        await repo.save(spending)


async def buy(store: Any, count: int, *, customers: int = CUSTOMERS) -> int:
    """Each customer buys things for 1, 2, 3 and so on; gives the last event's position."""
    position = 0
    for number in range(1, count + 1):
        for customer in range(customers):
            event = Bought(price=Decimal(number))
            position = (await store.append(StreamId("RmCustomer", f"c{customer}"), [event])).position
    return position


async def spent(read_models: Any) -> dict[str, tuple[Decimal, int, int]]:
    """Total, count and version of each row."""
    return {each.id: (each.total, each.count, each.version) for each in await read_models.of(Spending).find()}


def expected(count: int, *, customers: int = CUSTOMERS) -> dict[str, tuple[Decimal, int, int]]:
    """The same, as it must be."""
    return {f"c{customer}": (Decimal(count * (count + 1) // 2), count, count) for customer in range(customers)}


@contextlib.asynccontextmanager
async def keeping(target: str, shards: int, *death: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Such a process, which has said that it reads unless it dies by itself; killed at the end."""
    command = [sys.executable, "-m", "tests.support.spending", target, str(shards), *death]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not death:
            assert await process.stdout.readline() == b"reading\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def opened(target: str) -> AsyncIterator[Any]:
    if "host=" not in target and "://" not in target:
        async with SQLiteEventStore(target) as store:
            yield store
    else:
        async with open_pool(target, max_size=8) as pool:
            yield PostgreSQLEventStore(pool)


async def main(target: str, shards: str, *death: str) -> None:
    if death:
        when, nth, statement = death
        sqlite3.connect = partial(sqlite3.connect, factory=deadly(when, int(nth), statement))
    async with opened(target) as store:
        manager = SubscriptionManager(store)
        await manager.subscribe(Spendings(), config(int(shards)))
        async with manager:
            sys.stdout.write("reading\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
