"""The nouns of this room, as users see them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeAlias, TypedDict, TypeVar
from uuid import UUID, uuid4

import typing_extensions

from mainstay.commands.carried import Carried
from mainstay.commands.lifecycle import AuditEventType, BatchStatus, CommandStatus, ReplyOutcome
from mainstay.commands.model import CommandModel, name_to_send, with_version
from mainstay.errors import CommandFailedError, InvalidInputError
from mainstay.serialization import checked_object

T = TypeVar("T")
DataT = typing_extensions.TypeVar("DataT", default=dict[str, Any])
"""A command's payload: a dict, or the model that a typed handler names."""
ReplyT = typing_extensions.TypeVar("ReplyT", default=Any)
"""A reply's data: any JSON value, or the model that was asked for."""

_VIEW_COLUMNS = 15


@dataclass(frozen=True, slots=True)
class Command(Carried, Generic[DataT]):
    """A command as its handler sees it: `Command` with a dict as its data, ``Command[CreateOrder]`` with that model.

    What led to it, and in whose name it is handled, are ``causation_id``, ``tenant_id`` and ``actor_id``.
    """

    domain: str
    command_type: str
    command_id: UUID
    data: DataT
    correlation_id: UUID | None = None
    reply_to: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    headers: dict[str, Any] = field(default_factory=dict)
    key: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The message that travels in the queue."""
        message: dict[str, Any] = {
            "domain": self.domain,
            "command_type": self.command_type,
            "command_id": str(self.command_id),
            "correlation_id": None if self.correlation_id is None else str(self.correlation_id),
            "data": checked_object(self.data),
        }
        if self.reply_to:
            message["reply_to"] = self.reply_to
        return message


class OnConflict(StrEnum):
    """What becomes of a send whose unique key is held."""

    REFUSE = "REFUSE"
    """`NotUniqueError`, and nothing is sent; also of a batch."""
    SKIP = "SKIP"
    """It is left out; the result names the command that holds the key. The others of a batch are sent."""


class ScheduleOptions(TypedDict, total=False):
    """When and in which order commands may be received, and what travels along; as in `SendRequest`."""

    delay: timedelta | float | None
    not_before: datetime | None
    headers: dict[str, Any] | None
    key: str | None
    priority: int
    expires_at: datetime | None
    unique_key: str | None
    unique_for: timedelta | float | None
    on_conflict: OnConflict | str
    causation_id: UUID | None
    tenant_id: UUID | str | None
    actor_id: str | None


class SendOptions(ScheduleOptions, total=False):
    """All that can be said of a command besides what it is; as in `SendRequest`."""

    correlation_id: UUID | None
    reply_to: str | None
    max_attempts: int | None
    batch_id: UUID | None


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One command of a `CommandBus.send_batch`.

    Args:
        domain: Who handles it.
        command_type: Name of the handler.
        command_id: Chosen by the sender, unique in the domain for ever.
        data: JSON object.
        correlation_id: Ties a conversation together; drawn if None.
        reply_to: Queue that gets the reply.
        max_attempts: Instead of the bus's default.
        batch_id: An existing batch to count in.
        delay: Seconds or timedelta to wait before it may be received.
        not_before: Time before which it is not received; aware.
        headers: JSON object that travels along, for infrastructure.
        key: Commands of a domain with the same key are handled one after another, in the order in which they were sent.
        priority: -9 to 9; of what is ready, the highest is received first.
        expires_at: Time after which it is not handled any more but ends CANCELED; aware.
        unique_key: Of the commands of a domain with the same unique key at most one has not ended.
        unique_for: Seconds or timedelta after the send in which the key stays held though the command is completed.
        on_conflict: ``"refuse"`` or ``"skip"`` it when the key is held.
        causation_id: The command or event that led to it; inside a handler what is being handled.
        tenant_id: Whose it is, and so in which scope it is handled; in a `tenant_scope` that tenant's.
        actor_id: Who wants it, a text of 200 characters at most; in an `actor_scope` that actor.
    """

    domain: str
    command_type: str
    command_id: UUID
    data: dict[str, Any]
    correlation_id: UUID | None = None
    reply_to: str | None = None
    max_attempts: int | None = None
    batch_id: UUID | None = None
    delay: timedelta | float | None = None
    not_before: datetime | None = None
    headers: dict[str, Any] | None = None
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    unique_key: str | None = None
    unique_for: timedelta | float | None = None
    on_conflict: OnConflict | str = OnConflict.REFUSE
    causation_id: UUID | None = None
    tenant_id: UUID | str | None = None
    actor_id: str | None = None

    @classmethod
    def of(
        cls,
        command: CommandModel,
        command_id: UUID | None = None,
        **options: typing_extensions.Unpack[SendOptions],
    ) -> "SendRequest":
        """The request for a typed command, which knows its domain, its type and its version.

        Args:
            command: What to send.
            command_id: Drawn if None.
            options: The other fields, by name.

        Raises:
            InvalidInputError: Not a typed command, or one that cannot be written as JSON.
        """
        name = name_to_send(command)
        options["headers"] = with_version(options.get("headers"), name.version)
        key = uuid4() if command_id is None else command_id
        return cls(name.domain, name.command_type, key, checked_object(command), **options)


