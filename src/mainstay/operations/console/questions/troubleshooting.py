"""Troubleshooting: what waits for an operator, and what is decided on one of them."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from pydantic import BeforeValidator, Field

from mainstay.commands.actions import ActionState
from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import FailureGroup, Selection, Waiting
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Action
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation
from mainstay.operations.console.questions.commands import OneCommand
from mainstay.operations.console.questions.paging import cursor, cut, place

MOST_IDS = 500


def _listed(value: Any) -> Any:
    """Ids as an address has them: with commas between."""
    return [each for each in value.split(",") if each] if isinstance(value, str) else value


Ids: TypeAlias = Annotated[
    tuple[UUID, ...] | None,
    Field(max_length=MOST_IDS, description="Only these; in an address, with commas between."),
    BeforeValidator(_listed),
]


class GroupsAsked(Asked):
    """Which failure groups."""

    domain: str | None = None
    command_type: str | None = None
    error_code: str | None = None
    group_id: str | None = None
    batch_id: UUID | None = None


@operation("GET", "/failure-groups", GroupsAsked, list[FailureGroup])
async def list_failure_groups(desk: Desk, asked: GroupsAsked, _user: User) -> list[FailureGroup]:
    """What waits for an operator, by what went wrong, the largest group first."""
    return await desk.operator.failure_groups(**asked.model_dump())


class Selected(Asked):
    """Which of the commands that wait for an operator; all conditions must hold."""

    domain: str | None = None
    command_type: str | None = None
    error_code: str | None = None
    group_id: str | None = Field(None, description="A failure group.")
    batch_id: UUID | None = None
    command_ids: Ids = None

    def selection(self) -> Selection:
        """The same, as the operator is asked."""
        return Selection(**{name: getattr(self, name) for name in Selected.model_fields})


class WaitingAsked(Selected):
    """Which page of them."""

    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class WaitingPage:
    """Commands that wait, the longest waiting first, and where the next page begins; None on the last."""

    commands: list[TroubleshootingItem]
    next: str | None


@operation("GET", "/troubleshooting", WaitingAsked, WaitingPage)
async def list_troubleshooting(desk: Desk, asked: WaitingAsked, _user: User) -> WaitingPage:
    """Commands that wait for an operator, the longest waiting first."""
    after = place(Waiting, asked.after)
    found = await desk.operator.decisions.list_selected(asked.selection(), asked.limit + 1, after=after)
    page, following = cut(found, asked.limit, lambda last: cursor(Waiting.of(last)))
    return WaitingPage(masked(desk, page), following)


def masked(desk: Desk, items: list[TroubleshootingItem]) -> list[TroubleshootingItem]:
    """Commands that wait, without what is personal."""

    def hidden(each: TroubleshootingItem, value: Any) -> Any:
        return desk.masking.masked(value, each.domain, each.command_type)

    return [replace(each, payload=hidden(each, each.payload), headers=hidden(each, each.headers)) for each in items]


class Deciding(OneCommand):
    """A decision on a command that waits for an operator."""

    reason: Reason


class Completing(Deciding):
    """The decision that a command is done, with what it replies."""

    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a decision. PROPOSED: by the operators' rules a second operator must approve it."""

    action_id: UUID
    action: str
    state: ActionState
    operator: str | None
    applied: int
    status: CommandStatus


@operation("POST", "/troubleshooting/{domain}/{command_id}/retry", Deciding, Done)
async def retry_command(desk: Desk, asked: Deciding, user: User) -> Done:
    """Start a command over that waits for an operator."""
    return await _decide(desk, Action.RETRY, asked, user)


@operation("POST", "/troubleshooting/{domain}/{command_id}/complete", Completing, Done)
async def complete_command(desk: Desk, asked: Completing, user: User) -> Done:
    """Call a command done that waits for an operator."""
    return await _decide(desk, Action.COMPLETE, asked, user, result=asked.result)


@operation("POST", "/troubleshooting/{domain}/{command_id}/cancel", Deciding, Done)
async def cancel_command(desk: Desk, asked: Deciding, user: User) -> Done:
    """Give a command up that waits for an operator."""
    return await _decide(desk, Action.CANCEL, asked, user)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a command stands now."""

    status: CommandStatus


@operation("POST", "/troubleshooting/{domain}/{command_id}/undo", Deciding, Standing)
async def undo_command(desk: Desk, asked: Deciding, user: User) -> Standing:
    """Take the retry of a command back that no worker has received since."""
    await desk.operator.undo_command(asked.command_id, domain=asked.domain, operator=user.name, reason=asked.reason)
    return Standing((await desk.operator.command(asked.command_id, asked.domain)).status)


async def _decide(desk: Desk, action: Action, asked: Deciding, user: User, result: Any = None) -> Done:
    which = Selection(domain=asked.domain, command_ids=(asked.command_id,))
    await desk.operator.troubleshooting_item(asked.command_id, asked.domain)  # says why if it does not wait
    done = await desk.operator.resolve(action, which, operator=user.name, reason=asked.reason, result=result, expect=1)
    now = await desk.operator.command(asked.command_id, asked.domain)
    taken = done.action
    return Done(taken.action_id, taken.action, taken.state, taken.operator, taken.applied, now.status)
