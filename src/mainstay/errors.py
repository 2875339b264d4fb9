"""Every error a user of mainstay can meet.

The tree::

    MainstayError
    ├── ConfigurationError              a setting or argument of ours is wrong (also a ValueError)
    ├── MissingDependencyError          an optional part is not installed; says what to install
    ├── InvalidInputError               what the caller handed over cannot be accepted (also a ValueError)
    │   ├── InvalidDomainError          a domain name outside [a-z0-9][a-z0-9_-]{0,36}
    │   ├── InvalidQueueError           a queue name that PGMQ would refuse, fold or cut
    │   └── InvalidPayloadError         a payload that JSON or PostgreSQL cannot hold, or that is too large
    ├── CommandError
    │   ├── DuplicateCommandError       this command id was sent before
    │   ├── NotUniqueError              the unique key is held by another command
    │   ├── DuplicateBatchError         this batch id was used before
    │   ├── CommandNotFoundError
    │   ├── BatchNotFoundError
    │   ├── ActionNotFoundError         no such decision of an operator
    │   ├── CommandFailedError          a reply says so (`Reply.unwrap`)
    │   ├── RequestTimeoutError         no reply in time; the command goes on (also a TimeoutError)
    │   ├── InvalidReplyError           a successful reply does not fit the model asked for
    │   ├── ScheduleNotFoundError
    │   ├── DuplicateProcessError       this process id was used before
    │   ├── ProcessNotFoundError
    │   ├── InvalidOperationError       the command's status does not allow it
    │   │   ├── ReasonRequiredError     the operators' rules ask for a reason
    │   │   ├── ApprovalRequiredError   the operators' rules ask for a second operator
    │   │   └── SelectionChangedError   other commands than the operator looked at
    │   └── StaleLeaseError             the lease was lost; nothing was changed
    ├── HandlerError
    │   ├── HandlerNotFoundError
    │   ├── HandlerAlreadyRegisteredError   (also a ValueError)
    │   ├── TransientCommandError       raised by handlers: try again later
    │   ├── PermanentCommandError       raised by handlers: an operator must look
    │   └── BusinessRuleException       raised by handlers: a refusal, final, no operator needed
    └── StorageError
        ├── QueueNotFoundError
        ├── SchemaError
        │   ├── SchemaMissingError      run `mainstay schema upgrade`
        │   ├── SchemaOutdatedError     the database is older than this code
        │   ├── SchemaTooNewError       the database is newer, and says this code would harm it
        │   └── SchemaDriftError        the database is not what its own ledger says
        ├── PgmqMissingError
        ├── PermissionDeniedError
        ├── StorageUnavailableError     no connection, or it broke; the outcome may be unknown
        │   ├── PoolExhaustedError
        │   └── PoolClosedError     the pool is closed, or was never opened
        └── EmbeddedServerError

Errors carry data as attributes; nobody has to parse a message. SQL raises SQLSTATEs of our own, class ``MS``, and
`error_for_sqlstate` turns them into this tree.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

_SHOWN = 100
"""Characters that a message quotes of a value."""


def shown(value: object) -> str:
    """A value as an error message quotes it: short, and whatever it says of itself.

    Args:
        value: Anything; its ``repr`` may raise (a number of 5,000 digits does) or be long.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - what is quoted here was refused, and is none of ours
        return f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class MainstayError(Exception):
    """Base of every error that mainstay raises on purpose. All survive pickling, to cross from process to process."""

    def __reduce__(self) -> tuple[Callable[..., "MainstayError"], tuple[Any, ...]]:
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[MainstayError], args: tuple[Any, ...], attributes: dict[str, Any]) -> MainstayError:
    """An error as it was, without its ``__init__``, which would word the message a second time."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(MainstayError, ValueError):
    """A setting or an argument of ours is out of range; the message names it and what is allowed."""


class MissingDependencyError(MainstayError):
    """An optional part is not installed; the message holds the ``pip install`` line."""


class InvalidInputError(MainstayError, ValueError):
    """What the caller handed over cannot be accepted. Nothing was written."""


class InvalidDomainError(InvalidInputError):
    """A domain name that cannot become a queue."""

    def __init__(self, domain: object) -> None:
        """Keep the offending name as ``domain``."""
        self.domain = domain
        super().__init__(
            f"invalid domain {shown(domain)}: use 1 to 37 characters of a-z, 0-9, '_' and '-', "
            "starting with a letter or digit"
        )


class InvalidQueueError(InvalidInputError):
    """A queue name that PGMQ would refuse, fold to lower case or cut."""

    def __init__(self, queue: object) -> None:
        """Keep the offending name as ``queue``."""
        self.queue = queue
        super().__init__(
            f"invalid queue name {shown(queue)}: use 1 to 47 characters of a-z, 0-9, '_' and '-', "
            "starting with a letter, digit or '_'"
        )


class InvalidPayloadError(InvalidInputError):
    """A payload that JSON or PostgreSQL cannot hold, that exceeds the limit, or that its handler's model refuses.

    Attributes:
        problems: What a model refuses, field by field: each has ``path``, ``message`` and ``kind``.
    """

    def __init__(self, message: str, problems: Iterable[Any] = ()) -> None:
        """Keep the problems."""
        self.problems = tuple(problems)
        super().__init__(message)


class CommandError(MainstayError):
    """Something about one command or batch."""


class DuplicateCommandError(CommandError):
    """A command with this id was sent before in this domain; the first one stands."""

    def __init__(self, domain: str, command_id: UUID) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.command_id = command_id
        super().__init__(f"command {command_id} was already sent in domain {shown(domain)}")


class KeyConflict(NamedTuple):
    """A command that was not sent, and why: another one holds its unique key."""

    command_id: UUID
    unique_key: str
    holder_id: UUID


class NotUniqueError(CommandError):
    """A unique key is held by another command, which has not ended, or whose time is not over. Nothing was sent."""

    def __init__(self, domain: str, *conflicts: KeyConflict) -> None:
        """Keep all conflicts as an attribute, and the first one's parts."""
        self.domain = domain
        self.conflicts = conflicts
        self.command_id = conflicts[0].command_id
        self.unique_key = conflicts[0].unique_key
        self.holder_id = conflicts[0].holder_id
        more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
        super().__init__(
            f"command {self.holder_id} holds unique key {shown(self.unique_key)} in domain {shown(domain)}{more}"
        )


