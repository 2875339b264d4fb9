"""What no log accepts: a typed error that says what to do, and nothing written."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from mainstay.errors import InvalidInputError, InvalidPayloadError
from mainstay.events.log import (
    MOST_EVENTS,
    MOST_TAGS,
    Condition,
    EventLog,
    FeedFilter,
    Query,
    QueryItem,
    StreamAppend,
)
from mainstay.events.stream import ExpectedVersion, StreamId
from mainstay.testing.contracts.events.base import EventLogSuite, given, new, several, stream

Ask = Callable[[EventLog, StreamId], Awaitable[Any]]

NO_ZONE = datetime(2026, 1, 1)  # noqa: DTZ001  # what is refused

#: Fields of an event that it cannot have.
BAD_FIELDS: list[dict[str, Any]] = [
    {"event_id": "not a UUID"},
    {"event_id": None},
    {"event_type": ""},
    {"event_type": " "},
    {"event_type": "a\x00b"},
    {"event_type": "a\nb"},
    {"event_type": "x" * 201},
    {"event_type": 5},
    {"event_type": "\ud800"},
    {"event_version": 0},
    {"event_version": True},
    {"event_version": 2**31},
    {"event_version": 1.5},
    {"occurred_at": NO_ZONE},
    {"occurred_at": "2026-01-01T00:00:00Z"},
    {"occurred_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))},
    {"occurred_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
    {"correlation_id": "x"},
    {"causation_id": 5},
    {"actor_id": ""},
    {"actor_id": "a\x00b"},
    {"tags": ("a", "a")},
    {"tags": ("",)},
    {"tags": ("a\x00b",)},
    {"tags": "ab"},
    {"tags": (5,)},
    {"tags": tuple(f"tag {number}" for number in range(MOST_TAGS + 1))},
    {"tags": ("x" * 201,)},
]

#: Documents that are no JSON objects, or none that every database can keep.
BAD_DOCUMENTS: list[Any] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": "\\u0000"}',
    b'{"a\\u0000": 1}',
    {"a": 1},
    "{}",
    None,
]

#: Calls that cannot be answered.
BAD_CALLS: dict[str, Ask] = {
    "appends that are no sequence": lambda log, _: log.append(5),  # type: ignore[arg-type]  # what is refused
    "an append that is none": lambda log, _: log.append([new()]),  # type: ignore[list-item]  # what is refused
    "a number as expectation": lambda log, name: log.append([StreamAppend(name, (new(),), 1)]),  # type: ignore[arg-type]  # what is refused
    "a stream that is a text": lambda log, _: log.append([StreamAppend("Order/1", (new(),))]),  # type: ignore[arg-type]  # what is refused
    "events that are none": lambda log, name: log.append([StreamAppend(name, ({"type": "Placed"},))]),  # type: ignore[arg-type]  # what is refused
    "a stream twice": lambda log, name: log.append([StreamAppend(name, (new(),)), StreamAppend(name, (new(),))]),
    "a condition that is none": lambda log, name: log.append([StreamAppend(name, (new(),))], condition=Query()),  # type: ignore[arg-type]  # what is refused
    "a condition after a position below 0": lambda log, name: log.append(
        [StreamAppend(name, (new(),))], condition=Condition(Query(), -1)
    ),
    "a condition for a tenant without a name": lambda log, name: log.append(
        [StreamAppend(name, (new(),))], condition=Condition(Query(), 0, "")
    ),
    "a query for a text of tags": lambda log, name: log.append(
        [StreamAppend(name, (new(),))],
        condition=Condition(Query((QueryItem(tags="ab"),)), 0),  # type: ignore[arg-type]  # what is refused
    ),
    "too many events": lambda log, name: log.append([StreamAppend(name, tuple(several(MOST_EVENTS + 1)))]),
    "an import of no pairs": lambda log, _: log.import_events(given([("Order/1", new())])),  # type: ignore[list-item]  # what is refused
    "a version below 0": lambda log, name: log.read_stream(name, after_version=-1),
    "a version beyond all": lambda log, name: log.read_stream(name, up_to_version=2**31),
    "a page of nothing": lambda log, name: log.read_stream(name, limit=0),
    "a time without a zone": lambda log, name: log.read_stream(name, up_to_time=NO_ZONE),
    "to read a stream that is a text": lambda log, _: log.read_stream("Order/1"),  # type: ignore[arg-type]  # what is refused
    "to read streams from below 0": lambda log, name: log.read_streams([(name, -1)]),
    "a feed after a position below 0": lambda log, _: log.read_feed(after=-1),
    "a feed after a position beyond all": lambda log, _: log.read_feed(after=2**63),
    "a feed after a text": lambda log, _: log.read_feed(after="1"),  # type: ignore[arg-type]  # what is refused
    "a feed in pages of nothing": lambda log, _: log.read_feed(limit=0),
    "a feed through a text": lambda log, _: log.read_feed(wanted="Order"),  # type: ignore[arg-type]  # what is refused
    "a feed of a text of types": lambda log, _: log.read_feed(wanted=FeedFilter(types="Placed")),  # type: ignore[arg-type]  # what is refused
    "a feed of a tenant without a name": lambda log, _: log.read_feed(wanted=FeedFilter(tenant_id="")),
    "an event at a text": lambda log, _: log.event_at("1"),  # type: ignore[arg-type]  # what is refused
    "the state of a text": lambda log, _: log.stream_state("Order/1"),  # type: ignore[arg-type]  # what is refused
    "streams in pages of nothing": lambda log, _: log.streams(limit=0),
    "streams after a text": lambda log, _: log.streams(after="Order/1"),  # type: ignore[arg-type]  # what is refused
    "streams of a tenant without a name": lambda log, _: log.streams(tenant_id=""),
    "streams of a category without a name": lambda log, _: log.streams(category=""),
    "streams whose ids begin with a line break": lambda log, _: log.streams(prefix="\n"),
    "a tombstone without a reason": lambda log, name: log.tombstone(name, reason=" ", actor="ada"),
    "a tombstone by nobody": lambda log, name: log.tombstone(name, reason="a test", actor=""),
    "a tombstone for a text": lambda log, _: log.tombstone("Order/1", reason="a test", actor="ada"),  # type: ignore[arg-type]  # what is refused
    "an archive for a text": lambda log, _: log.archive("Order/1"),  # type: ignore[arg-type]  # what is refused
    "to wait beyond a text": lambda log, _: log.wait_beyond("1", timeout=0),  # type: ignore[arg-type]  # what is refused
}


class RefusingContract(EventLogSuite):
    """Bad input."""

    async def refuses(self, log: EventLog, error: type[Exception], *appends: StreamAppend) -> None:
        """See that appends are refused, with what is good among them, and an import of the same too."""
        fine = StreamAppend(stream(), (new(),))
        with pytest.raises(error) as caught:
            await log.append([fine, *appends])
        assert str(caught.value)
        assert await self.feed(log) == []
        assert await log.stream_state(fine.stream) is None

    @pytest.mark.parametrize(
        "fields", BAD_FIELDS, ids=lambda fields: repr(fields)[:40].encode("ascii", "replace").decode()
    )
    async def test_an_event_that_cannot_be_kept_is_refused(self, log: EventLog, fields: dict[str, Any]) -> None:
        event = replace(new(), **fields)

        await self.refuses(log, InvalidInputError, StreamAppend(stream(), (new(), event)))
        with pytest.raises(InvalidInputError):
            await log.import_events(given([(stream(), new()), (stream(), event)]))
        assert await self.feed(log) == []

    @pytest.mark.parametrize("document", BAD_DOCUMENTS, ids=repr)
    async def test_a_document_that_is_no_json_object_is_refused(self, log: EventLog, document: Any) -> None:
        await self.refuses(log, InvalidPayloadError, StreamAppend(stream(), (replace(new(), payload=document),)))
        with pytest.raises(InvalidPayloadError):
            await log.import_events(given([(stream(), new()), (stream(), replace(new(), payload=document))]))
        if document is not None:
            await self.refuses(log, InvalidPayloadError, StreamAppend(stream(), (replace(new(), metadata=document),)))

    async def test_an_event_twice_in_one_append_is_refused(self, log: EventLog) -> None:
        event = new()

        await self.refuses(log, InvalidInputError, StreamAppend(stream(), (event, event)))
        await self.refuses(log, InvalidInputError, StreamAppend(stream(), (event,)), StreamAppend(stream(), (event,)))

    @pytest.mark.parametrize("ask", BAD_CALLS.values(), ids=BAD_CALLS.keys())
    async def test_what_cannot_be_asked_is_refused(self, log: EventLog, ask: Ask) -> None:
        name = await self.written(log)
        before = await self.feed(log)

        with pytest.raises(InvalidInputError) as caught:
            await ask(log, name)
        assert str(caught.value)
        assert await self.feed(log) == before

    @pytest.mark.parametrize(
        "parts",
        [
            ("", "1"),
            ("Order", ""),
            ("Order", "a\x00b"),
            ("Order", "a\nb"),
            ("Order", "\ud800"),
            ("x" * 201, "1"),
            ("Order", "x" * 201),
            ("Order", 5),
            (None, "1"),
            ("Order", "1", ""),
            ("Order", "1", 5),
            (UUID(int=1), uuid4()),
        ],
        ids=lambda parts: repr(parts)[:40].encode("ascii", "replace").decode(),
    )
    async def test_a_stream_that_cannot_be_named_is_refused(self, log: EventLog, parts: Any) -> None:
        with pytest.raises(InvalidInputError):
            await self.appended(log, StreamId(*parts))

    @pytest.mark.parametrize("version", [-1, 2**31, True, "1", None, 1.0])
    async def test_a_version_that_cannot_be_expected_is_refused(self, log: EventLog, version: Any) -> None:
        with pytest.raises(InvalidInputError):
            await self.appended(log, stream(), 1, ExpectedVersion.exact(version))
