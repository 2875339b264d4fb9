"""The console's room for processes."""

import asyncio
import re
from uuid import uuid4

import pytest

from mainstay import HandlerRegistry, Worker, register_processes
from mainstay.operations.console import console
from tests.scenarios.processes import BUYING, Buy, Patient, Purchase
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.waiting import eventually


@pytest.fixture
def app(operator):
    return console(operator, auth=tokens(), personal=["article"])


async def test_a_process_is_shown_with_its_steps_drawn_and_as_a_table_and_its_deadlines(app, operator):
    async with browser(app, VIEWER) as client:
        assert "No processes were started yet" in (await client.get("/processes")).text
        process_id = await operator.processes.start(Patient(), Purchase(article="a secret lamp"))
        listed = (await client.get("/processes?status=WAITING_FOR_REPLY&process_type=Patient")).text
        assert f"/processes/{process_id}" in listed
        assert "No process meets all" in (await client.get("/processes?status=FAILED")).text
        assert (await client.get("/processes?status=SLEEPING")).status_code == 400

        shown = (await client.get(f"/processes/{process_id}")).text
        (step,) = (await operator.processes.get(process_id)).steps
        boxes = re.findall(r'<a href="([^"]+)" tabindex="-1"><g class="box ([^"]+)"', shown)
        assert boxes == [(f"/commands/{step.domain}/{step.command_id}", "step pending")]
        assert "role operator is needed" in shown
        assert "secret" not in shown
        facts = (await client.get(f"/api/processes/{process_id}")).json()
        assert [each["step_no"] for each in facts["deadlines"]] == [1, None]
        assert (facts["process"]["state"]["article"], facts["waiting_for"]) == ("•••", {"1": "PENDING"})
        assert facts["process"]["steps"][0]["data"] == {"article": "•••"}
        assert [each["event_type"] for each in facts["audit"]] == ["STARTED", "STEP_SENT"]
        for path in (f"/commands/{step.domain}/{step.command_id}", f"/conversations/{process_id}"):
            assert f'href="/processes/{process_id}"' in (await client.get(path)).text, path
        assert (await client.get(f"/processes/{uuid4()}")).status_code == 404


async def test_a_process_is_asked_to_undo_and_its_trail_says_who_wanted_it_and_why(app, operator, pool):
    process_id = await operator.processes.start(Buy(), Purchase())
    path = f"/processes/{process_id}"
    registry = HandlerRegistry()
    register_processes(registry, Buy())
    worker = Worker(pool, BUYING, registry)

    async def asked():
        return [each for each in await operator.processes.get_audit_trail(process_id) if each.details]

    async with browser(app, OPERATOR) as client:
        form = {"csrf": csrf_in(await client.get(path))}
        refused = await client.post(f"{path}/cancel", data=form | {"reason": ""})
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        done = await client.post(f"{path}/cancel", data=form | {"reason": "they changed their mind"})
        assert "its worker does it" in (await client.get(done.headers["location"])).text
        running = asyncio.create_task(worker.run(poll_interval=0.05))

        async def told():
            return [each for each in await asked() if each.event_type == "CANCEL_ASKED"]

        (event,) = await eventually(told)
        await worker.stop()
        await running
        assert event.details == {"reason": "they changed their mind", "operator": "Olga"}
        again = await client.post(f"{path}/cancel", data=form | {"reason": "again"})
        assert again.status_code == 409


async def test_pages_of_processes_neither_repeat_nor_skip_and_say_how_far_was_looked(app, operator):
    ids = [await operator.processes.start(Buy(), Purchase()) for _ in range(5)]
    batch_id = await operator.processes.start_batch(Patient(), [Purchase()] * 2)
    bought, both = [str(each) for each in reversed(ids)], await operator.processes.query(batch_id=batch_id)
    batch = [str(each.process_id) for each in both]
    async with browser(app, VIEWER) as client:
        every = {"process_type=Buy": bought, "": batch + bought, f"batch_id={batch_id}": batch}
        for conditions, expected in every.items():
            seen: list[str] = []
            after, looked = "", 0
            while after is not None:
                page = (await client.get(f"/api/processes?limit=2&{conditions}&after={after}")).json()
                seen += [each["process_id"] for each in page["processes"]]
                after, looked = page["next"], page["looked"]
            assert seen == expected, conditions
            assert looked <= len(batch + bought)
