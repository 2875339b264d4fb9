"""What the console can ask and do: each thing declared once, for its page, for the JSON API and for OpenAPI.

An `Operation` has a name, a place in the API, a model of what it is asked with, and a function that asks the operator.
What changes something is a POST, and only that: `access` lets only operators make one. What is shown of commands passes
the mask here, so neither a page nor the API can forget it.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mainstay.commands.actions import ActionState
from mainstay.commands.command import AuditEvent, CommandMetadata, Place, TroubleshootingItem
from mainstay.commands.failures import FailureGroup, Selection
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Action
from mainstay.errors import InvalidInputError
from mainstay.operations.console.access import User
from mainstay.operations.console.masking import Masking
from mainstay.operations.console.overview import Overview, Watch
from mainstay.operations.ledger import Decided
from mainstay.operations.operator import Operator

Method = Literal["GET", "POST"]
_LONGEST_REASON = 1_000


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations work with.

    Args:
        operator: Asks and acts.
        masking: Hides what is personal.
        watch: The numbers of the dashboard.
        closing: The server ends: so do streams.
    """

    operator: Operator
    masking: Masking
    watch: Watch
    closing: asyncio.Event = field(default_factory=asyncio.Event)


class Asked(BaseModel):
    """What an operation is asked with: from the path, the query, a form or a JSON body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked or done.

    Args:
        name: In the API's document.
        method: POST changes something.
        path: Below ``/api``; names in braces are fields of ``asks``.
        asks: What it is asked with.
        answers: What it answers, for the API's document.
        run: Does it.
    """

    name: str
    method: Method
    path: str
    asks: type[Asked]
    answers: Any
    run: Callable[[Desk, Any, User], Awaitable[Any]]

    def asked(self, fields: Mapping[str, Any]) -> Asked:
        """What a request says, checked; empty texts, as forms send them, say nothing.

        Raises:
            InvalidInputError: It cannot be accepted; names the field.
        """
        try:
            return self.asks.model_validate({name: value for name, value in fields.items() if value != ""})
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, each['loc'])) or 'the request'}: {each['msg']}" for each in error.errors()]
            raise InvalidInputError("; ".join(problems)) from error


OPERATIONS: Final[dict[str, Operation]] = {}
_Run = Callable[[Desk, Any, User], Awaitable[Any]]


def operation(method: Method, path: str, asks: type[Asked], answers: Any) -> Callable[[_Run], Operation]:
    """Declare an operation; the function's docstring is its summary."""

    def declare(run: _Run) -> Operation:
        made = Operation(getattr(run, "__name__", path), method, path, asks, answers, run)
        OPERATIONS[made.name] = made
        return made

    return declare


# -- the whole ---------------------------------------------------------------------------------------------------------


class Nothing(Asked):
    """No parameters."""


@operation("GET", "/overview", Nothing, Overview)
async def overview(desk: Desk, _asked: Nothing, _user: User) -> Overview:
    """Numbers by domain, failure groups, projections and the doctor's findings, at most half a minute old."""
    return await desk.watch.overview()


# -- commands ----------------------------------------------------------------------------------------------------------


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


# -- conversations -----------------------------------------------------------------------------------------------------


class OneConversation(Asked):
    """By the id of anything in it."""

    asked: UUID
    limit: int = Field(500, ge=1, le=5_000)


@dataclass(frozen=True, slots=True)
class ConversationStep:
    """Something in a conversation; what it caused follows it, one deeper."""

    kind: str
    id: UUID
    name: str
    depth: int
    place: str | None
    status: str | None
    at: datetime | None
    waited_seconds: float | None
    took_seconds: float | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class ConversationTree:
    """A conversation, read from top to bottom; ``more`` if there is more than was read."""

    asked: UUID
    correlation_ids: list[UUID]
    steps: list[ConversationStep]
    more: bool


@operation("GET", "/conversations/{asked}", OneConversation, ConversationTree)
async def show_conversation(desk: Desk, asked: OneConversation, _user: User) -> ConversationTree:
    """What led to something, and what followed from it: commands, events, batches and processes."""
    found = await desk.operator.conversations.find(asked.asked, limit=asked.limit)
    steps = [
        ConversationStep(
            step.kind.value, step.id, step.name, step.depth, step.place, step.status, step.at, step.waited, step.took,
            step.command.command.last_error_code if step.command else None,
        )
        for step in found.steps
    ]  # fmt: skip
    return ConversationTree(found.asked, list(found.correlation_ids), steps, found.more)


# -- troubleshooting ---------------------------------------------------------------------------------------------------


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

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=_LONGEST_REASON)]


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


# -- what is not shown -------------------------------------------------------------------------------------------------


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
