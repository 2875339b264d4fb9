"""Retrying one command with another payload: shown without what is personal, checked, compared, then retried."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.payload import PayloadProblem
from mainstay.errors import InvalidOperationError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Desk, Reason, operation
from mainstay.operations.console.editing import hide, restore
from mainstay.operations.console.masking import without_in_diff
from mainstay.operations.console.questions.commands import OneCommand
from mainstay.operations.console.questions.troubleshooting import Standing
from mainstay.serialization import from_json, to_json


@dataclass(frozen=True, slots=True)
class Editable:
    """A payload to be edited.

    Args:
        command_type: Whose payload.
        payload: With a stand-in for each value that is hidden (``•••1``); one that is kept keeps its value.
        seen: Goes with the edit, so that nobody else's is lost.
    """

    command_type: str
    payload: dict[str, Any]
    seen: datetime


@operation("GET", "/troubleshooting/{domain}/{command_id}/edit", OneCommand, Editable)
async def show_editable(desk: Desk, asked: OneCommand, _user: User) -> Editable:
    """The payload of a command that waits, to be edited."""
    item = await desk.operator.troubleshooting_item(asked.command_id, asked.domain)
    payload, _ = hide(item.payload or {}, desk.masking.names_in(item.domain, item.command_type))
    return Editable(item.command_type, payload, item.updated_at)


class Editing(OneCommand):
    """An edit of a payload."""

    data: dict[str, Any] = Field(description="The payload; a stand-in for a hidden value keeps it.")
    seen: datetime = Field(description="``seen`` of what was edited.")


@dataclass(frozen=True, slots=True)
class EditSeen:
    """What an edit changes, place by place, and what the handler's model refuses in it, field by field."""

    diff: list[dict[str, Any]]
    problems: list[PayloadProblem]


@operation("POST", "/troubleshooting/{domain}/{command_id}/edit", Editing, EditSeen)
async def preview_edit(desk: Desk, asked: Editing, _user: User) -> EditSeen:
    """What an edit would change, and what is wrong with it; nothing is changed."""
    item, data = await _restored(desk, asked)
    edit = await desk.operator.preview_edit(item.command_id, data, domain=item.domain)
    return EditSeen(without_in_diff(edit.diff, desk.masking.names_in(item.domain, item.command_type)), edit.problems)


class RetryingEdited(Editing):
    """An edit that a command is retried with."""

    reason: Reason


@operation("POST", "/troubleshooting/{domain}/{command_id}/edit/retry", RetryingEdited, Standing)
async def retry_edited(desk: Desk, asked: RetryingEdited, user: User) -> Standing:
    """Start a command over with an edited payload; the change stands in its audit trail."""
    item, data = await _restored(desk, asked)
    told: dict[str, Any] = {"operator": user.name, "reason": asked.reason, "base": item.payload or {}}
    await desk.operator.retry_edited(item.command_id, data, domain=item.domain, **told)
    return Standing((await desk.operator.command(item.command_id, item.domain)).status)


async def _restored(desk: Desk, asked: Editing) -> tuple[TroubleshootingItem, dict[str, Any]]:
    """The command that is edited, and its new payload with what was hidden."""
    data = from_json(to_json(asked.data))  # refuses what cannot be stored, before it is walked through
    item = await desk.operator.troubleshooting_item(asked.command_id, asked.domain)
    if item.updated_at != asked.seen:
        raise InvalidOperationError(f"command {item.command_id} was decided on meanwhile; look again, and edit anew")
    _, kept = hide(item.payload or {}, desk.masking.names_in(item.domain, item.command_type))
    return item, restore(data, kept)
