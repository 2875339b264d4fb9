"""Processes: where each stands, step by step, and undoing one."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from pydantic import Field

from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.process import ProcessEvent, ProcessMetadata, ProcessStatus, StepMetadata, StepStatus
from mainstay.commands.process_flow import deadline_id
from mainstay.errors import ProcessNotFoundError
from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, Reason, operation
from mainstay.operations.console.questions.paging import cursor, place
from mainstay.storage.postgres.paging import ProcessPlace

_MOST_DEADLINES = 50


class ProcessesAsked(Asked):
    """Which processes; all conditions must hold."""

    domain: str | None = None
    process_type: str | None = None
    status: ProcessStatus | None = None
    batch_id: UUID | None = None
    after: str | None = Field(None, description="``next`` of the page before.")
    limit: int = Field(50, ge=1, le=500)


@dataclass(frozen=True, slots=True)
class ProcessPage:
    """Processes without their steps, newest first.

    Args:
        processes: Them.
        next: Where to look on; None if that was all.
        looked: How many were read for it.
        back_to: When the last of those was started, if the search stopped without having found enough.
    """

    processes: list[ProcessMetadata]
    next: str | None
    looked: int
    back_to: datetime | None


@operation("GET", "/processes", ProcessesAsked, ProcessPage)
async def list_processes(desk: Desk, asked: ProcessesAsked, _user: User) -> ProcessPage:
    """Processes that meet all conditions, newest first, and how far was looked for them."""
    conditions = asked.model_dump(exclude={"after", "limit"})
    after = place(ProcessPlace, asked.after)
    found = await desk.operator.search.processes(**conditions, limit=asked.limit, after=after)
    shown = [_shown(desk, each) for each in found.processes]
    return ProcessPage(shown, None if found.next is None else cursor(found.next), found.looked, found.back_to)


class OneProcess(Asked):
    """Which process."""

    process_id: UUID


@dataclass(frozen=True, slots=True)
class DeadlineFacts:
    """A time at which a process is told that something has not happened.

    Args:
        name: How the process calls it; None of a step's, and of the whole process's.
        step_no: Which step must be done by then.
        domain: Of the command that tells of it.
        command_id: That command.
        due_at: When.
    """

    name: str | None
    step_no: int | None
    domain: str
    command_id: UUID
    due_at: datetime


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process.

    Args:
        process: With its steps and events.
        waiting_for: Where the commands of the steps under way stand, by the steps' numbers.
        deadlines: Those that are to come, the next one first.
        audit: What happened to it, in order.
    """

    process: ProcessMetadata
    waiting_for: dict[int, CommandStatus]
    deadlines: list[DeadlineFacts]
    audit: list[ProcessEvent]


@operation("GET", "/processes/{process_id}", OneProcess, ProcessFacts)
async def show_process(desk: Desk, asked: OneProcess, _user: User) -> ProcessFacts:
    """One process: its state, its steps, what it waits for, its deadlines and its audit trail."""
    processes = desk.operator.processes
    found = await processes.get(asked.process_id)
    if found is None:
        raise ProcessNotFoundError(asked.process_id)
    waiting = await processes.waiting_for(found)
    trail = await processes.get_audit_trail(found.process_id)
    masked = [
        replace(each, details=desk.masking.masked(each.details, found.domain, found.process_type)) for each in trail
    ]
    return ProcessFacts(_shown(desk, found), waiting, await _deadlines(desk, found), masked)


class Canceling(OneProcess):
    """Which process, and why."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Asking:
    """The process that is asked to undo what it has done; its worker does it."""

    process_id: UUID
    operator: str


@operation("POST", "/processes/{process_id}/cancel", Canceling, Asking)
async def cancel_process(desk: Desk, asked: Canceling, user: User) -> Asking:
    """Undo a process that is not done: a step under way is waited for, then what was done is undone."""
    await desk.operator.processes.cancel(asked.process_id, reason=asked.reason, operator=user.name)
    return Asking(asked.process_id, user.name)


async def _deadlines(desk: Desk, process: ProcessMetadata) -> list[DeadlineFacts]:
    """What has not happened by when; of steps, those under way."""
    under_way = [step.step_no for step in process.steps if step.status is StepStatus.SENT]
    asked: list[tuple[str | None, int | None, UUID]] = [
        (name, None, command_id) for name, command_id in process.deadlines.items()
    ]
    if not process.has_ended:
        asked += [(None, number, deadline_id(process.process_id, number)) for number in [None, *under_way]]
    found: list[DeadlineFacts] = []
    for name, step_no, command_id in asked[:_MOST_DEADLINES]:
        command = await desk.operator.bus.get_command(process.reply_domain, command_id)
        if command is not None and command.status is CommandStatus.PENDING and command.due_at is not None:
            found.append(DeadlineFacts(name, step_no, command.domain, command_id, command.due_at))
    return sorted(found, key=lambda each: each.due_at)


def _shown(desk: Desk, process: ProcessMetadata) -> ProcessMetadata:
    """A process without what is personal."""
    state = desk.masking.masked(process.state, process.domain, process.process_type)
    return replace(process, state=state, steps=tuple(_step(desk, each) for each in process.steps))


def _step(desk: Desk, step: StepMetadata) -> StepMetadata:
    data, result = (desk.masking.masked(each, step.domain, step.command_type) for each in (step.data, step.result))
    return replace(step, data=data, result=result)