class DuplicateBatchError(CommandError):
    """A batch with this id exists in this domain; it stands, and nothing was added to it."""

    def __init__(self, domain: str, batch_id: UUID) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.batch_id = batch_id
        super().__init__(f"batch {batch_id} exists already in domain {shown(domain)}")


class CommandNotFoundError(CommandError):
    """No such command."""

    def __init__(self, domain: str, command_id: UUID) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.command_id = command_id
        super().__init__(f"no command {command_id} in domain {shown(domain)}")


class BatchNotFoundError(CommandError):
    """No such batch."""

    def __init__(self, domain: str, batch_id: UUID) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.batch_id = batch_id
        super().__init__(f"no batch {batch_id} in domain {shown(domain)}")


class CommandFailedError(CommandError):
    """A command ended FAILED or CANCELED; raised when its reply is unwrapped."""

    def __init__(self, command_id: UUID, outcome: str, error_code: str | None, error_message: str | None) -> None:
        """Keep all of it as ``command_id``, ``outcome``, ``error_code`` and ``error_message``."""
        self.command_id = command_id
        self.outcome = outcome
        self.error_code = error_code
        self.error_message = error_message
        super().__init__(f"command {command_id} ended {outcome}: [{error_code}] {error_message}")


class RequestTimeoutError(CommandError, TimeoutError):
    """A command has not ended in time. It goes on, and ``bus.wait_for`` finds its reply at any later time."""

    def __init__(self, domain: str, command_id: UUID, seconds: float, where: str) -> None:
        """Keep all of it as attributes."""
        self.domain = domain
        self.command_id = command_id
        self.seconds = seconds
        self.where = where
        super().__init__(
            f"command {command_id} in domain {domain!r} has not ended within {seconds:g} s: {where}. It goes on; "
            "bus.wait_for(domain, command_id) finds its reply later"
        )


