"""Handlers that fail: trying again, stopping, and dead letters."""

# ruff: noqa: D102, S101, PLR2004 - a test's name states its rule, and asserts and numbers are what it is made of

import asyncio

import pytest

from mainstay.delivery.bus import Bus
from mainstay.delivery.consumer import Consumer, PartitionState
from mainstay.delivery.message import Message, partition_of
from mainstay.errors import StorageUnavailableError
from mainstay.testing.contracts.delivery.base import LAYING_APART, STOPPING, BusSuite, Taken, message
from mainstay.testing.waiting import eventually


class FailingContract(BusSuite):
    """What follows when a handler raises."""

    async def test_a_message_is_tried_again_before_its_successors(self, bus: Bus) -> None:
        await bus.declare("billing")
        sent = [message(number) for number in range(1, 5)]
        fails = iter([True, False])
        handler = Taken(fails=lambda taken: taken.position == 2 and next(fails))

        async with Consumer(bus, "billing", handler, STOPPING):
            await bus.publish(sent)
            await handler.has(sent)

        assert handler.numbers == [1, 2, 3, 4]

    async def test_a_handler_whose_storage_is_away_is_tried_until_it_is_back(self, bus: Bus) -> None:
        await bus.declare("billing")
        outages = [StorageUnavailableError("away")]
        handler = Taken()

        async def handle(taken: Message) -> None:
            if outages:
                raise outages.pop()
            await handler(taken)

        async with Consumer(bus, "billing", handle, LAYING_APART) as consumer:
            await bus.publish([sent := message(1)])
            await handler.has([sent])

            assert consumer.failures == {}

    async def test_a_partition_stops_at_a_message_that_cannot_be_handled(self, bus: Bus) -> None:
        await bus.declare("billing")
        sent = [message(number) for number in range(1, 4)]
        other = message(4, stream=self._of_another_partition(bus))
        is_mended = False
        handler = Taken(fails=lambda taken: taken.position == 2 and not is_mended)

        async with Consumer(bus, "billing", handler, STOPPING) as consumer:
            await bus.publish([*sent, other])
            await handler.has([other])
            await eventually(lambda: PartitionState.STOPPED in consumer.states.values())

            assert handler.versions("Order/1") == [1]
            assert "ValueError: not this one" in consumer.failures.values()
            is_mended = True
            consumer.resume()
            await handler.has(sent)

        assert handler.versions("Order/1") == [1, 2, 3]

    async def test_what_stopped_a_partition_is_given_to_the_next_consumer(self, bus: Bus, beside: Bus) -> None:
        await bus.declare("billing")
        sent = [message(number) for number in range(1, 4)]
        handler = Taken(fails=lambda taken: taken.position == 2)
        async with Consumer(bus, "billing", handler, STOPPING) as consumer:
            await bus.publish(sent)
            await eventually(lambda: PartitionState.STOPPED in consumer.states.values())

        assert handler.numbers == [1]
        assert (await self.taken(beside, "billing", sent[1:])).numbers == [2, 3]

    async def test_a_message_can_be_laid_apart_and_the_others_go_on(self, bus: Bus) -> None:
        await bus.declare("billing")
        sent = [message(number) for number in range(1, 7)]
        handler = Taken(fails=lambda taken: taken.position in (2, 5))

        async with Consumer(bus, "billing", handler, LAYING_APART):
            await bus.publish(sent)
            await handler.has([sent[0], sent[2], sent[3], sent[5]])

        assert handler.numbers == [1, 3, 4, 6]
        async with bus.dead_letters("billing") as letters:
            found = [(await letters.receive(1, timeout=2.0))[0].message for _ in range(2)]
        assert [each.id for each in found] == [sent[1].id, sent[4].id]
        assert [each.restored() for each in found] == [sent[1], sent[4]]
        assert found[0].headers["dead-letter-error"] == "not this one"
        assert found[0].headers["dead-letter-error-type"] == "ValueError"
        assert found[0].headers["dead-letter-attempts"] == "2"
        assert found[0].headers["dead-letter-group"] == "billing"

    async def test_dead_letters_are_a_groups_own(self, bus: Bus) -> None:
        await self._two_laid_apart(bus)

        async with bus.dead_letters("shipping") as letters:
            assert list(await letters.receive(10, timeout=0.2)) == []

    async def test_dead_letters_are_handled_again_in_order(self, bus: Bus, beside: Bus) -> None:
        sent = await self._two_laid_apart(bus)
        handler = Taken()

        handled = await Consumer(beside, "billing", handler).replay()

        assert handled == 2
        assert [each.id for each in handler.messages] == [each.id for each in sent]
        assert handler.messages == sent
        assert await Consumer(bus, "billing", handler).replay() == 0

    async def test_a_dead_letter_that_fails_again_stays_with_those_behind_it(self, bus: Bus) -> None:
        sent = await self._two_laid_apart(bus)
        handler = Taken(fails=lambda taken: taken.id == sent[1].id)

        with pytest.raises(ValueError, match="not this one"):
            await Consumer(bus, "billing", handler).replay()

        assert handler.ids == {sent[0].id}
        mended = Taken()
        assert await Consumer(bus, "billing", mended).replay(most=5) == 1
        assert mended.ids == {sent[1].id}

    async def test_a_handler_that_cancels_itself_has_failed(self, bus: Bus) -> None:
        await bus.declare("billing")
        handler = Taken()

        async def handle(taken: Message) -> None:
            if taken.position == 1:
                raise asyncio.CancelledError
            await handler(taken)

        async with Consumer(bus, "billing", handle, LAYING_APART):
            await bus.publish([message(1), second := message(2)])
            await handler.has([second])

        async with bus.dead_letters("billing") as letters:
            (found,) = await letters.receive(10, timeout=2.0)
        assert found.message.headers["dead-letter-error"] == "the handler was canceled from within"

    async def _two_laid_apart(self, bus: Bus) -> list[Message]:
        await bus.declare("billing")
        sent = [message(1), message(2)]
        end = message(3)
        handler = Taken(fails=lambda taken: taken.position < 3)
        async with Consumer(bus, "billing", handler, LAYING_APART):
            await bus.publish([*sent, end])
            await handler.has([end])
        return sent

    def _of_another_partition(self, bus: Bus) -> str:
        mine = partition_of("Order/1", bus.partitions)
        return next(name for name in map("Order/{}".format, range(2, 99)) if partition_of(name, bus.partitions) != mine)
