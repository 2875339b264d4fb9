"""Group commit on PostgreSQL: one statement, which is one transaction, for many commands and the events that follow.

What it locks, in which order, and what a crash leaves is written in the heads of ``commit_group.sql`` and
``append_current.sql``.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
from psycopg.rows import tuple_row

from mainstay.commands.deciders import Fate
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.store import CommandStore, WouldWaitError
from mainstay.deciding.groups import EventDeciders
from mainstay.deciding.memory import MemoryGroupStore
from mainstay.deciding.store import ToCommit
from mainstay.errors import StorageUnavailableError
from mainstay.events.memory import MemoryEventLog
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import outcome_fields
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import HeldConnection, Pool, autocommit, sealed
from mainstay.storage.postgres.event_rows import group_events, names_of, plain_array_of
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.replies import tell

_FEW_CONNECTIONS = 5
"""A pool of fewer connections keeps none back for groups."""


class PostgresGroupStore:
    """`mainstay.deciding.store.GroupStore` on PostgreSQL.

    Args:
        pool: Open.
        log: Where the events are: in the database of the pool.
    """

    def __init__(self, pool: Pool, log: PostgresEventLog) -> None:
        self._pool = pool
        self._log = log
        self._sql = queries.load("groups")
        self._held = HeldConnection(pool) if pool.max_size >= _FEW_CONNECTIONS else None

    async def commit(self, domain: str, group: Sequence[ToCommit]) -> list[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing; one round trip."""
        parameters = {"domain": domain, **_group_parameters(group)}
        try:
            async with sealed(autocommit(self._pool) if self._held is None else self._held.connection()) as conn:
                async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
                    await cursor.execute(self._sql["commit_group"], parameters)
                    rows = await cursor.fetchall()
                await tell(conn, [(domain, command_id) for command_id, _, awaited in rows if awaited])
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable | psycopg.errors.QueryCanceled):
                raise WouldWaitError from error
            raise
        self._log.nudge()
        fates = {command_id: Fate(fate) for command_id, fate, _ in rows}
        return [fates[each.outcome.lease.command_id] for each in group]

    async def close(self) -> None:
        """Give the connection back."""
        if self._held is not None:
            await self._held.close()


def group_deciders(
    store: CommandStore, event_store: EventStore, snapshots: SnapshotPolicy | None
) -> EventDeciders | None:
    """What lets commands be decided on in groups; None where they are decided on one by one.

    Args:
        store: Of the commands.
        event_store: Of the events, in the same place.
        snapshots: When to leave one.
    """
    log = event_store.log
    if event_store.has_inline:  # they write between the append and the completion
        return None
    if isinstance(store, PostgresCommandStore) and isinstance(log, PostgresEventLog):
        return EventDeciders(event_store, PostgresGroupStore(store.pool, log), snapshots=snapshots)
    if isinstance(store, MemoryCommandStore) and isinstance(log, MemoryEventLog):
        return EventDeciders(event_store, MemoryGroupStore(store, log), snapshots=snapshots)
    return None


def _group_parameters(group: Sequence[ToCommit]) -> dict[str, Any]:
    """What commandbus.commit_group takes."""
    places: dict[StreamId, int] = {}
    expected: list[int] = []
    counts: list[int] = []
    outcomes: list[dict[str, Any]] = []
    events: list[tuple[int, int, str, Any]] = []
    for each in group:
        found = each.consequence
        place = places.setdefault(found.stream_id, len(places) + 1)
        if place > len(expected):
            expected.append(found.version_read)
            counts.append(0)
        counts[place - 1] += len(found.written)
        events += (
            (place, version, found.stream_id.category, event)
            for version, event in enumerate(found.written, found.version_read + 1)
        )
        fields = outcome_fields(each.outcome)
        fields["stream"] = place
        fields["version"] = found.version
        if found.written:
            fields["last"] = len(events)
        outcomes.append(fields)
    return {
        "outcomes": orjson.dumps(outcomes).decode(),
        "sends": any(each.outcome.sends for each in group),
        **names_of(list(places)),
        "expected": plain_array_of(expected),
        "counts": plain_array_of(counts),
        **group_events(events),
    }
