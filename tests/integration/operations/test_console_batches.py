"""The console's room for batches."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mainstay import BatchCommand, BatchMetadata, BatchStatus, CommandStatus
from mainstay.commands.store import Verb
from mainstay.operations.console.questions.batches import Pace, pace_of
from mainstay.storage.postgres.commands import command_store
from mainstay.testing.contracts.commands.base import saying
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in
from tests.support.console_world import DOMAIN, settle
from tests.support.troubled import TROUBLE


async def batch_of(operator, count=1, **options):
    commands = [BatchCommand("Order", uuid4(), {}) for _ in range(count)]
    return (await operator.bus.create_batch("shop", commands, **options)).batch_id


async def test_a_batch_is_shown_with_its_counts_its_pace_its_parts_and_what_failed(app, operator, pool):
    world = await settle(pool)
    path = f"/batches/{DOMAIN}/{world.batch}"
    part = (await operator.bus.create_batch(DOMAIN, [BatchCommand("Good", uuid4(), {})])).batch_id
    async with pool.connection() as conn:
        await conn.execute("update commandbus.batch set parent_id = %s where batch_id = %s", [world.batch, part])
    async with browser(app, VIEWER) as client:
        listed = (await client.get("/batches")).text
        assert all(
            each in listed for each in (path, "batch Plain", "Part of another batch", "Of 2 commands 1 completed")
        )
        assert "No batch meets" in (await client.get("/batches?domain=nobody")).text
        assert (await client.get("/batches?after=x")).status_code == 400
        shown = (await client.get(path)).text
        for each in ("BROKEN", "They wait for an operator", "a second on the average", "role operator is needed"):
            assert each in shown
        assert f"/batches/{DOMAIN}/{part}" in shown
        assert "example.org" not in shown
        facts = (await client.get(f"/api{path}")).json()
        assert (facts["batch"]["total_count"], facts["batch"]["in_troubleshooting_count"]) == (2, 1)
        assert (facts["batch"]["custom_data"]["mail"], facts["pace"]["ended"]) == ("•••", 1)
        assert [each["batch"]["batch_id"] for each in facts["parts"]] == [str(part)]
        trouble = (await client.get(f"/api{path}/trouble")).json()
        assert ([each["last_error_code"] for each in trouble["waiting"]], trouble["failed"]) == (["BROKEN Plain"], [])
        assert (await client.get(f"/batches/nobody/{world.batch}")).status_code == 404
        assert re.findall(r'data-live="([^"]+)"', shown) == [f"/live/batch?domain={DOMAIN}&amp;batch_id={world.batch}"]


async def test_pages_of_batches_neither_repeat_nor_skip_though_more_are_created(app, operator):
    async with browser(app, VIEWER) as client:
        assert "No batches were created yet" in (await client.get("/batches")).text
        ids = [await batch_of(operator) for _ in range(4)]
        ids.append((await operator.bus.create_batch("mail", [BatchCommand("Order", uuid4(), {})])).batch_id)
        seen, after = [], ""
        while after is not None:
            page = (await client.get(f"/api/batches?limit=2&after={after}")).json()
            seen += [each["batch"]["batch_id"] for each in page["batches"]]
            after = page["next"]
            await batch_of(operator)
        assert seen == [str(each) for each in reversed(ids)]
        older = re.search(r'rel="next" href="([^"]+)"', (await client.get("/batches")).text)
        assert older is None  # ten fit on a page


async def test_the_rest_of_a_batch_is_canceled_and_the_failed_part_retried(app, operator, pool):
    batch_id = await batch_of(operator, 3)
    async with pool.connection() as conn:
        await conn.execute(TROUBLE)
    path = f"/batches/shop/{batch_id}"
    async with browser(app, OPERATOR) as client:
        form = {"csrf": csrf_in(await client.get(path))}
        refused = await client.post(f"{path}/cancel", data=form | {"reason": " "})
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        assert (await client.post(f"{path}/explode", data=form | {"reason": "x"})).status_code == 404

        done = await client.post(f"{path}/cancel", data=form | {"reason": "not wanted any more"})
        assert done.status_code == 303, done.text
        assert "not wanted any more" in (await client.get(done.headers["location"])).text
        batch = await operator.batch(batch_id)
        assert (batch.canceled_count, batch.in_troubleshooting_count) == (2, 1)

        done = await client.post(f"{path}/retry", data=form | {"reason": "mended"})
        assert done.status_code == 303, done.text
        assert (await operator.batch(batch_id)).in_troubleshooting_count == 0
        (again,) = await operator.batch_commands(batch, status=CommandStatus.PENDING)
        (retried,) = [each for each in await operator.audit(again.command_id) if each.event_type == "OPERATOR_RETRY"]
        assert (retried.details["operator"], retried.details["reason"]) == ("Olga", "mended")


async def test_what_failed_for_good_is_shown_with_its_batch(app, operator, pool):
    batch_id, other = await batch_of(operator, 2), await batch_of(operator, 1)
    store = command_store(pool)
    received = await store.receive("shop", limit=3, lease_seconds=60, worker="w")
    await store.complete("shop", [saying(each, Verb.FAIL, error_code="REFUSED") for each in received])
    async with browser(app, VIEWER) as client:
        trouble = (await client.get(f"/api/batches/shop/{batch_id}/trouble")).json()
        assert [each["last_error_code"] for each in trouble["failed"]] == ["REFUSED"] * 2
        assert {each["batch_id"] for each in trouble["failed"]} == {str(batch_id)}
        assert "They failed for good" in (await client.get(f"/batches/shop/{other}")).text


async def test_a_batch_whose_sender_died_is_sealed(app, operator):
    with pytest.raises(ConnectionError):
        async with operator.bus.open_batch("shop") as stream:
            raise ConnectionError
    path = f"/batches/shop/{stream.batch_id}"
    async with browser(app, OPERATOR) as client:
        page = await client.get(path)
        assert "Seal</button>" in page.text
        done = await client.post(f"{path}/seal", data={"csrf": csrf_in(page), "reason": "its sender died"})
        assert "Sealed." in (await client.get(done.headers["location"])).text
    assert (await operator.batch(stream.batch_id)).sealed
    (deed,) = await operator.trail.list()
    assert (deed.operator, deed.what, deed.reason) == ("Olga", "SEALED", "its sender died")
    assert deed.subject == f"shop/{stream.batch_id}"


def test_the_pace_is_that_of_what_has_ended():
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    batch = BatchMetadata("shop", uuid4(), BatchStatus.IN_PROGRESS, total_count=100, created_at=begun)
    now = begun + timedelta(seconds=10)
    assert pace_of(batch, now) == Pace(0, 100, None, None, None)
    batch = replace(batch, started_at=begun, completed_count=30, failed_count=10, in_troubleshooting_count=20)
    assert pace_of(batch, now) == Pace(40, 40, 10.0, 4.0, 10.0)
    ended = replace(batch, completed_count=70, completed_at=begun + timedelta(seconds=8))
    assert pace_of(ended, now) == Pace(80, 0, 8.0, 10.0, None)
