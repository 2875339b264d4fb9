"""What tracing asks, in memory."""

from collections.abc import Sequence
from uuid import UUID

from mainstay.commands.command import BatchMetadata
from mainstay.commands.conversation import TracedCommand
from mainstay.commands.lifecycle import AuditEventType
from mainstay.commands.memory_questions import batch_metadata, metadata
from mainstay.commands.memory_unit import Row, State


class MemoryConversation:
    """`mainstay.commands.conversation.ConversationStore` in memory."""

    _state: State

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[TracedCommand]:
        """The commands of these conversations, the earliest first."""
        wanted = set(correlation_ids)
        found = [row for row in self._state.rows.values() if row.new.correlation_id in wanted]
        return [self._traced(row) for row in sorted(found, key=_by_age)[:limit]]

    async def commands_known_as(self, command_id: UUID) -> list[TracedCommand]:
        """The commands with an id, in all domains."""
        found = [row for row in self._state.rows.values() if row.new.command_id == command_id]
        return [self._traced(row) for row in sorted(found, key=_by_age)]

    async def batches_known_as(self, batch_id: UUID) -> list[BatchMetadata]:
        """The batches with an id, in all domains."""
        found = [batch for batch in self._state.batches.values() if batch.new.batch_id == batch_id]
        return [batch_metadata(self._state, batch) for batch in found]

    def _traced(self, row: Row) -> TracedCommand:
        received = [
            event.timestamp
            for event in self._state.audit.get(row.new.command_id, ())
            if event.event_type is AuditEventType.RECEIVED and event.domain == row.new.domain
        ]
        return TracedCommand(metadata(row), min(received, default=None), max(received, default=None))


def _by_age(row: Row) -> tuple[object, ...]:
    return row.created_at, row.seq
