"""Actions: what operators decide on many commands, what is under way, and what waits for a second operator.

A decision is previewed, written down, and carried out in the background; see `mainstay.operations.console.carrying`.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from pydantic import Field, model_validator

from mainstay.commands.actions import (
    ActionPlace,
    ActionState,
    ActionStep,
    OperatorAction,
    OperatorRules,
    Preview,
    StepState,
)
from mainstay.commands.store import Action
from mainstay.errors import MainstayError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Nothing, Reason, operation
from mainstay.operations.console.carrying import Errand, TakenBack
from mainstay.operations.console.questions.paging import cursor, cut, place
from mainstay.operations.console.questions.troubleshooting import Selected, masked
from mainstay.operations.selecting import refuse_unknown


@operation("GET", "/actions/preview", Selected, Preview)
async def show_preview(desk: Desk, asked: Selected, _user: User) -> Preview:
    """What a decision would be about, before it is made: how many commands, what went wrong, some of them."""
    found = await desk.operator.decisions.preview(asked.selection())
    return replace(found, sample=masked(desk, found.sample))


class Decision(Selected):
    """A decision on many commands."""

    action: Action
    reason: Reason
    result: dict[str, Any] | None = Field(None, description="What completed commands reply.")
    rate: float | None = Field(None, description="Commands a second that a retry hands out; else all at once.")
    expect: int | None = Field(
        None, ge=0, description="How many it must be about, as the preview says; needed unless they are named by ids."
    )

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        if self.expect is None and self.command_ids is None:
            raise ValueError("expect is needed: how many commands it must be about, as the preview says")
        return self


@dataclass(frozen=True, slots=True)
class ActionFacts:
    """An action and how it is with it.

    Args:
        action: As it is now.
        errand: What this console is doing about it; None: nothing.
        problem: Why this console could not go on with it.
        drips: It is done, but some of its commands are not due yet.
        taken_back: What came of taking it back, if this console did that last.
    """

    action: OperatorAction
    errand: Errand | None
    problem: str | None
    drips: bool
    taken_back: TakenBack | None


@operation("POST", "/actions", Decision, ActionFacts)
async def begin_action(desk: Desk, asked: Decision, user: User) -> ActionFacts:
    """Decide on many commands: RUNNING goes on in the background, PROPOSED waits for a second operator."""
    which = asked.selection()
    await refuse_unknown(desk.operator, which)
    begun = await desk.operator.decisions.begin(
        asked.action,
        which,
        operator=user.name,
        reason=asked.reason,
        result_data=asked.result,
        rate=asked.rate,
        expect=asked.expect,
    )
    return await carried(desk, begun)


class ActionsAsked(Asked):
    """Which actions."""

    state: ActionState | None = None
    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class ActionPage:
    """Actions, newest first, and where the next page begins; None on the last."""

    actions: list[OperatorAction]
    next: str | None


@operation("GET", "/actions", ActionsAsked, ActionPage)
async def list_actions(desk: Desk, asked: ActionsAsked, _user: User) -> ActionPage:
    """What operators decided, newest first: who, what, why, and how far it is."""
    after = place(ActionPlace, asked.after)
    found = await desk.operator.decisions.list_actions(asked.state, asked.limit + 1, after=after)
    return ActionPage(*cut(found, asked.limit, lambda last: cursor(ActionPlace.of(last))))


class OneAction(Asked):
    """Which action."""

    action_id: UUID


@operation("GET", "/actions/{action_id}", OneAction, ActionFacts)
async def show_action(desk: Desk, asked: OneAction, _user: User) -> ActionFacts:
    """One action, and how far it is."""
    return await facts_of(desk, asked.action_id)


class StepsAsked(OneAction):
    """Which commands of an action."""

    state: StepState | None = Field(None, description="REFUSED: left alone, because they did not wait any more.")
    after: int = Field(0, ge=0, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class StepPage:
    """Commands of an action, and where the next page begins; None on the last."""

    commands: list[ActionStep]
    next: int | None


@operation("GET", "/actions/{action_id}/commands", StepsAsked, StepPage)
async def list_action_commands(desk: Desk, asked: StepsAsked, _user: User) -> StepPage:
    """The commands of an action, and what became of each."""
    found = await desk.operator.decisions.list_steps(asked.action_id, asked.state, asked.limit + 1, after=asked.after)
    return StepPage(*cut(found, asked.limit, lambda last: last.position))


@operation("POST", "/actions/{action_id}/continue", OneAction, ActionFacts)
async def continue_action(desk: Desk, asked: OneAction, _user: User) -> ActionFacts:
    """Go on with an action that nobody carries out any more; nothing is done twice."""
    await desk.carrying.carry_out(asked.action_id)
    return await facts_of(desk, asked.action_id)


@operation("POST", "/actions/{action_id}/approve", OneAction, ActionFacts)
async def approve_action(desk: Desk, asked: OneAction, user: User) -> ActionFacts:
    """Approve what another operator proposed, and carry it out."""
    return await carried(desk, await desk.operator.decisions.approve(asked.action_id, user.name))


class Stopping(OneAction):
    """The end of an action, and why."""

    reason: Reason | None = Field(None, description="Stands in the audit trail of what is taken back.")


@operation("POST", "/actions/{action_id}/stop", Stopping, ActionFacts)
async def stop_action(desk: Desk, asked: Stopping, user: User) -> ActionFacts:
    """Stop an action, or reject a proposal; of a retry at a rate, what is not due is taken back."""
    await desk.carrying.stop(asked.action_id, user.name, asked.reason)
    return await facts_of(desk, asked.action_id)


class Undoing(OneAction):
    """Taking a retry back, and why."""

    reason: Reason


@operation("POST", "/actions/{action_id}/undo", Undoing, ActionFacts)
async def undo_action(desk: Desk, asked: Undoing, user: User) -> ActionFacts:
    """Take a retry back: commands that no worker has received since wait again, as they were."""
    await desk.carrying.take_back(asked.action_id, user.name, asked.reason)
    return await facts_of(desk, asked.action_id)


@operation("GET", "/rules", Nothing, OperatorRules)
async def show_rules(desk: Desk, _asked: Nothing, _user: User) -> OperatorRules:
    """What all operators of this database must keep to."""
    return await desk.operator.decisions.get_rules()


class SettingRules(Asked):
    """What operators must keep to from now on, and why."""

    approve_above: int | None = Field(
        None,
        ge=0,
        description="A decision on more commands than this needs a second operator; 0: every one; null: none.",
    )
    reason_required: bool = Field(default=False, description="Every decision says why.")
    reason: Reason


@operation("POST", "/rules", SettingRules, OperatorRules)
async def set_rules(desk: Desk, asked: SettingRules, user: User) -> OperatorRules:
    """Change what all operators of this database must keep to, in every process and on every screen."""
    await desk.operator.decisions.set_rules(OperatorRules(asked.approve_above, asked.reason_required), user.name)
    return await desk.operator.decisions.get_rules()


async def carried(desk: Desk, begun: OperatorAction) -> ActionFacts:
    """Carry out what is decided, unless it waits for approval.

    If that is interrupted, it is decided all the same: the action says by what.
    """
    if begun.state is ActionState.RUNNING:
        with suppress(MainstayError):
            await desk.carrying.carry_out(begun.action_id)
    return await facts_of(desk, begun.action_id)


async def facts_of(desk: Desk, action_id: UUID) -> ActionFacts:
    """An action and how it is with it."""
    found = await desk.operator.decisions.get_action(action_id)
    drips = found.state is ActionState.DONE and found.last_due_at is not None and found.last_due_at > datetime.now(UTC)
    carrying = desk.carrying
    known = carrying.errand(action_id), carrying.problem(action_id)
    return ActionFacts(found, *known, drips, carrying.taken_back(action_id))
