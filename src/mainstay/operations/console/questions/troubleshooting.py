"""Troubleshooting: what waits for an operator, and what is decided on it."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from pydantic import Field

from mainstay.commands.actions import ActionState
from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import FailureGroup, Selection
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Action
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation
from mainstay.operations.console.questions.commands import OneCommand


class GroupsAsked(Asked):
    """Which failure groups."""

    domain: str | None = None
    command_type: str | None = None
    error_code: str | None = None


@operation("GET", "/failure-groups", GroupsAsked, list[FailureGroup])
async def list_failure_groups(desk: Desk, asked: GroupsAsked, _user: User) -> list[FailureGroup]:
    """What waits for an operator, by what went wrong, the largest group first."""
    return await desk.operator.failure_groups(**asked.model_dump())


class WaitingAsked(Asked):
    """Which commands that wait for an operator."""

    domain: str | None = None
    command_type: str | None = None
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0)


@operation("GET", "/troubleshooting", WaitingAsked, list[TroubleshootingItem])
async def list_troubleshooting(desk: Desk, asked: WaitingAsked, _user: User) -> list[TroubleshootingItem]:
    """Commands that wait for an operator, the longest waiting first."""
    found = await desk.operator.troubleshooting(**asked.model_dump())
    return [replace(each, payload=desk.masking.masked(each.payload, each.domain, each.command_type)) for each in found]


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


async def _decide(desk: Desk, action: Action, asked: Deciding, user: User, result: Any = None) -> Done:
    which = Selection(domain=asked.domain, command_ids=(asked.command_id,))
    await desk.operator.troubleshooting_item(asked.command_id, asked.domain)  # says why if it does not wait
    done = await desk.operator.resolve(action, which, operator=user.name, reason=asked.reason, result=result, expect=1)
    now = await desk.operator.command(asked.command_id, asked.domain)
    taken = done.action
    return Done(taken.action_id, taken.action, taken.state, taken.operator, taken.applied, now.status)
