"""Read models on PostgreSQL: rows and checkpoint are one COMMIT, wherever the connection breaks; few round trips."""

from decimal import Decimal

import pytest

from mainstay.app import ReadModels, SubscriptionManager
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.read_model import ReadModel
from mainstay.projections.read_model_projection import ReadModelProjection
from mainstay.storage.postgres.events import PostgresEventLog
from tests.support.proxy import Proxy
from tests.support.servers import open_pool

PATIENCE = 90.0
QUICK = SubscriptionConfig(batch_size=10, poll=0.05, lease=5.0)


class Bought(DomainEvent, aggregate_type="RmCustomer", event_type="RmBought"):
    price: Decimal


class Spending(ReadModel):
    total: Decimal = Decimal(0)
    count: int = 0


class Spendings(ReadModelProjection[Spending]):
    @handles(Bought)
    async def bought(self, event, repo):
        spending = await repo.get(event.aggregate_id) or Spending(id=event.aggregate_id)
        spending.total += event.price
        spending.count += 1
        await repo.save(spending)


class Everything(ReadModelProjection[Spending]):
    """All shards write to one row."""

    name = "everything"

    @handles(Bought)
    async def bought(self, event, repo):
        spending = await repo.get("all") or Spending(id="all")
        spending.total += event.price
        spending.count += 1
        await repo.save(spending)


@pytest.fixture
def store(pool):
    return EventStore(PostgresEventLog(pool))


async def buy(store, count, *, customers=3) -> int:
    """Each customer buys things for 1, 2, 3 and so on."""
    position = 0
    for number in range(1, count + 1):
        for customer in range(customers):
            event = Bought(price=Decimal(number))
            position = (await store.append(StreamId("RmCustomer", f"c{customer}"), [event])).position
    return position


async def spent(pool) -> dict[str, tuple[Decimal, int, int]]:
    return {each.id: (each.total, each.count, each.version) for each in await ReadModels(pool).of(Spending).find()}


def expected(count, *, customers=3):
    return {f"c{customer}": (Decimal(count * (count + 1) // 2), count, count) for customer in range(customers)}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "statement", ["begin", 'select "spendings', 'insert into "spendings', 'update "spendings', "commit"]
)
async def test_a_connection_cut_at_any_statement_of_a_batch_is_gone_on_from(store, pool, dsn, statement, when) -> None:
    last = await buy(store, 9)
    with Proxy(dsn) as proxy:
        async with open_pool(proxy.dsn) as cut_pool:
            manager = SubscriptionManager(store, cut_pool)
            await manager.subscribe(Spendings(), QUICK)
            cut = proxy.cut_before(statement, times=2) if when == "before" else proxy.cut_after(statement, times=2)
            async with manager:
                await manager.wait_until(last, timeout=PATIENCE)

    assert cut.happened.is_set()
    assert await spent(pool) == expected(9)
