"""Conversations: the events that share a correlation id, and the one that has an id."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from dataclasses import replace
from uuid import uuid4

from mainstay.events.log import EventLog, StreamAppend
from mainstay.testing.contracts.events.base import EventLogSuite, new, rolled_back, stream


class ConversationContract(EventLogSuite):
    """What tracing asks about events."""

    async def test_a_conversation_is_all_that_share_a_correlation_id_in_order(self, log: EventLog) -> None:
        ours, other = uuid4(), uuid4()
        mine = [replace(new(), correlation_id=ours, causation_id=uuid4()) for _ in range(3)]
        named = replace(new(), correlation_id=None)
        for event in (mine[0], new(), mine[1], replace(new(), correlation_id=other), mine[2], named):
            await log.append([StreamAppend(stream(), (event,))])

        found = await log.conversation([ours], limit=10)
        both = await log.conversation([other, uuid4(), ours], limit=10)

        assert [each.event.event_id for each in found] == [each.event_id for each in mine]
        assert [each.event.causation_id for each in found] == [each.causation_id for each in mine]
        assert found == [each for each in (await log.read_feed()).events if each.event.correlation_id == ours]
        assert len(both) == len(mine) + 1
        assert await log.conversation([ours], limit=2) == found[:2]
        assert [e.event.event_id for e in await log.conversation([named.event_id], limit=9)] == [named.event_id]
        assert await log.conversation([mine[0].event_id], limit=9) == [], "it belongs to the one that it names"
        assert await log.conversation([], limit=9) == []

    async def test_an_event_is_found_by_its_id_once_it_is_committed(self, log: EventLog) -> None:
        event, undone = new(), new()
        assert await log.event_known_as(event.event_id) is None
        (done,) = await log.append([StreamAppend(stream(), (event,))])
        async with rolled_back(log) as conn:
            await log.append([StreamAppend(stream(), (replace(undone, correlation_id=event.event_id),))], conn=conn)
            assert await log.conversation([event.event_id], limit=9) == [await log.event_at(done.position or 0)]

        assert await log.event_known_as(event.event_id) == await log.event_at(done.position or 0)
        assert await log.event_known_as(undone.event_id) is None

    async def test_a_tombstoned_event_is_found_without_what_it_said(self, log: EventLog) -> None:
        gone, event = stream(), replace(new(), correlation_id=uuid4())
        await log.append([StreamAppend(gone, (event,))])
        await log.tombstone(gone, reason="because", actor="ann")

        (found,) = await log.conversation([event.correlation_id or uuid4()], limit=9)

        assert (found.event.event_id, found.tombstoned, found.event.payload) == (event.event_id, True, b"{}")
        assert await log.event_known_as(event.event_id) == found
