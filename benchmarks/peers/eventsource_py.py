"""eventsource-py (imports as ``eventsource``): pydantic events over SQLAlchemy and asyncpg.

0.8.1 is the last release for Python 3.11.
"""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
from event_protocol import PAGE, UPSERT, EventPeer, item, main
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker

from eventsource import (
    AggregateRepository,
    DeclarativeAggregate,
    DomainEvent,
    InMemoryEventBus,
    PostgreSQLEventStore,
    StreamId,
    create_async_engine,
    handles,
    register_event,
)
from eventsource.adapters.postgresql import PostgreSQLSnapshotStore
from eventsource.adapters.sql import DatabaseProjection, SQLCheckpointRepository
from eventsource.application.subscriptions import SubscriptionConfig, SubscriptionManager
from eventsource.migrations import get_all_schemas
from eventsource.ports import ExpectedVersion, FeedReadOptions

CREATE_EXTENSION = 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";'  # nothing of it is used, and not every server has it
UPSERTING = text(UPSERT.format(":stream", ":quantity"))
BATCH = 100


@register_event
class ItemAdded(DomainEvent):
    event_type: str = "ItemAdded"
    aggregate_type: str = "Cart"
    sku: str
    quantity: int
    price: Decimal
    note: str


class CartState(BaseModel):
    items: int = 0
    price: Decimal = Decimal(0)


class Cart(DeclarativeAggregate[CartState]):
    aggregate_type = "Cart"

    def _get_initial_state(self) -> CartState:
        return CartState()

    @handles(ItemAdded)
    def _added(self, event: ItemAdded) -> None:
        if self._state is None:
            self._state = self._get_initial_state()
        self._state.items += event.quantity
        self._state.price += event.price


class Totals(DatabaseProjection):
    def __init__(self, sessions: Any) -> None:
        super().__init__(sessions)
        self.seen = 0
        self._moved = asyncio.Event()

    async def reached(self, events: int) -> None:
        while self.seen < events:
            self._moved.clear()
            await self._moved.wait()

    @handles(ItemAdded)
    async def _added(self, conn: Any, event: ItemAdded) -> None:
        await conn.execute(UPSERTING, {"stream": event.aggregate_id, "quantity": event.quantity})
        self.seen += 1
        self._moved.set()


class EventsourcePy(EventPeer):
    distributions = ("eventsource-py", "sqlalchemy", "asyncpg", "pydantic")

    async def install(self) -> str:
        conn = await asyncpg.connect(self.dsn)
        await conn.execute(get_all_schemas().replace(CREATE_EXTENSION, ""))
        await conn.close()
        return (
            "get_all_schemas(), the tables that are not partitioned; pool of as many as writers; the feed in pages of "
            f"{PAGE:,}; DatabaseProjection and SubscriptionManager with its own checkpoint at every batch of {BATCH}"
        )

    async def open(self, connections: int) -> None:
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: asyncpg.connect(self.dsn),
            pool_size=connections,
            max_overflow=0,
        )
        self._store = PostgreSQLEventStore(self._engine)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def close(self) -> None:
        if hasattr(self, "_engine"):
            await self._engine.dispose()

    async def append(self, stream: UUID, version: int, size: int, work: float) -> None:
        if work:
            raise NotImplementedError("eventsource-py has no way into the transaction of an append")
        events = [
            ItemAdded(aggregate_id=stream, aggregate_version=version + number + 1, **item(version + number))
            for number in range(size)
        ]
        await self._store.append(StreamId(stream, "Cart"), events, ExpectedVersion.exact(version))

    async def read_stream(self, stream: UUID) -> int:
        return len([each.event async for each in self._store.read_stream(StreamId(stream, "Cart"))])

    async def read_feed(self) -> int:
        count, position, options = 0, None, FeedReadOptions(limit=PAGE)
        while True:
            before = count
            async for each in self._store.read_all(position, options):
                count, position = count + 1, each.position
            if count - before < PAGE:
                return count

    async def project(self, events: int) -> None:
        totals = Totals(self._sessions)
        manager = SubscriptionManager(self._store, InMemoryEventBus(), SQLCheckpointRepository(self._engine))
        await manager.subscribe(totals, SubscriptionConfig(start_from="beginning", batch_size=BATCH), name="totals")
        starting = asyncio.create_task(manager.start())
        await totals.reached(events)
        await starting
        await manager.stop()

    async def load(self, stream: UUID, *, snapshots: bool) -> int:
        cart = await self._repository(snapshots=snapshots).load(stream)
        return cart.state.items

    async def take_snapshot(self, stream: UUID) -> None:
        repository = self._repository(snapshots=True)
        await repository.create_snapshot(await repository.load(stream))

    def _repository(self, *, snapshots: bool) -> AggregateRepository[Cart]:
        kept = PostgreSQLSnapshotStore(self._sessions) if snapshots else None
        return AggregateRepository(self._store, Cart, snapshot_store=kept)


if __name__ == "__main__":
    main(EventsourcePy)