class InvalidReplyError(CommandError):
    """A command succeeded, and its result does not fit the model that was asked for."""

    def __init__(self, command_id: UUID, model: str, problem: str) -> None:
        """Keep all of it as attributes."""
        self.command_id = command_id
        self.model = model
        self.problem = problem
        super().__init__(f"the result of command {command_id} is no {model}: {problem}")


class ScheduleNotFoundError(CommandError):
    """No such schedule."""

    def __init__(self, name: str) -> None:
        """Keep the name as ``name``."""
        self.name = name
        super().__init__(f"no schedule {name!r}")


class DuplicateProcessError(CommandError):
    """A process with this id was started before; it goes on as if nothing had been asked."""

    def __init__(self, process_id: UUID) -> None:
        """Keep the id as ``process_id``."""
        self.process_id = process_id
        super().__init__(f"process {process_id} was started before")


class ProcessNotFoundError(CommandError):
    """No such process."""

    def __init__(self, process_id: UUID) -> None:
        """Keep the id as ``process_id``."""
        self.process_id = process_id
        super().__init__(f"no process {process_id}")


class InvalidOperationError(CommandError):
    """The command's status does not allow what was asked; the message names the status. Nothing was changed."""


class ActionNotFoundError(CommandError):
    """No operator decided anything under this id."""

    def __init__(self, action_id: UUID) -> None:
        """Keep the id as ``action_id``."""
        self.action_id = action_id
        super().__init__(f"there is no action {action_id}")


class ReasonRequiredError(InvalidOperationError):
    """The operators' rules ask for a reason, and none was given. Nothing was changed."""


class ApprovalRequiredError(InvalidOperationError):
    """The operators' rules ask for a second operator, and this call cannot wait for one. Nothing was changed."""

    def __init__(self, commands: int) -> None:
        """Keep how many commands it was about, as ``commands``."""
        self.commands = commands
        super().__init__(
            f"a decision on {commands} needs the approval of a second operator: propose it with "
            "TroubleshootingQueue.begin, or `mainstay tsq`"
        )


class SelectionChangedError(InvalidOperationError):
    """Another number of commands fits than the operator looked at. Nothing was changed; look again."""

    def __init__(self, expected: int, found: int) -> None:
        """Keep both numbers as attributes."""
        self.expected = expected
        self.found = found
        super().__init__(f"expected {expected:,} and found {found:,}: something changed meanwhile; look again")


class StaleLeaseError(CommandError):
    """The lease was lost to another worker; the work of this attempt was rolled back or refused."""


class HandlerError(MainstayError):
    """Base of what has to do with handlers."""


class HandlerNotFoundError(HandlerError):
    """No handler is registered for this type."""

    def __init__(self, domain: str, command_type: str) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.command_type = command_type
        super().__init__(f"no handler for {shown(command_type)} in domain {shown(domain)}")


class HandlerAlreadyRegisteredError(HandlerError, ValueError):
    """Two handlers for one command type."""

    def __init__(self, domain: str, command_type: str) -> None:
        """Keep both keys as attributes."""
        self.domain = domain
        self.command_type = command_type
        super().__init__(f"handler already registered for {domain}.{command_type}")


