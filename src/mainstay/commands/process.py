"""Processes: several commands that belong together, over hours or days, and are undone if one of them fails.

What a process is. It has a typed state and steps. A step is a command, sent by the process to whoever handles it; its
reply decides what comes next. There is no call stack that waits: between two steps a process is a row.

How it moves. `Process.start` names the first steps. The reply to each comes back as a command of type ``Reply`` in the
process's own domain, so an ordinary worker of that domain moves processes, and a reply is leased, retried, fenced and,
if the process's code fails on it, seen by an operator like any command. Its handler is transactional: the process's row
is locked, the reply noted on its step, `Process.on_reply` asked what comes next, and the new state, the steps sent, the
audit and the completion of the reply are one COMMIT.

Promises. No step is sent twice and none is lost, wherever a worker dies: ids are derived from the process, the step's
name and its number. A reply that comes twice changes nothing. If a step fails for a business reason, the steps that
were done are undone one after another, the last first, with what `Process.compensate` says, and only then has the
process ended: COMPENSATED, or CANCELED if somebody canceled it or the step. A step whose command waits for an operator
holds the process up until he has decided. Deadlines are commands that are due later.

How it fails. If undoing fails for a business reason the process is FAILED, and a person must look. A step that timed
out is taken for not done; if its success comes after all, it is undone if the process was.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeAlias, TypedDict, TypeVar, Unpack
from uuid import UUID

from pydantic import BaseModel

from mainstay.commands.model import CommandModel, name_to_send, with_version
from mainstay.serialization import checked_object

StateT = TypeVar("StateT", bound=BaseModel)


class ProcessStatus(StrEnum):
    """Where a process stands."""

    WAITING_FOR_REPLY = "WAITING_FOR_REPLY"
    """A step is under way."""
    WAITING_FOR_EVENT = "WAITING_FOR_EVENT"
    """None is, and it is not done: an event or a deadline moves it on."""
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"


FORWARD = frozenset({ProcessStatus.WAITING_FOR_REPLY, ProcessStatus.WAITING_FOR_EVENT})
"""Neither ended nor being undone."""
ENDED = frozenset({ProcessStatus.COMPLETED, ProcessStatus.COMPENSATED, ProcessStatus.CANCELED, ProcessStatus.FAILED})
"""Nothing more happens to such a process; only a step that timed out may still be done, and is undone then."""


class StepStatus(StrEnum):
    """What became of a step."""

    SENT = "SENT"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"


class ProcessEventType(StrEnum):
    """What the audit trail of a process tells."""

    STARTED = "STARTED"
    STEP_SENT = "STEP_SENT"
    STEP_SUCCEEDED = "STEP_SUCCEEDED"
    STEP_FAILED = "STEP_FAILED"
    STEP_CANCELED = "STEP_CANCELED"
    STEP_TIMED_OUT = "STEP_TIMED_OUT"
    REPLY_IGNORED = "REPLY_IGNORED"
    EVENT_TAKEN = "EVENT_TAKEN"
    EVENT_IGNORED = "EVENT_IGNORED"
    DEADLINE_SET = "DEADLINE_SET"
    DEADLINE_CANCELED = "DEADLINE_CANCELED"
    DEADLINE_REACHED = "DEADLINE_REACHED"
    CANCEL_ASKED = "CANCEL_ASKED"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"


class StepOptions(TypedDict, total=False):
    """All that can be said of a step besides what it sends; as in `Step`."""

    name: str | None
    deadline: timedelta | float | None
    delay: timedelta | float | None
    max_attempts: int | None
    headers: dict[str, Any] | None
    key: str | None
    priority: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """A command that a process sends.

    Args:
        domain: Who handles it.
        command_type: Name of the handler.
        data: JSON object.
        name: How the process calls the step; the command type if None.
        deadline: Seconds or timedelta after which it is taken for failed, with the status TIMED_OUT; None: never.
        delay: Seconds or timedelta to wait before it may be received.
        max_attempts: Instead of the usual number.
        headers: JSON object that travels along.
        key: Commands of its domain with the same key are handled one after another.
        priority: -9 to 9; of what is ready in its domain, the highest is received first.
        expires_at: Time after which it is not handled any more but ends with the status CANCELED; aware.
    """

    domain: str
    command_type: str
    data: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    deadline: timedelta | float | None = None
    delay: timedelta | float | None = None
    max_attempts: int | None = None
    headers: dict[str, Any] | None = None
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None

    @classmethod
    def of(cls, command: CommandModel, **options: Unpack[StepOptions]) -> "Step":
        """The step that sends a typed command, which knows its domain, its type and its version.

        Args:
            command: What to send.
            options: The other fields, by name.

        Raises:
            InvalidInputError: Not a typed command, or one that cannot be written as JSON.
        """
        domain, command_type, version = name_to_send(command)
        options["headers"] = with_version(options.get("headers"), version)
        return cls(domain, command_type, checked_object(command), **options)


@dataclass(frozen=True, slots=True)
class StepReply:
    """What came of a step, as a process sees it.

    Args:
        step: Its name.
        status: SUCCESS, FAILED, CANCELED or TIMED_OUT.
        data: What was sent.
        result: What its handler returned.
        error_code: Why not, if it failed.
        error_message: The same for people.
        conn: In a database, the connection of the transaction in which the process moves.
        process_id: Which process.
        command_id: The command that the step was; None of a process that was not done in time or is canceled.
    """

    step: str
    status: StepStatus
    data: dict[str, Any]
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    conn: Any = field(default=None, repr=False, compare=False)
    process_id: UUID | None = None
    command_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time at which a process is told that something has not happened; see `Process.on_deadline`.

    Args:
        name: How the process calls it. One that is set under this name is set anew.
        after: Seconds or timedelta from now.
    """

    name: str
    after: timedelta | float


