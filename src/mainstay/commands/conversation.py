"""What commands know of a conversation: all that share a correlation id, whoever sent them, in whatever domain.

A command belongs to the conversation that its sender says, else to that of the command or event that is being handled
where it is sent, else it begins one of its own. What caused it stands beside that, see `mainstay.commands.carried`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from mainstay.commands.command import BatchMetadata, CommandMetadata


@dataclass(frozen=True, slots=True)
class TracedCommand:
    """A command of a conversation.

    Args:
        command: All that is known of it.
        first_received: When a worker first had it; None if none has, or if that was pruned.
        last_received: When a worker last had it.
    """

    command: CommandMetadata
    first_received: datetime | None = None
    last_received: datetime | None = None


class ConversationStore(Protocol):
    """What tracing asks of a database about commands."""

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[TracedCommand]:
        """The commands of these conversations, the earliest first, at most so many."""
        ...

    async def commands_known_as(self, command_id: UUID) -> list[TracedCommand]:
        """The commands with an id, in all domains."""
        ...

    async def batches_known_as(self, batch_id: UUID) -> list[BatchMetadata]:
        """The batches with an id, in all domains."""
        ...
