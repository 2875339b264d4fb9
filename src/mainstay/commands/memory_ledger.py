"""The ledger in the memory store."""

from collections.abc import Sequence
from uuid import UUID

from mainstay.commands.ledger import Decision, DecisionFilter
from mainstay.commands.memory_questions import metadata
from mainstay.commands.memory_unit import Key, State
from mainstay.commands.replies import reply_of


class MemoryLedger:
    """`mainstay.commands.ledger.LedgerStore` in memory.

    Args:
        state: Whose commands were decided on.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, domain: str, command_id: UUID) -> Decision | None:
        """What was decided on a command."""
        key = domain, command_id
        return self._described(key) if key in self._state.decisions else None

    async def list(self, which: DecisionFilter, *, after: int, limit: int) -> Sequence[Decision]:
        """Decisions, in the order in which their commands were sent."""
        found = [self._described(key) for key in self._state.decisions]
        passing = [each for each in found if each.number > after and _passes(which, each)]
        return sorted(passing, key=lambda each: each.number)[:limit]

    def _described(self, key: Key) -> Decision:
        row, (decided_at, decision) = self._state.rows[key], self._state.decisions[key]
        return Decision(
            number=row.seq,
            domain=key[0],
            command_id=key[1],
            command_type=row.new.command_type,
            decided_at=decided_at,
            handler=decision.handler,
            handler_version=decision.handler_version,
            stream=decision.stream,
            version_read=decision.version_read,
            events=decision.events,
            sends=decision.sends,
            reply=reply_of(metadata(row)),
        )


def _passes(which: DecisionFilter, decision: Decision) -> bool:
    return (
        which.domain in (None, decision.domain)
        and which.command_type in (None, decision.command_type)
        and which.stream in (None, decision.stream)
        and (which.since is None or which.since <= decision.decided_at)
        and (which.until is None or decision.decided_at < which.until)
    )
