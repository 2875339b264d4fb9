"""Group commit on PostgreSQL: one statement, which is one transaction, for many commands and the events that follow.

What it locks, in which order, and what a crash leaves is written in the heads of ``commit_group.sql`` and
``append_current.sql``.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, LiteralString

import orjson
import psycopg
from psycopg.rows import tuple_row

from mainstay.commands.deciders import Fate
from mainstay.commands.ledger import StreamName
from mainstay.commands.memory import MemoryCommandStore
from mainstay.commands.store import CommandStore, WouldWaitError
from mainstay.deciding.groups import EventDeciders
from mainstay.deciding.memory import MemoryGroupStore
from mainstay.deciding.store import HeldStreams, ToCommit
from mainstay.errors import StorageUnavailableError
from mainstay.events.memory import MemoryEventLog
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.command_rows import outcome_fields
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.database import Connection, HeldConnection, Pool, autocommit, sealed
from mainstay.storage.postgres.event_rows import array_of, group_events, plain_array_of, tenant_text
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.prepared import PreparedScript, encoded, rows_from
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
        self._commit = PreparedScript(f"{self._sql['commit_group']};\n{self._sql['commit']}")
        self._held = HeldConnection(pool)

    @asynccontextmanager
    async def holding(
        self, streams: Sequence[StreamId], after: Mapping[StreamId, int] | None = None
    ) -> AsyncIterator[HeldStreams]:
        """A transaction that holds streams, as far as nobody else does; one round trip, and one for `commit`."""
        names = sorted(streams, key=lambda each: (each.category, tenant_text(each.tenant_id), str(each.id)))
        with _saying_that_it_would_wait():
            async with sealed(autocommit(self._pool)) as conn:
                mine, found = await self._log.begin_holding(names, after or {}, conn=conn)
                yield HeldStreams(mine, conn, found=found)

    async def commit(self, domain: str, group: Sequence[ToCommit], *, held: HeldStreams | None = None) -> list[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing; one round trip."""
        parameters = {"domain": domain, **_group_parameters(group)}
        if held is not None:
            answer, _ = await self._commit.run(held.conn, encoded(parameters))
            ((fates, awaited),) = rows_from(held.conn, answer)
            await tell(held.conn, [(domain, command_id) for command_id in awaited])
        else:
            with _saying_that_it_would_wait():
                async with sealed(await self._connection()) as conn:
                    ((fates, awaited),) = await _rows(conn, self._sql["commit_group"], parameters)
                    await tell(conn, [(domain, command_id) for command_id in awaited])
        self._log.nudge()
        return [Fate(fate) for fate in fates]

    async def close(self) -> None:
        """Give the connection back."""
        await self._held.close()

    async def _connection(self) -> AbstractAsyncContextManager[Connection]:
        """The one that is kept, if the pool has enough now: it may have been resized."""
        if self._pool.max_size >= _FEW_CONNECTIONS:
            return self._held.connection()
        await self._held.close()
        return autocommit(self._pool)


@contextmanager
def _saying_that_it_would_wait() -> Iterator[None]:
    """A lock that was not to be had in time is no reason to take the database for unreachable."""
    try:
        yield
    except StorageUnavailableError as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable | psycopg.errors.QueryCanceled):
            raise WouldWaitError from error
        raise


async def _rows(conn: Connection, query: LiteralString, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


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
    places: dict[StreamName, int] = {}
    expected: list[int] = []
    counts: list[int] = []
    outcomes: list[dict[str, Any]] = []
    events: list[tuple[int, int, str, Any]] = []
    for each in group:
        found = each.consequence
        place = places.setdefault(found.stream, len(places) + 1)
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
        "categories": array_of(stream.category for stream in places),
        "tenants": array_of(tenant_text(stream.tenant_id) for stream in places),
        "ids": array_of(stream.stream_id for stream in places),
        "expected": plain_array_of(expected),
        "counts": plain_array_of(counts),
        **group_events(events),
    }
