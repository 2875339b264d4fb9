"""Sending, scheduling and canceling."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from mainstay.commands.command import SendResult
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import CommandStore, Refusal, Verb
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new, rolled_back

_A = AuditEventType

AWKWARD: list[Any] = [
    {},
    {"deep": [{"er": [1, [2, [3, {"x": None}]]]}]},
    {"text": "häß­lich \U0001f40d \t\n\\ \" ' ; -- $1 %s", "": "an empty key"},
    {"big": 2**53 + 1, "negative": -(2**63), "float": 0.1, "tiny": 5e-324, "true": True},
    {"large": 1e23, "huge": -1.7e308},
]


class SendingContract(CommandStoreSuite):
    """Sending, scheduling and canceling."""

    # -- sending ------------------------------------------------------------------------------------------------------
    async def test_a_sent_command_is_pending_and_audited_as_sent(self, store: CommandStore) -> None:
        command = new(reply_to=REPLIES, max_attempts=7)

        (answer,) = await store.send([command])
        known = await self.known(store, command.command_id)

        assert isinstance(answer, SendResult)
        assert answer.command_id == command.command_id
        assert answer.msg_id is not None
        assert known.status is CommandStatus.PENDING
        assert (known.domain, known.command_type) == (DOMAIN, "CreateOrder")
        assert (known.attempts, known.max_attempts) == (0, 7)
        assert known.msg_id == answer.msg_id
        assert known.correlation_id == command.correlation_id
        assert known.reply_to == REPLIES
        assert known.data == {"n": 1}
        assert (known.result, known.due_at, known.batch_id) == (None, None, None)
        assert (known.last_error_type, known.last_error_code, known.last_error_msg) == (None, None, None)
        assert known.created_at.tzinfo is not None
        assert known.updated_at.tzinfo is not None
        assert await self.events(store, command.command_id) == [_A.SENT]

    async def test_the_message_says_what_other_programs_need(self, store: CommandStore) -> None:
        plain, answered = new(), new(reply_to=REPLIES)

        await self.sent(store, plain, answered)
        messages = await self.messages(store, DOMAIN)
        expected = [
            {
                "domain": DOMAIN,
                "command_type": "CreateOrder",
                "command_id": str(command.command_id),
                "correlation_id": str(command.correlation_id),
                "data": {"n": 1},
            }
            for command in (plain, answered)
        ]

        assert messages == [expected[0], expected[1] | {"reply_to": REPLIES}]

    async def test_answers_come_in_the_order_given(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        commands = [new(domain=DOMAIN if n % 3 else "billing") for n in range(20)]

        answers = await store.send(commands)

        assert [answer.command_id for answer in answers if isinstance(answer, SendResult)] == [
            command.command_id for command in commands
        ]

    async def test_nothing_sent_is_nothing_answered(self, store: CommandStore) -> None:
        assert await store.send([]) == []

    @pytest.mark.parametrize("data", AWKWARD)
    async def test_a_payload_arrives_as_it_was_sent(self, store: CommandStore, data: Any) -> None:
        received = await self.in_hand(store, data=data)

        assert received.command.data == data
        assert (await self.known(store, received.command.command_id)).data == data

    async def test_headers_travel_with_the_command_also_over_a_delay(self, store: CommandStore) -> None:
        await self.sent(store, new(headers=b'{"trace":"a"}'), new(headers=b'{"trace":"b"}', delay=60.0))

        await self.make_due(store)
        received = await self.received(store)

        assert [each.command.headers for each in received] == [{"trace": "a"}, {"trace": "b"}]

    # -- refusals -----------------------------------------------------------------------------------------------------
    async def test_a_second_command_of_one_id_is_refused_and_the_first_stands(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store, new(data={"first": True}))

        answers = await store.send([new(command_id=command_id, data={"first": False})])

        assert answers == [Refusal.DUPLICATE]
        assert (await self.known(store, command_id)).data == {"first": True}
        assert await self.events(store, command_id) == [_A.SENT]
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_an_id_twice_in_one_send_is_taken_once(self, store: CommandStore) -> None:
        command = new()

        answers = await store.send([command, new(), command])

        assert [isinstance(answer, SendResult) for answer in answers] == [True, True, False]
        assert answers[2] is Refusal.DUPLICATE
        assert await self.events(store, command.command_id) == [_A.SENT]

    async def test_an_id_is_refused_also_after_the_command_has_ended(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.COMPLETE)

        assert await store.send([new(command_id=received.command.command_id)]) == [Refusal.DUPLICATE]
        assert await self.status(store, received.command.command_id) is CommandStatus.COMPLETED

    async def test_an_id_of_one_domain_is_free_in_another(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        (command_id,) = await self.sent(store)

        await self.sent(store, new(domain="billing", command_id=command_id))
        other = await store.get("billing", command_id)

        assert other is not None
        assert other.domain == "billing"
        assert len(await store.audit_trail(command_id, None)) == 2
        assert len(await store.audit_trail(command_id, "billing")) == 1

    async def test_senders_of_one_id_at_the_same_time_are_served_once(self, store: CommandStore) -> None:
        command_id = uuid4()

        answers = await asyncio.gather(*(store.send([new(command_id=command_id)]) for _ in range(5)))
        taken = [answer for (answer,) in answers if isinstance(answer, SendResult)]

        assert len(taken) == 1
        assert [answer for (answer,) in answers].count(Refusal.DUPLICATE) == 4

    async def test_a_command_for_an_unknown_batch_is_refused(self, store: CommandStore) -> None:
        command = new(batch_id=uuid4())

        assert await store.send([command]) == [Refusal.BATCH_NOT_FOUND]
        assert await store.get(DOMAIN, command.command_id) is None

    async def test_a_command_for_a_domain_without_a_queue_is_refused(self, store: CommandStore) -> None:
        command = new(domain="nobody")

        assert await store.send([command]) == [Refusal.QUEUE_NOT_FOUND]
        assert await store.get("nobody", command.command_id) is None

    async def test_a_command_whose_reply_would_have_no_queue_is_refused(self, store: CommandStore) -> None:
        command = new(reply_to="nowhere")

        assert await store.send([command]) == [Refusal.REPLY_QUEUE_NOT_FOUND]
        assert await store.get(DOMAIN, command.command_id) is None

    async def test_a_refused_command_does_not_spoil_the_rest(self, store: CommandStore) -> None:
        (taken,) = await self.sent(store)
        commands = [new(), new(command_id=taken), new(domain="nobody"), new(reply_to="nowhere"), new()]

        first, *refused, last = await store.send(commands)

        assert isinstance(first, SendResult)
        assert isinstance(last, SendResult)
        assert refused == [Refusal.DUPLICATE, Refusal.QUEUE_NOT_FOUND, Refusal.REPLY_QUEUE_NOT_FOUND]
        assert len(await self.received(store)) == 3

    async def test_an_atomic_send_is_stored_whole(self, store: CommandStore) -> None:
        answers = await store.send([new(), new(delay=60.0)], atomic=True)

        assert all(isinstance(answer, SendResult) for answer in answers)
        assert len(await self.received(store)) == 1

    async def test_an_atomic_send_with_one_refusal_stores_nothing(self, store: CommandStore) -> None:
        (taken,) = await self.sent(store)
        commands = [new(), new(command_id=taken), new(reply_to="nowhere"), new(delay=60.0)]

        answers = await store.send(commands, atomic=True)
        stored = [await store.get(DOMAIN, commands[n].command_id) for n in (0, 2, 3)]

        assert answers[1:3] == [Refusal.DUPLICATE, Refusal.REPLY_QUEUE_NOT_FOUND]
        assert not isinstance(answers[0], Refusal)
        assert not isinstance(answers[3], Refusal)
        assert stored == [None, None, None]
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_an_atomic_send_that_names_an_id_twice_stores_nothing(self, store: CommandStore) -> None:
        twice = new()

        answers = await store.send([twice, twice], atomic=True)

        assert answers[1] is Refusal.DUPLICATE
        assert await store.get(DOMAIN, twice.command_id) is None

    async def test_a_refused_atomic_send_leaves_the_callers_transaction_usable(self, store: CommandStore) -> None:
        (taken,) = await self.sent(store)
        before, after = new(), new()

        async with store.transaction() as tx:
            await store.send([before], conn=tx)
            await store.send([new(), new(command_id=taken)], atomic=True, conn=tx)
            await store.send([after], conn=tx)

        assert [each.command.command_id for each in await self.received(store)] == [
            *(taken, before.command_id, after.command_id)
        ]

    async def test_a_queue_may_be_ensured_by_many_at_once_and_keeps_its_messages(self, store: CommandStore) -> None:
        await self.sent(store)

        await asyncio.gather(*(store.ensure_queue(name) for name in (DOMAIN, "a-b_9", "a-b_9", "a-b_9", "x")))
        await self.sent(store, new(domain="a-b_9"), new(domain="x"))

        assert len(await self.received(store)) == 1

    # -- scheduling ---------------------------------------------------------------------------------------------------
    async def test_a_delayed_command_waits_outside_the_queue_until_it_is_due(self, store: CommandStore) -> None:
        command = new(delay=60.0)

        answers = await store.send([command])
        early = await self.received(store)
        known = await self.known(store, command.command_id)

        assert answers == [SendResult(command.command_id, None)]
        assert early == []
        assert await self.messages(store, DOMAIN) == []
        assert known.status is CommandStatus.PENDING
        assert known.msg_id is None
        assert known.due_at is not None
        assert timedelta(seconds=59) < known.due_at - known.created_at < timedelta(seconds=61)

        await self.make_due(store)
        (received,) = await self.received(store)

        assert received.command.command_id == command.command_id
        assert received.attempt == 1
        assert (await self.known(store, command.command_id)).due_at is None
        assert await self.events(store, command.command_id) == [_A.SENT, _A.RECEIVED]

    async def test_a_command_becomes_due_by_time_alone(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store, new(delay=0.3))

        early = await self.received(store)
        (received,) = await self.eventually(store, lambda: self.received(store))

        assert early == []
        assert received.command.command_id == command_id

    async def test_a_command_is_not_received_before_its_time(self, store: CommandStore) -> None:
        not_before = datetime(2999, 12, 31, 23, 59, tzinfo=UTC)
        (command_id,) = await self.sent(store, new(not_before=not_before))

        assert await self.received(store) == []
        assert (await self.known(store, command_id)).due_at == not_before

    async def test_a_time_that_is_over_puts_nothing_off(self, store: CommandStore) -> None:
        (answer,) = await store.send([new(not_before=datetime(2001, 1, 1, tzinfo=UTC))])

        assert isinstance(answer, SendResult)
        assert answer.msg_id is not None
        assert len(await self.received(store)) == 1

    async def test_more_commands_become_due_than_one_receive_takes(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new(delay=60.0) for _ in range(7)))
        await self.make_due(store)

        taken = [each.command.command_id for _ in range(4) for each in await self.received(store, limit=2)]

        assert sorted(taken) == sorted(ids)

    # -- transactions -------------------------------------------------------------------------------------------------
    async def test_what_is_sent_in_a_transaction_shows_when_it_commits(self, store: CommandStore) -> None:
        command = new()

        async with store.transaction() as tx:
            answers = await store.send([command], conn=tx)
            inside = (await store.get(DOMAIN, command.command_id), await self.received(store))

        assert isinstance(answers[0], SendResult)
        assert inside == (None, [])
        assert len(await self.received(store)) == 1

    async def test_what_is_sent_in_a_transaction_that_rolls_back_was_never_sent(self, store: CommandStore) -> None:
        command = new()

        async with rolled_back(store) as tx:
            await store.send([command], conn=tx)

        assert await store.get(DOMAIN, command.command_id) is None
        assert await store.audit_trail(command.command_id, None) == []
        await self.sent(store, command)

    async def test_a_refusal_in_a_transaction_leaves_it_usable(self, store: CommandStore) -> None:
        (taken,) = await self.sent(store)
        command = new()

        async with store.transaction() as tx:
            refused = await store.send([new(command_id=taken)], conn=tx)
            await store.send([command], conn=tx)
            again = await store.send([command], conn=tx)

        assert refused == again == [Refusal.DUPLICATE]
        assert await self.status(store, command.command_id) is CommandStatus.PENDING

    async def test_an_open_transaction_holds_up_no_other_sender_and_no_receiver(self, store: CommandStore) -> None:
        async with store.transaction() as tx:
            await store.send([new()], conn=tx)
            (other,) = await self.sent(store)
            (received,) = await self.received(store)
            await self.say(store, received, Verb.COMPLETE)

        assert received.command.command_id == other
        assert len(await self.received(store)) == 1

    async def test_a_sender_of_an_id_in_an_open_transaction_waits_how_it_ends(self, store: CommandStore) -> None:
        command = new(data={"by": "the one in the transaction"})

        async with rolled_back(store) as tx:
            await store.send([command], conn=tx)
            other = asyncio.ensure_future(store.send([new(command_id=command.command_id, data={"by": "other"})]))
        (answer,) = await other

        assert isinstance(answer, SendResult)
        assert (await self.known(store, command.command_id)).data == {"by": "other"}

    # -- canceling ---------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("delay", [None, 60.0])
    async def test_a_waiting_command_can_be_cancelled(self, store: CommandStore, delay: float | None) -> None:
        command = new(delay=delay, reply_to=REPLIES)
        await self.sent(store, command)

        found = await store.cancel(DOMAIN, command.command_id, reason="changed my mind")
        await self.make_due(store)
        (reply,) = await self.replies(store, REPLIES)

        assert found is CommandStatus.PENDING
        assert await self.received(store) == []
        assert await self.messages(store, DOMAIN) == []
        assert await self.status(store, command.command_id) is CommandStatus.CANCELED
        assert await self.events(store, command.command_id) == [_A.SENT, _A.CANCELED]
        assert (await self.told(store, command.command_id, _A.CANCELED))["reason"] == "changed my mind"
        assert (reply["command_id"], reply["outcome"]) == (str(command.command_id), "CANCELED")
        assert reply["correlation_id"] == str(command.correlation_id)

    async def test_a_command_that_waits_for_its_retry_can_be_cancelled(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, Verb.RETRY)

        found = await store.cancel(DOMAIN, received.command.command_id, reason=None)

        assert found is CommandStatus.PENDING
        assert await self.status(store, received.command.command_id) is CommandStatus.CANCELED

    async def test_a_command_in_hand_is_not_cancelled(self, store: CommandStore) -> None:
        received = await self.in_hand(store)

        found = await store.cancel(DOMAIN, received.command.command_id, reason=None)

        assert found is CommandStatus.IN_PROGRESS
        assert await self.status(store, received.command.command_id) is CommandStatus.IN_PROGRESS
        assert await self.events(store, received.command.command_id) == [_A.SENT, _A.RECEIVED]

    @pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.FAIL, Verb.TROUBLESHOOT])
    async def test_a_command_that_has_ended_is_not_cancelled(self, store: CommandStore, verb: Verb) -> None:
        received = await self.in_hand(store)
        await self.say(store, received, verb)
        status, events = [await ask(store, received.command.command_id) for ask in (self.status, self.events)]

        found = await store.cancel(DOMAIN, received.command.command_id, reason=None)

        assert found is status
        assert await self.status(store, received.command.command_id) is status
        assert await self.events(store, received.command.command_id) == events

    async def test_cancelling_an_unknown_command_says_so(self, store: CommandStore) -> None:
        assert await store.cancel(DOMAIN, uuid4(), reason=None) is None

    async def test_cancels_at_the_same_time_cancel_once(self, store: CommandStore) -> None:
        (command_id,) = await self.sent(store, new(reply_to=REPLIES))

        found = await asyncio.gather(*(store.cancel(DOMAIN, command_id, reason=None) for _ in range(4)))

        assert found.count(CommandStatus.PENDING) == 1
        assert found.count(CommandStatus.CANCELED) == 3
        assert len(await self.replies(store, REPLIES)) == 1

    async def test_a_command_is_either_cancelled_or_received(self, store: CommandStore) -> None:
        ids = await self.sent(store, *(new() for _ in range(10)))

        receiving = asyncio.ensure_future(self.received(store))
        found = await asyncio.gather(*(store.cancel(DOMAIN, command_id, reason=None) for command_id in ids))
        in_hand = {each.command.command_id for each in await receiving}

        for command_id, status in zip(ids, found, strict=True):
            expected = CommandStatus.IN_PROGRESS if command_id in in_hand else CommandStatus.PENDING
            assert status is expected
