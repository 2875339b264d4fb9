"""What a person named and no domain has."""

from uuid import UUID

from mainstay.errors import BatchNotFoundError, CommandNotFoundError


class NoSuchCommandError(CommandNotFoundError):
    """No command has this id, in any domain or in the one that was named."""

    def __init__(self, command_id: UUID, domain: str | None) -> None:
        """Keep what was asked for."""
        super().__init__(domain or "", command_id)
        self.args = (f"there is no command {command_id}" + (f" in domain {domain}" if domain else ""),)


class NoSuchBatchError(BatchNotFoundError):
    """No batch has this id, in any domain or in the one that was named."""

    def __init__(self, batch_id: UUID, domain: str | None) -> None:
        """Keep what was asked for."""
        super().__init__(domain or "", batch_id)
        self.args = (f"there is no batch {batch_id}" + (f" in domain {domain}" if domain else ""),)