@dataclass(frozen=True, slots=True)
class CancelDeadline:
    """A deadline that a process need not be told of any more; does nothing if there is none of this name."""

    name: str


Steps: TypeAlias = Step | Deadline | CancelDeadline | Sequence[Step | Deadline | CancelDeadline] | None
"""Steps to send now, all at once, and deadlines to set and to cancel."""


class Process(ABC, Generic[StateT]):
    """How a kind of process moves. Without a state of its own: everything it knows is in the state it is given.

    Subclasses set ``process_type``, ``domain`` and ``state_class``, in the class or in ``__init__``. All methods may be
    async. They may change the state they are given; it is stored with what they decide. They run in a transaction and
    again if that fails, so what they do elsewhere may happen twice; what is to be done belongs into steps.
    """

    process_type: str
    """Its name, unique in the domain."""
    domain: str
    """Where its replies arrive and its worker works; the steps may go to any other."""
    reply_domain: str | None = None
    """Where its replies arrive and its worker works, if another worker handles the commands of ``domain``."""
    state_class: type[StateT]
    deadline: ClassVar[timedelta | float | None] = None
    """Seconds or timedelta after which a process that is not done is undone; None: never."""

    @abstractmethod
    def start(self, state: StateT) -> Steps | Awaitable[Steps]:
        """The first steps; a process without any is done at once."""

    @abstractmethod
    def on_reply(self, state: StateT, reply: StepReply) -> Steps | Awaitable[Steps]:
        """A step has succeeded: the next steps. Without any, and with none under way, it says whether it `is_done`."""

    def is_done(self, state: StateT) -> bool:
        """Whether that was all: asked when no step is under way. Then it is COMPLETED, else WAITING_FOR_EVENT."""
        del state
        return True

    def on_deadline(self, state: StateT, name: str) -> Steps | Awaitable[Steps]:
        """A deadline that the process has set, and not canceled, is over: what follows; nothing, here."""
        del state, name
        return None

    def on_failure(self, state: StateT, reply: StepReply) -> Steps | Awaitable[Steps]:
        """A step has failed, was canceled or timed out: another way on, or None to undo what was done."""
        del state, reply
        return None

    def compensate(self, state: StateT, done: StepReply) -> Step | Awaitable[Step | None] | None:
        """What undoes a step that succeeded; None if there is nothing to undo.

        Asked of the step that was done last, then of the one done before it, until there is something to undo; the
        next time, of those done before that one.
        """
        del state, done
        return None

    def on_compensated(self, state: StateT, reply: StepReply) -> Awaitable[None] | None:
        """A step that undoes another has succeeded; what comes next is settled."""
        del state, reply
        return None

    def before_send(self, state: StateT, step: Step, sending: "StepSending") -> Awaitable[None] | None:
        """A step is about to be sent. What is changed in ``step.data`` is sent with it."""
        del state, step, sending
        return None


@dataclass(frozen=True, slots=True)
class StepMetadata:
    """All that is known of a step. ``undoes`` is the number of the step that this one compensates."""

    step_no: int
    name: str
    domain: str
    command_type: str
    command_id: UUID
    data: dict[str, Any]
    status: StepStatus
    sent_at: datetime
    undoes: int | None = None
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    replied_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TakenEvent:
    """An event that a process was told of.

    Args:
        event_id: Which.
        event_type: What happened.
        position: Where it stands in the feed.
        was_taken: Whether it moved the process; one that had ended, or was being undone, it did not.
        taken_at: When; None on its way in.
    """

    event_id: UUID
    event_type: str
    position: int
    was_taken: bool = True
    taken_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProcessMetadata:
    """All that is known of a process.

    ``steps`` and ``events`` are empty in lists, and of a process that is being moved. With ``pruned_at`` set, its state
    was cleared. ``deadlines`` are those that are set, by name, each with the id of the command that tells of it.
    """

    process_id: UUID
    domain: str
    reply_domain: str
    process_type: str
    status: ProcessStatus
    state: dict[str, Any]
    correlation_id: UUID
    created_at: datetime
    updated_at: datetime
    batch_id: UUID | None = None
    ends_as: ProcessStatus | None = None
    error_code: str | None = None
    error_message: str | None = None
    completed_at: datetime | None = None
    pruned_at: datetime | None = None
    steps: tuple[StepMetadata, ...] = ()
    tenant_id: UUID | str | None = None
    """Whose it is: it is moved in this tenant's scope, and so are its steps handled."""
    actor_id: str | None = None
    """Who wanted it."""
    deadlines: dict[str, UUID] = field(default_factory=dict)
    events: tuple[TakenEvent, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it; only a step that timed out may still be done, and is undone then."""
        return self.status in ENDED


async def _no_steps() -> list[StepMetadata]:
    return []


@dataclass(frozen=True, slots=True)
class StepSending:
    """A step on its way out.

    Args:
        process: The process as it stood before this move, without its steps and events: `steps` has them.
        command_id: The command that the step will be.
        conn: In a database, the connection of the transaction in which the process moves.
        last_step: Name of the step that was sent last before this move; None if none was.
        steps: Reads all steps, as they stood before this move: ``await sending.steps()``. There may be many.
    """

    process: ProcessMetadata
    command_id: UUID
    conn: Any = field(default=None, repr=False, compare=False)
    last_step: str | None = None
    steps: Callable[[], Awaitable[list[StepMetadata]]] = field(default=_no_steps, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """One line of a process's audit trail."""

    audit_id: int
    process_id: UUID
    event_type: ProcessEventType
    timestamp: datetime
    step_no: int | None = None
    details: dict[str, Any] | None = None
