"""Nobody changes anything who may not: every route and every operation that there is, tried."""

import re
from collections.abc import Iterator

from starlette.routing import BaseRoute, Route

from mainstay.operations.console import console
from mainstay.operations.console.asking import OPERATIONS
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.console_world import DOMAIN, QUIET, ConsoleWorld, settle
from tests.support.dumps import dump

REASON = {"reason": "why not"}
OPEN = {"/login", "/logout"}
"""They begin and end a session, which is kept nowhere."""


def routes(app) -> Iterator[Route]:
    """Every route, also those that will be added; a mounted part that is not static files would not be seen."""
    for each in app._inner.routes:
        if isinstance(each, Route):
            yield each
        else:
            assert isinstance(each, BaseRoute)
            assert each.path == "/static", f"look into {each.path}, too"


def filled(path: str, world: ConsoleWorld) -> str:
    """A route's path with what is there in place of its parameters."""
    known = world.values()
    return re.sub(r"{(\w+)(?::(\w+))?}", lambda found: str(known.get(found[1], _any(found[2]))), path)


def _any(kind: str | None) -> str:
    return {"uuid": "00000000-0000-4000-8000-000000000001", "int": "1"}.get(kind or "", "1")


def changing(app, world: ConsoleWorld) -> list[tuple[str, str]]:
    """What changes something, by its routes: methods and addresses."""
    found = {
        (method, filled(each.path, world))
        for each in routes(app)
        for method in sorted(each.methods or ())
        if method not in {"GET", "HEAD"} and each.path not in OPEN
    }
    posts = {("POST", filled(f"/api{each.path}", world)) for each in OPERATIONS.values() if each.method == "POST"}
    assert posts <= found
    assert len(found) > len(posts)  # pages have forms, too
    return sorted(found)


async def test_nobody_changes_anything_who_may_not_by_any_route(pool, operator):
    world = await settle(pool)
    app = console(operator, auth=tokens())
    before = await dump(pool)
    attempts = changing(app, world)
    every_way = attempts + [(method, path) for _, path in attempts for method in ("PUT", "PATCH", "DELETE")]

    async with browser(app) as stranger, browser(app, VIEWER) as viewer, browser(app, OPERATOR) as known:
        of_viewer, of_operator = [csrf_in(await each.get("/login")) for each in (viewer, known)]
        elsewhere = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        for method, path in every_way:
            tries = [
                (401, stranger, {"data": REASON}),
                (401, stranger, {"json": REASON}),
                (401, stranger, {"json": REASON, "headers": {"authorization": "Bearer " + "z" * 30}}),
                (403, viewer, {"data": REASON | {"csrf": of_viewer}}),
                (403, viewer, {"json": REASON, "headers": {"x-csrf-token": of_viewer}}),
                (403, viewer, {"json": REASON, "headers": {"authorization": f"Bearer {VIEWER}"}}),
                (403, known, {"data": REASON}),
                (403, known, {"json": REASON}),
                (403, known, {"data": REASON | {"csrf": of_viewer}}),
                (403, known, {"data": REASON | {"csrf": of_operator}, "headers": elsewhere}),
                (403, known, {"json": REASON, "headers": elsewhere | {"x-csrf-token": of_operator}}),
            ]
            for number, (status, who, sent) in enumerate(tries if method == "POST" else tries[0::3]):
                answer = await who.request(method, path, **sent)
                assert answer.status_code == status, (method, path, number)
        assert await dump(pool) == before

        # the same requests are let through to their routes for whoever may: they were tried where it counts
        for method, path in attempts:
            answer = await known.request(method, path, json=REASON, headers={"x-csrf-token": of_operator})
            assert answer.status_code not in {401, 403, 405}, (method, path, answer.text)
    assert await dump(pool) != before


async def test_looking_changes_nothing(pool, operator):
    world = await settle(pool)
    app = console(operator, auth=tokens())
    before = await dump(pool)
    looked = 0
    async with browser(app, OPERATOR) as known:
        for each in routes(app):
            if "GET" not in (each.methods or ()) or each.path.startswith("/live/"):
                continue
            for domain in (DOMAIN, QUIET):
                path = filled(each.path, world).replace(f"/{DOMAIN}/", f"/{domain}/")
                for method in ("GET", "HEAD"):
                    answer = await known.request(method, path)
                    assert answer.status_code < 500, (method, path)
                    looked += answer.status_code == 200
    assert looked > 10
    assert await dump(pool) == before
