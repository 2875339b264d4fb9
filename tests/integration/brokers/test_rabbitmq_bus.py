"""The bus on RabbitMQ: the contract, and what only RabbitMQ can do wrong."""

import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aio_pika
import pytest

from eventsource.bus.rabbitmq import RabbitMQEventBus, RabbitMQEventBusConfig
from mainstay import DomainEvent
from mainstay.delivery.consumer import Consumer
from mainstay.delivery.rabbitmq import RabbitMQBus, waves
from mainstay.errors import (
    BusUnavailableError,
    ConfigurationError,
    InvalidInputError,
    MessageRefusedError,
    PartitionLostError,
)
from mainstay.testing.contracts.delivery import BusContract, Taken, message
from mainstay.testing.contracts.delivery.base import STOPPING, spread
from tests.support.rabbitmq import amqp_url, forget
from tests.support.waiting import eventually
from tests.support.way import Way

GONE = (BusUnavailableError, PartitionLostError)
"""Whichever is found out first."""
GROUPS = ("billing", "shipping", "before")


class TestRabbitMQBus(BusContract):
    @pytest.fixture(autouse=True)
    async def _left_behind(self, topic):
        self.url = amqp_url()
        self.topics = {}
        yield
        for name, partitions in self.topics.items():
            await forget(self.url, name, GROUPS, partitions)

    @asynccontextmanager
    async def opened(self, topic, partitions):
        self.topics[topic] = partitions
        async with RabbitMQBus(self.url, topic, partitions=partitions, lease=4.0) as bus:
            yield bus

    async def test_nothing_is_published_into_the_void(self, bus) -> None:
        with pytest.raises(BusUnavailableError, match="declare a group first"):
            await bus.publish([message(1), message(2)])

        await bus.declare("billing")
        await bus.publish([sent := message(3)])
        assert (await self.taken(bus, "billing", [sent])).numbers == [3]

    async def test_partitions_are_shared_among_members(self, bus, beside) -> None:
        async with Consumer(bus, "billing", Taken(), STOPPING) as first:
            await eventually(lambda: len(first.states) == 3)
            async with Consumer(beside, "billing", Taken(), STOPPING) as second:
                await eventually(lambda: (len(first.states), len(second.states)) == (2, 1))
            await eventually(lambda: len(first.states) == 3)

    async def test_what_a_cut_consumer_had_in_its_hand_goes_to_another_in_order(self, bus, topic) -> None:
        await bus.declare("billing")
        await bus.publish([message(1), message(2), last := message(3)])
        async with self.cuttable(topic) as (way, beside), beside.join("billing") as member:
            partition = await member.claimed()
            while not (found := await partition.receive(2, timeout=0.1)):
                partition = await member.claimed()
            assert found[0].message.position == 1
            way.cut()

            assert (await self.taken(bus, "billing", [last])).numbers == [1, 2, 3]
            with pytest.raises(GONE):
                await partition.acknowledge(found)

    async def test_a_member_whose_connection_broke_is_told(self, bus, topic) -> None:
        async with self.cuttable(topic) as (way, beside), beside.join("billing") as member:
            for _ in range(3):
                partition = await member.claimed()
            way.cut()

            with pytest.raises(BusUnavailableError):
                await member.claimed()
            with pytest.raises(GONE):
                await partition.receive(1, timeout=5.0)

    async def test_a_consumer_goes_on_when_its_connection_broke(self, bus, topic) -> None:
        handler = Taken()
        async with self.cuttable(topic) as (way, beside), Consumer(beside, "billing", handler, STOPPING) as consumer:
            await eventually(lambda: len(consumer.states) == 3)
            way.cut()
            await bus.publish([sent := message(1)])
            await handler.has([sent])

    async def test_publishing_goes_on_when_its_connection_broke(self, bus, topic) -> None:
        await bus.declare("billing")
        async with self.cuttable(topic) as (way, beside):
            await beside.publish([message(1)])
            way.cut()
            with suppress(BusUnavailableError):  # it may not know yet
                await beside.publish([message(2)])

            await beside.publish([last := message(3)])

        assert (await self.taken(bus, "billing", [last])).numbers in ([1, 3], [1, 2, 3])

    @asynccontextmanager
    async def cuttable(self, topic):
        parts = urlsplit(self.url)
        async with Way(parts.hostname, parts.port or 5672) as way:
            url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{way.port}").geturl()
            async with RabbitMQBus(url, topic, partitions=3, lease=4.0) as beside:
                yield way, beside

    async def test_a_consumer_joins_again_when_its_queue_was_deleted(self, bus) -> None:
        handler = Taken()
        async with Consumer(bus, "billing", handler, STOPPING) as consumer:
            await eventually(lambda: len(consumer.states) == 3)
            await forget(self.url, bus.topic, ("billing",), 3)
            await bus.__aexit__()
            await bus.__aenter__()
            await eventually(lambda: len(consumer.states) < 3)
            await eventually(lambda: len(consumer.states) == 3)

            await bus.publish([sent := message(1)])
            await handler.has([sent])

    async def test_one_at_a_time_has_the_dead_letters(self, bus, beside) -> None:
        async with bus.dead_letters("billing"):
            with pytest.raises(PartitionLostError):
                async with beside.dead_letters("billing"):
                    pass
        async with beside.dead_letters("billing"):
            pass

    async def test_a_topic_keeps_its_number_of_partitions(self, bus, topic) -> None:
        with pytest.raises(ConfigurationError, match="has another number of partitions, not 4"):
            async with RabbitMQBus(self.url, topic, partitions=4):
                pass

    async def test_what_another_program_published_is_handed_on_as_it_is(self, bus) -> None:
        await bus.declare("billing")
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            exchange = await channel.get_exchange(bus.topic, ensure=False)
            await exchange.publish(aio_pika.Message(b"hello", headers={"a": "b", "n": 1}), "0")
            await exchange.publish(aio_pika.Message(b"hello", headers={"mainstay-version": "x"}), "1")

        handler = Taken()
        async with Consumer(bus, "billing", handler, STOPPING):
            await eventually(lambda: len(handler.messages) == 2)

        found = min(handler.messages, key=lambda each: each.stream)
        assert (found.stream, found.version, found.position, found.type) == ("0", 0, 0, "")
        assert (found.payload, found.headers) == (b"hello", {"a": "b"})
        assert isinstance(found.id, UUID)

    async def test_a_message_that_amqp_cannot_carry_is_refused_by_name(self, bus) -> None:
        await bus.declare("billing")
        bad = message(1, type="x" * 300)

        with pytest.raises(MessageRefusedError, match=str(bad.id)):
            await bus.publish([bad])

        await bus.publish([sent := message(2)])
        assert (await self.taken(bus, "billing", [sent])).numbers == [2]

    async def test_names_with_other_characters_stay_apart(self, topic) -> None:
        slashed, escaped = f"{topic}/bücher", f"{topic}+2Fbücher"
        async with RabbitMQBus(self.url, slashed) as one, RabbitMQBus(self.url, escaped) as other:
            for bus, number in ((one, 1), (other, 2)):
                await bus.declare("billing")
                await bus.publish([message(number)])
            async with other.join("billing") as member:
                partition = await member.claimed()
                (found,) = await partition.receive(5, timeout=5.0)
            assert found.message.position == 2
        for name in (slashed, escaped):
            await forget(self.url, name, ("billing",), 1)

    async def test_a_closed_bus_says_so(self, topic) -> None:
        with pytest.raises(BusUnavailableError, match="is closed: open it"):
            await RabbitMQBus(self.url, topic).publish([message(1)])


