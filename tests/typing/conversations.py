"""Read by mypy, never run: waiting for what a reply says, the header's middleware, and tracing."""

from typing import Any, assert_type
from uuid import UUID

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware

from mainstay import Appended, Conversation, Mainstay, ReadYourWrites, ReadYourWritesWSGI, Reply, SyncMainstay


async def wait(app: Mainstay, reply: Reply[dict[str, int]], appended: Appended) -> None:
    assert_type(reply.position, int | None)
    await app.wait_until("orders", reply)
    await app.wait_until("orders", reply.position, timeout=1)
    await app.wait_until("orders", appended)
    await app.wait_until("orders", "1")  # type: ignore[arg-type]  # a position is a number
    assert_type(await app.trace(UUID(int=0), limit=10), Conversation)
    found = await app.trace("00000000-0000-4000-8000-000000000000")
    assert_type([(step.depth, step.waited) for step in found.steps], list[tuple[int, float | None]])


def serve(site: Any, app: Mainstay, blocking: SyncMainstay, reply: Reply) -> None:
    ReadYourWrites(site, app, ["orders"])
    Starlette().add_middleware(ReadYourWrites, app, projections=["orders"], timeout=2)
    FastAPI(middleware=[Middleware(ReadYourWrites, lambda: app, ["orders"])])
    ReadYourWrites(site, lambda: app, lambda scope: [scope["path"]], timeout=2, on_late="pass")
    ReadYourWrites(site, blocking, ["orders"])  # type: ignore[arg-type]  # it blocks: ReadYourWritesWSGI takes it
    ReadYourWrites(site, app, ["orders"], on_late="never")  # type: ignore[arg-type]  # refuse or pass
    ReadYourWritesWSGI(site, blocking, ["orders"])
    blocking.wait_until("orders", reply, timeout=1)
