"""Commands: which there are, and everything about one."""

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import Field

from mainstay.commands.command import AuditEvent, CommandMetadata, Place
from mainstay.commands.lifecycle import CommandStatus
from mainstay.errors import InvalidInputError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, operation
from mainstay.operations.ledger import Decided


class CommandsAsked(Asked):
    """Which commands; all conditions must hold."""

    domain: str | None = None
    command_type: str | None = None
    status: CommandStatus | None = None
    tenant_id: str | None = None
    correlation_id: UUID | None = None
    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class CommandPage:
    """Commands, newest first, and where the next page begins; None on the last."""

    commands: list[CommandMetadata]
    next: str | None


@operation("GET", "/commands", CommandsAsked, CommandPage)
async def list_commands(desk: Desk, asked: CommandsAsked, _user: User) -> CommandPage:
    """Commands that meet all conditions, newest first."""
    conditions = asked.model_dump(exclude={"after", "limit"})
    after = None if asked.after is None else _place(asked.after)
    found = await desk.operator.commands(limit=asked.limit + 1, after=after, **conditions)
    page = [_shown(desk, each) for each in found[: asked.limit]]
    return CommandPage(page, _cursor(Place.of(page[-1])) if len(found) > asked.limit else None)


class OneCommand(Asked):
    """Which command."""

    domain: str
    command_id: UUID


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """A command, what happened to it in order, and what was decided on it; None if nothing was."""

    command: CommandMetadata
    audit: list[AuditEvent]
    decided: Decided | None


@operation("GET", "/commands/{domain}/{command_id}", OneCommand, CommandFacts)
async def show_command(desk: Desk, asked: OneCommand, _user: User) -> CommandFacts:
    """One command: payload, result, errors, audit trail, decision."""
    command = await desk.operator.command(asked.command_id, asked.domain)
    trail = await desk.operator.audit(asked.command_id, asked.domain)
    decided = await desk.operator.ledger.decided(asked.domain, asked.command_id)
    if decided is not None and (reply := decided.decision.reply) is not None:
        data = desk.masking.masked(reply.data, command.domain, command.command_type)
        decided = replace(decided, decision=replace(decided.decision, reply=replace(reply, data=data)))
    events = [
        replace(each, details=desk.masking.masked(each.details, command.domain, command.command_type)) for each in trail
    ]
    return CommandFacts(_shown(desk, command), events, decided)


def _shown(desk: Desk, command: CommandMetadata) -> CommandMetadata:
    """A command without what is personal."""

    def masked(value: Any) -> Any:
        return desk.masking.masked(value, command.domain, command.command_type)

    return replace(
        command,
        data=masked(command.data),
        result=masked(command.result),
        progress=masked(command.progress),
        headers=masked(command.headers),
    )


def _cursor(place: Place) -> str:
    """A place as a page's address carries it."""
    written = orjson.dumps([place.created_at.isoformat(), str(place.command_id), place.domain])
    return base64.urlsafe_b64encode(written).rstrip(b"=").decode()


def _place(cursor: str) -> Place:
    try:
        at, command_id, domain = orjson.loads(base64.urlsafe_b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}"))
        return Place(datetime.fromisoformat(at), UUID(command_id), str(domain))
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise InvalidInputError("after is the `next` of the page before, as it was given") from error
