"""From the reply to a command to a read model that shows what it did, in whichever process that is made."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest
from flask import Flask
from flask import jsonify as flask_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from mainstay import (
    Command,
    DeclarativeAggregate,
    DomainEvent,
    HandlerContext,
    HandlerRegistry,
    Mainstay,
    PostgreSQLEventStore,
    ReadModel,
    ReadModelProjection,
    ReadModels,
    ReadYourWrites,
    ReadYourWritesWSGI,
    SubscriptionHeldError,
    SubscriptionManager,
    SubscriptionNotFoundError,
    SyncMainstay,
    handles,
)
from mainstay.web import POSITION
from tests.support.servers import open_pool
from tests.support.waiting import eventually

PATIENCE = 90.0
DOMAIN = "letters"


class Written(DomainEvent, event_type="ReadWritten"):
    text: str


class Letter(DeclarativeAggregate[list[str]]):
    aggregate_type = "ReadLetter"

    def write(self, text: str) -> None:
        self.raise_event(Written, text=text)

    @handles(Written)
    def _written(self, event: Written) -> None:
        self._state = [*(self._state or []), event.text]


class Shown(ReadModel):
    text: str


class Letters(ReadModelProjection[Shown]):
    name = "letters"

    @handles(Written)
    async def written(self, event: Written, repo) -> None:
        await repo.save(Shown(id=event.aggregate_id, text=event.text))


@pytest.fixture
async def manager(dsn):
    """The projections, in a process of their own as it were: nothing but the database is shared with the others."""
    async with open_pool(dsn) as pool:
        manager = SubscriptionManager(PostgreSQLEventStore(pool))
        yield manager
        await manager.stop()


@pytest.fixture
async def app(dsn):
    async with Mainstay.connect(dsn, max_size=5) as app:
        registry = HandlerRegistry()

        @registry.handler(DOMAIN, "Write", aggregate=Letter, stream="id")
        async def write(letter: Letter, command: Command, context: HandlerContext) -> str:
            letter.write(command.data["text"])
            return "written"

        worker = app.worker(DOMAIN, registry)
        running = asyncio.create_task(worker.run(poll_interval=0.2))
        await eventually(lambda: worker.is_running)
        yield app
        await worker.stop()
        await running


async def written(app, text: str):
    letter = uuid4()
    reply = await app.bus.request(DOMAIN, "Write", None, {"id": str(letter), "text": text}, timeout=PATIENCE)
    return letter, reply


async def test_whoever_waits_for_a_replys_position_reads_what_the_command_did(app, manager) -> None:
    with pytest.raises(SubscriptionNotFoundError):
        await app.wait_until("letters", 1, timeout=PATIENCE)
    await manager.subscribe(Letters())
    await manager.start()
    letter, reply = await written(app, "dear")

    await app.wait_until("letters", reply.position, timeout=PATIENCE)

    found = await ReadModels(app.pool).of(Shown).get(letter)
    assert (reply.data, found and found.text) == ("written", "dear")
    await manager.pause("letters", actor="ann", reason="for the night")
    _, late = await written(app, "late")
    with pytest.raises(SubscriptionHeldError, match="mainstay projections resume letters"):
        await app.wait_until("letters", late, timeout=PATIENCE)


async def test_a_web_client_reads_what_it_wrote_from_another_process(app, manager) -> None:
    async def write(request):
        letter, reply = await written(app, "dear")
        return JSONResponse({"id": str(letter), "said": reply.data})

    async def read(request):
        found = await ReadModels(app.pool).of(Shown).get(UUID(request.path_params["id"]))
        return JSONResponse(found and found.text)

    site = Starlette(
        routes=[Route("/", write, methods=["POST"]), Route("/{id}", read)],
        middleware=[Middleware(ReadYourWrites, app, ["letters"], timeout=PATIENCE)],
    )
    await manager.subscribe(Letters())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://site") as client:
        answer = await client.post("/")
        before = await client.get(f"/{answer.json()['id']}")
        asking = asyncio.create_task(
            client.get(f"/{answer.json()['id']}", headers={POSITION: answer.headers[POSITION]})
        )
        await manager.start()
        after = await asking

    assert (before.json(), after.json()) == (None, "dear")


async def test_a_blocking_web_application_does_so_too(app, manager, dsn) -> None:
    await manager.subscribe(Letters())
    await manager.start()

    def serve() -> tuple[int, str | None, int]:
        with SyncMainstay.connect(dsn, max_size=2) as mine:
            site = Flask("letters")

            @site.post("/")
            def write():
                return flask_json(mine.bus.request(DOMAIN, "Write", None, {"id": "one", "text": "x"}).data)

            @site.get("/")
            def read():
                return flask_json("read")

            site.wsgi_app = ReadYourWritesWSGI(site.wsgi_app, mine, ["letters"], timeout=PATIENCE)
            client = site.test_client()
            position = client.post("/").headers[POSITION]
            answer = client.get("/", headers={POSITION: position})
            missing = ReadYourWritesWSGI(site.wsgi_app, mine, ["nobody's"])
            site.wsgi_app = missing
            return answer.status_code, answer.json, client.get("/", headers={POSITION: position}).status_code

    assert await asyncio.to_thread(serve) == (200, "read", 503)