class RabbitMQOrderPlaced(DomainEvent, aggregate_type="RabbitMQOrder"):
    total: int


async def test_handlers_subscribe_to_classes_of_events_on_rabbitmq() -> None:
    url, topic = amqp_url(), f"orders-{uuid4().hex[:12]}"
    bus = RabbitMQEventBus(RabbitMQEventBusConfig(rabbitmq_url=url, exchange_name=topic, consumer_group="desk"))
    seen = []
    bus.subscribe(RabbitMQOrderPlaced, seen.append)
    event = RabbitMQOrderPlaced(aggregate_id="o-1", total=7)

    async with bus:
        await bus.start_consuming()
        await bus.publish([event])
        await eventually(lambda: seen)

    assert [each.event_id for each in seen] == [event.event_id]
    await forget(url, topic, ("desk",), 1)


async def test_an_event_bus_can_be_closed_unused() -> None:
    await RabbitMQEventBus().disconnect()


def test_a_missing_driver_is_named_with_what_to_install() -> None:
    program = (
        "import sys; sys.modules['aio_pika'] = None\n"
        "from mainstay.errors import MissingDependencyError\n"
        "try:\n"
        "    import mainstay.delivery.rabbitmq\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "RabbitMQBus needs the driver of RabbitMQ: pip install 'mainstay[rabbitmq]'\n"


async def test_a_broker_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(BusUnavailableError, match=r"RabbitMQ at 127\.0\.0\.1:1: ") as caught:
        async with RabbitMQBus("amqp://guest:secret@127.0.0.1:1/", "orders"):
            pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "", None])
def test_what_is_no_url_is_refused(url) -> None:
    with pytest.raises(ConfigurationError, match="a URL of RabbitMQ"):
        RabbitMQBus(url)


@pytest.mark.parametrize(("name", "value"), [("lease", 1.0), ("prefetch", 0), ("prefetch", True), ("partitions", 65)])
def test_values_out_of_range_are_refused(name, value) -> None:
    with pytest.raises(ConfigurationError):
        RabbitMQBus("amqp://localhost", **{name: value})


async def test_names_that_are_too_long_for_amqp_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="255 bytes"):
        RabbitMQBus("amqp://localhost", "ü" * 100).named("ü" * 100)


def test_of_each_stream_one_message_is_under_way() -> None:
    sent = spread(streams=3, each=3)

    found = waves([*sent, message(10, stream="Order/0", version=4)])

    assert [len(wave) for wave in found] == [3, 3, 3, 1]
    for wave in found:
        assert len({each.stream for each in wave}) == len(wave)
    assert [each.version for wave in found for each in wave if each.stream == "Order/0"] == [1, 2, 3, 4]
