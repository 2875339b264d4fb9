"""What processes ask of a database; one suite, `mainstay.testing.contracts.commands.processes`, says who keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from mainstay.commands.process import (
    ProcessEvent,
    ProcessEventType,
    ProcessMetadata,
    ProcessStatus,
    StepMetadata,
    StepStatus,
    TakenEvent,
)
from mainstay.commands.store import NewCommand


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step on its way out, and the command that it is."""

    step_no: int
    name: str
    command: NewCommand
    undoes: int | None = None


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of a step. ``result`` is a JSON document."""

    step_no: int
    status: StepStatus
    result: bytes | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A line for the audit trail."""

    event_type: ProcessEventType
    step_no: int | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProcessChange:
    """One move of a process: what is written of it, in one transaction. ``state`` is a JSON document.

    Whoever moves the process sends the commands of ``sent`` and the ``deadlines``, in the same transaction. ``armed``
    are the deadlines that the process is to be told of, by name; ``event`` is what has moved it, if that was an event.
    """

    process_id: UUID
    status: ProcessStatus
    state: bytes
    ends_as: ProcessStatus | None = None
    error_code: str | None = None
    error_message: str | None = None
    outcomes: tuple[StepOutcome, ...] = ()
    sent: tuple[NewStep, ...] = ()
    deadlines: tuple[NewCommand, ...] = ()
    armed: dict[str, UUID] = field(default_factory=dict)
    event: TakenEvent | None = None
    told: tuple[Told, ...] = ()

    @property
    def commands(self) -> list[NewCommand]:
        """Everything to send."""
        return [*(step.command for step in self.sent), *self.deadlines]


@dataclass(frozen=True, slots=True)
class NewProcess:
    """A process on its way in, with its first move."""

    domain: str
    reply_domain: str
    process_type: str
    correlation_id: UUID
    batch_id: UUID | None
    change: ProcessChange
    tenant_id: UUID | str | None = None
    actor_id: str | None = None


@dataclass(frozen=True, slots=True)
class HeldProcess:
    """A process that is held, and what a move needs to know of its steps and events.

    Args:
        known: The process, without its steps and events.
        step: The step that was asked for; None if none was, or the process has none such.
        last_no: Number of the step that was sent last; 0: none was.
        last_name: Its name.
        open_steps: Steps under way.
        has_done: Whether there is something `ProcessStore.to_undo`.
        was_told: Whether the process was told before of the event that was asked for.
    """

    known: ProcessMetadata
    step: StepMetadata | None = None
    last_no: int = 0
    last_name: str | None = None
    open_steps: int = 0
    has_done: bool = False
    was_told: bool = False


@dataclass(frozen=True, slots=True)
class ProcessFilter:
    """Which processes to list; None means any."""

    domain: str | None = None
    process_type: str | None = None
    status: ProcessStatus | None = None
    batch_id: UUID | None = None


class ProcessStore(Protocol):
    """Everything that processes ask of a database."""

    async def start(self, processes: Sequence[NewProcess], *, conn: Any) -> list[UUID]:
        """Put processes in. Returns the ids that were known already; of these nothing is stored."""
        ...

    async def lock(
        self,
        *,
        process_id: UUID | None = None,
        command_id: UUID | None = None,
        step_no: int | None = None,
        event_id: UUID | None = None,
        conn: Any,
    ) -> HeldProcess | None:
        """A process, by its id or else by that of a step's command, held until the transaction ends.

        What this costs does not depend on how many steps it has sent, or events it was told of.

        Args:
            process_id: Which.
            command_id: Of the step to give with it.
            step_no: The same by its number.
            event_id: Tell whether the process was told of this event.
            conn: The transaction.
        """
        ...

    async def steps(self, process_id: UUID, *, conn: Any) -> list[StepMetadata]:
        """All steps of a process, in order, as this transaction sees them."""
        ...

    async def to_undo(
        self, process_id: UUID, *, after: int | None = None, limit: int = 20, conn: Any
    ) -> list[StepMetadata]:
        """The steps of a process that were done, the one done last first.

        Once a step is undone, it is not among them any more, and neither are those that were done after it: there was
        nothing to undo. What this costs depends on the limit alone.

        Args:
            process_id: One that is held.
            after: Only those that come after the step of this number, which was among them.
            limit: How many at most.
            conn: The transaction.
        """
        ...

    async def advance(self, change: ProcessChange, *, conn: Any) -> None:
        """Write a move of a process that is locked."""
        ...

    async def get(self, process_id: UUID, *, with_steps: bool = True) -> ProcessMetadata | None:
        """A process with its steps and events, or without them."""
        ...

    async def query(self, which: ProcessFilter, *, limit: int, offset: int) -> list[ProcessMetadata]:
        """Processes without their steps, newest first."""
        ...

    async def audit_trail(self, process_id: UUID) -> list[ProcessEvent]:
        """What happened to a process, in order."""
        ...

    async def count(self, batch_id: UUID) -> dict[ProcessStatus, int]:
        """How many processes of a batch stand where."""
        ...
