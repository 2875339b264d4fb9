"""The console's rooms for events and streams, on a real database."""

import asyncio
import re
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field
from starlette.requests import Request

from mainstay import AggregateRoot, DomainEvent, SendRequest
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.operations.console import console
from mainstay.operations.console.pages import LIVE
from mainstay.operations.console.pages.streaming import stream
from tests.support.console import VIEWER, browser, tokens

HOSTILE = "<script>alert(1)</script>\u202egpj.exe"
TIME = datetime(2030, 1, 31, 12, tzinfo=UTC)
BIG = 2**70


class ShownCustomerMoved(DomainEvent, event_type="consoled.CustomerMoved"):
    street: str = Field(json_schema_extra={"x-personal": True})
    town: str


class Home(BaseModel):
    street: str = ""
    town: str = ""
    shown_name: str = Field("", json_schema_extra={"x-personal": True})
    moves: int = 0


class Customer(AggregateRoot[Home]):
    def _apply(self, event):
        self._state = Home(street=event.street, town=event.town, shown_name="Ann Elm", moves=self._state.moves + 1)


def an_event(event_type="Placed", payload=b'{"total":"5"}', **fields):
    return NewEvent(uuid4(), event_type, payload, TIME, **fields)


async def append(operator, name, *events):
    done = await operator.events.log.append([StreamAppend(name, events)])
    return done[0].position


@pytest.fixture
async def filled(operator):
    """Five streams with twelve events, one of them caused by a command."""
    cause, correlation = uuid4(), uuid4()
    await operator.send([SendRequest("shop", "Place", cause, {})])
    placed = an_event(causation_id=cause, correlation_id=correlation, actor_id="ada", metadata=b'{"mail":"a@x.org"}')
    await append(operator, StreamId("Order", "1"), placed, an_event("Shipped", causation_id=placed.event_id))
    secret = f'{{"mail":"s@x.org","n":{BIG},"said":"{HOSTILE}","street":"Elm 1"}}'.encode()
    await append(operator, StreamId("Order", "a/b@c"), an_event(payload=secret))
    await append(
        operator, StreamId("Cart", HOSTILE.replace("\u202e", ""), "acme"), *(an_event("Filled") for _ in range(6))
    )
    moved = b'{"street":"Elm 1","town":"Wells","mail":null}'
    await append(
        operator, StreamId("Customer", "1"), an_event("consoled.CustomerMoved", moved), an_event("Renamed", moved)
    )
    await append(operator, StreamId("Gone", "1"), an_event())
    await operator.events.log.tombstone(StreamId("Gone", "1"), reason="erased <script>alert(1)</script>", actor="Olga")
    await operator.events.log.archive(StreamId("Order", "a/b@c"))
    return cause, placed.event_id


async def test_pages_show_what_is_there_and_none_of_it_as_markup_or_unmasked(app, filled):
    cause, event_id = filled
    async with browser(app, VIEWER) as client:
        for path, words in (
            ("/events", ["Shipped", "tombstoned", "Filled", str(BIG), f"/commands/shop/{cause}"]),
            ("/events?category=Order&event_type=Shipped", ["Shipped"]),
            ("/events?tenant_id=acme", ["Filled", "acme"]),
            ("/events?category=Nothing", ["No such event here"]),
            (
                "/events/1",
                [str(event_id), f"/commands/shop/{cause}", "/streams/one?category=Order&amp;stream_id=1", "ada"],
            ),
            (f"/events/id/{event_id}", ["Placed", f"/conversations/{event_id}"]),
            ("/events/12", ["tombstoned", "gone for good"]),
            ("/streams", ["Order", "archived", "tombstoned", "acme"]),
            ("/streams?category=Order&prefix=a", ["a/b@c"]),
            ("/streams?category=Nothing", ["No stream meets all"]),
            ("/streams/one?category=Order&stream_id=1", ["Placed", "Shipped", f"/commands/shop/{cause}"]),
            ("/streams/one?category=Order&stream_id=a%2Fb@c", ["Archived", str(BIG)]),
            ("/streams/one?category=Gone&stream_id=1", ["Tombstoned by Olga", "erased"]),
        ):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert [each for each in words if each not in answer.text] == [], path
            assert not any(each in answer.text for each in ("<script>alert", "\u202e", "x.org", "Elm 1")), path
        largest = "9" * 30
        for path in (
            f"/events?before={largest}",
            f"/events/{largest}",
            f"/streams/one?category=a&stream_id=b&up_to={largest}",
        ):
            assert (await client.get(path)).status_code in {400, 404}, path
        shown = (await client.get(f"/conversations/{event_id}")).text
        assert f'href="/events/id/{event_id}"' in shown
        for path in ("/events/77", f"/events/id/{uuid4()}", "/streams/one?category=Order&stream_id=9"):
            assert (await client.get(path)).status_code == 404, path
        for path in ("/events?before=x", "/events?before=3&after=1", "/streams?after=nothing", "/events?find=nothing"):
            assert (await client.get(path)).status_code == 400, path
        for wanted, place in (("1", "/events/1"), (str(event_id), f"/events/id/{event_id}")):
            assert (await client.get(f"/events?find={wanted}")).headers["location"] == place


