"""How operators find things: commands by any conditions, in bounded steps."""

from typing import Any

from mainstay.commands.command import Place
from mainstay.commands.search import Found, Sought
from mainstay.storage.postgres.searching import PostgresSearch


class Search:
    """Finds commands.

    Args:
        pool: An open ``psycopg_pool.AsyncConnectionPool``.
    """

    def __init__(self, pool: Any) -> None:
        self._store = PostgresSearch(pool)

    async def commands(self, which: Sought, *, limit: int = 50, after: Place | None = None) -> Found:
        """Commands that meet all conditions, newest first, and how far was looked: no search reads all there are.

        Args:
            which: The conditions.
            limit: Commands at most.
            after: Where the page before ended, or where it stopped looking.
        """
        return await self._store.commands(which, limit=limit, after=after)
