"""mainstay: events, run in the interpreter that runs the benchmarks."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from event_protocol import BATCH, SNAPSHOT_EVERY, UPSERT, EventPeer, item, main
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from mainstay import (
    AggregateRepository,
    DatabaseProjection,
    DeclarativeAggregate,
    DomainEvent,
    PostgreSQLEventStore,
    SnapshotPolicy,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
    setup_database,
)


class ItemAdded(DomainEvent, aggregate_type="Cart"):
    sku: str
    quantity: int
    price: Decimal
    note: str


class CartState(BaseModel):
    items: int = 0
    price: Decimal = Decimal(0)


class Cart(DeclarativeAggregate[CartState]):
    @handles(ItemAdded)
    def _added(self, event: ItemAdded) -> None:
        self._state.items += event.quantity
        self._state.price += event.price


class Totals(DatabaseProjection):
    @handles(ItemAdded)
    async def added(self, event: ItemAdded, conn: Any) -> None:
        await conn.execute(UPSERT.format("%s", "%s"), (event.aggregate_id, event.quantity))


class MainstayEvents(EventPeer):
    distributions = ("psycopg", "pydantic")

    async def install(self) -> str:
        await self.open(1)
        await setup_database(self._pool)
        return f"default settings, AsyncConnectionPool of as many as writers; projection in batches of {BATCH}"

    async def open(self, connections: int) -> None:
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            self.dsn, min_size=connections, max_size=connections, open=False
        )
        await self._pool.open(wait=True)
        self._store = PostgreSQLEventStore(self._pool)

    async def close(self) -> None:
        if hasattr(self, "_pool"):
            await self._pool.close()

    async def append(self, stream: UUID, version: int, size: int, work: float) -> None:
        events = [ItemAdded(**item(version + number)) for number in range(size)]
        if not work:
            await self._store.append(StreamId("Cart", stream), events, expected=version)
            return
        async with self._store.transaction() as conn:
            await self._store.append(StreamId("Cart", stream), events, expected=version, conn=conn)
            await conn.execute("select pg_sleep(%s)", (work,))

    async def read_stream(self, stream: UUID) -> int:
        return len([each.event async for each in self._store.read_stream(StreamId("Cart", stream))])

    async def read_feed(self) -> int:
        count = 0
        async for _ in self._store.read_all():
            count += 1
        return count

    async def project(self, events: int) -> None:
        last = (await self._store.horizon()).position
        manager = SubscriptionManager(self._store, self._pool)
        await manager.subscribe(Totals(), SubscriptionConfig(batch_size=BATCH))
        async with manager:
            await manager.wait_until(last, timeout=600)

    async def load(self, stream: UUID, *, snapshots: bool) -> int:
        cart = await self._repository(snapshots=snapshots).load(stream)
        return cart.state.items

    async def take_snapshot(self, stream: UUID) -> None:
        repository = self._repository(snapshots=True)
        await repository.create_snapshot(await repository.load(stream))

    def _repository(self, *, snapshots: bool) -> AggregateRepository[Cart]:
        policy = SnapshotPolicy.every(SNAPSHOT_EVERY) if snapshots else None
        return AggregateRepository(self._store, Cart, snapshots=policy)


if __name__ == "__main__":
    main(MainstayEvents)