async def test_the_feed_is_turned_both_ways_without_a_gap_though_more_is_appended(app, operator, filled):
    async with browser(app, VIEWER) as client:

        async def turned(path, way, first):
            seen, place = [], first
            while place is not None:
                page = (await client.get(f"/api/events?limit=2{path}{f'&{way}={place}' if place != '' else ''}")).json()
                seen.append([each["position"] for each in page["events"]])
                await append(operator, StreamId("Late", "1"), an_event("Late"))
                place = page["older" if way == "before" else "newer"]
                if len(seen) == 9:
                    break
            return seen

        assert await turned("", "before", "") == [[12, 11], [10, 9], [8, 7], [6, 5], [4, 3], [2, 1]]
        assert await turned("&category=Order", "before", "") == [[3, 2], [1]]
        assert await turned("&tenant_id=acme&category=Cart", "before", "") == [[9, 8], [7, 6], [5, 4]]
        assert (await turned("&tenant_id=acme", "after", 0)) == [[5, 4], [7, 6], [9, 8]]
        assert (await turned("", "after", 0))[:6] == [[2, 1], [4, 3], [6, 5], [8, 7], [10, 9], [12, 11]]
        end = (await client.get("/api/events?before=3&limit=2")).json()
        assert (end["newer"], end["older"]) == (2, None)
        shown = await client.get("/events?limit=2")
        links = re.findall(r'rel="next" href="([^"]+)"', shown.text)
        older = await client.get(links[0].replace("&amp;", "&"))
        assert 'rel="prev"' in older.text
        assert "data-live" not in older.text


async def test_a_tenant_that_is_rare_is_looked_for_further_back(app, operator, pool, filled):
    async with pool.connection() as conn:
        await conn.execute("select setval('eventsource.event_position', 250000)")
    await append(operator, StreamId("Order", "2"), an_event())
    async with browser(app, VIEWER) as client:
        seen, before = [], ""
        while before is not None:
            page = (await client.get(f"/api/events?tenant_id=acme&before={before}")).json()
            seen.append(([each["position"] for each in page["events"]], page["older"]))
            before = page["older"]
        back, after = [], 0
        while after is not None:
            page = (await client.get(f"/api/events?tenant_id=acme&after={after}&limit=4")).json()
            back.append(([each["position"] for each in page["events"]], page["newer"]))
            after = page["newer"]
        for path in ("/events?tenant_id=acme", "/events?tenant_id=acme&after=20000"):
            assert "None among the 20,000 positions" in (await client.get(path)).text, path
    further = [([], place) for place in range(230_002, 2, -20_000)]
    assert seen == [*further, ([9, 8, 7, 6, 5, 4], None)]
    assert back == [
        ([7, 6, 5, 4], 7),
        *(([9, 8] if not n else [], 20_007 + n) for n in range(0, 240_000, 20_000)),
        ([], None),
    ]


async def test_streams_are_turned_by_name_and_their_events_by_version(app, operator, filled):
    async with browser(app, VIEWER) as client:
        names, after = [], ""
        while after is not None:
            page = (await client.get(f"/api/streams?limit=2&after={after}")).json()
            names += [(each["category"], each["tenant_id"], each["version"]) for each in page["streams"]]
            after = page["next"]
        cart = (await client.get("/api/streams?tenant_id=acme")).json()["streams"][0]["stream_id"]
        asked = {"category": "Cart", "stream_id": cart, "tenant_id": "acme", "limit": 2}
        seen, up_to = [], 6
        while up_to is not None:
            facts = (await client.get("/api/stream", params=asked | {"up_to": up_to})).json()
            seen.append(([each["version"] for each in facts["events"]], facts["newer"]))
            up_to = facts["older"]
        gone = (await client.get("/api/stream?category=Gone&stream_id=1")).json()
        own = (await client.get("/api/stream?category=Order&stream_id=1")).json()
    assert names == [
        ("Cart", "acme", 6),
        ("Customer", None, 2),
        ("Gone", None, 1),
        ("Order", None, 2),
        ("Order", None, 1),
    ]
    assert seen == [([6, 5], None), ([4, 3], 6), ([2, 1], 4)]
    assert (gone["stream"]["tombstoned"], gone["stream"]["actor"], gone["events"]) == (True, "Olga", [])
    assert [(each["caused_by"], each["actor_id"]) for each in own["events"]] == [(None, None), ("shop", "ada")]


