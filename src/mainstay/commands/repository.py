"""Commands as rows: what a bus that somebody wrote himself asks of a repository.

Our own bus does not go through here: sending, receiving and completing are each one call of `store.CommandStore`.
"""

from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from mainstay.commands.command import CommandMetadata
from mainstay.commands.lifecycle import CommandStatus


@runtime_checkable
class CommandRepository(Protocol):
    """Repository of command metadata. With ``conn``, every method joins that connection's transaction."""

    async def save(self, command: CommandMetadata, *, conn: Any = None) -> None:
        """Store a new command.

        Raises:
            DuplicateCommandError: The id is known in this domain.
        """
        ...

    async def get_by_id(self, domain: str, command_id: UUID, *, conn: Any = None) -> CommandMetadata | None:
        """One command, or None."""
        ...

    async def update_status(self, domain: str, command_id: UUID, status: CommandStatus, *, conn: Any = None) -> None:
        """Set the status of a command that has not ended.

        Raises:
            CommandNotFoundError: No such command.
            InvalidOperationError: It has ended.
        """
        ...
