"""A shop on events: a decider, two projections, snapshots, and many customers at once.

    python examples/shop                             in a SQLite file that is deleted afterwards: no server
    python examples/shop --sqlite shop.sqlite        in a file that stays: run it twice
    python examples/shop --dsn postgresql://...      on PostgreSQL

Read `domain.py` first, then `views.py`, then this file from `main` upwards.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from domain import Article, Receive, Sell
from psycopg_pool import AsyncConnectionPool
from rich.console import Console
from rich.table import Table
from views import ASK_CUSTOMERS, CUSTOMERS, Customers, Shelf, ShelfRow

from mainstay import (
    AggregateRepository,
    BusinessRuleException,
    EventStore,
    PostgreSQLEventStore,
    ReadModelQuery,
    SnapshotPolicy,
    SQLiteEventStore,
    SubscriptionManager,
    setup_database,
)

GOODS = {"bag": 6, "hat": 40, "mug": 40}
PRICES = {"bag": 2500, "hat": 1200, "mug": 800}
CUSTOMERS_COMING = [(f"customer {n % 4 + 1}", list(GOODS)[n % 3], 2) for n in range(30)]
console = Console()


@asynccontextmanager
async def on_sqlite(path: str) -> AsyncIterator[tuple[EventStore, str]]:
    """A store in a file, and how its driver marks parameters."""
    async with SQLiteEventStore(path) as store:
        yield store, "?"


@asynccontextmanager
async def on_postgres(dsn: str) -> AsyncIterator[tuple[EventStore, str]]:
    """A store on PostgreSQL, and how its driver marks parameters."""
    async with AsyncConnectionPool(dsn, open=False) as pool:
        await setup_database(pool)
        yield PostgreSQLEventStore(pool), "%s"


async def asked(store: EventStore, statement: str) -> list[Any]:
    """The rows of a statement, in a transaction of the store's."""
    async with store.transaction() as tx:
        conn = getattr(tx, "connection", tx)  # of SQLite's transaction, which holds one; psycopg's is one
        cursor = await conn.execute(statement)
        return list(await cursor.fetchall()) if cursor.description else []


async def buy(articles: AggregateRepository[Article], customer: str, article: str, pieces: int) -> int:
    """One customer; whoever meets another at the same article is served right after. Gives 1 if all is sold."""
    try:
        await articles.execute(article, Sell(customer, pieces, PRICES[article]))
    except BusinessRuleException:
        return 1
    return 0


async def trade(store: EventStore, mark: str) -> None:
    """Open, sell, and show what became of it."""
    articles = AggregateRepository(store, Article, snapshots=SnapshotPolicy.every(10), attempts=50)
    await asked(store, CUSTOMERS)
    manager = SubscriptionManager(store)
    await manager.subscribe(Shelf())
    await manager.subscribe(Customers(mark))

    async with manager:
        for article, pieces in GOODS.items():
            await articles.execute(article, Receive(pieces))
        refused = sum(await asyncio.gather(*(buy(articles, *coming) for coming in CUSTOMERS_COMING)))
        await manager.wait_until((await store.horizon()).position)  # what was sold can be read

    console.print(f"{len(CUSTOMERS_COMING)} customers came at once; {refused} were told that it is sold out.")
    await show(store, articles, manager)


async def show(store: EventStore, articles: AggregateRepository[Article], manager: SubscriptionManager) -> None:
    """Print the shelf and the customers, and see that they agree.

    Raises:
        SystemExit: They do not.
    """
    rows = await manager.read_models.of(ShelfRow).find(ReadModelQuery(order_by="id"))
    shown = Table("Article", "Left", "Sold", "Takings", "", title="The shelf")
    for row in rows:
        mark = "sold out" if row.sold_out else ""
        shown.add_row(str(row.id), str(row.left), str(row.sold), f"{row.takings / 100:.2f}", mark)
    console.print(shown)
    customers = await asked(store, ASK_CUSTOMERS)
    spending = Table("Customer", "Spent", title="The customers")
    for name, spent in customers:
        spending.add_row(name, f"{spent / 100:.2f}")
    console.print(spending)

    early = await articles.load("hat", version=1)
    late = await articles.load("hat")  # from its snapshot, and what came after
    console.print(f"Hats: {early.state.left} at version 1, {late.state.left} at version {late.version}.")

    takings, spent = sum(row.takings for row in rows), sum(spent for _, spent in customers)
    console.print(f"Takings {takings / 100:.2f}, spent {spent / 100:.2f}.")
    if takings != spent or late.state.left != next(row.left for row in rows if row.id == "hat"):
        sys.exit("The books are wrong.")


def main() -> None:
    """Run the shop where the command line says."""
    options = argparse.ArgumentParser(description="A shop on events.")
    options.add_argument("--dsn", help="of a PostgreSQL")
    options.add_argument("--sqlite", help="path of a SQLite file")
    where = options.parse_args()

    async def run(path: str) -> None:
        opened = on_postgres(where.dsn) if where.dsn else on_sqlite(path)
        async with opened as (store, mark):
            await trade(store, mark)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(where.sqlite or str(Path(folder) / "shop.sqlite")))


if __name__ == "__main__":
    main()
