"""A storm over a subscription: errors, outages, COMMITs whose answer is lost, pauses, replays, stops, and two owners.

What handlers write is committed with the checkpoint, as in a database; at the end every event must be there once, in
the order of its stream. A runner that does not look where its shard stands must fail here.
"""

import asyncio
import random
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from itertools import count as numbers

import pytest

from mainstay.errors import MainstayError, StorageUnavailableError
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.projections import shard
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.memory import MemoryBatch, MemoryProjectionStore
from mainstay.projections.projection import Projection
from mainstay.projections.subscription import SubscriptionManager
from mainstay.retry import RetryPolicy
from tests.support.counting import Counted
from tests.support.waiting import eventually

STEPS = 60
SEEDS = range(8)


async def turn() -> None:
    """Let others run."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


class WritingBatch(MemoryBatch):
    """Its transaction is a list."""

    written: list[tuple[str, int]]

    @property
    def conn(self):
        return self.written


class StormyStore(MemoryProjectionStore):
    """Loses its connection before a batch, in it, and after the COMMIT."""

    def __init__(self, chance):
        super().__init__()
        self.chance = chance
        self.is_stormy = True
        self.committed = []
        self.lost = 0

    def _may_break(self, share):
        if self.is_stormy and self.chance.random() < share:
            raise StorageUnavailableError("the connection is lost")

    @asynccontextmanager
    async def batch(self, claim):
        self._may_break(0.03)
        async with self._writing(super().batch(claim)) as batch:
            yield batch
            await turn()
            self._may_break(0.03)
        try:
            self._may_break(0.1)
        except StorageUnavailableError:
            self.lost += 1
            raise

    @asynccontextmanager
    async def borrowed(self, subscription, number):
        async with self._writing(super().borrowed(subscription, number)) as batch:
            yield batch

    @asynccontextmanager
    async def _writing(self, begun):
        async with begun as batch:
            batch.__class__ = WritingBatch
            batch.written = []
            yield batch
        self.committed += batch.written


class Writing(Projection):
    name = "storm"
    on_error = "dead_letter"

    def __init__(self, chance):
        self.chance = chance
        self.fails = 0.1

    async def handle(self, envelope, conn):
        if self.chance.random() < 0.2:
            await turn()
        if self.chance.random() < self.fails:
            raise ValueError("not today")
        conn.append((str(envelope.stream.id), envelope.event.number))


async def storm(seed: int) -> tuple[dict[str, list[int]], dict[str, list[int]], int]:
    """What was appended and what was written, by stream; and how many answers were lost."""
    chance = random.Random(seed)
    store, checkpoints = InMemoryEventStore(), StormyStore(chance)
    config = SubscriptionConfig(
        batch_size=chance.choice([1, 3, 10]),
        shards=chance.choice([1, 1, 3]),
        poll=0.01,
        lease=1.0,
        retry_policy=RetryPolicy(max_attempts=chance.choice([1, 2, 3]), backoff_schedule=[0.0]),
    )
    projection = Writing(chance)
    managers = [SubscriptionManager(store, checkpoints, owner=owner) for owner in "ab"]
    for each in managers:
        await each.subscribe(projection, config)
        await each.start()
    appended = defaultdict(list)
    last, next_number = 0, defaultdict(numbers)
    for _ in range(STEPS):
        name = f"s{chance.randrange(4)}"
        events = [Counted(number=next(next_number[name])) for _ in range(chance.randint(1, 3))]
        last = (await store.append(StreamId("Counter", name), events)).position
        appended[name] += [event.number for event in events]
        await meddle(chance, checkpoints, managers)
        handled = len(checkpoints.committed)
        if chance.random() < 0.5:
            with suppress(AssertionError):
                await eventually(lambda handled=handled: len(checkpoints.committed) > handled, timeout=0.01)
    checkpoints.is_stormy, projection.fails = False, 0.0
    await checkpoints.resume("storm", actor="ann")
    await managers[0].wait_until(last, timeout=60)

    async def nothing_apart():
        await managers[0].replay("storm", actor="ann")
        return not await checkpoints.dead_letters("storm")

    await eventually(nothing_apart)
    for each in managers:
        await each.stop()
    written = defaultdict(list)
    for name, number in checkpoints.committed:
        written[name].append(number)
    return appended, written, checkpoints.lost


async def meddle(chance, checkpoints, managers) -> None:
    what = chance.random()
    if what < 0.05:
        await checkpoints.pause("storm", actor="ann")
    elif what < 0.15:
        await checkpoints.resume("storm", actor="ann")
    elif what < 0.22:
        with suppress(MainstayError):
            await managers[0].replay("storm", actor="ann")
    elif what < 0.26:
        manager = chance.choice(managers)
        await manager.stop(chance.choice([0.0, None]))
        await manager.start()


@pytest.fixture(autouse=True)
def _short_outages(monkeypatch) -> None:
    monkeypatch.setattr(shard, "_LONGEST_OUTAGE_PAUSE", 0.001)


@pytest.mark.thorough
async def test_in_a_storm_every_event_is_written_once_and_in_order() -> None:
    lost = 0
    for seed in SEEDS:
        appended, written, answers = await storm(seed)
        assert written == appended, f"seed {seed}"
        lost += answers

    assert lost > 5


async def test_a_runner_that_trusts_its_own_checkpoint_does_not_weather_the_storm(monkeypatch) -> None:
    @asynccontextmanager
    async def trusting(self):
        async with self._store.batch(self.claim) as batch:
            yield batch

    monkeypatch.setattr(shard.ShardRunner, "_batch", trusting)
    for seed in SEEDS:
        appended, written, _ = await storm(seed)
        if written != appended:
            return
    pytest.fail("the storm is too weak: a naive runner has come through")
