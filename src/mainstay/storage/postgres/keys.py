"""`mainstay.commands.keys.KeyStore` on PostgreSQL."""

from collections.abc import Sequence

from mainstay.commands.keys import KeyState, KeyVerdict
from mainstay.commands.lifecycle import CommandStatus
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, fetch_all, fetch_one, sealed


class PostgresKeyStore:
    """Keys, and letting them go on.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("keys")

    async def list(
        self, domain: str | None, key: str | None, *, blocked: bool, limit: int, offset: int
    ) -> Sequence[KeyState]:
        """Keys in use, the longest waiting head first."""
        asked = {"domain": domain, "key": key, "limit": limit, "offset": offset}
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list_blocked_keys" if blocked else "list_keys"], asked)
        return [
            KeyState(**row | {"head_status": CommandStatus(row["head_status"]) if row["head_status"] else None})
            for row in rows
        ]

    async def release(self, domain: str, key: str, *, operator: str | None, reason: str | None) -> KeyVerdict | None:
        """Let a key go on without its head; one round trip."""
        asked = {"domain": domain, "key": key, "operator": operator, "reason": reason}
        async with sealed(autocommit(self._pool)) as conn:
            row = await fetch_one(conn, self._sql["release_key"], asked)
        if row is None:
            return None
        return KeyVerdict(row["command_id"], CommandStatus(row["status"]), row["is_released"])
