"""The bus on Redis Streams: the contract, and what only Redis can do wrong."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from eventsource.bus import RedisEventBus, RedisEventBusConfig
from mainstay.delivery.consumer import Consumer
from mainstay.delivery.redis import RedisBus
from mainstay.errors import BusUnavailableError, ConfigurationError, PartitionLostError
from mainstay.events.event import DomainEvent
from mainstay.testing.contracts.delivery import BusContract, Taken, message
from mainstay.testing.contracts.delivery.base import LAYING_APART, STOPPING, spread
from tests.support.waiting import eventually

URL = os.environ.get("MAINSTAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


class RedisOrderPlaced(DomainEvent, aggregate_type="RedisOrder", event_type="TestRedisOrderPlaced"):
    total: int


@pytest.fixture
async def redis():
    async with Redis.from_url(URL) as client:
        try:
            await client.ping()
        except OSError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Redis at {URL} (MAINSTAY_TEST_REDIS_URL): {error}")
        yield client


class TestRedisBus(BusContract):
    @pytest.fixture(autouse=True)
    async def _cleaned(self, redis, topic):
        yield
        if keys := await redis.keys(f"mainstay:{{{topic}}}*"):
            await redis.delete(*keys)

    @asynccontextmanager
    async def opened(self, topic, partitions):
        async with RedisBus(URL, topic, partitions=partitions, lease=1.0) as bus:
            yield bus

    async def test_partitions_are_shared_among_members(self, bus, beside) -> None:
        async with Consumer(bus, "billing", Taken(), STOPPING) as first:
            await eventually(lambda: len(first.states) == 3)
            async with Consumer(beside, "billing", Taken(), STOPPING) as second:
                await eventually(lambda: (len(first.states), len(second.states)) == (2, 1))
            await eventually(lambda: len(first.states) == 3)

    async def test_what_a_dead_consumer_had_in_its_hand_goes_to_another(self, bus, topic) -> None:
        await bus.declare("billing")
        await bus.publish([message(1), last := message(2)])
        async with bus.join("billing") as member:
            await eventually(lambda: _something_of(member), timeout=60)
            await _die(bus)

            # Who takes it over keeps it, however long the machine lets him wait.
            async with RedisBus(URL, topic, partitions=bus.partitions, lease=60.0) as patient:
                assert (await self.taken(patient, "billing", [last])).numbers == [1, 2]

    async def test_one_that_stalled_beyond_its_lease_gets_nothing_and_changes_nothing(self, bus, beside, redis) -> None:
        await bus.declare("billing")
        await bus.publish([message(1)])
        async with bus.join("billing") as member:
            partition = await member.claimed()
            while not (found := await partition.receive(5, timeout=0.1)):
                partition = await member.claimed()
            await redis.set(bus.key("held", "billing", partition.number), "another:1")

            with pytest.raises(PartitionLostError):
                await partition.acknowledge(found)
            with pytest.raises(PartitionLostError):
                await partition.lay_apart(found[0], ValueError("x"), 1)
            await bus.publish([last := message(2)])
            with pytest.raises(PartitionLostError):
                await partition.receive(5, timeout=0.1)

            await redis.delete(bus.key("held", "billing", partition.number))
        assert (await self.taken(beside, "billing", [last])).numbers == [1, 2]

    async def test_a_topic_keeps_its_number_of_partitions(self, bus, topic) -> None:
        with pytest.raises(ConfigurationError, match="has 3 partitions, not 4: open it with 3"):
            async with self.opened(topic, 4):
                pass

    async def test_what_is_no_message_is_laid_apart_and_holds_nobody_up(self, bus, redis) -> None:
        await bus.declare("billing")
        for number in range(3):
            await redis.xadd(bus.key(number), {"hello": "world"})
        await bus.publish([sent := message(1)])

        assert (await self.taken(bus, "billing", [sent])).numbers == [1]
        assert await redis.xlen(bus.key("unreadable", "billing")) == 3

    async def test_only_what_every_group_has_acknowledged_is_trimmed(self, bus, redis) -> None:
        sent = spread(streams=4, each=5)
        await bus.declare("billing")
        await bus.declare("shipping")
        await bus.publish(sent)
        await self.taken(bus, "billing", sent)

        assert await bus.trim(older_than=-0.0) == 0
        await self.taken(bus, "shipping", sent)
        await eventually(lambda: _time_has_passed(redis, bus))
        assert await bus.trim(older_than=0.0) >= len(sent) - bus.partitions

        await bus.publish([then := message(100)])
        assert (await self.taken(bus, "billing", [then])).numbers == [100]

    async def test_a_consumer_joins_again_when_redis_forgot_its_group(self, bus, redis) -> None:
        handler = Taken()
        async with Consumer(bus, "billing", handler, LAYING_APART) as consumer:
            await eventually(lambda: len(consumer.states) == 3)
            for number in range(3):
                await redis.delete(bus.key(number))
            await bus.publish([sent := message(1)])

            await handler.has([sent])

    async def test_a_closed_bus_says_so(self, bus, topic) -> None:
        closed = RedisBus(URL, topic, partitions=3)

        with pytest.raises(BusUnavailableError, match="is closed"):
            await closed.publish([message(1)])

    async def test_a_bus_is_closed_twice(self, topic) -> None:
        async with RedisBus(URL, topic) as bus:
            await bus.__aexit__()


async def test_a_redis_that_is_not_there_is_named() -> None:
    with pytest.raises(BusUnavailableError, match="Redis, for topic orders: ConnectionError"):
        async with RedisBus("redis://127.0.0.1:1", "orders"):
            pass


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "", None])
async def test_what_is_no_url_is_refused(url) -> None:
    with pytest.raises(ConfigurationError, match="begins with redis://"):
        RedisBus(url)


async def _something_of(member):
    """What the next partition has, unless its lease was over before it could be asked."""
    try:
        return await (await member.claimed()).receive(5, timeout=0.1)
    except PartitionLostError:
        return None


async def _die(bus) -> None:
    """Let nobody of this bus do anything any more, as a process that was killed."""
    await bus.client.aclose()
    for task in asyncio.all_tasks():
        if task.get_name().endswith(f" at {bus.topic}"):
            task.cancel()


async def _time_has_passed(redis, bus):
    (_, now), last = (None, await redis.time()), 0
    for number in range(bus.partitions):
        last = max(last, int((await redis.xinfo_stream(bus.key(number)))["last-generated-id"].split(b"-")[0]))
    return now[0] * 1000 > last + 1


@pytest.mark.thorough
def test_a_missing_driver_is_named_with_what_to_install() -> None:
    program = (
        "import sys; sys.modules['redis'] = sys.modules['redis.asyncio'] = None\n"
        "import mainstay\n"
        "from mainstay.errors import MissingDependencyError\n"
        "try:\n"
        "    import mainstay.delivery.redis\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "RedisBus needs the driver of Redis: pip install 'mainstay[redis]'\n"


async def test_handlers_subscribe_to_classes_of_events_on_redis(redis) -> None:
    topic = f"orders-{uuid4().hex[:12]}"
    bus = RedisEventBus(RedisEventBusConfig(redis_url=URL, stream_prefix=topic, consumer_group="desk"))
    seen = []
    bus.subscribe(RedisOrderPlaced, seen.append)
    event = RedisOrderPlaced(aggregate_id="o-1", total=7)

    async with bus:
        await bus.start_consuming()
        await bus.publish([event])
        await eventually(lambda: seen)

    assert [each.event_id for each in seen] == [event.event_id]
    await redis.delete(*await redis.keys(f"mainstay:{{{topic}}}*"))


async def test_an_event_bus_is_reached_when_it_is_first_used_and_can_be_closed_unused() -> None:
    await RedisEventBus().disconnect()
