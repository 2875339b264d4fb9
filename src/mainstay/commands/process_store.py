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
        self, *, process_id: UUID | None = None, command_id: UUID | None = None, with_events: bool = False, conn: Any
    ) -> ProcessMetadata | None:
        """A process with its steps, by its id or by that of a step's command, held until the transaction ends.

        Its events are read if they are asked for.
        """
        ...

    async def advance(self, change: ProcessChange, *, conn: Any) -> None:
        """Write a move of a process that is locked."""
        ...

    async def get(self, process_id: UUID) -> ProcessMetadata | None:
        """A process with its steps."""
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
