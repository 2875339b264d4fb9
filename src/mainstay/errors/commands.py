"""Errors about commands, batches, schedules and processes."""

from typing import NamedTuple
from uuid import UUID

from mainstay.errors.base import MainstayError, shown


class CommandError(MainstayError):
    """Something about one command or batch."""


class DuplicateCommandError(CommandError):
    """A command with this id was sent before in this domain; the first one stands."""

    def __init__(self, domain: str, command_id: UUID, differs: str | None = None) -> None:
        """Keep both keys as attributes, and in what a send with ``idempotent`` differs from the first."""
        self.domain = domain
        self.command_id = command_id
        self.differs = differs
        but = f" and differs in its {differs}: what was sent first stands, and this was not sent" if differs else ""
        super().__init__(f"command {command_id} was already sent in domain {shown(domain)}{but}")


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


class ConversationNotFoundError(CommandError):
    """Nothing has this id."""

    def __init__(self, asked: UUID) -> None:
        """Keep what was asked for."""
        self.asked = asked
        super().__init__(
            f"nothing here is called {asked}: no command, event, batch or process, and no conversation; it was never "
            "committed in this database, or was forgotten since"
        )


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
