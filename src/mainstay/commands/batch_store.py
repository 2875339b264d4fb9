"""What batches ask of a database."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from mainstay.commands.command import BatchMetadata
from mainstay.commands.lifecycle import BatchStatus

if TYPE_CHECKING:
    from mainstay.commands.store import Answer, NewBatch, NewCommand


class BatchStore(Protocol):
    """The part of `mainstay.commands.store.CommandStore` that is about batches."""

    async def create_batch(
        self, batch: "NewBatch", commands: "Sequence[NewCommand]", *, conn: Any = None
    ) -> "list[Answer]":
        """Create a batch and send its commands, or, if any is refused, nothing at all.

        Raises:
            BatchNotFoundError: There is no such parent.
            InvalidOperationError: The parent has ended.
        """
        ...

    async def send_to_batch(self, domain: str, batch_id: UUID, commands: "Sequence[NewCommand]") -> "list[Answer]":
        """Send a chunk into an open batch, or, if any is refused, nothing of it.

        Raises:
            BatchNotFoundError: There is no such batch.
            InvalidOperationError: It was sealed.
        """
        ...

    async def seal_batch(self, domain: str, batch_id: UUID) -> None:
        """Let a batch end with what it has; waits for chunks on their way. Raises as `send_to_batch`, but if sealed."""
        ...

    async def get_batch(self, domain: str, batch_id: UUID) -> BatchMetadata | None:
        """One batch, its counts exact."""
        ...

    async def list_batches(
        self, domain: str | None, *, status: BatchStatus | None, parent_id: UUID | None = None, limit: int, offset: int
    ) -> list[BatchMetadata]:
        """Batches, newest first; of one parent, if it is given."""
        ...

    async def fold_batches(self, domain: str) -> list[UUID]:
        """Sum up open batches of a domain, finish those that are done, and send their completion commands.

        Returns the finished.
        """
        ...
