"""Troubleshooting: what waits for an operator, and what an operator can do."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from uuid import uuid4

import pytest

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Action, ActionVerdict, CommandStore, OperatorRequest, Verb, Verdict
from mainstay.testing.contracts.commands.base import DOMAIN, LEASE, REPLIES, CommandStoreSuite, new, saying

_A, _S = AuditEventType, CommandStatus

TROUBLED = [_A.SENT, _A.RECEIVED, _A.FAILED, _A.MOVED_TO_TSQ]
BY_ADA = OperatorRequest(Action.RETRY, operator="ada", reason="the service is back")


class TroubleshootingContract(CommandStoreSuite):
    """Troubleshooting: what waits for an operator, and what an operator can do."""

    # -- retry --------------------------------------------------------------------------------------------------------
    async def test_an_operators_retry_starts_over(self, store: CommandStore) -> None:
        command_id = await self.troubled(store, headers=b'{"trace":"a"}', max_attempts=1)

        (verdict,) = await store.act(DOMAIN, [command_id], BY_ADA)
        known, details = await self.known(store, command_id), await self.told(store, command_id, _A.OPERATOR_RETRY)
        (received,) = await self.received(store)

        assert verdict[:4] == (command_id, True, _S.IN_TROUBLESHOOTING_QUEUE, known.msg_id)
        assert known.msg_id is not None
        assert (known.status, known.attempts) == (_S.PENDING, 0)
        assert (known.last_error_type, known.last_error_code, known.last_error_msg) == (None, None, None)
        assert (details["operator"], details["reason"]) == ("ada", "the service is back")
        assert (received.command.command_id, received.attempt) == (command_id, 1)
        assert received.command.data == {"n": 1}
        assert received.command.headers == {"trace": "a"}
        assert await store.count_troubleshooting(DOMAIN, None) == 0
        assert await self.events(store, command_id) == [*TROUBLED, _A.OPERATOR_RETRY, _A.RECEIVED]
        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED

    async def test_an_operator_may_correct_the_payload(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)

        await self.operate(store, Action.RETRY, command_id, data=b'{"n":2}')
        (message,) = await self.messages(store, DOMAIN)
        (received,) = await self.received(store)

        assert received.command.data == message["data"] == {"n": 2}
        assert (await self.known(store, command_id)).data == {"n": 2}

    async def test_retries_at_the_same_time_are_applied_once(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)

        verdicts = await asyncio.gather(*(store.act(DOMAIN, [command_id], BY_ADA) for _ in range(3)))

        assert sorted(verdict.applied for (verdict,) in verdicts) == [False, False, True]
        assert len(await self.messages(store, DOMAIN)) == 1
        assert (await self.events(store, command_id)).count(_A.OPERATOR_RETRY) == 1

    async def test_different_actions_at_the_same_time_are_applied_once(self, store: CommandStore) -> None:
        command_id = await self.troubled(store, reply_to=REPLIES)

        applied = await asyncio.gather(*(self.operate(store, action, command_id) for action in Action))

        assert sorted(applied) == [False, False, True]

    # -- cancel and complete ------------------------------------------------------------------------------------------
    async def test_an_operators_cancel_ends_the_command_and_answers(self, store: CommandStore) -> None:
        command_id = await self.troubled(store, reply_to=REPLIES)

        applied = await self.operate(store, Action.CANCEL, command_id, reason="a test order")
        details = await self.told(store, command_id, _A.OPERATOR_CANCEL)
        (reply,) = await self.replies(store, REPLIES)

        assert applied
        assert await self.status(store, command_id) is _S.CANCELED
        assert await self.events(store, command_id) == [*TROUBLED, _A.OPERATOR_CANCEL]
        assert (details["operator"], details["reason"]) == ("ada", "a test order")
        assert (reply["command_id"], reply["outcome"]) == (str(command_id), "CANCELED")
        assert await store.count_troubleshooting(DOMAIN, None) == 0
        assert await self.received(store) == []

    async def test_an_operators_completion_keeps_its_result_and_answers(self, store: CommandStore) -> None:
        command_id = await self.troubled(store, reply_to=REPLIES)

        applied = await self.operate(store, Action.COMPLETE, command_id, result=b'{"by":"hand"}')
        known = await self.known(store, command_id)
        (reply,) = await self.replies(store, REPLIES)

        assert applied
        assert (known.status, known.result) == (_S.COMPLETED, {"by": "hand"})
        assert await self.events(store, command_id) == [*TROUBLED, _A.OPERATOR_COMPLETE]
        assert (reply["outcome"], reply["data"]) == ("SUCCESS", {"by": "hand"})
        assert (reply["error_code"], reply["error_message"]) == (None, None)
        assert await store.count_troubleshooting(DOMAIN, None) == 0

    # -- what may not be ----------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("action", list(Action))
    @pytest.mark.parametrize(
        ("verb", "status"),
        [
            (None, _S.IN_PROGRESS),
            (Verb.COMPLETE, _S.COMPLETED),
            (Verb.FAIL, _S.FAILED),
            (Verb.RETRY, _S.PENDING),
        ],
    )
    async def test_an_operator_cannot_touch_what_is_not_in_troubleshooting(
        self, store: CommandStore, action: Action, verb: Verb | None, status: CommandStatus
    ) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id
        if verb is not None:
            await self.say(store, received, verb)
        before = (await self.known(store, command_id), await self.replies(store, REPLIES))

        verdicts = await store.act(DOMAIN, [command_id], OperatorRequest(action))

        assert verdicts == [ActionVerdict(command_id, applied=False, status=status, msg_id=None)]
        assert (await self.known(store, command_id), await self.replies(store, REPLIES)) == before

    @pytest.mark.parametrize("action", list(Action))
    async def test_an_action_on_an_unknown_command_says_so(self, store: CommandStore, action: Action) -> None:
        unknown = uuid4()

        verdicts = await store.act(DOMAIN, [unknown], OperatorRequest(action))

        assert verdicts == [ActionVerdict(unknown, applied=False, status=None, msg_id=None)]

    async def test_an_action_on_many_is_answered_in_their_order(self, store: CommandStore) -> None:
        troubled = [await self.troubled(store) for _ in range(3)]
        (pending,) = await self.sent(store)
        asked = [troubled[2], uuid4(), troubled[0], pending, troubled[1]]

        verdicts = await store.act(DOMAIN, asked, BY_ADA)
        messages = {verdict.msg_id for verdict in verdicts if verdict.applied}

        assert [verdict.command_id for verdict in verdicts] == asked
        assert [verdict.applied for verdict in verdicts] == [True, False, True, False, True]
        assert len(messages - {None}) == 3
        for verdict in verdicts:
            if verdict.applied:
                assert (await self.known(store, verdict.command_id)).msg_id == verdict.msg_id
        assert len(await self.received(store)) == 4

    async def test_an_action_on_nothing_is_nothing(self, store: CommandStore) -> None:
        assert await store.act(DOMAIN, [], BY_ADA) == []

    # -- lists --------------------------------------------------------------------------------------------------------
    async def test_what_waits_for_an_operator_is_listed_with_all_that_is_needed(self, store: CommandStore) -> None:
        command = new(data={"n": 9}, reply_to=REPLIES, max_attempts=5)
        await self.sent(store, command)
        (received,) = await self.received(store)
        await self.say(store, received, Verb.TROUBLESHOOT)

        (item,) = await store.list_troubleshooting(DOMAIN, None, limit=10, offset=0)
        known = await self.known(store, command.command_id)

        assert (item.domain, item.command_id, item.command_type) == (DOMAIN, command.command_id, "CreateOrder")
        assert (item.attempts, item.max_attempts) == (1, 5)
        assert (item.last_error_type, item.last_error_code) == ("PERMANENT", "BAD_DATA")
        assert item.last_error_msg == "no such customer"
        assert item.payload == {"n": 9}
        assert (item.correlation_id, item.reply_to) == (command.correlation_id, REPLIES)
        assert (item.created_at, item.updated_at) == (known.created_at, known.updated_at)
        assert item.batch_id is None

    async def test_what_waits_longest_for_an_operator_is_listed_first_in_pages(self, store: CommandStore) -> None:
        ids = []
        for _ in range(5):
            ids.append(await self.troubled(store))
            self.pass_time(store)

        first = await store.list_troubleshooting(DOMAIN, None, limit=3, offset=0)
        rest = await store.list_troubleshooting(DOMAIN, None, limit=3, offset=3)

        assert [item.command_id for item in first] == ids[:3]
        assert [item.command_id for item in rest] == ids[3:]

    async def test_the_troubleshooting_queue_can_be_filtered(self, store: CommandStore) -> None:
        await store.ensure_queue("billing")
        create, ship = await self.troubled(store), await self.troubled(store, command_type="ShipOrder")
        await self.sent(store, new(domain="billing"))
        (received,) = await store.receive("billing", limit=1, lease_seconds=LEASE, worker="w1")
        await store.complete("billing", [saying(received, Verb.TROUBLESHOOT)])

        async def listed(domain: str | None, command_type: str | None) -> set[object]:
            items = await store.list_troubleshooting(domain, command_type, limit=10, offset=0)
            assert await store.count_troubleshooting(domain, command_type) == len(items)
            return {item.command_id for item in items}

        assert await listed(None, None) == {create, ship, received.command.command_id}
        assert await listed(DOMAIN, None) == {create, ship}
        assert await listed(DOMAIN, "ShipOrder") == {ship}
        assert await listed(None, "CreateOrder") == {create, received.command.command_id}
        assert await listed("nobody", None) == set()
