"""Breakers on PostgreSQL. What opens them is in `complete`, what closes them in `receive`."""

from dataclasses import asdict
from typing import Any

from mainstay.commands.breakers import Breaker, BreakerEvent, BreakerEventType, BreakerRule, BreakerState
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, execute, fetch_all, fetch_value, sealed
from mainstay.storage.postgres.trail import deciding


class PostgresBreakerStore:
    """`mainstay.commands.breakers.BreakerStore` on PostgreSQL.

    Args:
        pool: Open; its connections are used for one call each.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("breakers")

    async def set_rule(self, rule: BreakerRule, *, operator: str | None) -> None:
        """Set the rule of a type, also for breakers that are open."""
        async with deciding(self._pool) as conn:
            await execute(conn, self._sql["set_rule"], asdict(rule) | {"operator": operator})

    async def remove_rule(self, domain: str, command_type: str, *, operator: str | None) -> bool:
        """Take the rule of a type away, and let go what its breakers hold; whether there was one."""
        return await self._asked("remove_rule", domain=domain, command_type=command_type, operator=operator)

    async def list_rules(self, domain: str | None) -> list[BreakerRule]:
        """Rules, by domain and type."""
        async with sealed(autocommit(self._pool)) as conn:
            return [BreakerRule(**row) for row in await fetch_all(conn, self._sql["list_rules"], {"domain": domain})]

    async def list_breakers(self, domain: str | None) -> list[Breaker]:
        """What is open or closing, by domain, type and fingerprint."""
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list_breakers"], {"domain": domain})
        return [Breaker(**row | {"state": BreakerState(row["state"])}) for row in rows]

    async def open(
        self, domain: str, command_type: str, fingerprint: str, *, operator: str | None, reason: str | None
    ) -> bool:
        """Open a breaker by hand; False if it is open, or the type has no rule."""
        which = {"domain": domain, "command_type": command_type, "fingerprint": fingerprint}
        return await self._asked("open", **which, operator=operator, reason=reason)

    async def close(
        self, domain: str, command_type: str, fingerprint: str, *, operator: str | None, reason: str | None
    ) -> bool:
        """Let go what a breaker holds, and count failures again; False if it is not open or closing."""
        which = {"domain": domain, "command_type": command_type, "fingerprint": fingerprint}
        return await self._asked("close", **which, operator=operator, reason=reason)

    async def list_events(self, domain: str | None, *, limit: int) -> list[BreakerEvent]:
        """What happened, newest first."""
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list_events"], {"domain": domain, "limit": limit})
        return [BreakerEvent(**row | {"event_type": BreakerEventType(row["event_type"])}) for row in rows]

    async def _asked(self, query: str, **parameters: Any) -> bool:
        async with deciding(self._pool) as conn:
            return bool(await fetch_value(conn, self._sql[query], parameters))
