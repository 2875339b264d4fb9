"""The console's page of one command: attempts, conversation, and canceling what waits."""

import asyncio
from uuid import uuid4

from mainstay import CommandStatus, HandlerRegistry, SendRequest, TransientCommandError, Worker
from mainstay.operations.console import console
from mainstay.retry import RetryPolicy
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.waiting import eventually


async def test_a_command_shows_its_attempts_its_conversation_and_where_it_belongs(operator, pool):
    registry = HandlerRegistry()

    @registry.handler("shop", "Shaky", retry_policy=RetryPolicy(max_attempts=2, backoff_schedule=[0.0]))
    async def shaky(command, context):
        if context.attempt == 1:
            raise TransientCommandError("BUSY", "come back later")

    command_id, after, talk = uuid4(), uuid4(), uuid4()
    caused = SendRequest("office", "Later", after, {}, correlation_id=talk, causation_id=command_id)
    await operator.send([SendRequest("shop", "Shaky", command_id, {}, key="customer 7", correlation_id=talk), caused])
    worker = Worker(pool, "shop", registry, name="w1")
    running = asyncio.create_task(worker.run(concurrency=1, poll_interval=0.05))

    async def done():
        return (await operator.command(command_id)).status is CommandStatus.COMPLETED

    await eventually(done)
    await worker.stop()
    await running
    async with browser(console(operator, auth=tokens()), VIEWER) as client:
        first, second = (await client.get(f"/api/commands/shop/{command_id}")).json()["attempts"]
        assert (first["number"], first["worker"], first["end"], first["error"]) == (
            1,
            "w1",
            "FAILED",
            "BUSY come back later",
        )
        assert (second["number"], second["end"], second["error"]) == (2, "COMPLETED", None)
        assert second["seconds"] >= 0
        page = (await client.get(f"/commands/shop/{command_id}")).text
        assert "come back later" in page
        assert 'class="tree"' in page
        assert f"/commands/office/{after}" in page
        assert "key=customer+7" in page
        assert "data-live" not in page  # it has ended
        assert "data-live" in (await client.get(f"/commands/office/{after}")).text


async def test_a_waiting_command_is_canceled_and_a_running_one_asked_to_end(operator, pool):
    registry, begun = HandlerRegistry(), asyncio.Event()

    @registry.handler("shop", "Long")
    async def long(command, context):
        begun.set()
        await asyncio.Event().wait()

    waits, runs, never = uuid4(), uuid4(), uuid4()
    await operator.send([SendRequest("office", "Bill", waits, {}), SendRequest("shop", "Long", runs, {})])
    worker = Worker(pool, "shop", registry)
    running = asyncio.create_task(worker.run(concurrency=1, poll_interval=0.05))
    await asyncio.wait_for(begun.wait(), 30)
    app = console(operator, auth=tokens())
    async with browser(app, OPERATOR) as client:
        page = await client.get(f"/commands/office/{waits}")
        form = {"csrf": csrf_in(page), "reason": ""}
        refused = await client.post(f"/commands/office/{waits}/call-off", data=form)
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        form["reason"] = "sent by mistake"
        answer = await client.post(f"/commands/office/{waits}/call-off", data=form)
        assert answer.status_code == 303
        assert "Canceled." in (await client.get(answer.headers["location"])).text
        assert (await operator.command(waits)).status is CommandStatus.CANCELED
        assert (await operator.audit(waits))[-1].details == {"reason": "sent by mistake", "operator": "Olga"}
        assert (await client.post(f"/commands/office/{waits}/call-off", data=form)).status_code == 409
        assert (await client.post(f"/commands/office/{never}/call-off", data=form)).status_code == 404

        assert (await client.post(f"/commands/shop/{runs}/call-off", data=form)).status_code == 409
        answer = await client.post(f"/commands/shop/{runs}/call-off", data=form | {"running": "yes"})
        assert answer.headers["location"].endswith("said=asked")

        async def ended():
            return (await operator.command(runs)).status is CommandStatus.CANCELED

        await eventually(ended)
    await worker.stop()
    await running
    async with browser(app, VIEWER) as viewer:
        assert (await viewer.get(f"/commands/office/{waits}")).status_code == 200
