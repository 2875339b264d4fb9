"""The relay on PostgreSQL: what the broker has, wherever the connection to the database breaks."""

import asyncio

import pytest

from mainstay.app import SQLiteEventStore
from mainstay.app import SubscriptionManager as StoresManager
from mainstay.delivery.memory import MemoryBus
from mainstay.events.store import EventStore
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.subscription import SubscriptionManager
from mainstay.relay import Relay
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.ledger import Entered, enter
from tests.support.proxy import Proxy
from tests.support.servers import open_pool
from tests.support.waiting import eventually

QUICK = SubscriptionConfig(batch_size=10, poll=0.05, lease=1.0)
SHARED = SubscriptionConfig(batch_size=10, poll=0.05, lease=1.0, shards=3)


class Answering(MemoryBus):
    """Does something right after it has its first batch, before its sender knows."""

    def __init__(self, then) -> None:
        super().__init__()
        self.then = then

    async def publish(self, messages, *, sender=None):
        await super().publish(messages, sender=sender)
        then, self.then = self.then, lambda: None
        then()


class Forgetful(Answering):
    """Keeps no highest positions, as a broker that cannot tell."""

    deduplicates = False

    async def publish(self, messages, *, sender=None):
        del sender
        await super().publish(messages)


class Held(MemoryBus):
    """Lets a batch wait right before its confirmation."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.goes_on = asyncio.Event(), asyncio.Event()

    async def publish(self, messages, *, sender=None):
        await super().publish(messages, sender=sender)
        self.reached.set()
        await self.goes_on.wait()


def manager_of(pool) -> SubscriptionManager:
    return SubscriptionManager(EventStore(PostgresEventLog(pool)), PostgresProjectionStore(pool))


def amounts(bus) -> list[int]:
    return [message.data["amount"] for message in bus.published]


@pytest.mark.parametrize(
    "story",
    [
        (Answering, "cut_before", [0, 1, 2]),
        (Answering, "cut_after", [0, 1, 2]),
        (Forgetful, "cut_before", [0, 1, 2, 0, 1, 2]),
        (Forgetful, "cut_after", [0, 1, 2]),
    ],
)
async def test_a_batch_whose_checkpoint_was_not_committed_is_stored_again_only_if_the_broker_cannot_tell(
    postgres_server, dsn, pool, story
) -> None:
    kind, cut, published = story
    end = await enter(EventStore(PostgresEventLog(pool)), 0, 1, 2)
    with Proxy(dsn) as proxy:
        bus = kind(lambda: getattr(proxy, cut)("commit"))
        async with open_pool(proxy.dsn, min_size=1) as far:
            manager = manager_of(far)
            await manager.subscribe(Relay(bus), QUICK)
            async with manager:
                await manager.wait_until(end, timeout=30.0)

    assert amounts(bus) == published


async def test_relays_of_several_processes_share_the_shards_and_keep_the_order(pool) -> None:
    bus = MemoryBus(partitions=2)
    store = EventStore(PostgresEventLog(pool))
    managers = [manager_of(pool) for _ in range(2)]
    for manager in managers:
        await manager.subscribe(Relay(bus), SHARED)
    async with managers[0], managers[1]:
        for round_ in range(4):
            for stream in "abcd":
                end = await enter(store, 2 * round_, 2 * round_ + 1, stream=stream)
        await managers[0].wait_until(end, timeout=30.0)

    assert len(bus.published) == 32
    for stream in "abcd":
        found = [each.version for each in bus.published if each.stream == f"Ledger/{stream}"]
        assert found == list(range(1, 9))


async def test_who_follows_one_that_ended_between_the_answer_and_its_commit_publishes_nothing_twice(dsn, pool) -> None:
    bus = Held()
    store = EventStore(PostgresEventLog(pool))
    await enter(store, 1, 2, 3)
    async with open_pool(dsn, min_size=1) as other:
        first = manager_of(other)
        await first.subscribe(Relay(bus), QUICK)
        await first.start()
        await bus.reached.wait()
        await first.stop(timeout=0.0)

    bus.goes_on.set()
    second = manager_of(pool)
    await second.subscribe(Relay(bus), QUICK)
    async with second:
        await second.wait_until(await enter(store, 4), timeout=30.0)

    assert amounts(bus) == [1, 2, 3, 4]


async def test_what_is_rolled_back_is_never_published(pool) -> None:
    bus = MemoryBus()
    store = EventStore(PostgresEventLog(pool))
    manager = manager_of(pool)
    await manager.subscribe(Relay(bus), QUICK)
    async with manager:
        await enter(store, 1)
        async with pool.connection() as conn, conn.transaction(force_rollback=True):
            await enter(store, 2, stream="b", conn=conn)
        end = await enter(store, 3, stream="c")
        await manager.wait_until(end, timeout=30.0)

    assert amounts(bus) == [1, 3]


async def test_a_tombstoned_stream_is_told(pool) -> None:
    bus = MemoryBus()
    store = EventStore(PostgresEventLog(pool))
    await enter(store, 7, stream="gone")
    (stream,) = [state.stream async for state in store.streams(category="Ledger")]
    await store.tombstone(stream, actor="ann", reason="the customer asked")
    manager = manager_of(pool)
    await manager.subscribe(Relay(bus, types=[Entered]), QUICK)

    async with manager:
        (message,) = await eventually(lambda: bus.published)

    assert message.payload == b"{}"
    assert message.headers["tombstoned"] == "true"
    assert message.type == "TestEntered"


async def test_events_in_a_file_are_published_too(tmp_path) -> None:
    bus = MemoryBus()
    async with SQLiteEventStore(tmp_path / "events.sqlite") as store:
        manager = StoresManager(store)
        await manager.subscribe(Relay(bus), QUICK)
        async with manager:
            await manager.wait_until(await enter(store, 1, 2), timeout=30.0)
        end = await enter(store, 3)
        again = StoresManager(store)
        await again.subscribe(Relay(bus), QUICK)
        async with again:
            await again.wait_until(end, timeout=30.0)

    assert amounts(bus) == [1, 2, 3]