@dataclass(frozen=True, slots=True)
class SendResult:
    """What came of sending one command.

    ``msg_id`` is None for a command that waits for its time or its turn: it gets a place in the queue then.
    ``skipped``: nothing was sent, because the command of this id holds the unique key.
    """

    command_id: UUID
    msg_id: int | None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class BatchSendResult:
    """What came of `CommandBus.send_batch`."""

    results: list[SendResult]
    chunks_processed: int
    total_commands: int


@dataclass(frozen=True, slots=True)
class BatchCommand:
    """One command of a `CommandBus.create_batch`; as `SendRequest`, the domain being the batch's.

    ``domain``, if given, must be that of the batch.
    """

    command_type: str
    command_id: UUID
    data: dict[str, Any]
    correlation_id: UUID | None = None
    reply_to: str | None = None
    max_attempts: int | None = None
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    headers: dict[str, Any] | None = None
    domain: str | None = None
    unique_key: str | None = None
    unique_for: timedelta | float | None = None
    on_conflict: OnConflict | str = OnConflict.REFUSE
    causation_id: UUID | None = None
    tenant_id: UUID | str | None = None
    actor_id: str | None = None

    @classmethod
    def of(cls, command: CommandModel, command_id: UUID | None = None, **options: Any) -> "BatchCommand":
        """The same for a typed command, as `SendRequest.of`; the options are the other fields, by name.

        Raises:
            InvalidInputError: Not a typed command, or one that cannot be written as JSON.
        """
        name = name_to_send(command)
        options["headers"] = with_version(options.get("headers"), name.version)
        key = uuid4() if command_id is None else command_id
        return cls(name.command_type, key, checked_object(command), domain=name.domain, **options)


@dataclass(frozen=True, slots=True)
class CreateBatchResult:
    """What came of `CommandBus.create_batch`."""

    batch_id: UUID
    command_results: list[SendResult]
    total_commands: int


@dataclass(frozen=True, slots=True)
class CommandMetadata(Carried):
    """All that is known of a command.

    What led to it, and in whose name it is handled, are ``causation_id``, ``tenant_id`` and ``actor_id``.
    """

    domain: str
    command_id: UUID
    command_type: str
    status: CommandStatus
    attempts: int
    max_attempts: int
    msg_id: int | None = None
    correlation_id: UUID | None = None
    reply_to: str | None = None
    last_error_type: str | None = None
    last_error_code: str | None = None
    last_error_msg: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    batch_id: UUID | None = None
    data: dict[str, Any] | None = None
    result: Any = None
    due_at: datetime | None = None
    progress: dict[str, Any] | None = None
    """What its handler last told with ``ctx.progress``: ``done``, ``total``, ``note``, and ``at``, when."""
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    headers: dict[str, Any] | None = None
    """What was sent beside the payload; of a typed command its version, see `mainstay.commands.model`."""
    unique_key: str | None = None
    position: int | None = None
    """Of the last event that its handler appended; None if it appended none. See `Reply.position`."""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "CommandMetadata":
        """Read a row of the view ``command_bus_command``: its columns are the first fields here, in order.

        Raises:
            InvalidInputError: Not such a row.
        """
        if len(row) != _VIEW_COLUMNS:
            message = f"expected the {_VIEW_COLUMNS} columns of command_bus_command, got {len(row)}"
            raise InvalidInputError(message)
        domain, command_id, command_type, status, *rest = row
        return cls(domain, command_id, command_type, CommandStatus(status), *rest)


