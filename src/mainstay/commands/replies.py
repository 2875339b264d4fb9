"""What waiting for the ends of commands asks of a database.

The reply to a command is the end of its row: status, result, error. So a reply cannot be lost, and whoever waits looks
at the row, now or a week later, in any process. Being told when to look is a convenience on top.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from uuid import UUID

from mainstay.commands.command import CommandMetadata, Reply
from mainstay.commands.lifecycle import TERMINAL, CommandStatus, ReplyOutcome

if TYPE_CHECKING:
    from mainstay.commands.store import Wakeups

Key: TypeAlias = tuple[str, UUID]
"""Domain and id of a command."""


class ReplyStore(Protocol):
    """What waiting asks of a database."""

    async def get_replies(self, keys: Sequence[Key]) -> Mapping[Key, Reply]:
        """The replies of those of these commands that have ended."""
        ...

    async def about_to_wait(self, keys: Sequence[Key], waiter: str, seconds: float) -> None:
        """Ask to be told, for so many seconds, when one of these commands ends; they may be sent later.

        Of two that happen at once, this and an end, both may miss the other: whoever waits also looks by himself.
        """
        ...

    async def stop_waiting(self, keys: Sequence[Key], waiter: str) -> None:
        """Take `about_to_wait` back."""
        ...

    async def reply_again(self, domain: str, command_id: UUID, reply_to: str, *, conn: Any = None) -> bool:
        """Put the reply to a command that has ended into a queue, for somebody who sent it again.

        Returns whether it did: not if the command has not ended, or there is no such queue. Where replies arrive as
        commands, each is there once.
        """
        ...

    def replies_heard(self, waiter: str) -> "AbstractAsyncContextManager[Wakeups]":
        """Listen for what `about_to_wait` asks for; heard is what ends after the block has begun."""
        ...


def reply_of(command: CommandMetadata) -> Reply | None:
    """The reply to a command; None if it has not ended."""
    return reply_from(
        command.command_id,
        command.correlation_id,
        command.status,
        command.result,
        command.last_error_code,
        command.last_error_msg,
        command.position,
    )


def reply_from(  # noqa: PLR0917 - the columns of a row
    command_id: UUID,
    correlation_id: UUID | None,
    status: CommandStatus,
    result: Any,
    error_code: str | None,
    error_message: str | None,
    position: int | None = None,
) -> Reply | None:
    """The reply that the columns of a command make; None if it has not ended."""
    if status not in TERMINAL:
        return None
    if status is CommandStatus.COMPLETED:
        return Reply(command_id, correlation_id, ReplyOutcome.SUCCESS, result, position=position)
    return Reply(command_id, correlation_id, ReplyOutcome(status.value), result, error_code, error_message, position)
