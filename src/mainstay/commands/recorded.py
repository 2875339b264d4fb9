"""Commands that were sent, as their handlers see them again."""

from typing import Any

from mainstay.commands.command import Command, CommandMetadata


def recorded_command(known: CommandMetadata) -> Command[Any]:
    """A command as its handler saw it; its payload must not have been pruned."""
    return Command(
        domain=known.domain,
        command_type=known.command_type,
        command_id=known.command_id,
        data=known.data,
        correlation_id=known.correlation_id,
        reply_to=known.reply_to,
        created_at=known.created_at,
        headers=known.headers or {},
        key=known.key,
    )