async def test_what_is_personal_in_events_is_masked_by_their_classes_and_by_name(app, filled):
    async with browser(app, VIEWER) as client:
        page = (await client.get("/api/events")).json()["events"]
        (types,) = [
            [
                each["event_type"]
                for each in (await client.get("/api/event-types")).json()
                if each["category"] == "Order"
            ]
        ]
    of_type = {each["event_type"]: each for each in page}
    assert of_type["consoled.CustomerMoved"]["payload"] == {"street": "•••", "town": "Wells", "mail": None}
    assert of_type["Renamed"]["payload"]["street"] == "•••"  # nobody here knows its class
    (order,) = [each for each in page if each["stream_id"] == "a/b@c"]
    assert order["payload"]["mail"] == "•••"
    assert order["payload"]["n"] == BIG
    assert page[-1]["metadata"] == {"mail": "•••"}
    assert types == ["Placed", "Shipped"]


async def test_states_are_told_where_the_class_is_known_without_what_is_personal(operator, filled):
    app = console(operator, auth=tokens(), aggregates=[Customer])
    for town in ("Bath", "Bath"):
        moved = an_event("consoled.CustomerMoved", f'{{"street":"Elm 2","town":"{town}"}}'.encode())
        await append(operator, StreamId("Customer", "2"), moved)
    async with browser(app, VIEWER) as client:
        own = (await client.get("/api/stream?category=Customer&stream_id=2")).json()["states"]
        unreadable = (await client.get("/api/stream?category=Customer&stream_id=1")).json()["states"]
        unknown = (await client.get("/api/stream?category=Order&stream_id=1")).json()["states"]
        pages = [
            (await client.get(path)).text
            for path in ("/streams/one?category=Customer&stream_id=2", "/events/13", "/events/1")
        ]
    assert own["states"]["2"]["state"] == {"street": "•••", "town": "Bath", "shown_name": "•••", "moves": 2}
    assert own["states"]["2"]["changes"] == [{"path": "moves", "kind": "changed", "was": 1, "now": 2}]
    assert [each["now"] for each in own["states"]["1"]["changes"]] == ["•••", "Bath", "•••", 1]
    assert (list(unreadable["states"]), "Renamed" in unreadable["problem"]) == (["1"], True)
    assert (unknown["aggregate"], "--aggregate MODULE:NAME" in unknown["problem"]) == (None, True)
    assert not any(each in page for page in pages for each in ("Elm", "Ann"))
    assert "Customer at version 2" in pages[0]
    assert "Changed in Customer" in pages[1]
    assert "--registry MODULE:NAME" in pages[2]


async def test_a_long_stream_tells_its_states_when_it_is_asked(operator, filled, monkeypatch):
    monkeypatch.setattr("mainstay.operations.console.questions.streams.MOST_FOLDED", 0)
    app = console(operator, auth=tokens(), aggregates=[Customer])
    async with browser(app, VIEWER) as client:
        path = "/streams/one?category=Customer&stream_id=1&up_to=1"
        shown = (await client.get(path)).text
        asked = re.search(r'href="([^"]+)">Tell the states', shown)[1].replace("&amp;", "&")
        assert ("Changed in" in shown, "Changed in" in (await client.get(asked)).text) == (False, True)


@pytest.mark.thorough
async def test_the_newest_events_come_by_themselves(operator, filled):
    app = console(operator, auth=tokens())
    parts: list[str] = []

    async def follow(scope, receive, send):
        async for part in stream(Request(scope, receive), LIVE["events"], pause=0.01):
            parts.append(part)
            if len(parts) == 2:
                await append(operator, StreamId("Order", "7"), an_event("JustNow"))
            if "JustNow" in part:
                app.close()

    async def nothing_more():
        await asyncio.Event().wait()

    app._inner = follow
    headers = [(b"authorization", f"Bearer {VIEWER}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/live/events", "headers": headers, "state": {}}
    await app(
        scope | {"query_string": b"category=Order", "scheme": "http", "server": ("127.0.0.1", 80)}, nothing_more, None
    )
    assert "JustNow" not in parts[1]
    assert "JustNow" in parts[-1]
    assert UUID(re.search(r'title="The command ([^"]+)"', parts[-1])[1]) == filled[0]
