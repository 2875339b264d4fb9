"""Operators' actions in memory."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from mainstay.commands import memory_decisions as decisions
from mainstay.commands import memory_questions as questions
from mainstay.commands.actions import (
    CANCEL_BATCH,
    ActionItem,
    ActionPlace,
    ActionState,
    ActionStep,
    NewAction,
    OperatorAction,
    OperatorRules,
    StepState,
    Undone,
)
from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import Selection, Waiting
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.memory_failures import troubled
from mainstay.commands.memory_unit import Item, Row, State, Unit
from mainstay.commands.store import Action, ActionVerdict, OperatorRequest
from mainstay.errors import (
    ActionNotFoundError,
    ApprovalRequiredError,
    InvalidOperationError,
    ReasonRequiredError,
    SelectionChangedError,
)

_S = CommandStatus


@dataclass(slots=True)
class _Held:
    """An action, what it asks, and its items."""

    facts: OperatorAction
    request: OperatorRequest
    items: list[Item]
    running: bool


class MemoryActions:
    """`ActionStore` in memory."""

    _state: State
    _unit: Callable[..., AbstractAsyncContextManager[Unit]]
    _hurry: Callable[[], None]

    async def act(self, domain: str, command_ids: "list[UUID]", request: OperatorRequest) -> list[ActionVerdict]:
        """Carry out an operator's decision on commands in the troubleshooting queue; on the others nothing."""
        if self._must_be_approved(request.operator, request.reason, len(command_ids)):
            raise ApprovalRequiredError(len(command_ids))
        key = uuid4()
        async with self._unit() as unit:
            await unit.claim((domain, command_id) for command_id in command_ids)
            items = [Item(domain, command_id) for command_id in dict.fromkeys(command_ids)]
            done = {item.command_id: _apply(unit, item, request, key) for item in items}
        if applied := [item for item in items if item.state == "APPLIED"]:
            new = NewAction(
                key,
                request.action,
                Selection(domain, command_ids=tuple(command_ids)),
                request.operator,
                request.reason,
                request.data,
                request.result,
            )
            held = self._keep(new, applied, ActionState.DONE)
            held.facts = replace(
                held.facts,
                total=len(command_ids),
                position=len(command_ids),
                applied=len(applied),
                refused=len(command_ids) - len(applied),
            )
        verdicts = [done[command_id] for command_id in command_ids]
        return [verdict._replace(action_id=key) if verdict.applied else verdict for verdict in verdicts]

    async def select_troubled(
        self, which: Selection, *, limit: int, after: Waiting | None = None
    ) -> list[TroubleshootingItem]:
        """Commands of the troubleshooting queue that meet all conditions, the longest waiting first; after a place."""
        found = sorted((questions.item(row) for row in troubled(self._state, which)), key=Waiting.of)
        return [item for item in found if after is None or Waiting.of(item) > after][:limit]

    async def begin_action(self, new: NewAction) -> ActionState:
        """Write a decision down with exactly the commands it is about; nothing is done to them yet."""
        items = [Item(row.new.domain, row.new.command_id) for row in self._chosen(new)]
        if new.expect is not None and new.expect != len(items):
            raise SelectionChangedError(new.expect, len(items))
        if self._must_be_approved(new.operator, new.reason, len(items)):
            state = ActionState.PROPOSED
        else:
            state = ActionState.RUNNING if items else ActionState.DONE
        self._keep(new, items, state)
        return state

    async def run_action(self, action_id: UUID, limit: int) -> list[ActionItem]:
        """Carry out the next part; nothing is left to do if the answer is empty."""
        held = self._held(action_id)
        async with self._unit() as unit:
            await unit.claim([("", action_id)])
            if held.facts.state is not ActionState.RUNNING:
                return []
            start = held.facts.position
            part = [item for item in held.items[start : start + limit] if item.domain == held.items[start].domain]
            await unit.claim(item.key for item in part)
            due_at = self._due_times(held.facts, len(part), unit)
            steps: list[ActionItem] = []
            for item, due in zip(part, due_at, strict=True):
                kind = {"batch": held.facts.action == CANCEL_BATCH, "running": held.running}
                verdict = _apply(unit, item, held.request, action_id, due, **kind)
                if verdict.status is not None:
                    steps.append(ActionItem(item.domain, item.command_id, verdict.applied, verdict.status))
            applied = sum(step.applied for step in steps)
            position = start + len(part)
            over = position >= held.facts.total
            held.facts = replace(
                held.facts,
                position=position,
                applied=held.facts.applied + applied,
                refused=held.facts.refused + len(part) - applied,
                last_due_at=due_at[-1] or held.facts.last_due_at,
                state=ActionState.DONE if over else ActionState.RUNNING,
                ended_at=unit.now if over else None,
            )
        if held.running:
            self._hurry()
        return steps

    async def approve_action(self, action_id: UUID, operator: str) -> None:
        """Let a proposal run."""
        held = self._held(action_id)
        if held.facts.state is not ActionState.PROPOSED:
            raise InvalidOperationError(f"action {action_id} is {held.facts.state}, and waits for nobody's approval")
        if not operator.strip() or operator.strip().lower() == (held.facts.operator or "").strip().lower():
            raise InvalidOperationError(
                f"action {action_id} was proposed by {held.facts.operator}: somebody else must approve it"
            )
        state = ActionState.RUNNING if held.items else ActionState.DONE
        held.facts = replace(held.facts, state=state, approved_by=operator)

    async def stop_action(self, action_id: UUID, operator: str | None) -> None:
        """Let an action come to no more commands."""
        held, now = self._held(action_id), self._state.clock.now()
        drips = held.facts.last_due_at is not None and held.facts.last_due_at > now
        if held.facts.state in {ActionState.PROPOSED, ActionState.RUNNING} or drips:
            held.facts = replace(held.facts, state=ActionState.STOPPED, stopped_by=operator, ended_at=now)

    async def undo(
        self, action_id: UUID, *, after: int, limit: int, deferred: bool, operator: str | None, reason: str | None
    ) -> list[Undone]:
        """Take back a part of a retry: applied items after a position; with ``deferred`` those not due yet."""
        held = self._held(action_id)
        if held.facts.action != Action.RETRY:
            raise InvalidOperationError(
                f"only a retry can be taken back: a {held.facts.action} is final, senders may have their replies"
            )
        async with self._unit() as unit:
            await unit.claim([("", action_id)])
            numbered = list(enumerate(held.items, 1))[after:]
            part = [(position, item) for position, item in numbered if item.state == "APPLIED"][:limit]
            part = [(position, item) for position, item in part if item.domain == part[0][1].domain]
            await unit.claim(item.key for _, item in part)
            told: list[Undone] = []
            for position, item in part:
                undone = _undo(unit, item, deferred=deferred, operator=operator, reason=reason, action_id=action_id)
                row = unit.row(item.key)
                told.append(Undone(position, *item.key, undone, row.status if row else _S.PENDING))
            held.facts = replace(held.facts, undone=held.facts.undone + sum(each.undone for each in told))
        return told

    async def last_retry(self, domain: str, command_id: UUID) -> tuple[UUID, int] | None:
        """The newest retry of a command that was applied, and the command's position in it."""
        for key, held in reversed(self._actions.items()):
            for position, item in enumerate(held.items, 1):
                if item.key == (domain, command_id) and item.state == "APPLIED" and held.facts.action == Action.RETRY:
                    return key, position
        return None

    async def get_action(self, action_id: UUID) -> OperatorAction | None:
        """One action."""
        held = self._actions.get(action_id)
        return held.facts if held else None

    async def list_actions(
        self, state: ActionState | None, *, limit: int, offset: int, after: ActionPlace | None = None
    ) -> list[OperatorAction]:
        """Actions, newest first; after a place."""
        newest_first = sorted((held.facts for held in self._actions.values()), key=lambda facts: facts.action_id)
        newest_first.sort(key=lambda facts: facts.created_at, reverse=True)
        if after is not None:
            newest_first = [facts for facts in newest_first if _is_after(ActionPlace.of(facts), after)]
        return [facts for facts in newest_first if state in (None, facts.state)][offset : offset + limit]

    async def list_steps(self, action_id: UUID, state: StepState | None, *, after: int, limit: int) -> list[ActionStep]:
        """The commands of an action after a position, in their order."""
        held = self._actions.get(action_id)
        steps = [
            ActionStep(position, *item.key, StepState(item.state), self._state.rows[item.key].status)
            for position, item in enumerate(held.items if held else (), 1)
        ]
        return [step for step in steps if step.position > after and state in (None, step.state)][:limit]

    async def get_rules(self) -> OperatorRules:
        """What operators must keep to."""
        return self._state.rules

    async def set_rules(self, rules: OperatorRules, operator: str | None) -> None:  # noqa: ARG002 - nobody reads it here
        """Change what operators must keep to."""
        self._state.rules = rules

    # -- inside -------------------------------------------------------------------------------------------------------
    @property
    def _actions(self) -> dict[UUID, _Held]:
        return self._state.actions

    def _held(self, action_id: UUID) -> _Held:
        if action_id not in self._actions:
            raise ActionNotFoundError(action_id)
        return self._actions[action_id]

    def _keep(self, new: NewAction, items: list[Item], state: ActionState) -> _Held:
        now = self._state.clock.now()
        selection = {name: value for name, value in asdict(new.selection).items() if value is not None}
        facts = OperatorAction(
            action_id=new.action_id,
            action=str(new.action),
            state=state,
            operator=new.operator,
            reason=new.reason,
            selection=_as_json(selection),
            rate=new.rate,
            total=len(items),
            position=0,
            applied=0,
            refused=0,
            undone=0,
            last_due_at=None,
            approved_by=None,
            stopped_by=None,
            created_at=now,
            ended_at=now if state is ActionState.DONE else None,
        )
        kind = Action.CANCEL if new.action == CANCEL_BATCH else Action(new.action)
        request = OperatorRequest(kind, new.operator, new.reason, new.data, new.result)
        held = self._actions[new.action_id] = _Held(facts, request, items, new.running)
        return held

    def _chosen(self, new: NewAction) -> list[Row]:
        which, rows = new.selection, self._state.rows
        if new.action == CANCEL_BATCH:
            members = self._state.of_batch((which.domain or "", which.batch_id or UUID(int=0)))
            wanted = {_S.PENDING, _S.IN_PROGRESS} if new.running else {_S.PENDING}
            return sorted((row for row in members if row.status in wanted), key=lambda row: row.key)
        if which.command_ids is not None:
            named = [row for key, row in rows.items() if key[1] in which.command_ids and which.domain in (None, key[0])]
            return sorted(named, key=lambda row: row.key)
        return sorted(troubled(self._state, which), key=lambda row: row.new.domain)

    def _must_be_approved(self, operator: str | None, reason: str | None, count: int) -> bool:
        rules = self._state.rules
        if rules.reason_required and not (reason or "").strip():
            raise ReasonRequiredError("the rules here ask for a reason")
        if rules.approve_above is None or count <= rules.approve_above:
            return False
        if not (operator or "").strip():
            raise InvalidOperationError("this needs the approval of a second operator, and so the name of the first")
        return True

    @staticmethod
    def _due_times(facts: OperatorAction, count: int, unit: Unit) -> list[datetime | None]:
        if facts.rate is None or facts.action != Action.RETRY:
            return [None] * count
        pause = timedelta(seconds=1 / facts.rate)
        first = max(unit.now, facts.last_due_at + pause) if facts.last_due_at else unit.now
        return [first + pause * number for number in range(count)]


