"""What is published, and how often."""

# ruff: noqa: D102, S101 - a test's name states its rule, and asserts and numbers are what it is made of

from dataclasses import replace
from uuid import uuid4

import pytest

from mainstay.delivery.bus import Bus
from mainstay.errors import BusForgotError
from mainstay.testing.contracts.delivery.base import BusSuite, FromLog, message, spread


class PublishingContract(BusSuite):
    """From those who publish to the broker."""

    async def test_a_message_arrives_as_it_was_published(self, bus: Bus) -> None:
        sent = message(7, payload='{"name":"Zoë \\u0001 \\"x\\""}'.encode())
        await bus.declare("billing")

        await bus.publish([sent])

        (found,) = (await self.taken(bus, "billing", [sent])).messages
        assert found == sent
        assert found.data == {"name": 'Zoë \u0001 "x"'}
        assert dict(found.headers) == dict(sent.headers)

    async def test_nothing_is_published_of_nothing(self, bus: Bus) -> None:
        await bus.publish([])
        await bus.publish([], sender=FromLog([]))

    async def test_a_large_message_arrives(self, bus: Bus) -> None:
        sent = message(1, payload=b'"%s"' % (b"x" * 500_000))
        await bus.declare("billing")

        await bus.publish([sent])

        (found,) = (await self.taken(bus, "billing", [sent])).messages
        assert found.payload == sent.payload

    async def test_streams_keep_their_order(self, bus: Bus) -> None:
        sent = spread(streams=7, each=9)
        await bus.declare("billing")

        for first in range(0, len(sent), 10):
            await bus.publish(sent[first : first + 10])

        handler = await self.taken(bus, "billing", sent)
        assert len(handler.messages) == len(sent)
        for index in range(7):
            assert handler.versions(f"Order/{index}") == list(range(1, 10))

    async def test_what_is_published_without_a_sender_is_published_as_often_as_that(self, bus: Bus) -> None:
        sent = message(1)
        await bus.declare("billing")

        await bus.publish([sent])
        await bus.publish([sent, end := message(2)])

        assert (await self.taken(bus, "billing", [end])).numbers == [1, 1, 2]

    # -- senders -------------------------------------------------------------------------------------------------------

    async def test_a_bus_that_can_tell_stores_nothing_twice(self, bus: Bus, beside: Bus) -> None:
        _skip_unless(bus)
        sent = [message(number) for number in (3, 5, 8, 9)]
        sender = FromLog(sent)

        await bus.publish(sent[:3], sender=sender)
        await beside.publish(sent[1:], sender=sender)
        await bus.publish(sent[:2], sender=sender)

        assert (await self.taken(bus, "billing", sent)).numbers == [3, 5, 8, 9]

    async def test_senders_have_positions_of_their_own(self, bus: Bus) -> None:
        _skip_unless(bus)
        first, second = message(8), message(5)

        await bus.publish([first], sender=FromLog([first]))
        await bus.publish([second], sender=FromLog([second]))

        assert (await self.taken(bus, "billing", [first, second])).numbers == [8, 5]

    async def test_positions_of_another_log_say_nothing(self, bus: Bus) -> None:
        """After a restore from a dump, positions are given again: to other events."""
        _skip_unless(bus)
        lost, kept = message(8), message(5)
        sender = FromLog([kept])
        await bus.publish([lost], sender=replace(sender, messages=[lost]))

        await bus.publish([kept], sender=sender)
        await bus.publish([kept], sender=sender)

        assert (await self.taken(bus, "billing", [kept])).numbers == [8, 5]

    async def test_a_bus_that_can_tell_finds_out_that_it_has_less_than_was_confirmed(self, bus: Bus) -> None:
        _skip_unless(bus)
        sent = [message(3), message(5)]
        sender = FromLog(sent)
        await bus.publish(sent[:1], sender=sender)

        with pytest.raises(BusForgotError, match=r"had confirmed messages of .* up to position 4") as caught:
            await bus.publish(sent[1:], sender=replace(sender, confirmed=4))

        assert (caught.value.confirmed, caught.value.found) == (4, 3)
        with pytest.raises(BusForgotError, match="knows nothing of it"):
            await bus.publish(sent[1:], sender=replace(sender, name=f"another {uuid4()}", confirmed=1))
        await bus.publish(sent[1:], sender=replace(sender, confirmed=3))
        assert (await self.taken(bus, "billing", sent)).numbers == [3, 5]


def _skip_unless(bus: Bus) -> None:
    if not bus.deduplicates:
        pytest.skip("this broker does not tell how far a sender has come")
