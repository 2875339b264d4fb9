"""Gates on PostgreSQL: pauses and limits. What commands do before them is in `receive`."""

from dataclasses import asdict
from typing import Any

from mainstay.commands.gates import Limit, LimitState, Pause
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.database import Pool, autocommit, execute, fetch_all, fetch_value, sealed
from mainstay.storage.postgres.trail import deciding


class PostgresGateStore:
    """`mainstay.commands.gates.GateStore` on PostgreSQL.

    Args:
        pool: Open; its connections are used for one call each.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("gates")

    async def set_limit(self, limit: Limit) -> None:
        """Set all limits of a type."""
        async with deciding(self._pool) as conn:
            await execute(conn, self._sql["set_limit"], asdict(limit))

    async def remove_limit(self, domain: str, command_type: str) -> bool:
        """Take the limits of a type away; whether there were any."""
        return await self._asked("remove_limit", domain=domain, command_type=command_type)

    async def list_limits(self, domain: str | None) -> list[LimitState]:
        """Limits, by domain and type."""
        async with sealed(autocommit(self._pool)) as conn:
            rows = await fetch_all(conn, self._sql["list_limits"], {"domain": domain})
        return [LimitState(parked=row.pop("parked"), running=row.pop("running"), limit=Limit(**row)) for row in rows]

    async def pause(self, domain: str, command_type: str | None, *, operator: str | None, reason: str | None) -> bool:
        """Start no more commands of a domain or type; False if it was paused already."""
        return await self._asked("pause", domain=domain, command_type=command_type, operator=operator, reason=reason)

    async def resume(self, domain: str, command_type: str | None) -> bool:
        """Start commands again; False if it was not paused."""
        return await self._asked("resume", domain=domain, command_type=command_type)

    async def list_pauses(self, domain: str | None) -> list[Pause]:
        """What is paused, by domain and type."""
        async with sealed(autocommit(self._pool)) as conn:
            return [Pause(**row) for row in await fetch_all(conn, self._sql["list_pauses"], {"domain": domain})]

    async def _asked(self, query: str, **parameters: Any) -> bool:
        async with deciding(self._pool) as conn:
            return bool(await fetch_value(conn, self._sql[query], parameters))
