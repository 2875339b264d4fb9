"""Conversations: what led to something, and what followed from it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import Field

from mainstay.operations.console.access import User
from mainstay.operations.console.asking import Asked, Desk, operation


class OneConversation(Asked):
    """By the id of anything in it."""

    asked: UUID
    limit: int = Field(500, ge=1, le=5_000)


@dataclass(frozen=True, slots=True)
class ConversationStep:
    """Something in a conversation; what it caused follows it, one deeper."""

    kind: str
    id: UUID
    name: str
    depth: int
    place: str | None
    status: str | None
    at: datetime | None
    waited_seconds: float | None
    took_seconds: float | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class ConversationTree:
    """A conversation, read from top to bottom; ``more`` if there is more than was read."""

    asked: UUID
    correlation_ids: list[UUID]
    steps: list[ConversationStep]
    more: bool


@operation("GET", "/conversations/{asked}", OneConversation, ConversationTree)
async def show_conversation(desk: Desk, asked: OneConversation, _user: User) -> ConversationTree:
    """What led to something, and what followed from it: commands, events, batches and processes."""
    found = await desk.operator.conversations.find(asked.asked, limit=asked.limit)
    steps = [
        ConversationStep(
            step.kind.value, step.id, step.name, step.depth, step.place, step.status, step.at, step.waited, step.took,
            step.command.command.last_error_code if step.command else None,
        )
        for step in found.steps
    ]  # fmt: skip
    return ConversationTree(found.asked, list(found.correlation_ids), steps, found.more)
