"""Processes as rows, as `commandbus.process` shows them: one step at a time, states with ``to_dict`` and ``from_dict``.

Nothing here moves a process: see `mainstay.commands.process_manager`. What is written by hand has no command, no reply
and no lease behind it; `mainstay fsck` names what does not fit together.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable
from uuid import UUID

from mainstay.commands.command import Reply
from mainstay.commands.lifecycle import CommandStatus, ReplyOutcome
from mainstay.commands.process import FORWARD, ProcessEventType, StepMetadata, StepStatus
from mainstay.commands.process import ProcessMetadata as Known
from mainstay.commands.process import ProcessStatus as Status
from mainstay.commands.process_store import (
    HeldProcess,
    NewProcess,
    NewStep,
    ProcessChange,
    ProcessFilter,
    StepOutcome,
    Told,
)
from mainstay.commands.processes import ProcessManager
from mainstay.commands.store import CommandStore, NewCommand
from mainstay.errors import DuplicateProcessError, InvalidInputError, ProcessNotFoundError
from mainstay.message import checked_domain, checked_id, checked_type
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import to_json
from mainstay.tenancy import current_actor, current_tenant

PAGE = 200
"""Processes asked for at once."""


class ProcessStatus(StrEnum):
    """Where a process stands. PENDING and IN_PROGRESS are never found: a process is stored with its first step."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING_FOR_REPLY = "WAITING"
    WAITING_FOR_TSQ = "WAITING_FOR_TSQ"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


_WAITING = frozenset(
    {
        ProcessStatus.PENDING,
        ProcessStatus.IN_PROGRESS,
        ProcessStatus.WAITING_FOR_REPLY,
        ProcessStatus.WAITING_FOR_TSQ,
    }
)


class ProcessState(Protocol):
    """A state that can be stored."""

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        ...

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From what `to_dict` gave."""
        ...


TState = TypeVar("TState", bound=ProcessState)
TStep = TypeVar("TStep", bound=StrEnum)
TData = TypeVar("TData")
TResult = TypeVar("TResult")


@dataclass
class ProcessMetadata(Generic[TState, TStep]):
    """What is known of a process. From a repository, ``state`` is a dict and ``current_step`` a name."""

    domain: str
    process_id: UUID
    process_type: str
    status: ProcessStatus
    current_step: TStep | None
    state: TState
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    completed_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    batch_id: UUID | None = None


@dataclass
class ProcessAuditEntry:
    """A step: what was sent, and what came back."""

    step_name: str
    command_id: UUID
    command_type: str
    command_data: dict[str, Any] | None
    sent_at: datetime
    reply_outcome: ReplyOutcome | None = None
    reply_data: Any = None
    received_at: datetime | None = None


@dataclass(frozen=True)
class ProcessCommand(Generic[TData]):
    """The command that a step is. ``data`` is a JSON object, or has a ``to_dict`` that gives one."""

    command_type: str
    data: TData

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"command_type": as_name(self.command_type), "data": as_dict(self.data)}


@dataclass(frozen=True)
class ProcessResponse(Generic[TResult]):
    """A reply whose data has a type."""

    outcome: ReplyOutcome
    result: TResult | None
    error_code: str | None
    error_message: str | None

    @classmethod
    def from_reply(cls, reply: Reply[Any], result_type: type[TResult]) -> "ProcessResponse[TResult]":
        """Read a reply; its data through ``result_type.from_dict``, if there is one, else as it is."""
        read = getattr(result_type, "from_dict", None)
        result = reply.data if reply.data is None or read is None else read(reply.data)
        return cls(reply.outcome, result, reply.error_code, reply.error_message)


def as_name(value: Any) -> str:
    """A step or a command type as text; a member of an enumeration by its value."""
    return str(value.value if isinstance(value, Enum) else value)


def as_dict(value: Any) -> Any:
    """What ``to_dict`` gives, where there is one."""
    return value.to_dict() if hasattr(value, "to_dict") else value


@runtime_checkable
class ProcessRepository(Protocol):
    """Repository of processes. With ``conn``, every write joins that connection's transaction."""

    async def save(self, process: ProcessMetadata[Any, Any], conn: Any = None) -> None:
        """Store a new process.

        Raises:
            DuplicateProcessError: The id is known.
        """
        ...

    async def update(self, process: ProcessMetadata[Any, Any], conn: Any = None) -> None:
        """Write status, state and error of a process.

        Raises:
            ProcessNotFoundError: There is none.
        """
        ...

    async def get_by_id(self, domain: str, process_id: UUID, conn: Any = None) -> ProcessMetadata[Any, Any] | None:
        """One process, or None. With ``conn`` it is held until that transaction ends."""
        ...

    async def find_by_status(
        self, domain: str, statuses: list[ProcessStatus], conn: Any = None
    ) -> list[ProcessMetadata[Any, Any]]:
        """The processes that stand so, newest first, as they are committed."""
        ...

    async def log_step(self, domain: str, process_id: UUID, entry: ProcessAuditEntry, conn: Any = None) -> None:
        """Note a step. Its command is not sent.

        Raises:
            ProcessNotFoundError: There is no such process.
        """
        ...

    async def update_step_reply(
        self, domain: str, process_id: UUID, command_id: UUID, entry: ProcessAuditEntry, conn: Any = None
    ) -> None:
        """Note the reply to a step. The process does not move.

        Raises:
            ProcessNotFoundError: There is no such process.
            InvalidInputError: The process has no such step, or the entry no outcome.
        """
        ...

    async def get_audit_trail(self, domain: str, process_id: UUID, conn: Any = None) -> list[ProcessAuditEntry]:
        """The steps of a process, in the order in which they were sent."""
        ...

    async def get_completed_steps(self, domain: str, process_id: UUID, conn: Any = None) -> list[str]:
        """The names of the steps that succeeded, in the order in which they were sent."""
        ...