def _apply(
    unit: Unit,
    item: Item,
    request: OperatorRequest,
    action_id: UUID,
    due_at: datetime | None = None,
    *,
    batch: bool = False,
    running: bool = False,
) -> ActionVerdict:
    """One item of an action: what became of its command, and what is needed to take it back."""
    found = unit.row(item.key)
    before = replace(found) if found else None
    if not batch:
        verdict = decisions.act(unit, item.key, request, action_id=action_id, due_at=due_at)
    elif found is not None and found.status is _S.PENDING:
        told = {"operator": request.operator, "action_id": str(action_id)}
        decisions.cancel(unit, found, request.reason, **told)
        verdict = ActionVerdict(item.command_id, applied=True, status=_S.PENDING, msg_id=None)
    elif found is not None and found.status is _S.IN_PROGRESS and running:
        decisions.ask_for_end(unit, found, request.reason, operator=request.operator, action_id=str(action_id))
        verdict = ActionVerdict(item.command_id, applied=True, status=_S.IN_PROGRESS, msg_id=None)
    else:
        verdict = ActionVerdict(item.command_id, applied=False, status=found.status if found else None, msg_id=None)
    after = unit.row(item.key)
    item.state = "APPLIED" if verdict.applied else "REFUSED"
    item.before, item.lease_no = before, after.lease_no if after else None
    return verdict


def _undo(unit: Unit, item: Item, *, deferred: bool, action_id: UUID, **told: Any) -> bool:
    """Take one retry back, if nobody received the command since."""
    found, before = unit.row(item.key), item.before
    if found is None or before is None or found.status is not _S.PENDING or found.lease_no != item.lease_no:
        return False
    if deferred and (found.due_at is None or found.due_at <= unit.now):
        return False
    row = unit.write(found)
    row.move(_S.IN_TROUBLESHOOTING_QUEUE)
    row.lease_no += 1
    row.attempts, row.data, row.updated_at = before.attempts, before.data, before.updated_at
    row.error_type, row.error_code, row.error_message = before.error_type, before.error_code, before.error_message
    unit.audit(item.key, decisions.UNDO, **told, action_id=str(action_id))
    item.state = "UNDONE"
    return True


def _as_json(selection: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [str(each) for each in value] if isinstance(value, tuple) else str(value)
        for name, value in selection.items()
    }


def _is_after(place: ActionPlace, other: ActionPlace) -> bool:
    """Whether an action comes after another, newest first."""
    older = place.created_at < other.created_at
    return older or (place.created_at == other.created_at and place.action_id > other.action_id)
