"""Conversations: the commands that share a correlation id, and what has an id, whatever its domain."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from uuid import uuid4

from mainstay.commands.carried import CAUSATION
from mainstay.commands.store import CommandStore, NewBatch, Verb
from mainstay.serialization import to_json
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite, new


class ConversationContract(CommandStoreSuite):
    """What tracing asks about commands."""

    async def test_a_conversation_is_all_that_share_a_correlation_id_the_earliest_first(
        self, store: CommandStore
    ) -> None:
        await store.ensure_queue("billing")
        correlation_id, other, cause = uuid4(), uuid4(), uuid4()
        mine = [
            new(correlation_id=correlation_id),
            new(correlation_id=correlation_id, domain="billing", headers=to_json({CAUSATION: str(cause)})),
            new(correlation_id=correlation_id, delay=1000.0),
        ]
        await self.sent(store, new())
        for each in mine:
            await self.sent(store, each)
            self.pass_time(store)
        await self.sent(store, new(correlation_id=other))

        found = await store.conversation([correlation_id], limit=10)
        both = await store.conversation([other, correlation_id, uuid4()], limit=10)

        assert [each.command.command_id for each in found] == [each.command_id for each in mine]
        assert [each.command.causation_id for each in found] == [None, cause, None]
        assert [each.command.domain for each in found] == [DOMAIN, "billing", DOMAIN]
        assert {each.command.correlation_id for each in both} == {correlation_id, other}
        assert await store.conversation([correlation_id], limit=2) == found[:2]
        assert await store.conversation([uuid4()], limit=10) == []
        assert await store.conversation([], limit=10) == []

    async def test_what_was_sent_at_once_is_told_in_the_order_in_which_it_was_sent(self, store: CommandStore) -> None:
        correlation_id = uuid4()
        ids = sorted((uuid4() for _ in range(6)), reverse=True)
        delays = [None, 1000.0, None]
        sent = [
            new(command_id=each, correlation_id=correlation_id, delay=delay)
            for each, delay in zip(ids, delays * 2, strict=True)
        ]
        await self.sent(store, *sent)

        found = await store.conversation([correlation_id], limit=10)

        assert [each.command.command_id for each in found] == ids

    async def test_a_traced_command_says_when_it_was_first_and_last_received(self, store: CommandStore) -> None:
        (waiting,) = await self.sent(store, new(delay=1000.0))
        first = await self.in_hand(store)
        command_id = first.command.command_id
        await self.say(store, first, Verb.RETRY, delay=0.0)
        self.pass_time(store)
        (second,) = await self.received(store)
        await self.say(store, second, Verb.COMPLETE)

        (traced,) = await store.commands_known_as(command_id)
        (untouched,) = await store.commands_known_as(waiting)

        assert traced.command == await store.get(DOMAIN, command_id)
        assert traced.first_received is not None
        assert traced.last_received is not None
        assert traced.command.created_at <= traced.first_received < traced.last_received <= traced.command.updated_at
        assert (untouched.first_received, untouched.last_received) == (None, None)

    async def test_an_id_is_looked_for_in_all_domains(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        same, batch_id = uuid4(), uuid4()
        await self.sent(store, new(command_id=same))
        await self.sent(store, new(command_id=same, domain="billing"))
        batch = NewBatch(DOMAIN, batch_id, "all of them", None, None)
        await store.create_batch(batch, [new(batch_id=batch_id)])

        found = await store.commands_known_as(same)
        (known,) = await store.batches_known_as(batch_id)

        assert {each.command.domain for each in found} == {DOMAIN, "billing"}
        assert (known.name, known.total_count) == ("all of them", 1)
        assert await store.commands_known_as(uuid4()) == []
        assert await store.batches_known_as(same) == []
