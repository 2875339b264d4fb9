"""Order per key, and priorities."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from dataclasses import replace
from uuid import UUID

import pytest

from mainstay.commands.command import SendResult
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Action, CommandStore, NewBatch, NewCommand, Received, Verb, Verdict
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new, rolled_back, saying

_S = CommandStatus


def ids(commands: list[NewCommand] | list[Received]) -> list[UUID]:
    """Which commands these are."""
    return [each.command_id if isinstance(each, NewCommand) else each.command.command_id for each in commands]


def of_one_key(count: int, key: str = "customer-7", **changes: object) -> list[NewCommand]:
    """Commands that share a key."""
    return [new(key=key, data={"n": n}, **changes) for n in range(count)]


class OrderingContract(CommandStoreSuite):
    """Order per key, and priorities."""

    # -- one after another --------------------------------------------------------------------------------------------
    async def test_commands_of_a_key_come_one_at_a_time_in_the_order_sent(self, store: CommandStore) -> None:
        commands = of_one_key(5)
        answers = await store.send(commands[:3])
        answers += [answer for each in commands[3:] for answer in await store.send([each])]
        seen: list[UUID] = []

        for _ in commands:
            (received,) = await self.received(store)
            assert await self.received(store) == []
            seen += ids([received])
            await self.say(store, received, Verb.COMPLETE)

        assert all(isinstance(answer, SendResult) and answer.msg_id is None for answer in answers)
        assert seen == ids(commands)
        assert await self.received(store) == []

    async def test_a_handler_sees_the_key(self, store: CommandStore) -> None:
        received = await self.in_hand(store, key="a/b c")
        known = await self.known(store, received.command.command_id)

        assert (received.command.key, known.key) == ("a/b c", "a/b c")

    async def test_other_keys_and_commands_without_one_do_not_wait(self, store: CommandStore) -> None:
        first, other, plain = of_one_key(3), of_one_key(2, "customer-8"), new()

        await self.sent(store, *first, *other, plain)
        received = await self.received(store)

        assert sorted(ids(received)) == sorted([first[0].command_id, other[0].command_id, plain.command_id])

    async def test_a_key_is_a_key_of_its_domain(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        here, there = new(key="k"), new(key="k", domain="billing")

        await self.sent(store, here, there)

        assert ids(await self.received(store)) == [here.command_id]
        assert ids(await store.receive("billing", limit=5, lease_seconds=30, worker="w")) == [there.command_id]

    @pytest.mark.parametrize("end", [Verb.COMPLETE, Verb.FAIL])
    async def test_a_command_that_ended_lets_its_key_go_on(self, store: CommandStore, end: Verb) -> None:
        first, second = of_one_key(2)
        await self.sent(store, first, second)
        (received,) = await self.received(store)

        await self.say(store, received, end)

        assert ids(await self.received(store)) == [second.command_id]

    async def test_a_retry_keeps_its_turn(self, store: CommandStore) -> None:
        first, second = of_one_key(2)
        await self.sent(store, first, second)
        (received,) = await self.received(store)
        await self.say(store, received, Verb.RETRY)

        assert await self.received(store) == []
        await self.make_due(store)
        (again,) = await self.received(store)

        assert ids([again]) == [first.command_id]
        assert again.attempt == 2
        await self.say(store, again, Verb.COMPLETE)
        assert ids(await self.received(store)) == [second.command_id]

    @pytest.mark.parametrize("how", ["its lease was lost", "given back"])
    async def test_what_comes_back_keeps_its_turn(self, store: CommandStore, how: str) -> None:
        first, second = of_one_key(2)
        await self.sent(store, first, second)
        (received,) = await self.received(store)
        if how == "given back":
            await self.say(store, received, Verb.GIVE_BACK)
        else:
            await self.expire_leases(store)

        assert ids(await self.received(store)) == [first.command_id]
        assert await self.received(store) == []

    async def test_a_command_in_troubleshooting_blocks_its_key_and_no_other(self, store: CommandStore) -> None:
        blocked = await self.troubled(store, key="customer-7")
        waiting, other = new(key="customer-7"), new(key="customer-8")
        await self.sent(store, waiting, other)

        assert ids(await self.received(store)) == [other.command_id]
        assert await self.operate(store, Action.RETRY, blocked)
        (again,) = await self.received(store)

        assert ids([again]) == [blocked]
        await self.say(store, again, Verb.COMPLETE)
        assert ids(await self.received(store)) == [waiting.command_id]

    @pytest.mark.parametrize("action", [Action.CANCEL, Action.COMPLETE])
    async def test_an_operator_who_ends_a_command_frees_its_key(self, store: CommandStore, action: Action) -> None:
        blocked = await self.troubled(store, key="customer-7")
        waiting = new(key="customer-7")
        await self.sent(store, waiting)

        assert await self.operate(store, action, blocked)

        assert ids(await self.received(store)) == [waiting.command_id]

    async def test_cancelling_takes_a_command_out_of_the_line(self, store: CommandStore) -> None:
        first, second, third = of_one_key(3, reply_to=REPLIES)
        await self.sent(store, first, second, third)
        (received,) = await self.received(store)

        assert await store.cancel(DOMAIN, second.command_id, reason="not needed") is _S.PENDING
        await self.say(store, received, Verb.COMPLETE)

        assert await self.status(store, second.command_id) is _S.CANCELED
        assert ids(await self.received(store)) == [third.command_id]

    async def test_cancelling_what_has_its_turn_lets_the_key_go_on(self, store: CommandStore) -> None:
        first, second, third = of_one_key(3)
        await self.sent(store, first, second, third)
        (received,) = await self.received(store)
        await self.say(store, received, Verb.GIVE_BACK)

        assert await store.cancel(DOMAIN, first.command_id, reason=None) is _S.PENDING
        (received,) = await self.received(store)
        await self.say(store, received, Verb.RETRY)
        assert await store.cancel(DOMAIN, second.command_id, reason=None) is _S.PENDING

        assert ids(await self.received(store)) == [third.command_id]

    async def test_a_delayed_command_gets_in_line_when_due(self, store: CommandStore) -> None:
        later = new(key="k", delay=60.0)
        first, second = of_one_key(2, "k")
        await self.sent(store, later, first, second)
        (received,) = await self.received(store)
        assert ids([received]) == [first.command_id]

        await self.make_due(store)
        await self.say(store, received, Verb.COMPLETE)
        (received,) = await self.received(store)

        assert ids([received]) == [later.command_id]
        await self.say(store, received, Verb.COMPLETE)
        assert ids(await self.received(store)) == [second.command_id]

    async def test_what_rolls_back_is_not_waited_for(self, store: CommandStore) -> None:
        kept, after = of_one_key(2)
        async with rolled_back(store) as tx:
            await store.send(of_one_key(2), conn=tx)
            await self.sent(store, kept)

        await self.sent(store, after)
        (received,) = await self.received(store)

        assert ids([received]) == [kept.command_id]
        await self.say(store, received, Verb.COMPLETE)
        assert ids(await self.received(store)) == [after.command_id]

    async def test_an_open_transaction_holds_up_nobody_else_with_its_key(self, store: CommandStore) -> None:
        early, late = of_one_key(2)
        async with store.transaction() as tx:
            await store.send([early], conn=tx)
            await self.sent(store, late)
            (received,) = await self.received(store)
            await self.say(store, received, Verb.COMPLETE)

        assert ids([received]) == [late.command_id]
        assert ids(await self.received(store)) == [early.command_id]

    async def test_a_completion_in_an_open_transaction_holds_up_only_its_key(self, store: CommandStore) -> None:
        first, second, other = *of_one_key(2), new(key="customer-8")
        await self.sent(store, first, second)
        (received,) = await self.received(store)
        async with store.transaction() as tx:
            assert await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx) == [Verdict.APPLIED]
            await self.sent(store, other)
            assert ids(await self.received(store)) == [other.command_id]

        assert ids(await self.received(store)) == [second.command_id]

    async def test_a_batch_keeps_its_keys_in_order(self, store: CommandStore) -> None:
        commands = of_one_key(3)
        batch = NewBatch(DOMAIN, new().command_id, None, None, None)

        await store.create_batch(batch, [replace(each, batch_id=batch.batch_id) for each in commands])
        for each in commands:
            (received,) = await self.received(store)
            assert ids([received]) == [each.command_id]
            await self.say(store, received, Verb.COMPLETE)

        assert await store.fold_batches(DOMAIN) == [batch.batch_id]

    # -- operators ----------------------------------------------------------------------------------------------------
    async def test_keys_tell_whose_turn_it_is_and_how_many_wait(self, store: CommandStore) -> None:
        blocked = await self.troubled(store, key="customer-7")
        await self.sent(store, *of_one_key(2), new(key="customer-8"))
        await self.received(store)

        found = {each.key: each for each in await store.keys.list(DOMAIN, None, blocked=False, limit=9, offset=0)}
        only = await store.keys.list(None, None, blocked=True, limit=9, offset=0)

        assert (found["customer-7"].head, found["customer-7"].waiting) == (blocked, 2)
        assert (found["customer-7"].head_status, found["customer-7"].is_blocked) == (_S.IN_TROUBLESHOOTING_QUEUE, True)
        assert (found["customer-8"].head_status, found["customer-8"].is_blocked) == (_S.IN_PROGRESS, False)
        assert [each.key for each in only] == ["customer-7"]
        assert await store.keys.list(DOMAIN, "other", blocked=False, limit=9, offset=0) == []

    async def test_a_released_key_goes_on_and_what_comes_back_is_next(self, store: CommandStore) -> None:
        blocked = await self.troubled(store, key="customer-7")
        second, third = of_one_key(2)
        await self.sent(store, second, third)

        verdict = await store.keys.release(DOMAIN, "customer-7", operator="ada", reason="month end")
        (received,) = await self.received(store)
        assert await self.operate(store, Action.RETRY, blocked)
        assert await self.received(store) == []
        await self.say(store, received, Verb.COMPLETE)

        assert verdict == (blocked, _S.IN_TROUBLESHOOTING_QUEUE, True)
        assert ids([received]) == [second.command_id]
        assert ids(await self.received(store)) == [blocked]
        assert await self.told(store, blocked, AuditEventType.KEY_RELEASED) == {
            "operator": "ada",
            "reason": "month end",
        }

    async def test_a_key_is_released_while_its_command_waits_for_its_next_attempt(self, store: CommandStore) -> None:
        first, second = of_one_key(2)
        await self.sent(store, first, second)
        (received,) = await self.received(store)
        await self.say(store, received, Verb.RETRY)

        verdict = await store.keys.release(DOMAIN, "customer-7", operator=None, reason=None)

        assert verdict == (first.command_id, _S.PENDING, True)
        assert ids(await self.received(store)) == [second.command_id]

    async def test_a_key_whose_command_runs_is_not_released(self, store: CommandStore) -> None:
        received = await self.in_hand(store, key="customer-7")

        running = await store.keys.release(DOMAIN, "customer-7", operator=None, reason=None)
        await self.say(store, received, Verb.GIVE_BACK)
        ready = await store.keys.release(DOMAIN, "customer-7", operator=None, reason=None)

        assert (running, ready) == (
            (received.command.command_id, _S.IN_PROGRESS, False),
            (received.command.command_id, _S.PENDING, False),
        )
        assert await store.keys.release(DOMAIN, "nobody's", operator=None, reason=None) is None

    # -- priority -----------------------------------------------------------------------------------------------------
    async def test_the_urgent_come_first_and_equals_in_the_order_sent(self, store: CommandStore) -> None:
        priorities = [0, -9, 9, 0, 5, 9, -1]
        commands = [new(priority=priority) for priority in priorities]
        await self.sent(store, *commands)

        received = [one for _ in commands for one in await self.received(store, limit=1)]
        known = [await self.known(store, one.command.command_id) for one in received]

        assert ids(received) == [commands[n].command_id for n in (2, 5, 4, 0, 3, 6, 1)]
        assert [one.priority for one in known] == sorted(priorities, reverse=True)

    async def test_a_priority_outlives_delays_retries_and_operators(self, store: CommandStore) -> None:
        urgent, delayed = new(priority=3), new(priority=7, delay=60.0)
        await self.sent(store, urgent, delayed)
        (received,) = await self.received(store)
        await self.say(store, received, Verb.RETRY)
        troubled = await self.troubled(store, priority=5)
        plain = new()
        await self.sent(store, plain)
        await self.make_due(store)
        await self.operate(store, Action.RETRY, troubled)

        assert ids(await self.received(store)) == [delayed.command_id, troubled, urgent.command_id, plain.command_id]

    async def test_an_urgent_command_is_leased_completed_and_given_back_like_any(self, store: CommandStore) -> None:
        received = await self.in_hand(store, priority=9, reply_to=REPLIES)
        await self.say(store, received, Verb.GIVE_BACK)
        (received,) = await self.received(store)
        assert await store.renew(DOMAIN, [received.lease], 60.0) == []
        await self.expire_leases(store)
        (received,) = await self.received(store)

        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED
        assert len(await self.replies(store, REPLIES)) == 1
        assert await self.messages(store, DOMAIN) == []
