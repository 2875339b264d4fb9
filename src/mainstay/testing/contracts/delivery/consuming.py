"""Groups, their consumers, and their partitions."""

# ruff: noqa: D102, S101 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio

import pytest

from mainstay.delivery.bus import Bus, Delivery, Member, Partition
from mainstay.delivery.consumer import Consumer
from mainstay.delivery.message import Message
from mainstay.errors import ConfigurationError, InvalidInputError
from mainstay.testing.contracts.delivery.base import PARTITIONS, STOPPING, BusSuite, Taken, message, spread
from mainstay.testing.waiting import eventually


class ConsumingContract(BusSuite):
    """From the broker to those who take messages in."""

    async def test_every_group_is_given_every_message(self, bus: Bus) -> None:
        sent = spread(streams=3, each=2)
        await bus.declare("billing")
        await bus.declare("shipping")

        await bus.publish(sent)

        assert (await self.taken(bus, "billing", sent)).ids == {each.id for each in sent}
        assert (await self.taken(bus, "shipping", sent)).ids == {each.id for each in sent}

    async def test_a_group_that_is_declared_again_stays_where_it_is(self, bus: Bus) -> None:
        sent = message(1)
        await bus.declare("billing")
        await bus.publish([sent])

        await bus.declare("billing", start="now")

        assert (await self.taken(bus, "billing", [sent])).numbers == [1]

    async def test_a_group_can_begin_with_what_comes(self, bus: Bus) -> None:
        await bus.declare("before")
        await bus.publish([message(1)])

        await bus.declare("billing", start="now")
        await bus.publish([sent := message(2)])

        assert (await self.taken(bus, "billing", [sent])).numbers == [2]

    async def test_what_was_acknowledged_is_not_given_again(self, bus: Bus, beside: Bus) -> None:
        first = spread(streams=4, each=3)
        await bus.declare("billing")
        await bus.publish(first)
        await self.taken(bus, "billing", first)

        await bus.publish([then := message(100)])

        assert (await self.taken(beside, "billing", [then])).numbers == [100]

    async def test_what_was_not_acknowledged_is_given_again_and_in_order(self, bus: Bus, beside: Bus) -> None:
        await bus.declare("billing")
        await bus.publish([message(number) for number in range(1, 6)])
        async with bus.join("billing") as member:
            partition, found = await self._partition_with_messages(member, 5)
            await partition.acknowledge(found[:2])

        end = message(6)
        await bus.publish([end])

        assert (await self.taken(beside, "billing", [end])).numbers == [3, 4, 5, 6]

    async def test_a_message_waits_for_whoever_comes(self, bus: Bus) -> None:
        handler = Taken()
        async with Consumer(bus, "billing", handler, STOPPING) as consumer:
            await eventually(lambda: len(consumer.states) == bus.partitions)
            await bus.publish([sent := message(1)])
            await handler.has([sent])

    async def test_a_partition_is_one_consumers_at_a_time(self, bus: Bus, beside: Bus) -> None:
        sent = spread(streams=6, each=20)
        await bus.declare("billing")
        busy: dict[str, int] = {}
        overlapped = []
        handler = Taken()

        async def handle(taken: Message) -> None:
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
            assert handler.versions(f"Order/{index}") == list(range(1, 21))

    async def test_who_leaves_gives_its_partitions_to_others(self, bus: Bus, beside: Bus) -> None:
        first, second = (
            spread(streams=6, each=2),
            [message(50 + number, stream=f"Order/{number}") for number in range(6)],
        )
        await bus.declare("billing")
        handler, other = Taken(), Taken()
        async with Consumer(bus, "billing", handler, STOPPING):
            await bus.publish(first)
            await handler.has(first)

        async with Consumer(beside, "billing", other, STOPPING):
            await bus.publish(second)
            await other.has(second)

        assert handler.ids == {each.id for each in first}
        assert other.ids == {each.id for each in second}

    async def test_a_consumer_can_be_stopped_twice_and_started_again(self, bus: Bus) -> None:
        handler = Taken()
        consumer = Consumer(bus, "billing", handler, STOPPING)
        await consumer.stop()
        await bus.declare("billing")
        await consumer.start()
        await bus.publish([first := message(1)])
        await handler.has([first])
        await consumer.stop()
        await consumer.stop()

        await bus.publish([second := message(2)])
        async with consumer:
            await handler.has([second])

        assert handler.numbers == [1, 2]

    async def test_the_message_in_hand_is_done_before_a_consumer_stops(self, bus: Bus, beside: Bus) -> None:
        await bus.declare("billing")
        begun, go_on = asyncio.Event(), asyncio.Event()
        handler = Taken()

        async def slowly(taken: Message) -> None:
            begun.set()
            await go_on.wait()
            await handler(taken)

        await bus.publish([message(1), last := message(2)])
        consumer = Consumer(bus, "billing", slowly, STOPPING)
        await consumer.start()
        await begun.wait()
        stopping = asyncio.create_task(consumer.stop())
        await eventually(consumer.stopping.is_set)
        go_on.set()
        await stopping

        assert handler.numbers == [1]
        assert (await self.taken(beside, "billing", [last])).numbers == [2]

    async def test_a_handler_that_does_not_end_is_canceled_after_a_while(self, bus: Bus, beside: Bus) -> None:
        await bus.declare("billing")
        begun = asyncio.Event()

        async def never(_: Message) -> None:
            begun.set()
            await asyncio.Event().wait()

        await bus.publish([sent := message(1)])
        consumer = Consumer(bus, "billing", never, STOPPING)
        await consumer.start()
        await begun.wait()
        await consumer.stop(timeout=0.0)

        assert (await self.taken(beside, "billing", [sent])).numbers == [1]

    async def test_mistaken_names_are_refused(self, bus: Bus) -> None:
        for group in ("", "x" * 101, "a\nb", None):
            with pytest.raises(InvalidInputError, match="a group's name"):
                await bus.declare(group)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(ConfigurationError, match="starts at"):
            await bus.declare("billing", start="yesterday")  # type: ignore[arg-type]  # on purpose

    async def _partition_with_messages(self, member: Member, many: int) -> tuple[Partition, list[Delivery]]:
        """Of those that a member is given, the partition that has so many messages, and these."""
        claimed = [await member.claimed() for _ in range(PARTITIONS)]
        while True:
            for partition in claimed:
                found: list[Delivery] = []
                while len(found) < many and (more := await partition.receive(many, timeout=0.2)):
                    found += more
                if found:
                    assert len(found) == many
                    return partition, found
