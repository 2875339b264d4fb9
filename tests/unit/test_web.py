"""The header by which a client reads its own writes, over ASGI and WSGI; projections in memory."""

import asyncio
import threading
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from mainstay.errors import ConfigurationError, StorageUnavailableError
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.positions import note_position, noting
from mainstay.projections.elsewhere import Elsewhere
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.subscription import SubscriptionManager
from mainstay.web import BEHIND, POSITION, ReadYourWrites, ReadYourWritesWSGI
from tests.support.counting import NAME, QUICK, Counted, Seen, count, is_stopped
from tests.support.waiting import eventually

PATIENCE = 90.0


@pytest.fixture
def store():
    return InMemoryEventStore()


@pytest.fixture
def checkpoints():
    return MemoryProjectionStore()


@pytest.fixture
async def manager(store, checkpoints):
    manager = SubscriptionManager(store, checkpoints)
    yield manager
    await manager.stop()


class Reading:
    """What a `Mainstay` is to the middleware, on stores in memory."""

    def __init__(self, store, checkpoints):
        self._elsewhere = Elsewhere(store, checkpoints)
        self.asked = []

    async def wait_until(self, projection, position, *, timeout):
        self.asked.append((projection, position, timeout))
        await self._elsewhere.caught_up(projection, position, timeout=timeout)


class Site:
    """An application that counts, and says what it has counted."""

    def __init__(self, store, checkpoints, **options):
        self.seen = Seen()
        self.reading = Reading(store, checkpoints)

        async def write(request):
            await count(store, *range(int(request.query_params.get("events", 1))))
            return JSONResponse({})

        async def write_in_a_thread(request):
            def append():
                note_position(41)  # what a blocking store does, in its thread

            await run_in_threadpool(append)
            return JSONResponse({})

        async def read(request):
            return JSONResponse(self.seen.numbers)

        async def stream(request):
            async def parts():
                await count(store, 1)
                yield b"too late for a header"

            return StreamingResponse(parts())

        async def health(request):
            return JSONResponse("well")

        options = {"projections": [NAME], "timeout": PATIENCE, **options}
        self.app = Starlette(
            routes=[
                Route("/write", write, methods=["POST"]),
                Route("/thread", write_in_a_thread),
                Route("/read", read),
                Route("/stream", stream),
                Route("/health", health),
            ],
            middleware=[Middleware(ReadYourWrites, lambda: self.reading, **options)],
        )

    def client(self):
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://site")


@pytest.fixture
def site(store, checkpoints):
    return Site(store, checkpoints)


async def test_a_client_that_sends_the_position_back_sees_what_it_wrote(site, store, manager) -> None:
    await manager.subscribe(site.seen, QUICK)
    async with site.client() as client:
        written = await client.post("/write?events=3")
        answer = asyncio.create_task(client.get("/read", headers={POSITION: written.headers[POSITION]}))
        await eventually(lambda: site.reading.asked)
        assert not answer.done(), "nobody has read the events yet"
        await manager.start()
        read = await answer

    assert (written.headers[POSITION], read.headers[POSITION]) == ("3", "3")
    assert read.json() == [0, 1, 2]
    assert BEHIND not in read.headers


async def test_a_request_without_the_header_waits_for_nothing_and_one_that_wrote_nothing_says_none(site) -> None:
    async with site.client() as client:
        read = await client.get("/read")

    assert (read.status_code, read.json(), site.reading.asked) == (200, [], [])
    assert POSITION not in read.headers


async def test_the_highest_position_is_told_whoever_knows_it(site, store, manager) -> None:
    await manager.subscribe(site.seen, QUICK)
    async with manager, site.client() as client:
        await count(store, 1, 2)
        told = await client.post("/write", headers={POSITION: "1"})
        in_thread = await client.get("/thread", headers={POSITION: "2"})
        streamed = await client.get("/stream", headers={POSITION: "2"})

    assert (told.headers[POSITION], in_thread.headers[POSITION], streamed.headers[POSITION]) == ("3", "41", "2")


async def test_one_that_is_late_is_refused_and_may_ask_again(store, checkpoints, manager) -> None:
    site = Site(store, checkpoints, timeout=timedelta(milliseconds=20))
    await manager.subscribe(site.seen, QUICK)
    await count(store, 1)
    async with site.client() as client:
        late = await client.get("/read", headers={POSITION: "1"})
        async with manager:
            await manager.wait_until(1)
            again = await client.get("/read", headers={POSITION: late.headers[POSITION]})

    assert (late.status_code, late.headers["Retry-After"], late.headers[BEHIND]) == (503, "1", NAME)
    assert late.headers["Content-Type"] == "application/problem+json"
    assert late.json()["detail"] == f"what position 1 did is not yet in: {NAME}; ask again"
    assert (again.status_code, again.json()) == (200, [1])


async def test_one_that_is_late_is_passed_on_if_that_is_wanted_and_says_so(store, checkpoints, manager) -> None:
    site = Site(store, checkpoints, timeout=0.02, on_late="pass")
    await manager.subscribe(site.seen, QUICK)
    await count(store, 1)
    async with site.client() as client:
        late = await client.get("/read", headers={POSITION: "1"})

    assert (late.status_code, late.json()) == (200, [])
    assert (late.headers[POSITION], late.headers[BEHIND]) == ("1", NAME)


