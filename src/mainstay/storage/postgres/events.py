"""The log of events on PostgreSQL: what `mainstay.events.log.EventLog` promises, in the schema `eventsource`.

An append is one call of one function, however many events it has, and one round trip. What each function locks, in
which order, and what a crash leaves is written in its head (``schema/functions/events/``). The feed stands behind the
in-flight floor: ``hold_floor.sql`` says what that is and why no event is ever skipped.

How it fails. An append whose answer is lost may have been committed; the same append again finds its events and says
so. A transaction that has appended and stays open holds the horizon back, and with it every reader of the feed: append
last, and see `mainstay doctor`, which names it. Nothing else does: no other transaction, and no other database.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.errors import LockNotAvailable

from mainstay.collecting import collecting_later
from mainstay.errors import (
    EventError,
    OptimisticLockError,
    StorageError,
    StorageUnavailableError,
    StreamTombstonedError,
)
from mainstay.events import checks
from mainstay.events.log import (
    EVERYTHING,
    PAGE,
    Appended,
    Condition,
    FeedFilter,
    FeedPage,
    Horizon,
    JoiningLog,
    NewEvent,
    Part,
    RecordedEvent,
    StreamAppend,
    StreamState,
)
from mainstay.events.reading import Tail
from mainstay.events.stream import LARGEST_VERSION, StreamId
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.along import Along
from mainstay.storage.postgres.appending import Appending
from mainstay.storage.postgres.callers import Rows, asynchronous, rows_of
from mainstay.storage.postgres.database import Connection, Pool, borrowed, execute, sealed, transaction
from mainstay.storage.postgres.event_import import import_into
from mainstay.storage.postgres.event_rows import (
    APPENDS,
    EventRows,
    Row,
    append_parameters,
    append_question,
    feed_parameters,
    name_of,
    names_of,
    plain_array_of,
    recorded_from,
    state_from,
    tenant_text,
)
from mainstay.storage.postgres.prepared import PreparedScript, encoded, rows_from
from mainstay.storage.postgres.waking import HorizonWatch
from mainstay.tenancy import checked_tenant


class PostgresEventLog(JoiningLog):
    """`mainstay.events.log.EventLog` on PostgreSQL.

    Args:
        pool: Open; its connections are used for one call each and go back as they came.
        use_notify: While it is watched, be woken by notifications, on a connection of its own; False behind a pooler
            that cannot.
        listen_dsn: Where to listen, if the pool goes through a pooler: the server itself.
    """

    def __init__(self, pool: Pool, *, use_notify: bool = True, listen_dsn: str | None = None) -> None:
        self.pool = pool
        self._sql = queries.load("events")
        self._watch = HorizonWatch(pool, self._position, use_notify=use_notify, listen_dsn=listen_dsn)
        self._appends = {query: PreparedScript(self._sql[query]) for query in APPENDS}
        self._appending = Appending(pool, self._appends, PreparedScript(self._sql["append_current"]))
        self._reads = PreparedScript(self._sql["read_stream"])
        hold_and_read = f"{self._sql['hold_streams']};\n{self._sql['read_streams']}"
        self._hold_and_read = PreparedScript(hold_and_read)
        self._begin_holding = PreparedScript(f"{self._sql['begin_plainly']};\n{hold_and_read}")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction of our own, to be passed as ``conn``."""
        async with transaction(self.pool, translate_body=False) as conn:
            yield conn
        self._watch.nudge()

    @asynccontextmanager
    async def part(self, conn: Any = None) -> AsyncIterator[Part]:
        """A part of the caller's transaction (two round trips more), or a transaction of our own."""
        if conn is None:
            async with self.transaction() as own:
                yield Part(own, own)
            return
        there = await asynchronous(conn)
        await self._mark("set_mark", there)
        try:
            yield Part(conn, there)
        except BaseException:
            with suppress(StorageError):  # then the transaction is lost as a whole, and what went wrong is to be told
                await self._mark("return_to_mark", there)
                await self._mark("forget_mark", there)
            raise
        await self._mark("forget_mark", there)

    async def _mark(self, query: str, conn: Connection) -> None:
        async with sealed(borrowed(self.pool, conn)):
            await execute(conn, self._sql[query])

    async def _ask(self, query: str, parameters: dict[str, Any], conn: Any = None) -> Rows:
        """Run one of our statements in the caller's transaction, or if there is none, in one of its own."""
        return await rows_of(self.pool, self._sql[query], parameters, conn)

    # -- appending ----------------------------------------------------------------------------------------------------
    async def append(
        self, appends: Sequence[StreamAppend], *, condition: Condition | None = None, conn: Any = None
    ) -> list[Appended]:
        """Add events to streams, all or nothing; one round trip."""
        checks.check_appends(appends)
        checks.check_condition(condition)
        try:
            rows = await self._append(appends, condition, conn)
        except EventError as error:
            raise _naming(error, appends) from error.__cause__
        self._watch.nudge()
        return [
            Appended(append.stream, version, position, repeated=repeated)
            for append, (version, position, repeated) in zip(appends, rows, strict=True)
        ]

    def nudge(self) -> None:
        """Say that something was appended by another way: who waits in this process looks for it."""
        self._watch.nudge()

    async def _append(self, appends: Sequence[StreamAppend], condition: Condition | None, conn: Any) -> Sequence[Row]:
        if condition is not None or len(appends) != 1:
            return await self._ask("append", append_parameters(appends, condition), conn)
        (append,) = appends
        if conn is None and append.events:
            return [await self._appending.append(append)]
        return await self._ask(*append_question(append), conn)

    async def import_events(self, events: AsyncIterator[tuple[StreamId, NewEvent]], *, conn: Any = None) -> int:
        """Append very many events by COPY, in one transaction, which holds the horizon back until it ends."""
        if conn is not None:
            return await import_into(conn, events)
        async with self.transaction() as own:
            return await import_into(own, events)

    async def hold_streams(self, streams: Sequence[StreamId], *, conn: Any) -> list[int]:
        """Let nobody else append to streams until a transaction ends; the places, from 1, of those that are held."""
        ((places,),) = await self._ask("hold_streams", names_of(streams), conn)
        return list(places)

    async def begin_holding(
        self, streams: Sequence[StreamId], after: Mapping[StreamId, int], *, conn: Connection
    ) -> tuple[list[StreamId], dict[StreamId, Tail]]:
        """Begin a transaction that holds streams, as `hold_streams` does, and read what some are now; one round trip.

        Args:
            streams: In the order of category, tenant and id.
            after: Of some of them the version after which they are read.
            conn: In no transaction.

        Raises:
            psycopg.Error: As the database says; the transaction may have begun.
        """
        asked = {**names_of(streams), "after": plain_array_of(after.get(each) for each in streams)}
        *_, holding, reading = await self._begin_holding.run(conn, encoded(asked))
        ((places,),) = rows_from(conn, holding)
        held = [streams[place - 1] for place in places]
        found: dict[StreamId, list[RecordedEvent]] = {each: [] for each in held if each in after}
        for row in rows_from(conn, reading):
            stream = streams[row[-2] - 1]
            if row[-1]:  # tombstoned: whoever loads it is told so
                found.pop(stream, None)
            elif row[0] is not None and stream in found:
                found[stream].append(recorded_from(row, stream))
        return held, {stream: Tail(after[stream], events) for stream, events in found.items()}

    async def hold_stream(self, stream: StreamId, *, conn: Any) -> bool:
        """Let nobody else append to a stream until a transaction ends; waits for a second at most."""
        try:
            await self.hold_streams([stream], conn=conn)
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                return False
            raise
        return True

    async def hold_and_read(self, stream: StreamId, after: int, *, conn: Any) -> list[RecordedEvent] | None:
        """As `hold_stream`, and what came after a version."""
        asked = encoded({**names_of([stream]), "after": plain_array_of([after])})
        try:
            async with sealed(borrowed(self.pool, conn)):
                *_, reading = await self._hold_and_read.run(conn, asked)
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                return None
            raise
        return _recorded(stream, [(*row[:-2], row[-1]) for row in rows_from(conn, reading)])

    # -- in the round trips of others ---------------------------------------------------------------------------------
    def read_along(self, stream: StreamId, limit: int) -> Along:
        """What `read_stream` asks of all of a stream."""
        checks.check_stream(stream)
        asked = {
            **name_of(stream),
            "after": "0",
            "up_to": str(LARGEST_VERSION),
            "up_to_time": None,
            "limit": str(limit),
        }
        return Along(self._reads, encoded(asked))

    def found_along(self, stream: StreamId, along: Along) -> list[RecordedEvent] | None:
        """What `read_along` found; None if it was not asked."""
        return None if along.rows is None else _recorded(stream, along.rows)

    def append_along(self, append: StreamAppend) -> Along:
        """What `append` does in a caller's transaction."""
        checks.check_appends([append])

        def named(error: Exception) -> Exception:
            return _naming(error, [append]) if isinstance(error, EventError) else error

        query, asked = append_question(append)
        return Along(self._appends[query], encoded(asked), named)

    def appended_along(self, along: Along) -> None:
        """What `append_along` gave is committed."""
        del along
        self._watch.nudge()

    # -- reading streams ----------------------------------------------------------------------------------------------
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
        asked = {
            **name_of(stream),
            "after": after_version,
            "up_to": LARGEST_VERSION if up_to_version is None else up_to_version,
            "up_to_time": up_to_time,
            "limit": limit,
        }
        return _recorded(stream, await self._ask("read_stream_backwards" if backwards else "read_stream", asked, conn))

    async def read_streams(
        self, after: Sequence[tuple[StreamId, int]], *, conn: Any = None
    ) -> dict[StreamId, list[RecordedEvent]]:
        """All events after a version, of several streams in one question."""
        for stream, version in after:
            checks.check_stream(stream)
            checks.check_window(version, None, None, 1)
        asked = {**names_of([stream for stream, _ in after]), "after": plain_array_of(version for _, version in after)}
        found: dict[StreamId, list[RecordedEvent]] = {stream: [] for stream, _ in after}
        for row in await self._ask("read_streams", asked, conn) if after else ():
            *_, place, tombstoned = row
            stream, _ = after[place - 1]
            if tombstoned:
                raise StreamTombstonedError(stream)
            if row[0] is not None:
                found[stream].append(recorded_from(row, stream))
        return found

    # -- reading the feed ---------------------------------------------------------------------------------------------
    async def read_feed(
        self, *, after: int = 0, limit: int = PAGE, wanted: FeedFilter = EVERYTHING, archived: bool = True
    ) -> FeedPage:
        """One page of the feed, up to the horizon; one round trip."""
        checks.check_position(after)
        checks.check_limit(limit)
        checks.check_filter(wanted)
        mark = self._watch.mark
        rows = await self._ask("read_feed", feed_parameters(after, limit, wanted, archived=archived))
        page = EventRows().page(after, limit, rows)
        self._watch.found(mark, page.horizon)
        return page

    async def horizon(self) -> Horizon:
        """How far the feed can be read now."""
        ((epoch, position),) = await self._ask("horizon", {})
        return Horizon(epoch, position)

    async def event_at(self, position: int) -> RecordedEvent | None:
        """The event at a position, if one is there."""
        checks.check_position(position)
        rows = await self._ask("event_at", {"position": position})
        return EventRows().event(rows[0]) if rows else None

    async def events_at(self, positions: Sequence[int]) -> list[RecordedEvent]:
        """The events at positions that the feed gave out, in their order; those that are not there are left out."""
        rows = EventRows()
        return [rows.event(row) for row in await self._ask("events_at", {"positions": list(positions)})]

    async def conversation(self, correlation_ids: Sequence[UUID], *, limit: int) -> list[RecordedEvent]:
        """The committed events of these conversations, in order."""
        checks.check_limit(limit)
        asked = {"correlation_ids": list(correlation_ids), "limit": limit}
        rows = EventRows()
        return [rows.event(row) for row in await self._ask("conversation", asked)]

    async def event_known_as(self, event_id: UUID) -> RecordedEvent | None:
        """The committed event with an id."""
        rows = await self._ask("event_known_as", {"event_id": event_id})
        return EventRows().event(rows[0]) if rows else None

    async def wait_beyond(self, position: int, *, timeout: float) -> int:
        """Wait until the horizon lies beyond a position, or the time (seconds) is over; gives the horizon."""
        checks.check_position(position)
        return await self._watch.beyond(position, timeout)

    async def held_back(self) -> float:
        """For how many seconds the oldest open transaction that has appended holds the feed back."""
        ((seconds,),) = await self._ask("held_back", {})
        return float(seconds)

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Listen, and offer to publish the horizon, for the length of the block."""
        return self._watch.watching()

    async def _position(self) -> int:
        return (await self.horizon()).position

    # -- streams ------------------------------------------------------------------------------------------------------
    async def stream_state(self, stream: StreamId, *, conn: Any = None) -> StreamState | None:
        """What is known of a stream; None if it was never written."""
        checks.check_stream(stream)
        rows = await self._ask("stream_state", name_of(stream), conn)
        return state_from(rows[0]) if rows else None

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
        asked = {
            "category": category,
            "tenant": None if tenant is None else str(tenant),
            "prefix": prefix,
            "after_category": "" if after is None else after.category,
            "after_tenant": "" if after is None else tenant_text(after.tenant_id),
            "after_id": "" if after is None else str(after.id),
            "limit": limit,
        }
        return [state_from(row) for row in await self._ask("streams", asked)]

    async def tombstone(self, stream: StreamId, *, reason: str, actor: str, conn: Any = None) -> StreamState:
        """Empty a stream for good."""
        checks.check_stream(stream)
        checks.check_account(reason, actor)
        return await self._change("tombstone", stream, {"reason": reason, "actor": actor}, conn)

    async def archive(self, stream: StreamId, *, archived: bool = True, conn: Any = None) -> StreamState:
        """Close a stream to appends, or open it again."""
        checks.check_stream(stream)
        return await self._change("archive", stream, {"archived": archived}, conn)

    async def _change(self, query: str, stream: StreamId, parameters: dict[str, Any], conn: Any) -> StreamState:
        try:
            (row,) = await self._ask(query, {**name_of(stream), **parameters}, conn)
        except EventError as error:
            error.__dict__["stream"] = stream
            raise
        return state_from(row)


def _recorded(stream: StreamId, rows: Rows) -> list[RecordedEvent]:
    """The events of a stream, of the rows that tell of it.

    Raises:
        StreamTombstonedError: It is.
    """
    if rows and rows[0][-1]:
        raise StreamTombstonedError(stream)
    with collecting_later():
        return [recorded_from(row, stream) for row in rows if row[0] is not None]


def _naming(error: EventError, appends: Sequence[StreamAppend]) -> EventError:
    """The error with the stream itself, and what was expected of it, instead of their text."""
    named = error.__dict__.get("stream")
    append = next((each for each in appends if str(each.stream) == named), None)
    if append is None:
        return error
    if isinstance(error, OptimisticLockError):
        return OptimisticLockError(append.stream, append.expected, error.actual)
    error.__dict__["stream"] = append.stream
    return error
