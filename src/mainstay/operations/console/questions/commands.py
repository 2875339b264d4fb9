"""Commands: which there are, and everything about one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from mainstay.commands.command import AuditEvent, CommandMetadata, Place
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.search import Sought
from mainstay.errors import InvalidOperationError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, in_utc, operation
from mainstay.operations.console.questions.paging import cursor, place
from mainstay.operations.ledger import Decided

_ENDS: Final = frozenset(
    {
        AuditEventType.COMPLETED,
        AuditEventType.FAILED,
        AuditEventType.BUSINESS_RULE_FAILED,
        AuditEventType.GIVEN_BACK,
        AuditEventType.LEASE_EXPIRED,
        AuditEventType.CANCELED,
    }
)
_LONGEST: Final = 10 * 366 * 86_400


class CommandsAsked(Asked):
    """Which commands; all conditions must hold."""

    domain: str | None = None
    command_type: str | None = None
    status: CommandStatus | None = None
    key: str | None = None
    batch_id: UUID | None = None
    correlation_id: UUID | None = None
    tenant_id: str | None = None
    within: float | None = Field(None, gt=0, le=_LONGEST, description="Sent in the last so many seconds.")
    since: datetime | None = Field(None, description="Sent then or later; UTC where no zone is said.")
    until: datetime | None = Field(None, description="Sent then or earlier; UTC where no zone is said.")
    text: str | None = Field(None, max_length=200, description="Somewhere in the payload; asks for within, or since.")
    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)

    def sought(self) -> Sought:
        """The conditions, as the operator takes them.

        Raises:
            InvalidInputError: They cannot be.
        """
        conditions = self.model_dump(exclude={"after", "limit", "within"})
        since, until = in_utc(self.since), in_utc(self.until)
        if self.within is not None:
            begins = datetime.now(UTC) - timedelta(seconds=self.within)
            since = begins if since is None else max(since, begins)
        return Sought(**conditions | {"since": since, "until": until})


@dataclass(frozen=True, slots=True)
class CommandPage:
    """Commands, newest first.

    Args:
        commands: Them.
        next: Where to look on; None if that was all.
        looked: How many commands were read for it.
        back_to: When the last of them was sent, if the search stopped without having found enough.
    """

    commands: list[CommandMetadata]
    next: str | None
    looked: int
    back_to: datetime | None


@operation("GET", "/commands", CommandsAsked, CommandPage)
async def list_commands(desk: Desk, asked: CommandsAsked, _user: User) -> CommandPage:
    """Commands that meet all conditions, newest first, and how far was looked for them."""
    after = place(Place, asked.after)
    found = await desk.operator.search.commands(asked.sought(), limit=asked.limit, after=after)
    page = [shown for each in found.commands if _still_says(each, shown := without_personal(desk, each), asked.text)]
    return CommandPage(page, None if found.next is None else cursor(found.next), found.looked, found.back_to)


def _still_says(command: CommandMetadata, shown: CommandMetadata, text: str | None) -> bool:
    """Whether the payload says a text where it is shown; what is masked is not found by guessing, either."""
    if text is None or shown.data == command.data:
        return True
    return text.lower() in json.dumps(shown.data, ensure_ascii=False).lower()


class OneCommand(Asked):
    """Which command."""

    domain: str
    command_id: UUID


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a worker had a command.

    Args:
        number: Which, counted from 1.
        worker: Who had it.
        since: From when.
        seconds: For how long; None while it lasts.
        end: How it ended; None while it lasts.
        error: What went wrong.
    """

    number: int
    worker: str | None
    since: datetime
    seconds: float | None
    end: AuditEventType | None
    error: str | None


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """A command, what happened to it in order, its attempts, and what was decided on it; None if nothing was."""

    command: CommandMetadata
    audit: list[AuditEvent]
    decided: Decided | None
    attempts: list[Attempt]


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
        replace(each, details=desk.masking.masked_details(each.details, command.domain, command.command_type))
        for each in trail
    ]
    return CommandFacts(without_personal(desk, command), events, decided, attempts(events))


def attempts(trail: Sequence[AuditEvent]) -> list[Attempt]:
    """The attempts that an audit trail tells of."""
    found: list[Attempt] = []
    for event in trail:
        details = event.details or {}
        if event.event_type is AuditEventType.RECEIVED:
            number, worker = details.get("attempt", len(found) + 1), details.get("worker")
            found.append(Attempt(number, worker, event.timestamp, None, None, None))
        elif event.event_type in _ENDS and found and found[-1].end is None:
            error = " ".join(str(details[name]) for name in ("error_code", "error_message") if details.get(name))
            took = (event.timestamp - found[-1].since).total_seconds()
            found[-1] = replace(found[-1], seconds=took, end=event.event_type, error=error or None)
    return found


class Canceling(OneCommand):
    """Which command, and why. ``running``: ask for its end if it is being handled."""

    reason: Reason
    running: bool = False


@operation("POST", "/commands/{domain}/{command_id}/cancel", Canceling, CommandStatus)
async def cancel_waiting(desk: Desk, asked: Canceling, _user: User) -> CommandStatus:
    """Cancel a command that waits for a worker, or ask for the end of one that is handled; its status then."""
    await desk.operator.command(asked.command_id, asked.domain)  # says if there is none
    how: dict[str, Any] = {"domain": asked.domain, "reason": asked.reason, "running": asked.running}
    (done,) = await desk.operator.cancel([asked.command_id], **how)
    if not done.applied or done.status is None:
        raise InvalidOperationError(done.problem or "it was not canceled")
    return done.status


def without_personal(desk: Desk, command: CommandMetadata) -> CommandMetadata:
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