class Place(NamedTuple):
    """Where a command stands among all commands, newest first: what comes after it is a page that never moves."""

    created_at: datetime
    command_id: UUID
    domain: str

    @classmethod
    def of(cls, command: CommandMetadata) -> "Place":
        """That of a command."""
        return cls(command.created_at, command.command_id, command.domain)


@dataclass(frozen=True, slots=True)
class BatchMetadata:
    """A batch and its counts, exact at the moment of reading."""

    domain: str
    batch_id: UUID
    status: BatchStatus
    name: str | None = None
    custom_data: dict[str, Any] | None = None
    total_count: int = 0
    completed_count: int = 0
    failed_count: int = 0
    canceled_count: int = 0
    in_troubleshooting_count: int = 0
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    completed_at: datetime | None = None
    batch_type: str = "COMMAND"
    sealed: bool = True
    parent_id: UUID | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every command has come to an end or to the troubleshooting queue once."""
        return self.completed_at is not None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of an audit trail."""

    audit_id: int
    domain: str
    command_id: UUID
    event_type: AuditEventType
    timestamp: datetime
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TroubleshootingItem(Carried):
    """A command that waits for an operator; it carries the same as in `CommandMetadata`."""

    domain: str
    command_id: UUID
    command_type: str
    attempts: int
    max_attempts: int
    last_error_type: str | None
    last_error_code: str | None
    last_error_msg: str | None
    payload: dict[str, Any] | None
    correlation_id: UUID | None
    reply_to: str | None
    created_at: datetime
    updated_at: datetime
    batch_id: UUID | None = None
    headers: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply(Generic[ReplyT]):
    """How a command ended: what `CommandBus.request` returns and what stands in a reply queue.

    Args:
        command_id: Which command.
        correlation_id: The conversation that it belongs to.
        outcome: SUCCESS, FAILED or CANCELED.
        data: What the handler returned, or an operator who completed the command; None unless it is a success.
        error_code: Of a failure.
        error_message: Of a failure.
        position: Of the last event that the handler appended; None if it appended none. A projection that has come so
            far shows what the command did: `Mainstay.wait_until` waits for it.
    """

    command_id: UUID
    correlation_id: UUID | None
    outcome: ReplyOutcome
    data: ReplyT = None  # type: ignore[assignment]  # of a success it is what it says; None is for failures
    error_code: str | None = None
    error_message: str | None = None
    position: int | None = None

    def unwrap(self) -> ReplyT:
        """The data of a success.

        Raises:
            CommandFailedError: The command ended FAILED or CANCELED.
        """
        if self.outcome is not ReplyOutcome.SUCCESS:
            raise CommandFailedError(self.command_id, self.outcome, self.error_code, self.error_message)
        return self.data

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Reply":
        """Read a reply queue's message."""
        correlation = message.get("correlation_id")
        data: Any = message.get("data")
        return cls(
            command_id=UUID(message["command_id"]),
            correlation_id=UUID(correlation) if correlation else None,
            outcome=ReplyOutcome(message["outcome"]),
            data=data,
            error_code=message.get("error_code"),
            error_message=message.get("error_message"),
            position=message.get("position"),
        )


@dataclass(frozen=True, slots=True)
class Success(Generic[T]):
    """A handler's typed result: it went well."""

    value: T


@dataclass(frozen=True, slots=True)
class Failure:
    """A handler's typed result for an expected refusal: the command ends FAILED, as by a BusinessRuleException."""

    code: str
    message: str
    details: dict[str, Any] | None = None


Result: TypeAlias = Success[T] | Failure

BatchCallback: TypeAlias = Callable[[BatchMetadata], Awaitable[None] | None]
"""Called with the finished batch, in the process that created it."""
