"""`mainstay.commands.ledger.LedgerStore` on PostgreSQL."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from mainstay.commands.ledger import Decision, DecisionFilter, StreamName
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.replies import reply_from
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, fetch_one, sealed


class PostgresLedger:
    """What was decided.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("ledger")

    async def get(self, domain: str, command_id: UUID) -> Decision | None:
        """What was decided on a command."""
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["get_decision"], {"domain": domain, "command_id": command_id})
        return None if row is None else _decision_from(row)

    async def list(self, which: DecisionFilter, *, after: int, limit: int) -> Sequence[Decision]:
        """Decisions, in the order in which their commands were sent."""
        stream = which.stream
        asked = {
            "domain": which.domain,
            "command_type": which.command_type,
            "since": which.since,
            "until": which.until,
            "category": None if stream is None else stream.category,
            "stream_id": None if stream is None else stream.stream_id,
            "tenant_id": None if stream is None else stream.tenant_id or "",
            "after": after,
            "limit": limit,
        }
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list_decisions"], asked)
        return [_decision_from(row) for row in rows]


def _decision_from(row: dict[str, Any]) -> Decision:
    reply = reply_from(
        row["command_id"],
        row["correlation_id"],
        CommandStatus(row["status"]),
        row["result"],
        row["error_code"],
        row["error_message"],
    )
    return Decision(
        number=row["subject_no"],
        domain=row["domain"],
        command_id=row["command_id"],
        command_type=row["command_type"],
        decided_at=row["decided_at"],
        handler=row["handler"],
        handler_version=row["handler_version"],
        stream=StreamName(row["category"], row["stream_id"], row["tenant_id"] or None),
        version_read=row["version_read"],
        events=row["events"],
        sends=tuple(zip(row["sent_domains"] or (), row["sent_ids"] or (), strict=True)),
        reply=reply,
    )
