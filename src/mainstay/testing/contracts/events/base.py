"""What the parts of the suite share.

The hooks that a subclass gives, the words that the tests are written in, and the check after each test.
"""

# ruff: noqa: S101 - asserts are what a contract is made of

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from mainstay.events.log import EVERYTHING, Appended, EventLog, FeedFilter, NewEvent, RecordedEvent, StreamAppend
from mainstay.events.stream import ExpectedVersion, StreamId

T = TypeVar("T")

PATIENCE = 90.0
"""Seconds, by the real clock, to wait for something."""
FULL = 1_000
"""A page that is larger than what most tests write."""

any_version = ExpectedVersion.any()
no_stream = ExpectedVersion.no_stream()
stream_exists = ExpectedVersion.stream_exists()
exact = ExpectedVersion.exact


def new(event_type: str = "Placed", *tags: str, **changes: Any) -> NewEvent:
    """An event as the store would hand it over. ``payload`` and ``metadata`` may be values."""
    fields: dict[str, Any] = {"event_id": uuid4(), "payload": {"n": 1}, "occurred_at": datetime.now(UTC)} | changes
    for name in ("payload", "metadata"):
        if isinstance(fields.get(name), dict):
            fields[name] = json.dumps(fields[name]).encode()
    return NewEvent(event_type=event_type, tags=tags, **fields)


def several(count: int, **changes: Any) -> list[NewEvent]:
    """As many events."""
    return [new(**changes) for _ in range(count)]


def stream(category: str = "Order", **changes: Any) -> StreamId:
    """A stream that was never written."""
    return StreamId(category, **{"id": uuid4()} | changes)


def plain(event: NewEvent) -> NewEvent:
    """An event in a form in which two are equal if they say the same, however their documents are written."""
    return replace(
        event,
        payload=_normal(event.payload),
        metadata=None if event.metadata is None else _normal(event.metadata),
        tags=tuple(sorted(event.tags)),
    )


def ids(events: Iterable[RecordedEvent | NewEvent]) -> list[UUID]:
    """Which events."""
    return [each.event.event_id if isinstance(each, RecordedEvent) else each.event_id for each in events]


def positions(events: Iterable[RecordedEvent]) -> list[int]:
    """Where in the feed."""
    return [each.position for each in events]


def versions(events: Iterable[RecordedEvent]) -> list[int]:
    """Where in their streams."""
    return [each.version for each in events]


async def given(pairs: Iterable[tuple[StreamId, NewEvent]]) -> AsyncIterator[tuple[StreamId, NewEvent]]:
    """Events to import."""
    for pair in pairs:
        yield pair


def _normal(document: bytes) -> bytes:
    return json.dumps(json.loads(document), sort_keys=True).encode()


class OnPurposeError(Exception):
    """Ends a transaction."""


@asynccontextmanager
async def rolled_back(log: EventLog) -> AsyncIterator[Any]:
    """A transaction whose block, at its end, raises."""
    with suppress(OnPurposeError):
        async with log.transaction() as tx:
            yield tx
            raise OnPurposeError


class EventLogSuite:
    """Hooks, words and the check after each test.

    Attributes:
        side_by_side: Whether two transactions can append to different streams at the same time; False where the
            second waits for the first to end, as on SQLite.
    """

    # -- hooks --------------------------------------------------------------------------------------------------------
    side_by_side = True

    @pytest.fixture
    async def log(self) -> EventLog:
        """The log under test, with nothing in it."""
        raise NotImplementedError

    def pass_time(self, log: Any) -> None:
        """Let the log's clock go on. A server's moves by itself."""

    # -- around each test ---------------------------------------------------------------------------------------------
    @pytest.fixture(autouse=True)
    async def sound(self, log: EventLog) -> AsyncIterator[None]:
        """After each test the log must be sound."""
        yield
        await self.check(log)

    async def check(self, log: EventLog) -> None:
        """See that the feed, the streams and what is known of them tell the same."""
        feed = await self.feed(log)
        page = await log.read_feed(after=feed[-1].position if feed else 0)
        horizon = await log.horizon()
        told: dict[StreamId, list[RecordedEvent]] = {}
        for event in feed:
            told.setdefault(event.stream, []).append(event)

        assert positions(feed) == sorted({event.position for event in feed})
        assert (page.events, page.position, page.horizon) == ([], horizon.position, horizon.position)
        assert all(event.position <= horizon.position for event in feed)
        known = await self.known(log)
        assert {state.stream: state.version for state in known} == {name: len(told[name]) for name in told}
        for state in known:
            events = told[state.stream]
            assert versions(events) == list(range(1, len(events) + 1))
            assert all(event.tombstoned == state.tombstoned for event in events)
            if not state.tombstoned:
                assert await log.read_stream(state.stream, limit=state.version) == events

    # -- words --------------------------------------------------------------------------------------------------------
    async def feed(
        self,
        log: EventLog,
        *,
        after: int = 0,
        limit: int = FULL,
        wanted: FeedFilter = EVERYTHING,
        archived: bool = True,
    ) -> list[RecordedEvent]:
        """All that can be read, page by page; sees to what a page promises of itself."""
        found: list[RecordedEvent] = []
        while True:
            page = await log.read_feed(after=after, limit=limit, wanted=wanted, archived=archived)
            assert len(page.events) <= limit
            assert after <= page.position
            assert all(after < event.position <= page.position for event in page.events)
            if len(page.events) < limit:
                assert page.position == max(after, page.horizon)
            found += page.events
            after = page.position
            if len(page.events) < limit:
                return found

    async def known(self, log: EventLog, **asked: Any) -> list[Any]:
        """All streams, page by page."""
        found: list[Any] = []
        while page := await log.streams(**asked, after=found[-1].stream if found else None):
            found += page
        return found

    async def appended(
        self,
        log: EventLog,
        name: StreamId,
        events: Sequence[NewEvent] | int = 1,
        expected: ExpectedVersion = any_version,
        conn: Any = None,
    ) -> Appended:
        """Append to one stream."""
        given = tuple(several(events) if isinstance(events, int) else events)
        (answer,) = await log.append([StreamAppend(name, given, expected)], conn=conn)
        return answer

    async def written(self, log: EventLog, count: int = 1, **changes: Any) -> StreamId:
        """A new stream with as many events."""
        name = stream(**changes)
        await self.appended(log, name, count)
        return name

    async def let_others(self, log: EventLog) -> None:
        """Let other tasks get on, and ask the log something, so that they do so while it works."""
        for _ in range(3):
            await log.horizon()
            await asyncio.sleep(0)

    async def beside(self, doing: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin something beside an open transaction; where transactions are side by side it is then done."""
        task = asyncio.create_task(doing)
        if self.side_by_side:
            async with asyncio.timeout(PATIENCE):
                await task
        return task
