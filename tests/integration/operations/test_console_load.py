"""The load generator of the demo: what it sends is what was asked for, and what comes of it what was expected."""

import asyncio

import pytest

from mainstay import Worker
from mainstay.operations.console import console
from mainstay.operations.demo import generating
from mainstay.operations.demo.handlers import registry
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.waiting import eventually


async def test_there_is_no_load_generator_but_in_a_demo(operator):
    async with browser(console(operator, auth=tokens()), OPERATOR) as client:
        assert "/load" not in (await client.get("/commands")).text
        for path in ("/load", "/load/expected", "/api/load", "/api/load/expected"):
            assert (await client.get(path)).status_code == 404, path


async def test_a_load_is_sent_in_chunks_and_comes_to_what_was_calculated(operator, pool, monkeypatch):
    monkeypatch.setattr(generating, "_CHUNK", 40)
    form = {"count": "100", "fail_permanent_pct": "30", "fail_transient_pct": "0", "max_duration_ms": "0"}
    async with browser(console(operator, auth=tokens(), demo=True), OPERATOR) as client:
        page = await client.get("/load", params=form)
        assert "Load" in (await client.get("/commands")).text
        expected = (await client.get("/api/load/expected", params=form)).json()
        assert (expected["completed"]["mean"], expected["permanent"]["mean"]) == pytest.approx((70, 30))
        assert ">70<" in (await client.get("/load/expected", params=form)).text
        for wrong in ({"count": "1000001"}, {"count": "0"}, {"min_duration_ms": "9", "max_duration_ms": "8"}):
            answer = await client.post("/load", data=form | wrong | {"csrf": csrf_in(page)})
            assert (answer.status_code, 'class="problem"' in answer.text) == (400, True), wrong
        assert (await client.get("/api/load")).json() == []

        assert (await client.post("/load", data=form | {"csrf": csrf_in(page)})).status_code == 303
        worker = Worker(pool, "e2e", registry())
        running = asyncio.create_task(worker.run(concurrency=8, poll_interval=0.05))

        async def over():
            (load,) = (await client.get("/api/load")).json()
            is_over = load["batch"] and load["batch"]["status"] == "COMPLETED_WITH_FAILURES"
            return is_over and load["load"]["ended_at"] and load  # the last may be handled before it is noted as sent

        load = await eventually(over)
        await worker.stop()
        await running
        assert (load["load"]["sent"], load["load"]["by"], load["load"]["problem"]) == (100, "Olga", None)
        assert load["batch"]["completed_count"] + load["batch"]["in_troubleshooting_count"] == 100
        assert 5 < load["batch"]["in_troubleshooting_count"] < 60
        assert "100 commands" in (await client.get("/load")).text
        assert (await client.post("/load/stop", data={"csrf": csrf_in(page)})).status_code == 409


async def test_a_load_can_be_stopped_and_its_batch_ends_with_what_it_has(operator):
    app = console(operator, auth=tokens(), demo=True)
    async with browser(app, VIEWER) as viewer, browser(app, OPERATOR) as client:
        csrf = csrf_in(await client.get("/load"))
        assert (await viewer.post("/load", data={"csrf": csrf_in(await viewer.get("/load"))})).status_code == 403
        assert (await client.post("/load", data={"csrf": csrf, "count": "1000000"})).status_code == 303
        assert (await client.post("/load", data={"csrf": csrf, "count": "1"})).status_code == 409

        async def begun():
            return (await client.get("/api/load")).json()[0]["load"]["sent"] > 0

        await eventually(begun)
        assert (await client.post("/load/stop", data={"csrf": csrf})).status_code == 303
        (load,) = (await client.get("/api/load")).json()
        assert load["load"]["problem"] == "it was stopped"
        assert 0 < load["load"]["sent"] == load["batch"]["total_count"] < 1_000_000
        assert load["batch"]["sealed"]