async def test_nobody_waits_for_a_projection_that_will_not_come(site, store, manager, checkpoints, monkeypatch) -> None:
    async with site.client() as client:
        unknown = await client.get("/read", headers={POSITION: "1"})
        site.seen.refused = {1}
        await manager.subscribe(site.seen, QUICK)
        await count(store, 1)
        async with manager:
            await eventually(lambda: is_stopped(checkpoints))
            stopped = await client.get("/read", headers={POSITION: "1"})

        async def away(*args, **options):
            raise StorageUnavailableError("the server is away")

        monkeypatch.setattr(site.reading, "wait_until", away)
        gone = await client.get("/read", headers={POSITION: "1"})

    assert [each.status_code for each in (unknown, stopped, gone)] == [503, 503, 503]


async def test_each_request_waits_for_the_projections_that_it_is_answered_from(store, checkpoints) -> None:
    site = Site(store, checkpoints, projections=lambda scope: [] if scope["path"] == "/health" else ["a", "b", "a"])
    async with site.client() as client:
        healthy = await client.get("/health", headers={POSITION: "5"})
        read = await client.get("/read", headers={POSITION: "5"})

    assert (healthy.status_code, healthy.headers[POSITION]) == (200, "5")
    assert (read.status_code, read.headers[BEHIND]) == (503, "a, b")
    assert site.reading.asked == [("a", 5, PATIENCE), ("b", 5, PATIENCE)]


@pytest.mark.parametrize("text", ["", "five", "-1", "1.0", "٣", "9" * 19, "1" * 5_000, "1 2"])
async def test_what_is_no_position_is_refused(site, text) -> None:
    async with site.client() as client:
        found = await client.get("/read", headers=[(POSITION.encode(), text.encode())])

    assert (found.status_code, site.reading.asked) == (400, [])
    assert f"{POSITION} is the whole number that a response said" in found.json()["detail"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": 3}, "source is what waits for projections"),
        ({"projections": "orders"}, "projections is a list of names"),
        ({"on_late": "wait"}, "on_late is 'refuse' or 'pass', not 'wait'"),
        ({"timeout": -1}, "a duration must be finite"),
        ({"header": "no header"}, "header is a name of letters"),
    ],
)
@pytest.mark.parametrize("middleware", [ReadYourWrites, ReadYourWritesWSGI])
def test_wrong_settings_are_refused_when_the_application_is_made(middleware, wrong, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        middleware(None, **{"source": lambda: None, "projections": ["orders"], **wrong})


async def test_what_is_no_request_passes_by(store) -> None:
    passed = []

    async def application(scope, receive, send):
        passed.append(scope["type"])

    await ReadYourWrites(application, lambda: None, ["orders"])({"type": "lifespan"}, None, None)

    assert passed == ["lifespan"]


async def test_positions_are_noted_by_whoever_listens_closest_in_tasks_and_threads_too(store) -> None:
    note_position(1)  # nobody listens
    with noting() as outer:
        with noting() as inner:
            await store.append(StreamId("Counter", "a"), [Counted(number=1), Counted(number=2)])
            await asyncio.create_task(count(store, 3))
            await asyncio.to_thread(note_position, 2)
        note_position(None)

    assert (inner.position, outer.position) == (3, None)


# -- blocking ----------------------------------------------------------------------------------------------------------


class BlockingReading:
    """What a `SyncMainstay` is to the middleware: it comes so far when it is let."""

    def __init__(self):
        self.may, self.waiting = threading.Event(), threading.Event()

    def wait_until(self, projection, position, *, timeout):
        self.waiting.set()
        if not self.may.wait(timeout):
            raise TimeoutError


def ask(app, position=None):
    """The status and headers that a WSGI application answers with."""
    told = []
    environ = {} if position is None else {"HTTP_MAINSTAY_POSITION": position}
    body = b"".join(app(environ, lambda status, headers, *_: told.append((status, dict(headers)))))
    return *told[0], body


def test_a_blocking_application_waits_and_tells_too() -> None:
    reading = BlockingReading()

    def application(environ, start_response):
        note_position(7)
        start_response("200 OK", [("X-Own", "kept")])
        return [b"well"]

    app = ReadYourWritesWSGI(application, reading, ["orders"], timeout=0.02)
    late = ReadYourWritesWSGI(application, reading, ["orders"], timeout=0.02, on_late="pass")

    assert ask(app) == ("200 OK", {"X-Own": "kept", POSITION: "7"}, b"well")
    assert ask(app, "x")[0] == "400 Bad Request"
    status, headers, body = ask(app, "9")
    assert (status, headers["Retry-After"], headers[BEHIND]) == ("503 Service Unavailable", "1", "orders")
    assert b"not yet in: orders" in body
    assert ask(late, "9")[1] == {"X-Own": "kept", POSITION: "9", BEHIND: "orders"}
    reading.may.set()
    assert ask(app, "9")[:2] == ("200 OK", {"X-Own": "kept", POSITION: "9"})
