"""The log of events on SQLite.

Positions are given out under SQLite's one write lock, which is held until the commit: their order is that of the
commits, and the horizon is simply the last one. What is decided about an append is decided here, between BEGIN
IMMEDIATE and COMMIT, while nobody else can write. See `mainstay.storage.sqlite.database` for how transactions fail.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import orjson

from mainstay.clock import Clock, SystemClock
from mainstay.errors import AppendConditionError, InvalidInputError, StreamNotFoundError, StreamTombstonedError
from mainstay.events import checks
from mainstay.events.decisions import Standing, refuse_closed, refuse_unexpected, repeated, window
from mainstay.events.log import (
    EVERYTHING,
    PAGE,
    Appended,
    Condition,
    FeedFilter,
    FeedPage,
    Horizon,
    NewEvent,
    Part,
    RecordedEvent,
    StreamAppend,
    StreamState,
)
from mainstay.events.stream import LARGEST_VERSION, StreamId
from mainstay.joining import Shared
from mainstay.projections.read_model_store import ReadModelStore
from mainstay.storage.sqlite.callers import CallersConnection
from mainstay.storage.sqlite.database import Database, SQLiteTransaction, fetch, queries, run, run_many
from mainstay.storage.sqlite.event_rows import (
    EPOCH,
    Known,
    as_json,
    event_of,
    events_of,
    micros_of,
    parts_of,
    row_of,
    state_of,
    stream_of,
)
from mainstay.storage.sqlite.projections import SQLiteProjectionStore
from mainstay.storage.sqlite.snapshots import SQLiteSnapshotStore
from mainstay.tenancy import checked_tenant

CHUNK = 1_000
"""Events that an import writes at a time."""
LOOK_EVERY = 0.1
"""Seconds after which who waits looks for what other processes have appended."""

_END_OF_TIME = 2**63 - 1


class SQLiteEventLog:
    """Events in a SQLite file. Several processes may use it at the same time.

    It opens itself when it is first used, makes the file if it is missing, and is to be closed: its connections have
    threads, which keep a program from ending. ``async with SQLiteEventLog(path) as log`` does both.

    A ``conn`` is what `transaction` gives, whose ``connection`` takes statements of your own; or an aiosqlite
    connection of your own to the same file, after a BEGIN IMMEDIATE.

    Args:
        path: The file; ``":memory:"`` for one that is deleted when the log is closed.
        clock: Where `RecordedEvent.recorded_at` comes from; the machine's unless given.
        patience: Seconds to wait for another transaction of this process, and for another process that writes.
        readers: Connections that read, at most.

    Raises:
        ConfigurationError: The path is none.
        MissingDependencyError: SQLite is too old.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        patience: float = 30.0,
        readers: int = 4,
    ) -> None:
        self._database = Database(path, clock or SystemClock(), patience=patience, readers=readers)
        self._sql = queries("events")
        self._grown = asyncio.Event()
        self._look = Shared(self.horizon)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the file, and install the schema if it is not there; does nothing if it is open.

        Raises:
            SchemaTooNewError: A newer version of mainstay has written it.
            DatabaseCorruptError: It is no database, or damaged.
            StorageError: It cannot be opened for another reason.
        """
        await self._database.open()

    async def close(self) -> None:
        """Close the file, after the transaction that is open; does nothing if it is closed."""
        await self._database.close()

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._database.is_open

    def snapshots(self) -> SQLiteSnapshotStore:
        """What keeps snapshots in the same file, and so in the same transactions."""
        return SQLiteSnapshotStore(self._database)

    def projections(self) -> SQLiteProjectionStore:
        """What keeps checkpoints in the same file, and so in the same transactions."""
        return SQLiteProjectionStore(self._database)

    def read_models(self) -> ReadModelStore:
        """Read models in the same file, and so in the same transactions."""
        from mainstay.storage.sqlite.read_models import (  # noqa: PLC0415 - SQLAlchemy, which others do without
            SQLiteReadModelStore,
        )

        return SQLiteReadModelStore(self._database)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction of our own, to be passed as ``conn``; others wait for its end before they write."""
        return self._begun()

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[SQLiteTransaction]:
        async with self._database.write() as mine:
            yield mine
        self._tell()

    @asynccontextmanager
    async def part(self, conn: Any = None) -> AsyncIterator[Part]:
        """A part of the caller's transaction, or a transaction of our own."""
        async with self._database.marked(conn) as mine:
            if isinstance(mine.connection, CallersConnection):
                raise InvalidInputError("conn must be an aiosqlite connection, if projections write through it")
            yield Part(mine if conn is None else conn, mine.connection)
        self._tell()

    # -- appending ----------------------------------------------------------------------------------------------------
    async def append(
        self, appends: Sequence[StreamAppend], *, condition: Condition | None = None, conn: Any = None
    ) -> list[Appended]:
        """Add events to streams, all or nothing."""
        checks.check_appends(appends)
        checks.check_condition(condition)
        async with self._database.within(conn) as mine:
            with self._database.translated():
                answers = await self._append(appends, condition, mine)
        self._tell()
        return answers

    async def _append(
        self, appends: Sequence[StreamAppend], condition: Condition | None, mine: SQLiteTransaction
    ) -> list[Appended]:
        known, position = await self._known([append.stream for append in appends], mine)
        standings = await self._standings(appends, known, mine)
        if answers := repeated(standings):
            return answers
        for standing in standings:
            if standing.append.events:
                refuse_closed(standing.append.stream, standing.state)
            refuse_unexpected(standing)
        if condition is not None:
            await self._refuse_forbidden(condition, mine)
        answers = []
        for append in appends:
            end = position + len(append.events)
            version = known[append.stream].version + len(append.events)
            answers.append(Appended(append.stream, version, end if append.events else None))
            position = end
        events = ((append.stream, event) for append in appends for event in append.events)
        await self._write(list(events), known, position - sum(len(append.events) for append in appends), mine)
        return answers

    async def _known(self, names: Sequence[StreamId], mine: SQLiteTransaction) -> tuple[dict[StreamId, Known], int]:
        """What is known of streams, and the last position given out."""
        known: dict[StreamId, Known] = {}
        position = number = 0
        for name, row in zip(
            names,
            await fetch(mine.connection, self._sql["standings"], {"names": as_json(map(parts_of, names))}),
            strict=True,
        ):
            *state, position, last = row
            number = max(number, last)
            if state[0] is None:
                number += 1
                known[name] = Known(number, None)
            else:
                known[name] = Known(state[0], state_of(name, state[1:]))
        return known, position

    async def _standings(
        self, appends: Sequence[StreamAppend], known: dict[StreamId, Known], mine: SQLiteTransaction
    ) -> list[Standing]:
        """The appends with what stands where their events would; only asked where something may."""
        windows = []
        for append in appends:
            stream = known[append.stream]
            first, last = window(append, stream.version)
            if append.events and stream.state and first <= stream.version:
                windows.append((stream.number, first, last))
        there: dict[int, dict[int, tuple[UUID, int]]] = {}
        if windows:
            for number, version, event_id, position in await fetch(
                mine.connection, self._sql["events_there"], {"windows": as_json(windows)}
            ):
                there.setdefault(number, {})[version] = (UUID(bytes=event_id), position)
        return [
            Standing(append, known[append.stream].state, there.get(known[append.stream].number, {}))
            for append in appends
        ]

    async def _refuse_forbidden(self, condition: Condition, mine: SQLiteTransaction) -> None:
        wanted = FeedFilter(tenant_id=condition.tenant_id, query=condition.fail_if)
        statement, parameters = self._question(wanted)
        parameters |= {"after": condition.after, "horizon": _END_OF_TIME, "archived": True, "limit": 1}
        for row in await fetch(mine.connection, self._sql[statement], parameters):
            raise AppendConditionError(row[0])

    async def _write(
        self,
        events: Sequence[tuple[StreamId, NewEvent]],
        known: dict[StreamId, Known],
        last: int,
        mine: SQLiteTransaction,
    ) -> None:
        """Write events after a position, and bring what is known up to date."""
        now = micros_of(mine.began)
        rows, tags = [], []
        for position, (name, event) in enumerate(events, last + 1):
            stream = known[name]
            stream.state = replace(stream.state or StreamState(name, 0, mine.began), version=stream.version + 1)
            rows.append(row_of(position, stream, now, event))
            tags += [(tag, position) for tag in event.tags]
        touched = {name: known[name] for name, _ in events}
        streams = [(each.number, *parts_of(name), each.version, now) for name, each in touched.items()]
        await run_many(mine.connection, self._sql["add_stream"], streams)
        await run_many(mine.connection, self._sql["add_event"], rows)
        if tags:
            await run_many(mine.connection, self._sql["add_tag"], tags)

    async def import_events(self, events: AsyncIterator[tuple[StreamId, NewEvent]], *, conn: Any = None) -> int:
        """Append very many events, in the order given, in one transaction, which nobody else can write beside."""
        count = 0
        async with self._database.marked(conn) as mine:
            chunk: list[tuple[StreamId, NewEvent]] = []
            async for stream, event in events:
                checks.check_stream(stream)
                checks.check_event(event)
                chunk.append((stream, event))
                if len(chunk) == CHUNK:
                    count += await self._import(chunk, mine)
                    chunk = []
            count += await self._import(chunk, mine)
        self._tell()
        return count

    async def _import(self, chunk: Sequence[tuple[StreamId, NewEvent]], mine: SQLiteTransaction) -> int:
        if chunk:
            with self._database.translated():
                known, last = await self._known(list(dict.fromkeys(name for name, _ in chunk)), mine)
                for name, stream in known.items():
                    refuse_closed(name, stream.state)
                await self._write(chunk, known, last, mine)
        return len(chunk)

    # -- reading a stream ---------------------------------------------------------------------------------------------
    async def read_stream(
        self,
        stream: StreamId,
        *,
        after_version: int = 0,
        up_to_version: int | None = None,
        up_to_time: datetime | None = None,
        limit: int = PAGE,
        backwards: bool = False,
        conn: Any = None,
    ) -> list[RecordedEvent]:
        """One page of a stream's events, by version."""
        checks.check_stream(stream)
        checks.check_window(after_version, up_to_version, up_to_time, limit)
        category, tenant_id, name = parts_of(stream)
        parameters = {
            "category": category,
            "tenant_id": tenant_id,
            "id": name,
            "after_version": after_version,
            "up_to_version": LARGEST_VERSION if up_to_version is None else up_to_version,
            "up_to_time": _END_OF_TIME if up_to_time is None else micros_of(up_to_time),
            "limit": limit,
        }
        statement = self._sql["read_stream_backwards" if backwards else "read_stream"]
        async with self._database.read(conn) as connection:
            rows = await fetch(connection, statement, parameters)
        return list(events_of(rows))

    async def read_streams(
        self, after: Sequence[tuple[StreamId, int]], *, conn: Any = None
    ) -> dict[StreamId, list[RecordedEvent]]:
        """All events after a version, of several streams in one question."""
        for stream, version in after:
            checks.check_stream(stream)
            checks.check_window(version, None, None, 1)
        names = as_json((*parts_of(stream), version) for stream, version in after)
        async with self._database.read(conn) as connection:
            rows = await fetch(connection, self._sql["read_streams"], {"names": names})
        found: dict[StreamId, list[RecordedEvent]] = {stream: [] for stream, _ in after}
        for event in events_of(rows):
            found[event.stream].append(event)
        return found

    # -- reading the feed ---------------------------------------------------------------------------------------------
    async def read_feed(
        self, *, after: int = 0, limit: int = PAGE, wanted: FeedFilter = EVERYTHING, archived: bool = True
    ) -> FeedPage:
        """One page of the feed, up to the horizon."""
        checks.check_position(after)
        checks.check_limit(limit)
        checks.check_filter(wanted)
        statement, parameters = self._question(wanted)
        async with self._database.read() as connection:
            ((_, horizon),) = await fetch(connection, self._sql["horizon"])
            parameters |= {"after": after, "horizon": horizon, "archived": archived, "limit": limit}
            rows = await fetch(connection, self._sql[statement], parameters) if after < horizon else []
        events = [event_of(row) for row in rows]
        return FeedPage(events, events[-1].position if len(events) == limit else max(after, horizon), horizon)

    def _question(self, wanted: FeedFilter) -> tuple[str, dict[str, Any]]:
        """Which statement answers a filter, and its parameters; led by tags if each wanted event must have one."""
        tenant = checked_tenant(wanted.tenant_id)
        items = wanted.query.items if wanted.query else ()
        led_by = {min(item.tags) for item in items if item.tags}
        parameters = {
            "types": None if wanted.types is None else as_json(wanted.types),
            "categories": None if wanted.categories is None else as_json(wanted.categories),
            "tenant_id": None if tenant is None else str(tenant),
            "query": as_json((list(item.types), list(item.tags)) for item in items) if items else None,
            "led_by": as_json(led_by),
        }
        return "read_feed_by_tags" if items and all(item.tags for item in items) else "read_feed", parameters

    async def horizon(self) -> Horizon:
        """How far the feed can be read now."""
        async with self._database.read() as connection:
            ((epoch, position),) = await fetch(connection, self._sql["horizon"])
        return Horizon(UUID(epoch), position)

    async def event_at(self, position: int) -> RecordedEvent | None:
        """The event at a position, if one is there."""
        checks.check_position(position)
        async with self._database.read() as connection:
            rows = await fetch(connection, self._sql["event_at"], (position,))
        return event_of(rows[0]) if rows else None

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[RecordedEvent]:
        """The committed events of these conversations, in order; a look through the whole file."""
        checks.check_limit(limit)
        wanted = orjson.dumps([each.hex.upper() for each in correlation_ids]).decode()
        async with self._database.read() as connection:
            rows = await fetch(connection, self._sql["conversation"], (wanted, limit))
        return [event_of(row) for row in rows]

    async def event_known_as(self, event_id: UUID) -> RecordedEvent | None:
        """The committed event with an id; a look through the whole file."""
        async with self._database.read() as connection:
            rows = await fetch(connection, self._sql["event_known_as"], (event_id.bytes,))
        return event_of(rows[0]) if rows else None

    async def wait_beyond(self, position: int, *, timeout: float) -> int:
        """Wait until the horizon lies beyond a position, or the time (seconds) is over; gives the horizon."""
        checks.check_position(position)
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        age = 0.0
        while True:
            grown = self._grown
            horizon = (await self._look.answer(age)).position
            left = end - loop.time()
            if horizon > position or left <= 0:
                return horizon
            try:
                async with asyncio.timeout(min(left, LOOK_EVERY)):
                    await grown.wait()
                age = 0.0
            except TimeoutError:
                age = min(timeout, LOOK_EVERY) / 2  # what another who waits has found

    async def held_back(self) -> float:
        """Nothing holds the feed back: whoever appends is alone until his commit."""
        return 0.0

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Whoever waits is woken by what this process appends, and looks for what others do."""
        return nullcontext()

    def _tell(self) -> None:
        """Wake who waits. On the caller's connection this is too early, and they look again by themselves."""
        self._grown.set()
        self._grown = asyncio.Event()

    # -- streams ------------------------------------------------------------------------------------------------------
    async def stream_state(self, stream: StreamId, *, conn: Any = None) -> StreamState | None:
        """What is known of a stream; None if it was never written."""
        checks.check_stream(stream)
        async with self._database.read(conn) as connection:
            known, _ = await self._known([stream], SQLiteTransaction(connection, EPOCH))
        return known[stream].state

    async def streams(
        self,
        *,
        category: str | None = None,
        tenant_id: UUID | str | None = None,
        prefix: str = "",
        after: StreamId | None = None,
        limit: int = PAGE,
    ) -> list[StreamState]:
        """Streams in the order of category, tenant and id, a page at a time."""
        checks.check_listing(category, prefix, limit)
        if after is not None:
            checks.check_stream(after)
        tenant = checked_tenant(tenant_id)
        parts = parts_of(after) if after else (None, None, None)
        parameters = {
            "category": category,
            "tenant_id": None if tenant is None else str(tenant),
            "prefix": prefix,
            **dict(zip(("after_category", "after_tenant_id", "after_id"), parts, strict=True)),
            "limit": limit,
        }
        async with self._database.read() as connection:
            rows = await fetch(connection, self._sql["list_streams"], parameters)
        return [state_of(stream_of(*row[:3]), row[3:]) for row in rows]

    async def tombstone(self, stream: StreamId, *, reason: str, actor: str, conn: Any = None) -> StreamState:
        """Empty a stream for good."""
        checks.check_stream(stream)
        checks.check_account(reason, actor)
        async with self._database.marked(conn) as mine:
            with self._database.translated():
                number, state = await self._existing(stream, mine)
                if state.tombstoned:
                    return state
                await run(mine.connection, self._sql["set_tombstone"], (reason, actor, number))
                await run(mine.connection, self._sql["drop_tags"], (number,))
                await run(mine.connection, self._sql["empty_events"], (number,))
        return replace(state, tombstoned=True, reason=reason, actor=actor)

    async def archive(self, stream: StreamId, *, archived: bool = True, conn: Any = None) -> StreamState:
        """Close a stream to appends, or open it again."""
        checks.check_stream(stream)
        async with self._database.within(conn) as mine:
            with self._database.translated():
                number, state = await self._existing(stream, mine)
                if state.tombstoned:
                    raise StreamTombstonedError(stream)
                await run(mine.connection, self._sql["set_archived"], (archived, number))
        return replace(state, archived=archived)

    async def _existing(self, stream: StreamId, mine: SQLiteTransaction) -> tuple[int, StreamState]:
        known, _ = await self._known([stream], mine)
        found = known[stream]
        if found.state is None:
            raise StreamNotFoundError(stream)
        return found.number, found.state
