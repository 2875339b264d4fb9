"""The console on a real database: what it shows of a live bus, and what its actions leave behind."""

import asyncio
import os
import re
import signal
import subprocess
import urllib.request
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from mainstay import CommandStatus, HandlerRegistry, PermanentCommandError, SendRequest, Worker
from mainstay.operations.console import console
from mainstay.operations.console.pages import LIVE
from mainstay.operations.console.pages.streaming import stream
from tests.support.cli import PROGRAM, run
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.waiting import eventually

HOSTILE = "<script>alert(1)</script>\u202egpj.exe"
WAITING = CommandStatus.IN_TROUBLESHOOTING_QUEUE


@pytest.fixture
async def trouble(pool, operator):
    """A command that waits for an operator, another that is completed."""
    registry = HandlerRegistry()

    @registry.handler("shop", "Bad")
    async def bad(command, context):
        raise PermanentCommandError("BROKEN", f"it is {HOSTILE}")

    @registry.handler("shop", "Good")
    async def good(command, context):
        return {"mail": "x@example.org", "said": HOSTILE}

    bad_id, good_id = uuid4(), uuid4()
    data = {HOSTILE: HOSTILE, "mail": "secret@example.org"}
    await operator.send([SendRequest("shop", "Bad", bad_id, data), SendRequest("shop", "Good", good_id, data)])
    worker = Worker(pool, "shop", registry)
    running = asyncio.create_task(worker.run(concurrency=2, poll_interval=0.05))

    async def handled():
        known = [await operator.command(each) for each in (bad_id, good_id)]
        return [each.status for each in known] == [WAITING, CommandStatus.COMPLETED]

    await eventually(handled)
    await worker.stop()
    await running
    return bad_id, good_id


