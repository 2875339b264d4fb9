"""Keys in the memory store: whose turn it is stands in `State.heads`, who waits is counted."""

from collections import Counter
from collections.abc import Sequence

from mainstay.commands.keys import KeyState, KeyVerdict
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.memory_unit import State, Unit


class MemoryKeyStore:
    """`mainstay.commands.keys.KeyStore` in memory.

    Args:
        state: Whose commands share the keys.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def list(
        self, domain: str | None, key: str | None, *, blocked: bool, limit: int, offset: int
    ) -> Sequence[KeyState]:
        """Keys in use, the longest waiting head first."""
        heads = self._state.heads
        waiting = Counter((row.new.domain, row.new.key or "") for row in self._state.rows.values() if row.in_line)
        names = [name for name in heads.keys() | waiting.keys() if domain in (None, name[0]) and key in (None, name[1])]
        found = [self._described(name, waiting[name]) for name in names]
        found.sort(key=lambda each: (each.since is None, each.since, each.domain, each.key))
        return [each for each in found if each.is_blocked or not blocked][offset : offset + limit]

    def _described(self, name: tuple[str, str], waiting: int) -> KeyState:
        head = self._state.heads.get(name)
        row = self._state.rows[head] if head else None
        return KeyState(
            *name,
            waiting=waiting,
            head=head[1] if head else None,
            head_status=row.status if row else None,
            since=row.updated_at if row else None,
            due_at=row.due_at if row else None,
            error_code=row.error_code if row else None,
            is_held=row is not None and row.held_by is not None,
        )

    async def release(self, domain: str, key: str, *, operator: str | None, reason: str | None) -> KeyVerdict | None:
        """Let a key go on without its head."""
        head = self._state.heads.get((domain, key))
        if head is None:
            return None
        unit = Unit(self._state)
        try:
            await unit.claim([head])
            row = self._state.rows[head]
            waits = row.status is CommandStatus.PENDING and (row.due_at is not None or row.held_by is not None)
            is_free = waits or row.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE
            if is_free and self._state.heads.get((domain, key)) == head:
                unit.audit(head, AuditEventType.KEY_RELEASED, operator=operator, reason=reason)
                unit.commit()
                del self._state.heads[domain, key]
                return KeyVerdict(head[1], row.status, is_released=True)
            return KeyVerdict(head[1], row.status, is_released=False)
        finally:
            unit.end()
