"""Completing: what a worker may say of a command, and who may say it."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Action, CommandStore, Lease, Outcome, Verb, Verdict
from mainstay.testing.contracts.commands.base import (
    DOMAIN,
    REPLIES,
    SAYING,
    CommandStoreSuite,
    new,
    rolled_back,
    saying,
)

_A, _S = AuditEventType, CommandStatus

TAKEN = [_A.SENT, _A.RECEIVED]


class CompletingContract(CommandStoreSuite):
    """Completing: what a worker may say of a command, and who may say it."""

    # -- one verb after the other -------------------------------------------------------------------------------------
    async def test_a_completed_command_keeps_its_result_and_answers(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id

        verdict = await self.say(store, received, Verb.COMPLETE, result=b'{"total":[1,"zwei",null]}')
        known = await self.known(store, command_id)

        assert verdict is Verdict.APPLIED
        assert (known.status, known.attempts, known.msg_id) == (_S.COMPLETED, 1, None)
        assert known.result == {"total": [1, "zwei", None]}
        assert known.data == {"n": 1}
        assert await self.messages(store, DOMAIN) == []
        assert await self.events(store, command_id) == [*TAKEN, _A.COMPLETED]
        assert await self.replies(store, REPLIES) == [
            {
                "command_id": str(command_id),
                "correlation_id": str(received.command.correlation_id),
                "outcome": "SUCCESS",
                "data": {"total": [1, "zwei", None]},
                "error_code": None,
                "error_message": None,
            }
        ]

    async def test_a_command_may_complete_without_a_result(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)

        await self.say(store, received, Verb.COMPLETE, result=None)
        (reply,) = await self.replies(store, REPLIES)

        assert (await self.known(store, received.command.command_id)).result is None
        assert (reply["outcome"], reply["data"]) == ("SUCCESS", None)

    @pytest.mark.parametrize("verb", list(Verb))
    async def test_nobody_is_answered_who_did_not_ask(self, store: CommandStore, verb: Verb) -> None:
        received = await self.in_hand(store)

        await self.say(store, received, verb)

        assert await self.replies(store, REPLIES) == []

    async def test_a_command_refused_by_a_business_rule_has_failed_and_answers(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id

        verdict = await self.say(store, received, Verb.FAIL, details=b'{"limit":5}')
        known, details = (
            await self.known(store, command_id),
            await self.told(store, command_id, _A.BUSINESS_RULE_FAILED),
        )

        assert verdict is Verdict.APPLIED
        assert (known.status, known.attempts, known.msg_id) == (_S.FAILED, 1, None)
        assert (known.last_error_type, known.last_error_code) == ("BUSINESS_RULE", "NO_CREDIT")
        assert known.last_error_msg == "the limit is reached"
        assert await self.messages(store, DOMAIN) == []
        assert await self.events(store, command_id) == [*TAKEN, _A.BUSINESS_RULE_FAILED]
        assert (details["error_code"], details["error_message"]) == ("NO_CREDIT", "the limit is reached")
        assert details["details"] == {"limit": 5}
        assert await self.replies(store, REPLIES) == [
            {
                "command_id": str(command_id),
                "correlation_id": str(received.command.correlation_id),
                "outcome": "FAILED",
                "data": None,
                "error_code": "NO_CREDIT",
                "error_message": "the limit is reached",
            }
        ]

    async def test_a_retry_waits_for_its_time_and_keeps_the_error(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id

        verdict = await self.say(store, received, Verb.RETRY, delay=60.0, details=b'{"host":"a"}')
        known, early = await self.known(store, command_id), await self.received(store)
        failed, scheduled = [await self.told(store, command_id, event) for event in (_A.FAILED, _A.RETRY_SCHEDULED)]

        assert verdict is Verdict.APPLIED
        assert (known.status, known.attempts, known.msg_id) == (_S.PENDING, 1, None)
        assert (known.last_error_type, known.last_error_code) == ("TRANSIENT", "TIMEOUT")
        assert known.last_error_msg == "no answer"
        assert known.due_at is not None
        assert timedelta(seconds=59) < known.due_at - known.updated_at < timedelta(seconds=61)
        assert early == []
        assert await self.messages(store, DOMAIN) == []
        assert await self.replies(store, REPLIES) == []
        assert await self.events(store, command_id) == [*TAKEN, _A.FAILED, _A.RETRY_SCHEDULED]
        assert (failed["error_type"], failed["error_code"], failed["attempt"]) == ("TRANSIENT", "TIMEOUT", 1)
        assert failed["details"] == {"host": "a"}
        assert scheduled["delay"] == 60

    async def test_a_retry_is_received_when_it_is_due(self, store: CommandStore) -> None:
        first = await self.in_hand(store, headers=b'{"trace":"a"}')
        await self.say(store, first, Verb.RETRY)

        await self.make_due(store)
        (second,) = await self.received(store, worker="w2")
        known = await self.known(store, first.command.command_id)

        assert second.command == first.command
        assert second.attempt == 2
        assert second.lease.lease_no > first.lease.lease_no
        assert (known.status, known.due_at, known.last_error_code) == (_S.IN_PROGRESS, None, "TIMEOUT")

    async def test_a_retry_without_delay_can_be_received_at_once(self, store: CommandStore) -> None:
        received = await self.in_hand(store)

        await self.say(store, received, Verb.RETRY, delay=0.0)

        assert [each.attempt for each in await self.received(store)] == [2]

    async def test_a_command_for_an_operator_leaves_the_queue_without_an_answer(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id

        verdict = await self.say(store, received, Verb.TROUBLESHOOT, details=b'{"customer":7}')
        known, failed = await self.known(store, command_id), await self.told(store, command_id, _A.FAILED)
        await self.expire_leases(store)

        assert verdict is Verdict.APPLIED
        assert (known.status, known.attempts, known.msg_id) == (_S.IN_TROUBLESHOOTING_QUEUE, 1, None)
        assert (known.last_error_type, known.last_error_code) == ("PERMANENT", "BAD_DATA")
        assert known.last_error_msg == "no such customer"
        assert (failed["error_type"], failed["error_code"]) == ("PERMANENT", "BAD_DATA")
        assert failed["details"] == {"customer": 7}
        assert await self.received(store) == []
        assert await self.messages(store, DOMAIN) == []
        assert await self.replies(store, REPLIES) == []
        assert await self.events(store, command_id) == [*TAKEN, _A.FAILED, _A.MOVED_TO_TSQ]

    async def test_the_audit_trail_tells_that_the_attempts_were_used_up(self, store: CommandStore) -> None:
        received = await self.in_hand(store, max_attempts=1)

        await self.say(store, received, Verb.TROUBLESHOOT, error_type="TRANSIENT", exhausted=True)
        details = await self.told(store, received.command.command_id, _A.MOVED_TO_TSQ)

        assert details["reason"] == "EXHAUSTED"
        assert await self.events(store, received.command.command_id) == [
            *(*TAKEN, _A.FAILED, _A.RETRY_EXHAUSTED, _A.MOVED_TO_TSQ)
        ]

    async def test_a_command_given_back_has_not_used_an_attempt(self, store: CommandStore) -> None:
        first = await self.in_hand(store, max_attempts=1)
        command_id = first.command.command_id

        verdict = await self.say(store, first, Verb.GIVE_BACK)
        known = await self.known(store, command_id)
        (second,) = await self.received(store, worker="w2")

        assert verdict is Verdict.APPLIED
        assert (known.status, known.attempts, known.due_at) == (_S.PENDING, 0, None)
        assert second.command == first.command
        assert second.attempt == 1
        assert second.lease.lease_no > first.lease.lease_no
        assert await self.events(store, command_id) == [*TAKEN, _A.GIVEN_BACK, _A.RECEIVED]

    async def test_a_command_given_back_keeps_its_place(self, store: CommandStore) -> None:
        ids = await self.sent(store, new(), new(), new())
        first, second, _ = await self.received(store)

        await store.complete(DOMAIN, [saying(second, Verb.GIVE_BACK), saying(first, Verb.GIVE_BACK)])

        assert [each.command.command_id for each in await self.received(store)] == ids[:2]

    # -- fencing ------------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("verb", list(Verb))
    async def test_a_lost_lease_changes_nothing_and_is_audited(self, store: CommandStore, verb: Verb) -> None:
        stale = await self.in_hand(store, reply_to=REPLIES)
        command_id = stale.command.command_id
        await self.expire_leases(store)
        (newest,) = await self.received(store, worker="w2")
        before = await self.known(store, command_id)

        verdict = await self.say(store, stale, verb)

        assert verdict is Verdict.STALE
        assert await self.known(store, command_id) == before
        assert (await self.events(store, command_id))[-1] is _A.STALE_REFUSED
        assert await self.replies(store, REPLIES) == []
        assert len(await self.messages(store, DOMAIN)) == 1
        assert await self.received(store) == []
        assert await self.say(store, newest, Verb.COMPLETE) is Verdict.APPLIED

    @pytest.mark.parametrize("verb", list(Verb))
    async def test_a_lost_lease_does_not_touch_what_another_finished(self, store: CommandStore, verb: Verb) -> None:
        stale = await self.in_hand(store, reply_to=REPLIES)
        command_id = stale.command.command_id
        await self.expire_leases(store)
        (newest,) = await self.received(store, worker="w2")
        await self.say(store, newest, Verb.COMPLETE, result=b'"by w2"')

        verdict = await self.say(store, stale, verb)
        known = await self.known(store, command_id)

        assert verdict is Verdict.STALE
        assert (known.status, known.result) == (_S.COMPLETED, "by w2")
        assert len(await self.replies(store, REPLIES)) == 1
        assert (await self.events(store, command_id))[-2:] == [_A.COMPLETED, _A.STALE_REFUSED]

    async def test_a_lease_given_back_is_lost_although_the_attempt_repeats(self, store: CommandStore) -> None:
        stale = await self.in_hand(store)
        await self.say(store, stale, Verb.GIVE_BACK)
        (newest,) = await self.received(store, worker="w2")

        verdict = await self.say(store, stale, Verb.COMPLETE)

        assert (stale.attempt, newest.attempt) == (1, 1)
        assert verdict is Verdict.STALE
        assert await self.status(store, stale.command.command_id) is _S.IN_PROGRESS

    async def test_a_lease_from_before_an_operators_retry_is_lost(self, store: CommandStore) -> None:
        stale = await self.in_hand(store)
        await self.say(store, stale, Verb.TROUBLESHOOT)
        await self.operate(store, Action.RETRY, stale.command.command_id)
        (newest,) = await self.received(store, worker="w2")

        verdict = await self.say(store, stale, Verb.TROUBLESHOOT)

        assert (stale.attempt, newest.attempt) == (1, 1)
        assert verdict is Verdict.STALE
        assert await self.status(store, stale.command.command_id) is _S.IN_PROGRESS

    @pytest.mark.parametrize("action", list(Action))
    async def test_an_operators_action_takes_the_command_from_its_last_lease(
        self, store: CommandStore, action: Action
    ) -> None:
        stale = await self.in_hand(store)
        command_id = stale.command.command_id
        await self.say(store, stale, Verb.TROUBLESHOOT)
        await self.operate(store, action, command_id)
        before = await self.known(store, command_id)

        verdict = await self.say(store, stale, Verb.COMPLETE)

        assert verdict is Verdict.STALE
        assert await self.known(store, command_id) == before
        assert (await self.events(store, command_id))[-1] is _A.STALE_REFUSED

    async def test_a_worker_too_late_in_the_last_attempt_is_refused(self, store: CommandStore) -> None:
        stale = await self.in_hand(store, max_attempts=1, reply_to=REPLIES)
        await self.expire_leases(store)
        await self.received(store, worker="w2")

        verdict = await self.say(store, stale, Verb.COMPLETE)

        assert verdict is Verdict.STALE
        assert await self.status(store, stale.command.command_id) is _S.IN_TROUBLESHOOTING_QUEUE
        assert await self.replies(store, REPLIES) == []

    async def test_the_newest_lease_counts_also_after_its_end(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        await self.expire_leases(store)

        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED
        assert await self.received(store) == []

    async def test_an_outcome_for_an_unknown_command_is_stale(self, store: CommandStore) -> None:
        unknown = uuid4()

        verdicts = await store.complete(DOMAIN, [Outcome(Lease(unknown, 4711, 1), Verb.COMPLETE)])

        assert verdicts == [Verdict.STALE]
        assert await store.audit_trail(unknown, None) == []

    # -- repetition ---------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.FAIL, Verb.RETRY, Verb.TROUBLESHOOT])
    async def test_an_outcome_repeated_by_its_lease_changes_nothing(self, store: CommandStore, verb: Verb) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id
        await self.say(store, received, verb)
        before = (await self.known(store, command_id), await self.events(store, command_id))
        answers = await self.replies(store, REPLIES)

        verdict = await self.say(store, received, verb)

        assert verdict is Verdict.REPEATED
        assert (await self.known(store, command_id), await self.events(store, command_id)) == before
        assert await self.replies(store, REPLIES) == answers

    async def test_flushes_of_one_lease_at_the_same_time_count_once(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)

        verdicts = await asyncio.gather(*(self.say(store, received, Verb.COMPLETE) for _ in range(4)))

        assert sorted(verdicts) == [Verdict.APPLIED] + [Verdict.REPEATED] * 3
        assert len(await self.replies(store, REPLIES)) == 1
        assert await self.events(store, received.command.command_id) == [*TAKEN, _A.COMPLETED]

    # -- many at once -------------------------------------------------------------------------------------------------
    async def test_a_mixed_list_is_answered_in_its_order(self, store: CommandStore) -> None:
        await self.sent(store, *(new(reply_to=REPLIES) for _ in range(8)))
        taken = await self.received(store)
        stale, repeated, *fresh = taken
        await store.complete(DOMAIN, [saying(stale, Verb.GIVE_BACK), saying(repeated, Verb.COMPLETE)])
        said = [*zip(fresh, [*SAYING, Verb.COMPLETE], strict=True), (stale, Verb.FAIL), (repeated, Verb.COMPLETE)]

        verdicts = await store.complete(DOMAIN, [saying(received, verb) for received, verb in reversed(said)])
        statuses = [await self.status(store, received.command.command_id) for received, _ in said]

        assert verdicts == [Verdict.REPEATED, Verdict.STALE] + [Verdict.APPLIED] * 6
        assert statuses == [
            *(_S.COMPLETED, _S.FAILED, _S.PENDING, _S.IN_TROUBLESHOOTING_QUEUE, _S.PENDING, _S.COMPLETED),
            *(_S.PENDING, _S.COMPLETED),
        ]
        assert len(await self.replies(store, REPLIES)) == 4

    async def test_nothing_said_is_nothing_answered(self, store: CommandStore) -> None:
        assert await store.complete(DOMAIN, []) == []

    async def test_replies_go_where_each_command_asked(self, store: CommandStore) -> None:
        await self.create_queue(store, "other_replies")
        await self.sent(store, new(reply_to=REPLIES), new(reply_to="other_replies"), new())
        taken = await self.received(store)

        await store.complete(DOMAIN, [saying(received, Verb.COMPLETE) for received in taken])
        answered = [[reply["command_id"] for reply in await self.replies(store, q)] for q in (REPLIES, "other_replies")]

        assert answered == [[str(taken[0].command.command_id)], [str(taken[1].command.command_id)]]

    # -- transactions -------------------------------------------------------------------------------------------------
    async def test_a_completion_in_a_transaction_shows_when_it_commits(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id
        following = new()

        async with store.transaction() as tx:
            verdicts = await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)
            await store.send([following], conn=tx)
            inside = (await self.status(store, command_id), await self.replies(store, REPLIES))

        assert verdicts == [Verdict.APPLIED]
        assert inside == (_S.IN_PROGRESS, [])
        assert await self.status(store, command_id) is _S.COMPLETED
        assert await self.status(store, following.command_id) is _S.PENDING
        assert len(await self.replies(store, REPLIES)) == 1

    async def test_a_completion_in_a_transaction_that_rolls_back_never_was(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)
        command_id = received.command.command_id
        following = new()

        async with rolled_back(store) as tx:
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)
            await store.send([following], conn=tx)

        assert await self.status(store, command_id) is _S.IN_PROGRESS
        assert await self.events(store, command_id) == TAKEN
        assert await store.get(DOMAIN, following.command_id) is None
        assert await self.replies(store, REPLIES) == []
        assert await self.say(store, received, Verb.COMPLETE) is Verdict.APPLIED

    async def test_a_command_being_completed_is_not_received_though_its_lease_ends(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        command_id = received.command.command_id
        await self.expire_leases(store)

        async with store.transaction() as tx:
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)
            meanwhile = await self.received(store, worker="w2")
            lost = await store.renew(DOMAIN, [received.lease], 30.0)

        assert (meanwhile, lost) == ([], [])
        assert await self.status(store, command_id) is _S.COMPLETED

    async def test_a_completion_waits_for_one_in_an_open_transaction(self, store: CommandStore) -> None:
        received = await self.in_hand(store, reply_to=REPLIES)

        async with store.transaction() as tx:
            first = await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)
            other = asyncio.ensure_future(self.say(store, received, Verb.COMPLETE))

        assert first == [Verdict.APPLIED]
        assert await other is Verdict.REPEATED
        assert len(await self.replies(store, REPLIES)) == 1
