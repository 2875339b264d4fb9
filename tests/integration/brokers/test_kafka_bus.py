"""The bus on Kafka: the contract, and what only Kafka can do wrong."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Producer

from eventsource.bus.kafka import KafkaEventBus, KafkaEventBusConfig
from mainstay import DomainEvent
from mainstay.delivery.consumer import Consumer
from mainstay.delivery.kafka import KafkaBus
from mainstay.errors import (
    BusUnavailableError,
    ConfigurationError,
    InvalidInputError,
    MessageRefusedError,
    PartitionLostError,
)
from mainstay.testing.contracts.delivery import BusContract, Taken, message
from mainstay.testing.contracts.delivery.base import STOPPING, BusSuite, spread
from tests.support.kafka import MockedKafkaBus, MockKafka
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def mock():
    made = MockKafka()
    yield made
    made.close()


class OnKafka(BusSuite):
    @pytest.fixture(autouse=True)
    def _cluster(self, mock):
        self.mock = mock

    @asynccontextmanager
    async def opened(self, topic, partitions):
        async with MockedKafkaBus(self.mock, topic, partitions=partitions, lease=2.0) as bus:
            yield bus


@pytest.mark.thorough
class TestKafkaBus(OnKafka, BusContract):
    async def test_a_partition_is_one_consumers_at_a_time(self, bus, beside) -> None:
        """The mock refuses commits while a group joins, as no broker does: what is in hand then comes twice."""
        sent = spread(streams=6, each=20)
        await bus.declare("billing")
        busy = {}
        overlapped = []
        handler = Taken()

        async def handle(taken) -> None:
            busy[taken.stream] = busy.get(taken.stream, 0) + 1
            overlapped.append(busy[taken.stream] > 1)
            await asyncio.wait({asyncio.ensure_future(handler(taken))})
            busy[taken.stream] -= 1

        async with Consumer(bus, "billing", handle, STOPPING), Consumer(beside, "billing", handle, STOPPING):
            for first in range(0, len(sent), 12):
                await bus.publish(sent[first : first + 12])
            await handler.has(sent)

        assert not any(overlapped)
        for index in range(6):
            assert list(dict.fromkeys(handler.versions(f"Order/{index}"))) == list(range(1, 21))


class TestKafka(OnKafka):
    async def test_partitions_are_shared_among_members(self, bus, beside) -> None:
        async with Consumer(bus, "billing", Taken(), STOPPING) as first:
            await eventually(lambda: len(first.states) == 3)
            async with Consumer(beside, "billing", Taken(), STOPPING) as second:
                await eventually(lambda: (len(first.states), len(second.states)) == (2, 1))
            await eventually(lambda: len(first.states) == 3)

    async def test_an_outage_costs_nothing_but_time(self, bus) -> None:
        await bus.declare("billing")
        handler = Taken()
        async with Consumer(bus, "billing", handler, STOPPING):
            await bus.publish([first := message(1)])
            await handler.has([first])
            self.mock.stop()
            publishing = asyncio.create_task(bus.publish([second := message(2)]))
            self.mock.start()
            await publishing
            await handler.has([second])

        assert handler.numbers[:2] == [1, 2]

    async def test_a_batch_that_is_not_confirmed_in_time_is_given_up_and_the_next_one_goes_on(self, topic) -> None:
        async with MockedKafkaBus(self.mock, topic, lease=2.0) as bus:
            await bus.declare("billing")
            await bus.publish([message(1)])
            bus.timeout = 0.2
            self.mock.stop()
            try:
                with pytest.raises(BusUnavailableError, match=r"has not confirmed in 0\.2 s"):
                    await bus.publish([message(2), message(3)])
            finally:
                self.mock.start()
            bus.timeout = 30.0
            await bus.publish([message(2), last := message(3)])

            assert (await self.taken(bus, "billing", [last])).numbers == [1, 2, 3]

    async def test_what_retention_took_away_is_told_and_the_rest_is_given(self, topic, caplog) -> None:
        """The mock keeps 5 MB of a partition."""
        async with MockedKafkaBus(self.mock, topic, lease=2.0) as bus:
            await bus.declare("billing")
            for first in range(1, 13):
                await bus.publish([message(first, payload=b"x" * 900_000)])

            handler = await self.taken(bus, "billing", [await self._end(bus)])

        assert 1 not in handler.numbers
        assert handler.numbers == list(range(handler.numbers[0], 14))
        assert "is gone, by its retention" in caplog.text

    async def _end(self, bus):
        await bus.publish([end := message(13)])
        return end

    async def test_one_at_a_time_has_the_dead_letters(self, bus, beside) -> None:
        async with bus.dead_letters("billing"):
            with pytest.raises(PartitionLostError):
                async with beside.dead_letters("billing"):
                    pass

    async def test_a_member_fetches_no_more_than_it_handles(self, topic) -> None:
        async with MockedKafkaBus(self.mock, topic, lease=2.0, prefetch=10) as bus:
            sent = [message(number) for number in range(1, 2_001)]
            await bus.declare("billing")
            await bus.publish(sent)
            async with bus.join("billing") as member:
                partition = await member.claimed()
                found = []
                while len(found) < len(sent):
                    came = await partition.receive(7, timeout=10.0)
                    found += came
                    await partition.acknowledge(came)
                assert await partition.receive(7, timeout=0.2) == []

        assert [each.message.position for each in found] == list(range(1, 2_001))

    async def test_a_topic_keeps_its_number_of_partitions(self, bus, topic) -> None:
        with pytest.raises(ConfigurationError, match="has 3 partitions, not 4: open it with 3"):
            async with MockedKafkaBus(self.mock, topic, partitions=4):
                pass

    async def test_what_another_program_published_is_handed_on_as_it_is(self, bus) -> None:
        await bus.declare("billing")
        producer = Producer({"bootstrap.servers": self.mock.servers})
        producer.produce(bus.topic, b"hello", b"somebody", 1, headers={"a": "b", "mainstay-version": "x"})
        producer.produce(bus.topic, None, None, 0)
        producer.flush()

        handler = Taken()
        async with Consumer(bus, "billing", handler, STOPPING):
            await eventually(lambda: len(handler.messages) == 2)

        found = max(handler.messages, key=lambda each: each.stream)
        assert (found.stream, found.version, found.position, found.type) == ("somebody", 0, 0, "")
        assert (found.payload, found.headers) == (b"hello", {"a": "b"})
        assert isinstance(found.id, UUID)

    async def test_a_message_that_is_too_large_is_refused_by_name(self, bus) -> None:
        await bus.declare("billing")
        large = message(1, payload=b"x" * 1_100_000)

        with pytest.raises(MessageRefusedError, match=str(large.id)):
            await bus.publish([large])

        await bus.publish([sent := message(2)])
        assert (await self.taken(bus, "billing", [sent])).numbers == [2]

    async def test_a_closed_bus_says_so(self, topic) -> None:
        with pytest.raises(BusUnavailableError, match="is closed: open it"):
            await MockedKafkaBus(self.mock, topic).publish([message(1)])


class KafkaOrderPlaced(DomainEvent, aggregate_type="KafkaOrder"):
    total: int


async def test_handlers_subscribe_to_classes_of_events_on_kafka(mock) -> None:
    prefix = f"orders-{uuid4().hex[:12]}"
    mock.make(f"{prefix}.stream", 1)
    mock.make(f"{prefix}.stream.desk.dead", 1)
    bus = KafkaEventBus(KafkaEventBusConfig(bootstrap_servers=mock.servers, topic_prefix=prefix, consumer_group="desk"))
    seen = []
    bus.subscribe(KafkaOrderPlaced, seen.append)
    event = KafkaOrderPlaced(aggregate_id="o-1", total=7)

    async with bus:
        await bus.start_consuming()
        await bus.publish([event])
        await eventually(lambda: seen)

    assert [each.event_id for each in seen] == [event.event_id]


def test_passwords_are_not_shown() -> None:
    config = KafkaEventBusConfig(security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_password="secret")

    assert "secret" not in repr(config)
    assert config.options() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.password": "secret",
    }


@pytest.mark.thorough
def test_a_missing_driver_is_named_with_what_to_install() -> None:
    program = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "from mainstay.errors import MissingDependencyError\n"
        "try:\n"
        "    import mainstay.delivery.kafka\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "KafkaBus needs the driver of Kafka: pip install 'mainstay[kafka]'\n"


async def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(BusUnavailableError, match=r"Kafka at 127\.0\.0\.1:1: "):
        async with KafkaBus("127.0.0.1:1", "orders", timeout=0.3):
            pass


@pytest.mark.parametrize(("name", "value"), [("lease", 0.5), ("prefetch", 0), ("prefetch", True), ("partitions", 65)])
def test_values_out_of_range_are_refused(name, value) -> None:
    with pytest.raises(ConfigurationError):
        KafkaBus("localhost:9092", **{name: value})


@pytest.mark.parametrize("servers", ["", " ", None, 9092])
def test_what_names_no_brokers_is_refused(servers) -> None:
    with pytest.raises(ConfigurationError, match="host:9092"):
        KafkaBus(servers)


def test_settings_that_promises_stand_on_are_not_to_be_set() -> None:
    with pytest.raises(ConfigurationError, match=r"decides these itself: acks, enable\.auto\.commit"):
        KafkaBus("localhost:9092", options={"acks": "1", "enable.auto.commit": True, "security.protocol": "SSL"})


@pytest.mark.parametrize("topic", ["or ders", "bücher", ".", "a/b"])
def test_topics_that_kafka_does_not_take_are_refused(topic) -> None:
    with pytest.raises(InvalidInputError, match="Kafka's names"):
        KafkaBus("localhost:9092", topic)


def test_groups_of_any_name_stay_apart() -> None:
    bus = KafkaBus("localhost:9092", "orders")
    groups = ["a.b", "a_x2e_b", "a b", "A", "a", "a_b", "a_xb", "ä"]

    assert len({bus.named(group) for group in groups}) == len(groups)
    assert bus.named("order_mail") == "orders.order_mail"