class StoredProcessRepository:
    """`ProcessRepository` on a store.

    Args:
        store: Where processes live.
    """

    def __init__(self, store: CommandStore) -> None:
        self._store = store
        self._processes = ProcessManager(store)

    async def save(self, process: ProcessMetadata[Any, Any], conn: Any = None) -> None:
        """Store a new process.

        Raises:
            DuplicateProcessError: The id is known.
        """
        key = checked_id(process.process_id, "process_id")
        change = replace(_change(process, key), told=(Told(ProcessEventType.STARTED),))
        domain = checked_domain(process.domain)
        new = NewProcess(
            domain, domain, checked_type(process.process_type), key, process.batch_id, change,
            current_tenant(), current_actor(),
        )  # fmt: skip
        async with self._joined(conn) as joined:
            if await self._store.processes.start([new], conn=joined):
                raise DuplicateProcessError(key)

    async def update(self, process: ProcessMetadata[Any, Any], conn: Any = None) -> None:
        """Write status, state and error of a process.

        Raises:
            ProcessNotFoundError: There is none.
        """
        async with self._held(process.domain, process.process_id, None, conn) as (held, joined):
            known = held.known
            change = replace(_change(process, known.process_id), ends_as=known.ends_as, armed=known.deadlines)
            if change.status is not known.status and change.status is not Status.WAITING_FOR_REPLY:
                change = replace(change, told=(Told(ProcessEventType(change.status.value)),))
            await self._store.processes.advance(change, conn=joined)

    async def get_by_id(self, domain: str, process_id: UUID, conn: Any = None) -> ProcessMetadata[Any, Any] | None:
        """One process, or None. With ``conn`` it is held until that transaction ends."""
        known = await self._known(domain, process_id, conn)
        return None if known is None else await self._shown(known)

    async def find_by_status(
        self,
        domain: str,
        statuses: list[ProcessStatus],
        conn: Any = None,  # noqa: ARG002 - the signature is a promise to users of `commandbus`
    ) -> list[ProcessMetadata[Any, Any]]:
        """The processes that stand so, newest first, as they are committed."""
        asked = {ProcessStatus(status) for status in statuses}
        found: list[ProcessMetadata[Any, Any]] = []
        stored = {_stored(each) for each in asked}
        for status in sorted(stored | FORWARD if Status.WAITING_FOR_REPLY in stored else stored):
            which = ProcessFilter(domain=checked_domain(domain), status=status)
            offset = 0
            while page := await self._store.processes.query(which, limit=PAGE, offset=offset):
                offset += len(page)
                with_steps = [await self._store.processes.get(each.process_id) for each in page]
                found += [await self._shown(each) for each in with_steps if each is not None]
        return sorted((each for each in found if each.status in asked), key=lambda each: each.created_at, reverse=True)

    async def log_step(self, domain: str, process_id: UUID, entry: ProcessAuditEntry, conn: Any = None) -> None:
        """Note a step. Its command is not sent.

        Raises:
            ProcessNotFoundError: There is no such process.
        """
        async with self._held(domain, process_id, None, conn) as (held, joined):
            known, step_no = held.known, held.last_no + 1
            command = NewCommand(
                known.domain,
                checked_type(as_name(entry.command_type)),
                checked_id(entry.command_id, "command_id"),
                to_json(entry.command_data or {}),
                known.correlation_id,
                DEFAULT_MAX_ATTEMPTS,
            )
            change = replace(
                _unchanged(known),
                sent=(NewStep(step_no, as_name(entry.step_name), command),),
                told=(Told(ProcessEventType.STEP_SENT, step_no, {"command_id": str(entry.command_id)}),),
            )
            await self._store.processes.advance(change, conn=joined)

    async def update_step_reply(
        self, domain: str, process_id: UUID, command_id: UUID, entry: ProcessAuditEntry, conn: Any = None
    ) -> None:
        """Note the reply to a step. The process does not move.

        Raises:
            ProcessNotFoundError: There is no such process.
            InvalidInputError: The process has no such step, or the entry no outcome.
        """
        async with self._held(domain, process_id, command_id, conn) as (held, joined):
            known, step = held.known, held.step
            if step is None or entry.reply_outcome is None:
                raise InvalidInputError(f"process {process_id} has no step with command {command_id}, or no outcome")
            status = StepStatus(ReplyOutcome(entry.reply_outcome).value)
            result = None if entry.reply_data is None else to_json(entry.reply_data, what="the reply")
            event = ProcessEventType.STEP_SUCCEEDED
            if status is not StepStatus.SUCCESS:
                event = ProcessEventType(f"STEP_{status.value}")
            change = replace(
                _unchanged(known),
                outcomes=(StepOutcome(step.step_no, status, result),),
                told=(Told(event, step.step_no),),
            )
            await self._store.processes.advance(change, conn=joined)

    async def get_audit_trail(self, domain: str, process_id: UUID, conn: Any = None) -> list[ProcessAuditEntry]:
        """The steps of a process, in the order in which they were sent."""
        known = await self._known(domain, process_id, conn)
        return [] if known is None else [_entry(step) for step in known.steps]

    async def get_completed_steps(self, domain: str, process_id: UUID, conn: Any = None) -> list[str]:
        """The names of the steps that succeeded, in the order in which they were sent."""
        known = await self._known(domain, process_id, conn)
        return [] if known is None else [step.name for step in known.steps if step.status is StepStatus.SUCCESS]

    async def _known(self, domain: str, process_id: UUID, conn: Any) -> Known | None:
        key = checked_id(process_id, "process_id")
        if conn is None:
            known = await self._store.processes.get(key)
            return known if known is not None and known.domain == domain else None
        held = await self._store.processes.lock(process_id=key, conn=conn)
        if held is None or held.known.domain != domain:
            return None
        return replace(held.known, steps=tuple(await self._store.processes.steps(key, conn=conn)))

    async def _shown(self, known: Known) -> ProcessMetadata[Any, Any]:
        waits = CommandStatus.IN_TROUBLESHOOTING_QUEUE in (await self._processes.waiting_for(known)).values()
        last = known.steps[-1].name if known.steps else None
        return shown(known, known.state, last, waits_for_operator=waits)

    @asynccontextmanager
    async def _joined(self, conn: Any) -> AsyncIterator[Any]:
        """The caller's transaction, or one of this call's own."""
        if conn is not None:
            yield conn
            return
        async with self._store.transaction() as own:
            yield own

    @asynccontextmanager
    async def _held(
        self, domain: str, process_id: UUID, command_id: UUID | None, conn: Any
    ) -> AsyncIterator[tuple[HeldProcess, Any]]:
        """A process, with the step of this command, and the transaction that holds it."""
        key = checked_id(process_id, "process_id")
        async with self._joined(conn) as joined:
            held = await self._store.processes.lock(process_id=key, command_id=command_id, conn=joined)
            if held is None or held.known.domain != domain:
                raise ProcessNotFoundError(process_id)
            yield held, joined