class _CodedError(HandlerError):
    """An error with a code that people and programs agree on.

    Args:
        code: Short, stable, for grouping: ``"TIMEOUT"``.
        message: For people.
        details: JSON object for the audit trail and the operator.
    """

    def __init__(self, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.error_message = message
        self.details = details
        super().__init__(f"[{code}] {message}")


class TransientCommandError(_CodedError):
    """Raised by a handler: try again according to the retry policy.

    Args:
        code: Short, stable, for grouping: ``"TIMEOUT"``.
        message: For people.
        details: JSON object for the audit trail and the operator.
        retry_after: Seconds or timedelta until the next attempt, instead of the policy's delay: what a remote system
            asked for. The number of attempts stays. What is no duration is logged, and the policy decides.
    """

    def __init__(
        self,
        code: str,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        retry_after: timedelta | float | None = None,
    ) -> None:
        super().__init__(code, message, details)
        self.retry_after = retry_after


class PermanentCommandError(_CodedError):
    """Raised by a handler: retrying cannot help; the command goes to the troubleshooting queue at once."""


class BusinessRuleException(_CodedError):
    """Raised by a handler: the business refuses. The command is FAILED, finally, and no operator is asked."""


class StorageError(MainstayError):
    """The database, or the way to it."""


class QueueNotFoundError(StorageError):
    """A queue that should receive something does not exist."""

    def __init__(self, queue: str) -> None:
        """Keep the name as ``queue``."""
        self.queue = queue
        super().__init__(
            f"queue {shown(queue)} does not exist; create it first: PgmqClient(pool).create_queue({shown(queue)})"
        )


class SchemaError(StorageError):
    """The database schema is not what this code needs."""


class SchemaMissingError(SchemaError):
    """Mainstay is not installed in this database."""


class SchemaOutdatedError(SchemaError):
    """The database schema is older than this code."""


class SchemaTooNewError(SchemaError):
    """The database schema is newer than this code, with a change that this code cannot live with."""


class SchemaDriftError(SchemaError):
    """The database differs from what its ledger says, or a released migration was edited."""


class PgmqMissingError(StorageError):
    """PGMQ is absent or too old, and could not be installed."""


class PermissionDeniedError(StorageError):
    """The database role may not do this; the message says what to grant."""


class StorageUnavailableError(StorageError):
    """No connection could be had, or it broke. If it broke during a commit, the outcome is unknown."""


class PoolExhaustedError(StorageUnavailableError):
    """No connection became free in time; make the pool larger or hold connections for a shorter time."""


class PoolClosedError(StorageUnavailableError):
    """The pool is not open; waiting does not help."""


class EmbeddedServerError(StorageError):
    """The embedded PostgreSQL server could not be started or stopped."""


def _by_detail(build: Callable[[str, UUID], MainstayError]) -> Callable[[str, str], MainstayError]:
    """For errors whose DETAIL is ``domain/uuid``."""

    def make(_message: str, detail: str) -> MainstayError:
        domain, _, key = detail.rpartition("/")
        return build(domain, UUID(key))

    return make


def _not_unique(_message: str, detail: str) -> MainstayError:
    """DETAIL is ``domain/command/holder/key``; only the key may hold a slash."""
    domain, command_id, holder_id, unique_key = detail.split("/", 3)
    return NotUniqueError(domain, KeyConflict(UUID(command_id), unique_key, UUID(holder_id)))


#: SQLSTATE of ours -> how to build the error from MESSAGE and DETAIL. Kept equal to the SQL by a test.
_SQLSTATES: dict[str, Callable[[str, str], MainstayError]] = {
    "MS001": lambda _message, detail: QueueNotFoundError(detail),
    "MS002": _by_detail(BatchNotFoundError),
    "MS003": _by_detail(DuplicateCommandError),
    "MS005": _by_detail(DuplicateBatchError),
    "MS006": _not_unique,
    "MS020": lambda message, _detail: InvalidOperationError(message),
    "MS021": lambda message, _detail: ReasonRequiredError(message),
    "MS022": lambda _message, detail: ApprovalRequiredError(int(detail)),
    "MS023": lambda _message, detail: SelectionChangedError(*map(int, detail.split("/"))),
    "MS024": lambda _message, detail: ActionNotFoundError(UUID(detail)),
    "MS004": lambda _message, detail: InvalidDomainError(detail),
    "MS030": lambda message, _detail: StaleLeaseError(message),
}


def error_for_sqlstate(sqlstate: str, message: str, detail: str | None = None) -> MainstayError | None:
    """The error of this tree for one of our SQLSTATEs, or None if it is not ours.

    Args:
        sqlstate: Five characters, ours begin with ``MS``.
        message: MESSAGE of the SQL error.
        detail: DETAIL of the SQL error, which holds the data.
    """
    make = _SQLSTATES.get(sqlstate)
    return make(message, detail or "") if make else None
