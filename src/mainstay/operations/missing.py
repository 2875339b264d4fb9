"""What a person named and no domain has."""

from collections.abc import Sequence
from uuid import UUID

from mainstay.errors import BatchNotFoundError, CommandNotFoundError, InvalidOperationError


class NoSuchCommandError(CommandNotFoundError):
    """No command has this id, in any domain or in the one that was named."""

    def __init__(self, command_id: UUID, domain: str | None) -> None:
        """Keep what was asked for."""
        super().__init__(domain or "", command_id)
        self.args = (f"there is no command {command_id}" + (f" in domain {domain}" if domain else ""),)


class NoSuchCommandsError(CommandNotFoundError):
    """No command has any of these ids, in any domain or in the one that was named."""

    def __init__(self, command_ids: Sequence[UUID], domain: str | None) -> None:
        """Keep what was asked for."""
        super().__init__(domain or "", command_ids[0])
        where = f" in domain {domain}" if domain else ""
        self.args = (f"there is no command with any of these {len(command_ids)} ids{where}",)


class NoSuchGroupError(InvalidOperationError):
    """No command waits in this group of failures."""

    def __init__(self, group_id: str) -> None:
        """Keep what was asked for."""
        super().__init__(
            f"there is no group {group_id!r}: no command waits in it; `mainstay tsq groups` lists those that there are"
        )
        self.group_id = group_id


class NoSuchBatchError(BatchNotFoundError):
    """No batch has this id, in any domain or in the one that was named."""

    def __init__(self, batch_id: UUID, domain: str | None) -> None:
        """Keep what was asked for."""
        super().__init__(domain or "", batch_id)
        self.args = (f"there is no batch {batch_id}" + (f" in domain {domain}" if domain else ""),)
