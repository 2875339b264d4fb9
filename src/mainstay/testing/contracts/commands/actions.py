"""Operators' actions: decisions on many commands, carried out in parts, and taken back."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.commands.actions import ActionPlace, ActionState, NewAction, OperatorRules, StepState, Undone
from mainstay.commands.failures import Selection, Waiting
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import Action, CommandStore, OperatorRequest, Verb, Verdict
from mainstay.errors import (
    ActionNotFoundError,
    ApprovalRequiredError,
    InvalidOperationError,
    ReasonRequiredError,
    SelectionChangedError,
)
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite

_A, _S = AuditEventType, CommandStatus
TROUBLED = [_A.SENT, _A.RECEIVED, _A.FAILED, _A.MOVED_TO_TSQ]
ALL = Selection(DOMAIN)
NOBODY = UUID(int=1)
BACK: dict[str, Any] = {"after": 0, "limit": 10, "deferred": False, "operator": "ada", "reason": "too early"}


def decided(action: str = Action.RETRY, which: Selection = ALL, **changes: Any) -> NewAction:
    """A decision as the troubleshooting queue would hand it over."""
    fields: dict[str, Any] = {"operator": "ada", "reason": "mended"}
    return NewAction(uuid4(), action, which, **fields | changes)


class ActionContract(CommandStoreSuite):
    """Operators' actions: decisions on many commands, carried out in parts, and taken back."""

    async def all_troubled(self, store: CommandStore, count: int, **changes: Any) -> list[UUID]:
        """Bring so many new commands into the troubleshooting queue, the first waiting longest."""
        ids = []
        for number in range(count):
            ids.append(await self.troubled(store, data={"n": number}, **changes))
            self.pass_time(store)
        return ids

    async def begun(self, store: CommandStore, action: str = Action.RETRY, **changes: Any) -> UUID:
        """An action that was begun and not yet run."""
        new_action = decided(action, **changes)
        await store.begin_action(new_action)
        return new_action.action_id

    # -- carrying out -------------------------------------------------------------------------------------------------
    async def test_an_action_does_nothing_until_it_is_run_and_then_goes_on_part_by_part(
        self, store: CommandStore
    ) -> None:
        ids = await self.all_troubled(store, 3)
        key = await self.begun(store)
        before = await store.count_troubleshooting(DOMAIN, None)
        first = await store.run_action(key, 2)
        half = await store.get_action(key)
        second = await store.run_action(key, 2)
        done = await store.get_action(key)

        assert before == 3
        assert {step.command_id for step in first} == set(ids[:2])
        assert all(step.applied and step.status is _S.IN_TROUBLESHOOTING_QUEUE for step in first + second)
        assert half is not None
        assert (half.state, half.position, half.applied, half.ended_at) == (ActionState.RUNNING, 2, 2, None)
        assert done is not None
        assert (done.state, done.total, done.position, done.applied, done.refused) == (ActionState.DONE, 3, 3, 3, 0)
        assert done.ended_at is not None
        assert (done.operator, done.reason, done.selection) == ("ada", "mended", {"domain": DOMAIN})
        assert await store.run_action(key, 2) == []
        assert await store.list_actions(None, limit=10, offset=0) == [done]
        told = await self.told(store, ids[0], _A.OPERATOR_RETRY)
        assert (told["action_id"], told["operator"], told["reason"]) == (str(key), "ada", "mended")

    @pytest.mark.parametrize("action", [Action.CANCEL, Action.COMPLETE])
    async def test_cancels_and_completions_of_many_answer_each(self, store: CommandStore, action: Action) -> None:
        await self.all_troubled(store, 2, reply_to=REPLIES)
        await store.run_action(await self.begun(store, action), 10)

        assert len(await self.replies(store, REPLIES)) == 2
        assert await store.count_troubleshooting(DOMAIN, None) == 0

    async def test_a_group_that_grows_meanwhile_is_not_taken_along(self, store: CommandStore) -> None:
        await self.all_troubled(store, 2)
        key = await self.begun(store)
        late = await self.troubled(store)
        steps = await store.run_action(key, 10)

        assert len(steps) == 2
        assert late not in {step.command_id for step in steps}
        assert await self.status(store, late) is _S.IN_TROUBLESHOOTING_QUEUE

    async def test_another_number_than_expected_refuses_the_whole(self, store: CommandStore) -> None:
        await self.all_troubled(store, 2)

        with pytest.raises(SelectionChangedError) as refused:
            await store.begin_action(decided(expect=1))

        assert (refused.value.expected, refused.value.found) == (1, 2)
        assert await store.list_actions(None, limit=10, offset=0) == []
        assert await store.begin_action(decided(expect=2)) is ActionState.RUNNING

    async def test_what_somebody_else_decided_on_meanwhile_is_left_alone_and_said_so(self, store: CommandStore) -> None:
        ids = await self.all_troubled(store, 2)
        key = await self.begun(store)
        await self.operate(store, Action.CANCEL, ids[0])
        steps = {step.command_id: step for step in await store.run_action(key, 10)}
        found = await store.get_action(key)

        assert (steps[ids[0]].applied, steps[ids[0]].status) == (False, _S.CANCELED)
        assert steps[ids[1]].applied
        assert found is not None
        assert (found.applied, found.refused) == (1, 1)

    async def test_two_that_carry_out_one_action_do_nothing_twice(self, store: CommandStore) -> None:
        ids = await self.all_troubled(store, 4)
        key = await self.begun(store)

        async def carry_out() -> list[UUID]:
            done = []
            while steps := await store.run_action(key, 1):
                done += [step.command_id for step in steps]
            return done

        one, other = await asyncio.gather(carry_out(), carry_out())

        assert sorted(one + other) == sorted(ids)
        assert len(await self.messages(store, DOMAIN)) == 4

    async def test_commands_named_by_their_ids_are_refused_one_by_one(self, store: CommandStore) -> None:
        troubled = await self.troubled(store)
        (pending,) = await self.sent(store)
        which = Selection(command_ids=(pending, troubled, NOBODY))
        steps = {step.command_id: step for step in await store.run_action(await self.begun(store, which=which), 10)}

        assert steps.keys() == {pending, troubled}
        assert steps[troubled].applied
        assert (steps[pending].applied, steps[pending].status) == (False, _S.PENDING)

    async def test_an_action_on_nothing_is_done(self, store: CommandStore) -> None:
        assert await store.begin_action(decided()) is ActionState.DONE

    async def test_a_selection_is_by_all_that_commands_have_in_common(self, store: CommandStore) -> None:
        one = await self.troubled(store)
        received = await self.in_hand(store, command_type="Other")
        await self.say(store, received, Verb.TROUBLESHOOT, error_code="OTHER")
        (group,) = await store.list_groups(Selection(error_code="OTHER"))
        other = received.command.command_id

        for which, expected in [
            (Selection(), {one, other}),
            (Selection(command_type="Other"), {other}),
            (Selection(error_code="BAD_DATA"), {one}),
            (Selection(group_id=group.group_id), {other}),
            (Selection(batch_id=NOBODY), set()),
            (Selection("nobody"), set()),
        ]:
            found = await store.select_troubled(which, limit=10)
            assert {item.command_id for item in found} == expected

    async def test_pages_begin_after_the_last_of_the_page_before(self, store: CommandStore) -> None:
        ids = await self.all_troubled(store, 3)
        first = await store.select_troubled(ALL, limit=2)
        await self.operate(store, Action.CANCEL, ids[1])
        rest = await store.select_troubled(ALL, limit=2, after=Waiting.of(first[-1]))
        assert [item.command_id for item in [*first, *rest]] == ids
        assert await store.select_troubled(ALL, limit=2, after=Waiting.of(rest[-1])) == []

        action_id = await self.begun(store, which=Selection(DOMAIN, command_ids=tuple(ids)))
        await store.run_action(action_id, 10)
        steps = [await store.list_steps(action_id, None, after=after, limit=2) for after in (0, 2, 3)]
        found = {step.command_id: (step.state, step.status) for part in steps for step in part}
        applied, refused = (StepState.APPLIED, _S.PENDING), (StepState.REFUSED, _S.CANCELED)
        assert [len(part) for part in steps] == [2, 1, 0]
        assert found == {ids[0]: applied, ids[1]: refused, ids[2]: applied}
        (left,) = await store.list_steps(action_id, StepState.REFUSED, after=0, limit=10)
        assert left.command_id == ids[1]

        everything = await store.list_actions(None, limit=10, offset=0)
        assert action_id in {each.action_id for each in everything}
        later = await store.list_actions(None, limit=10, offset=0, after=ActionPlace.of(everything[0]))
        assert later == everything[1:]
        assert len(later) == 1

    async def test_an_edit_of_what_was_edited_meanwhile_is_refused(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)
        stale = OperatorRequest(Action.RETRY, "ada", data=b'{"n":3}', base=b'{"n":2}')
        right = OperatorRequest(
            Action.RETRY, "ada", data=b'{"n":3}', base=b'{"n":1}', diff=b'[{"path":"/n","before":1,"after":3}]'
        )
        (refused,) = await store.act(DOMAIN, [command_id], stale)
        (applied,) = await store.act(DOMAIN, [command_id], right)
        told = await self.told(store, command_id, _A.OPERATOR_RETRY)

        assert (refused.applied, refused.status) == (False, _S.IN_TROUBLESHOOTING_QUEUE)
        assert applied.applied
        assert (told["edited"], told["diff"]) == (True, [{"path": "/n", "before": 1, "after": 3}])

    # -- taking back --------------------------------------------------------------------------------------------------
    async def test_a_retry_that_nobody_received_is_taken_back_as_it_was(self, store: CommandStore) -> None:
        command_id = await self.troubled(store, reply_to=REPLIES)
        before, groups = await self.known(store, command_id), await store.list_groups(ALL)
        (verdict,) = await store.act(DOMAIN, [command_id], OperatorRequest(Action.RETRY, "ada", data=b'{"n":2}'))
        assert verdict.action_id is not None

        assert await store.last_retry(DOMAIN, command_id) == (verdict.action_id, 1)
        (undone,) = await store.undo(verdict.action_id, **BACK)
        action = await store.get_action(verdict.action_id)

        assert undone == Undone(1, DOMAIN, command_id, undone=True, status=_S.IN_TROUBLESHOOTING_QUEUE)
        assert await self.known(store, command_id) == before
        assert await store.list_groups(ALL) == groups
        assert await self.messages(store, DOMAIN) == []
        assert await self.events(store, command_id) == [*TROUBLED, _A.OPERATOR_RETRY, _A.OPERATOR_UNDO]
        assert (await self.told(store, command_id, _A.OPERATOR_UNDO))["reason"] == "too early"
        assert action is not None
        assert (action.applied, action.undone) == (1, 1)
        assert await store.undo(verdict.action_id, **BACK) == []
        assert await store.last_retry(DOMAIN, command_id) is None
        assert await self.operate(store, Action.RETRY, command_id)

    @pytest.mark.parametrize("verb", [None, *Verb])
    async def test_a_retry_that_was_received_is_not_taken_back(self, store: CommandStore, verb: Verb | None) -> None:
        command_id = await self.troubled(store)
        (verdict,) = await store.act(DOMAIN, [command_id], OperatorRequest(Action.RETRY, "ada"))
        (received,) = await self.received(store)
        if verb is not None:
            assert await self.say(store, received, verb) is Verdict.APPLIED
        before = await self.known(store, command_id)
        assert verdict.action_id is not None
        (undone,) = await store.undo(verdict.action_id, **BACK)

        assert (undone.undone, undone.status) == (False, before.status)
        assert await self.known(store, command_id) == before

    async def test_an_undo_and_a_receive_at_the_same_time_agree(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)
        (verdict,) = await store.act(DOMAIN, [command_id], OperatorRequest(Action.RETRY, "ada"))
        assert verdict.action_id is not None
        told, received = await asyncio.gather(store.undo(verdict.action_id, **BACK), self.received(store))

        assert [each.undone for each in told] == [not received]

    @pytest.mark.parametrize("action", [Action.CANCEL, Action.COMPLETE])
    async def test_what_was_answered_is_final(self, store: CommandStore, action: Action) -> None:
        command_id = await self.troubled(store)
        (verdict,) = await store.act(DOMAIN, [command_id], OperatorRequest(action, "ada"))
        assert verdict.action_id is not None

        with pytest.raises(InvalidOperationError, match="final"):
            await store.undo(verdict.action_id, **BACK)

    # -- at a rate ----------------------------------------------------------------------------------------------------
    async def test_a_retry_at_a_rate_hands_out_one_after_the_other(self, store: CommandStore) -> None:
        ids = await self.all_troubled(store, 3)
        key = await self.begun(store, rate=0.1)
        await store.run_action(key, 2)
        await store.run_action(key, 2)
        due = [due_at for each in ids if (due_at := (await self.known(store, each)).due_at)]
        action = await store.get_action(key)

        assert [late - early for early, late in pairwise(due)] == [timedelta(seconds=10)] * 2
        assert action is not None
        assert (action.state, action.last_due_at) == (ActionState.DONE, due[-1])
        assert len(await self.messages(store, DOMAIN)) == 0
        (first,) = await self.received(store)
        await self.say(store, first, Verb.COMPLETE)
        await self.make_due(store)
        assert len(await self.received(store)) == 2

    async def test_stopping_takes_back_what_is_not_due(self, store: CommandStore) -> None:
        ids = await self.all_troubled(store, 3)
        key = await self.begun(store, rate=0.001)
        await store.run_action(key, 10)
        (received,) = await self.received(store)
        await store.stop_action(key, "bob")
        told = await store.undo(key, **BACK | {"deferred": True})
        action = await store.get_action(key)

        assert received.command.command_id == ids[0]
        assert [each.undone for each in told] == [False, True, True]
        assert await store.count_troubleshooting(DOMAIN, None) == 2
        assert action is not None
        assert (action.state, action.stopped_by, action.undone) == (ActionState.STOPPED, "bob", 2)

    async def test_a_stopped_action_comes_to_no_more_commands(self, store: CommandStore) -> None:
        await self.all_troubled(store, 2)
        key = await self.begun(store)
        await store.run_action(key, 1)
        await store.stop_action(key, "bob")

        assert await store.run_action(key, 1) == []
        assert await store.count_troubleshooting(DOMAIN, None) == 1

    # -- rules --------------------------------------------------------------------------------------------------------
    async def test_a_second_operator_approves_what_the_rules_say(self, store: CommandStore) -> None:
        await self.all_troubled(store, 2)
        await store.set_rules(OperatorRules(approve_above=1), "boss")
        key = await self.begun(store)
        idle = await store.run_action(key, 10)
        for same in ("ada", " ADA ", ""):
            with pytest.raises(InvalidOperationError, match="somebody else"):
                await store.approve_action(key, same)
        await store.approve_action(key, "bob")
        with pytest.raises(InvalidOperationError, match="RUNNING"):
            await store.approve_action(key, "cyd")
        steps = await store.run_action(key, 10)
        action = await store.get_action(key)

        assert idle == []
        assert [step.applied for step in steps] == [True, True]
        assert action is not None
        assert (action.state, action.approved_by) == (ActionState.DONE, "bob")

    async def test_what_needs_approval_cannot_be_done_at_once_or_by_nobody(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)
        await store.set_rules(OperatorRules(approve_above=0), "boss")

        with pytest.raises(ApprovalRequiredError):
            await store.act(DOMAIN, [command_id], OperatorRequest(Action.CANCEL, "ada"))
        with pytest.raises(InvalidOperationError, match="name"):
            await store.begin_action(decided(operator=None))
        assert await self.status(store, command_id) is _S.IN_TROUBLESHOOTING_QUEUE

    async def test_a_proposal_can_be_refused(self, store: CommandStore) -> None:
        await self.troubled(store)
        await store.set_rules(OperatorRules(approve_above=0), "boss")
        key = await self.begun(store)
        await store.stop_action(key, "bob")

        assert await store.list_actions(ActionState.PROPOSED, limit=10, offset=0) == []
        with pytest.raises(InvalidOperationError, match="STOPPED"):
            await store.approve_action(key, "bob")

    async def test_a_reason_is_asked_for_if_the_rules_say_so(self, store: CommandStore) -> None:
        command_id = await self.troubled(store)
        rules = OperatorRules(reason_required=True)
        await store.set_rules(rules, "boss")

        for reason in (None, "", "  "):
            with pytest.raises(ReasonRequiredError):
                await store.act(DOMAIN, [command_id], OperatorRequest(Action.CANCEL, "ada", reason))
            with pytest.raises(ReasonRequiredError):
                await store.begin_action(decided(reason=reason))
        assert await store.get_rules() == rules
        assert await self.operate(store, Action.CANCEL, command_id)

    async def test_an_action_that_does_not_exist_says_so(self, store: CommandStore) -> None:
        for ask in (
            store.run_action(NOBODY, 1),
            store.approve_action(NOBODY, "bob"),
            store.stop_action(NOBODY, "bob"),
            store.undo(NOBODY, **BACK),
        ):
            with pytest.raises(ActionNotFoundError):
                await ask
        assert await store.get_action(NOBODY) is None
