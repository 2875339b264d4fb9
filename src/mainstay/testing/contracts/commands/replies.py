"""Replies: what stands there when a command has ended, and who is told."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from uuid import UUID, uuid4

import pytest

from mainstay.commands.actions import NewAction
from mainstay.commands.command import Reply
from mainstay.commands.failures import Selection
from mainstay.commands.lifecycle import ReplyOutcome
from mainstay.commands.replies import Key
from mainstay.commands.store import Action, CommandStore, Verb
from mainstay.testing.contracts.commands.base import (
    DOMAIN,
    PATIENCE,
    REPLIES,
    CommandStoreSuite,
    new,
    rolled_back,
    saying,
)
from mainstay.testing.contracts.commands.ending import PAST

_O = ReplyOutcome
_WAITER = "waiter-1"


def key(command_id: UUID) -> Key:
    """A command of the usual domain."""
    return DOMAIN, command_id


class RepliesContract(CommandStoreSuite):
    """Replies: what stands there when a command has ended, and who is told."""

    async def outcome(self, store: CommandStore, command_id: UUID) -> ReplyOutcome | None:
        """How a command ended; None if it has not."""
        found = await store.get_replies([key(command_id)])
        return found[key(command_id)].outcome if found else None

    # -- looking ------------------------------------------------------------------------------------------------------
    async def test_a_command_has_no_reply_before_its_end(self, store: CommandStore) -> None:
        (waiting,) = await self.sent(store, new(delay=1000.0))
        retried = await self.in_hand(store)
        troubled = await self.troubled(store)
        await self.say(store, retried, Verb.RETRY, delay=1000.0)
        ids = [waiting, retried.command.command_id, troubled, uuid4()]

        assert await store.get_replies([key(each) for each in ids]) == {}
        assert await store.get_replies([]) == {}

    async def test_a_success_replies_with_its_result(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.COMPLETE, result=b'{"total":[1,null]}')
        command = received.command

        reply = (await store.get_replies([key(command.command_id)]))[key(command.command_id)]

        assert (reply.command_id, reply.correlation_id) == (command.command_id, command.correlation_id)
        assert (reply.outcome, reply.data) == (_O.SUCCESS, {"total": [1, None]})
        assert (reply.error_code, reply.error_message) == (None, None)

    async def test_a_refusal_replies_with_its_error(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.FAIL, error_code="POOR", error_message="no money")

        (reply,) = (await store.get_replies([key(received.command.command_id)])).values()

        assert (reply.outcome, reply.data) == (_O.FAILED, None)
        assert (reply.error_code, reply.error_message) == ("POOR", "no money")

    async def test_a_cancellation_and_an_operators_end_are_replies_too(self, store: CommandStore) -> None:
        (canceled,) = await self.sent(store)
        await store.cancel(DOMAIN, canceled, reason="changed my mind")
        given_up, mended = await self.troubled(store), await self.troubled(store)
        await self.operate(store, Action.CANCEL, given_up)
        await self.operate(store, Action.COMPLETE, mended, result=b'"by hand"')

        found = await store.get_replies([key(each) for each in (canceled, given_up, mended)])

        assert [reply.outcome for reply in found.values()] == [_O.CANCELED, _O.CANCELED, _O.SUCCESS]
        assert found[key(canceled)].error_message == "changed my mind"
        assert found[key(mended)].data == "by hand"
        assert found[key(mended)].error_code is None

    async def test_a_reply_says_up_to_where_its_handler_has_appended(self, store: CommandStore) -> None:
        silent = await self.in_hand(store, reply_to=REPLIES)
        await self.say(store, silent, Verb.COMPLETE)
        told = await self.in_hand(store, reply_to=REPLIES)
        await self.say(store, told, Verb.COMPLETE, position=7)
        refused = await self.in_hand(store, reply_to=REPLIES)
        await self.say(store, refused, Verb.FAIL, error_code="NO", error_message="no", position=2**40)
        ids = [each.command.command_id for each in (silent, told, refused)]

        found = await store.get_replies([key(each) for each in ids])
        messages = await self.replies(store, REPLIES)
        known = [await store.get(DOMAIN, each) for each in ids]

        assert [found[key(each)].position for each in ids] == [None, 7, 2**40]
        assert [each.position for each in known if each] == [None, 7, 2**40]
        assert [each.get("position", "not said") for each in messages] == ["not said", 7, 2**40]
        assert [Reply.from_message(each).position for each in messages] == [None, 7, 2**40]

    async def test_what_an_attempt_has_appended_is_not_forgotten_by_a_later_one(self, store: CommandStore) -> None:
        first = await self.in_hand(store)
        await self.say(store, first, Verb.RETRY, delay=0.0, position=9)
        (second,) = await self.received(store)
        await self.say(store, second, Verb.COMPLETE, position=8)

        (reply,) = (await store.get_replies([key(first.command.command_id)])).values()

        assert (second.command.command_id, reply.position) == (first.command.command_id, 9)

    async def test_one_question_asks_for_many_commands_of_many_domains(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        same = uuid4()
        await self.sent(store, new(command_id=same), new(), new())
        await self.sent(store, new(domain="billing", command_id=same))
        received = await self.received(store)
        await store.complete(DOMAIN, [saying(each, Verb.COMPLETE) for each in received[:2]])
        ids = [each.command.command_id for each in received]

        found = await store.get_replies([*map(key, ids), ("billing", same), key(uuid4())])

        assert set(found) == set(map(key, ids[:2]))

    # -- being told ---------------------------------------------------------------------------------------------------
    async def test_whoever_waits_is_told_of_each_end(self, store: CommandStore) -> None:
        async with store.replies_heard(_WAITER) as ear:
            for verb in (Verb.COMPLETE, Verb.FAIL):
                received = await self.in_hand(store)
                await store.about_to_wait([key(received.command.command_id)], _WAITER, 1000.0)
                await self.say(store, received, verb)

                assert await ear.wait(PATIENCE)
                assert await self.outcome(store, received.command.command_id)

    async def test_whoever_waits_is_told_of_what_is_ended_by_hand(self, store: CommandStore) -> None:
        async with store.replies_heard(_WAITER) as ear:
            (canceled,) = await self.sent(store)
            await store.about_to_wait([key(canceled)], _WAITER, 1000.0)
            await store.cancel(DOMAIN, canceled, reason=None)

            assert await ear.wait(PATIENCE)
            for action in (Action.CANCEL, Action.COMPLETE):
                troubled = await self.troubled(store)
                await store.about_to_wait([key(troubled)], _WAITER, 1000.0)
                await self.operate(store, action, troubled)

                assert await ear.wait(PATIENCE)

    async def test_whoever_waits_is_told_of_what_an_action_ends(self, store: CommandStore) -> None:
        async with store.replies_heard(_WAITER) as ear:
            for kind in (Action.CANCEL, Action.COMPLETE):
                troubled = await self.troubled(store)
                await store.about_to_wait([key(troubled)], _WAITER, 1000.0)
                action = NewAction(uuid4(), kind, Selection(DOMAIN), "ada", None)
                await store.begin_action(action)
                await store.run_action(action.action_id, 10)

                assert await ear.wait(PATIENCE)
                assert await self.outcome(store, troubled)

    async def test_whoever_waits_is_told_of_what_expires(self, store: CommandStore) -> None:
        expired = [new(expires_at=PAST) for _ in range(3)]
        async with store.replies_heard(_WAITER) as ear:
            for beside in ([], [new()]):  # a live one in the same call hides none of them
                one = expired.pop()
                await store.about_to_wait([key(one.command_id)], _WAITER, 1000.0)
                await self.sent(store, one, *beside)

                assert len(await self.received(store)) == len(beside)
                assert await ear.wait(PATIENCE)
                assert await self.outcome(store, one.command_id) is _O.CANCELED

    @pytest.mark.parametrize("verb", [Verb.GIVE_BACK, Verb.RETRY, None])
    async def test_whoever_waits_is_told_of_what_is_called_off_while_it_runs(
        self, store: CommandStore, verb: Verb | None
    ) -> None:
        received = await self.in_hand(store)
        command_id = received.command.command_id
        async with store.replies_heard(_WAITER) as ear:
            await store.about_to_wait([key(command_id)], _WAITER, 1000.0)
            await store.cancel(DOMAIN, command_id, reason="no need", running=True)
            if verb is None:  # its worker is dead
                await self.expire_leases(store)

                assert await self.received(store) == []
            else:
                await self.say(store, received, verb)

            assert await ear.wait(PATIENCE)
            assert await self.outcome(store, command_id) is _O.CANCELED

    async def test_whoever_waits_before_the_send_is_told(self, store: CommandStore) -> None:
        command_id = uuid4()
        async with store.replies_heard(_WAITER) as ear:
            await store.about_to_wait([key(command_id)], _WAITER, 1000.0)
            received = await self.in_hand(store, command_id=command_id)
            await self.say(store, received, Verb.COMPLETE)

            assert await ear.wait(PATIENCE)

    async def test_a_retry_and_an_operator_in_between_do_not_use_the_wish_up(self, store: CommandStore) -> None:
        received = await self.in_hand(store, max_attempts=5)
        command_id = received.command.command_id
        async with store.replies_heard(_WAITER) as ear:
            await store.about_to_wait([key(command_id)], _WAITER, 1000.0)
            await self.say(store, received, Verb.RETRY, delay=0.0)
            await self.make_due(store)
            (again,) = await self.received(store)
            await self.say(store, again, Verb.TROUBLESHOOT)
            await self.operate(store, Action.RETRY, command_id)
            (last,) = await self.received(store)
            await self.say(store, last, Verb.COMPLETE)

            assert await ear.wait(PATIENCE)
            assert await self.outcome(store, command_id) is _O.SUCCESS

    async def test_a_transaction_tells_after_its_end_and_one_that_rolls_back_does_not(
        self, store: CommandStore
    ) -> None:
        received = await self.in_hand(store)
        command_id = received.command.command_id
        async with store.replies_heard(_WAITER) as ear:
            await store.about_to_wait([key(command_id)], _WAITER, 1000.0)
            async with rolled_back(store) as tx:
                await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)

            assert await self.outcome(store, command_id) is None
            async with store.transaction() as tx:
                await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)
                assert await self.outcome(store, command_id) is None

            assert await ear.wait(PATIENCE)
            assert await self.outcome(store, command_id) is _O.SUCCESS

    async def test_each_who_waits_is_told(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        command_id = received.command.command_id
        async with store.replies_heard(_WAITER) as one, store.replies_heard("waiter-2") as two:
            await store.about_to_wait([key(command_id)], _WAITER, 1000.0)
            await store.about_to_wait([key(command_id), key(command_id)], "waiter-2", 1000.0)
            await store.about_to_wait([key(command_id)], "gone", 1000.0)
            await self.say(store, received, Verb.COMPLETE)

            assert await one.wait(PATIENCE)
            assert await two.wait(PATIENCE)

    async def test_whoever_takes_his_wish_back_may_leave(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        asked = [key(received.command.command_id)]
        await store.about_to_wait(asked, _WAITER, 1000.0)
        await store.stop_waiting(asked, _WAITER)
        await store.stop_waiting(asked, _WAITER)

        assert await self.say(store, received, Verb.COMPLETE)