async def test_every_page_shows_what_is_there_and_none_of_it_as_markup(app, trouble):
    bad, good = trouble
    async with browser(app, VIEWER) as client:
        await client.get("/api/overview")  # the dashboard does not wait until it has counted
        for path, word in (
            ("/", "BROKEN"),
            ("/commands", "shop.Good"),
            ("/commands?status=COMPLETED&domain=shop", "shop.Good"),
            ("/commands?domain=nobody", "No command meets all"),
            (f"/commands/shop/{bad}", "BROKEN"),
            (f"/commands/shop/{good}", "completed"),
            (f"/conversations/{good}", "Good"),
            ("/troubleshooting", "BROKEN"),
            ("/troubleshooting?domain=nobody", "Nothing waits"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, word in answer.text) == (200, True), path
            assert "<script>alert" not in answer.text, path
            assert "\u202e" not in answer.text, path
            assert "example.org" not in answer.text, path
        assert (await client.get(f"/commands/nobody/{bad}")).status_code == 404
        assert (await client.get(f"/conversations/{uuid4()}")).status_code == 404
        assert "role operator is needed" in (await client.get(f"/commands/shop/{bad}")).text


@pytest.mark.parametrize(
    ("verb", "status"),
    [("retry", CommandStatus.PENDING), ("complete", CommandStatus.COMPLETED), ("cancel", CommandStatus.CANCELED)],
)
async def test_a_decision_is_carried_out_and_audited_with_the_user(app, operator, trouble, verb, status):
    bad, _ = trouble
    async with browser(app, OPERATOR) as client:
        form = {"csrf": csrf_in(await client.get(f"/commands/shop/{bad}")), "reason": ""}
        if verb == "complete":
            form["result"] = '{"by": "hand"}'
        refused = await client.post(f"/commands/shop/{bad}/{verb}", data=form)
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        assert (await operator.command(bad)).status is WAITING

        answer = await client.post(f"/commands/shop/{bad}/{verb}", data=form | {"reason": "as agreed"})
        assert answer.status_code == 303, answer.text
        shown = await client.get(answer.headers["location"])
        assert 'class="said"' in shown.text
        again = await client.post(f"/commands/shop/{bad}/{verb}", data=form | {"reason": "once more"})
        assert again.status_code == 409
    assert (await operator.command(bad)).status is status
    assert (await operator.command(bad)).result == ({"by": "hand"} if verb == "complete" else None)
    (last,) = [each for each in await operator.audit(bad) if each.event_type == f"OPERATOR_{verb.upper()}"]
    assert last.details["operator"] == "Olga"
    assert last.details["reason"] == "as agreed"


async def test_nobody_but_an_operator_with_a_form_of_ours_decides(app, operator, trouble):
    bad, _ = trouble
    before = (await operator.command(bad), await operator.audit(bad))
    paths = [
        f"{place}/shop/{bad}/{verb}" for place in ("/commands", "/api/troubleshooting") for verb in ("retry", "cancel")
    ]
    async with browser(app) as stranger, browser(app, VIEWER) as viewer, browser(app, OPERATOR) as careless:
        viewers = csrf_in(await viewer.get("/login"))
        for path in paths:
            for client, csrf in ((stranger, ""), (viewer, viewers), (careless, ""), (careless, viewers)):
                answer = await client.post(path, data={"reason": "why", "csrf": csrf})
                assert answer.status_code in {401, 403}, path
                answer = await client.post(path, json={"reason": "why"}, headers={"x-csrf-token": csrf})
                assert answer.status_code in {401, 403}, path
            bearer = {"authorization": f"Bearer {VIEWER}"}
            assert (await stranger.post(path, json={"reason": "why"}, headers=bearer)).status_code == 403
    assert (await operator.command(bad), await operator.audit(bad)) == before


async def test_a_program_asks_and_decides_the_same(app, operator, trouble):
    bad, good = trouble
    bearer = {"authorization": f"Bearer {OPERATOR}"}
    async with browser(app, **bearer) as program:
        overview = (await program.get("/api/overview")).json()
        assert overview["domains"][0]["by_status"] == {"COMPLETED": 1, "IN_TROUBLESHOOTING_QUEUE": 1}
        (group,) = (await program.get("/api/failure-groups")).json()
        assert (group["commands"], group["error_code"]) == (1, "BROKEN")
        (item,) = (await program.get("/api/troubleshooting")).json()["commands"]
        assert (item["command_id"], item["payload"]["mail"]) == (str(bad), "•••")
        facts = (await program.get(f"/api/commands/shop/{good}")).json()
        assert facts["command"]["result"] == {"mail": "•••", "said": HOSTILE}
        assert facts["audit"][-1]["event_type"] == "COMPLETED"
        steps = (await program.get(f"/api/conversations/{good}")).json()["steps"]
        assert [step["kind"] for step in steps] == ["COMMAND"]
        done = await program.post(f"/api/troubleshooting/shop/{bad}/cancel", json={"reason": "as agreed"})
        assert (done.status_code, done.json()["status"], done.json()["operator"]) == (200, "CANCELED", "Olga")
        again = await program.post(f"/api/troubleshooting/shop/{bad}/cancel", json={"reason": "as agreed"})
        assert again.status_code == 409
        missing = await program.post(f"/api/troubleshooting/shop/{uuid4()}/cancel", json={"reason": "as agreed"})
        assert missing.status_code == 404


async def test_pages_of_commands_neither_repeat_nor_skip_though_more_is_sent(app, operator):
    ids = [uuid4() for _ in range(5)]
    await operator.send([SendRequest("shop", "Good", each, {}) for each in ids])
    seen: list[str] = []
    async with browser(app, VIEWER) as client:
        path = "/api/commands?limit=2&domain=shop"
        after = ""
        while after is not None:
            page = (await client.get(f"{path}&after={after}")).json()
            seen += [each["command_id"] for each in page["commands"]]
            after = page["next"]
            await operator.send([SendRequest("shop", "Good", uuid4(), {})])
        first = await client.get("/commands?limit=2&domain=shop")
        older = re.search(r'rel="next" href="([^"]+)"', first.text)[1].replace("&amp;", "&")
        assert (await client.get(older)).status_code == 200
    assert sorted(seen) == sorted(map(str, ids))


async def test_a_stream_sends_a_part_when_it_changes_and_says_when_the_database_is_gone(operator, trouble):
    app = console(operator, auth=tokens())
    parts: list[str] = []

    async def follow(scope, receive, send):
        async for part in stream(Request(scope, receive), LIVE["troubleshooting"], pause=0.01):
            parts.append(part)
            if len(parts) == 2:
                await operator.pool.close()
                app._desk.shared.forget()
            if len(parts) == 3:
                app.close()

    async def nothing_more():
        await asyncio.Event().wait()

    app._inner = follow
    headers = [(b"authorization", f"Bearer {VIEWER}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/live/troubleshooting", "headers": headers, "state": {}}
    await app(scope | {"query_string": b"", "scheme": "http", "server": ("127.0.0.1", 80)}, nothing_more, None)

    assert [part.splitlines()[0] for part in parts] == ["retry: 2000", "event: part", "event: trouble"]
    assert "BROKEN" in parts[1]
    assert all(line.startswith("data: ") for line in parts[1].splitlines()[1:] if line)


async def test_it_can_be_mounted_below_a_path_of_another_application(operator, trouble):
    host = Starlette(routes=[Mount("/ops", console(operator, auth=tokens()))])
    async with browser(host, authorization=f"Bearer {OPERATOR}") as client:
        await client.get("/ops/api/overview")
        page = await client.get("/ops/")
        assert page.status_code == 200
        assert 'href="/ops/troubleshooting/groups/' in page.text
        for link in sorted(set(re.findall(r'(?:href|src)="([^"#]+)"', page.text))):
            assert (await client.get(link.replace("&amp;", "&"))).status_code == 200, link


# -- the program -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "does not start without authentication"),
        (["--demo", "--host", "0.0.0.0"], "loopback only"),
        (["--demo", "--token-env", "TOKENS"], "does not start without authentication"),
        (["--token-env", "NOT_SET"], "NOT_SET is not set"),
        (["--auth", "nothing:here"], "no module 'nothing'"),
    ],
)
def test_the_program_does_not_start_without_authentication(arguments, words):
    ended = run("console", "--dsn", "postgresql://127.0.0.1:1/nowhere", *arguments)
    assert ended.code == 2
    assert words in ended.err


@pytest.mark.thorough
def test_the_program_serves_streams_and_ends(dsn):
    environ = {**os.environ, "TOKENS": f"Olga:operator:{OPERATOR}"}
    program = subprocess.Popen(
        [*PROGRAM, "console", "--dsn", dsn, "--port", "0", "--token-env", "TOKENS"],
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        url = re.search(r"http://\S+", program.stdout.readline())[0]
        stream = urllib.request.Request(f"{url}live/dashboard", headers={"Authorization": f"Bearer {OPERATOR}"})
        with urllib.request.urlopen(stream, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [answer.readline().decode() for _ in range(6)]
            assert "event: part\n" in lines
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
