"""What operators look for among all commands, in bounded steps.

What an index leads to (a conversation, a batch, those that wait for an operator) is taken from there, unless that is
much. Anything else is looked for from the newest command on, a number of commands at a time, and the answer says how
far was looked. So no search reads a million commands before it says something.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from mainstay.commands.command import CommandMetadata, Place
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.search import Found, Sought
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import metadata_from
from mainstay.storage.postgres.database import Connection, Pool, autocommit, fetch_all, fetch_one, sealed

LOOK: Final = 20_000
"""Commands that one search reads at most."""
LOOK_INTO: Final = 10_000
"""The same where it looks into payloads."""
_FEW: Final = 5_000
"""Commands that are looked at one by one where an index leads to them."""
_AHEAD: Final = 4
"""The first step reads so many times the commands that are asked for."""


class PostgresSearch:
    """Looks for commands.

    Args:
        pool: Open.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = queries.load("searching")

    async def commands(self, which: Sought, *, limit: int, after: Place | None) -> Found:
        """Commands that meet all conditions, newest first, and how far was looked for them."""
        async with sealed(autocommit(self._pool)) as conn:
            among = await self._led_to(conn, which)
            left = LOOK if which.text is None else LOOK_INTO
            looked, keys = 0, list[tuple[UUID, str]]()
            step = min(_AHEAD * limit, left) if among is None else len(among)
            place = after
            while True:
                row = await self._step(
                    conn, which, among, place, step=step, limit=limit + 1 - len(keys)
                )  # one more tells whether there is another page
                looked += row["looked"]
                keys += zip(row["command_ids"] or (), row["domains"] or (), strict=True)
                if row["edge_id"] is not None:
                    place = Place(row["edge_time"], row["edge_id"], row["edge_domain"])
                is_over = among is not None or row["looked"] < step
                if is_over or len(keys) > limit or looked >= left:
                    break
                step = left - looked
            found = await self._these(conn, keys[:limit])
        if len(keys) > limit:
            return Found(found, Place.of(found[-1]), looked, None)
        return Found(found, None if is_over else place, looked, None if is_over or place is None else place.created_at)

    async def known_as(self, least: UUID, most: UUID, *, limit: int) -> list[dict[str, Any]]:
        """What has an id in a range; so many of each kind at most."""
        asked = {"least": least, "most": most, "limit": limit}
        async with sealed(autocommit(self._pool)) as conn:
            return list(await fetch_all(conn, self._sql["known_as"], asked))

    async def is_conversation(self, correlation_id: UUID) -> bool:
        """Whether commands have this correlation id."""
        asked = {"correlation_id": correlation_id, "limit": 1}
        async with sealed(autocommit(self._pool)) as conn:
            return await fetch_one(conn, self._sql["of_conversation"], asked) is not None

    async def _led_to(self, conn: Connection, which: Sought) -> list[UUID] | None:
        """The ids of the commands to look at, where an index leads to few; None where it is no use."""
        if which.correlation_id is not None:
            question = "of_conversation"
        elif which.batch_id is not None:
            question = "of_batch"
        elif which.status is CommandStatus.IN_TROUBLESHOOTING_QUEUE:
            question = "in_trouble"
        else:
            return None
        asked = {"correlation_id": which.correlation_id, "batch_id": which.batch_id, "limit": _FEW + 1}
        rows = await fetch_all(conn, self._sql[question], asked)
        return [row["command_id"] for row in rows] if len(rows) <= _FEW else None

    async def _step(
        self, conn: Connection, which: Sought, among: list[UUID] | None, after: Place | None, *, step: int, limit: int
    ) -> dict[str, Any]:
        at, after_id, after_domain = after or (None, None, None)
        asked = {
            "domain": which.domain,
            "status": which.status,
            "command_type": which.command_type,
            "batch_id": which.batch_id,
            "tenant_id": which.tenant_id,
            "correlation_id": which.correlation_id,
            "key": which.key,
            "text": which.text,
            "since": which.since,
            "until": which.until,
            "among": among,
            "after_time": at,
            "after_id": after_id,
            "after_domain": after_domain,
            "step": step,
            "limit": limit,
        }
        row = await fetch_one(conn, self._sql["look_back"], asked)
        assert row is not None  # noqa: S101 - it answers one row, whatever there is
        return row

    async def _these(self, conn: Connection, keys: Sequence[tuple[UUID, str]]) -> list[CommandMetadata]:
        if not keys:
            return []
        asked = {"command_ids": [key for key, _ in keys], "domains": [domain for _, domain in keys]}
        return [metadata_from(row) for row in await fetch_all(conn, self._sql["these_commands"], asked)]