def shown(
    known: Known, state: Any, last_step: str | None, *, waits_for_operator: bool = False
) -> ProcessMetadata[Any, Any]:
    """A process as a manager sees it, with this state; ``last_step`` is the one that was sent last, if one was."""
    status = ProcessStatus.WAITING_FOR_REPLY if known.status in FORWARD else ProcessStatus[known.status.name]
    if waits_for_operator and status is ProcessStatus.WAITING_FOR_REPLY:
        status = ProcessStatus.WAITING_FOR_TSQ
    current: Any = last_step
    return ProcessMetadata(
        domain=known.domain,
        process_id=known.process_id,
        process_type=known.process_type,
        status=ProcessStatus.PENDING if last_step is None else status,
        current_step=current,
        state=state,
        created_at=known.created_at,
        updated_at=known.updated_at,
        completed_at=known.completed_at,
        error_code=known.error_code,
        error_message=known.error_message,
        batch_id=known.batch_id,
    )


def _stored(status: ProcessStatus) -> Status:
    return Status.WAITING_FOR_REPLY if status in _WAITING else Status[status.name]


def _change(process: ProcessMetadata[Any, Any], key: UUID) -> ProcessChange:
    return ProcessChange(
        process_id=key,
        status=_stored(ProcessStatus(process.status)),
        state=to_json(as_dict(process.state), what="the process's state"),
        error_code=process.error_code,
        error_message=process.error_message,
    )


def _unchanged(known: Known) -> ProcessChange:
    return ProcessChange(
        process_id=known.process_id,
        status=known.status,
        state=to_json(known.state),
        ends_as=known.ends_as,
        error_code=known.error_code,
        error_message=known.error_message,
        armed=known.deadlines,
    )


def _entry(step: StepMetadata) -> ProcessAuditEntry:
    answered = step.status not in (StepStatus.SENT, StepStatus.TIMED_OUT)
    return ProcessAuditEntry(
        step_name=step.name,
        command_id=step.command_id,
        command_type=step.command_type,
        command_data=step.data,
        sent_at=step.sent_at,
        reply_outcome=ReplyOutcome(step.status.value) if answered else None,
        reply_data=step.result,
        received_at=step.replied_at,
    )
