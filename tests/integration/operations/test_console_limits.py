"""The console's room for limits, pauses, breakers and keys."""

from uuid import uuid4

from mainstay import SendRequest
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in
from tests.support.console_world import FINGERPRINT, QUIET, settle
from tests.support.troubled import TROUBLE


async def test_nothing_held_up_says_what_could_be(app):
    async with browser(app, VIEWER) as client:
        shown = (await client.get("/limits")).text
        words = ("Nothing is paused", "No breaker is open", "No key is blocked", "Nothing is limited", "has breakers")
        assert all(each in shown for each in words)
        assert "/limits/pause" not in shown
        assert "role operator is needed" in (await client.get("/limits/pause")).text
        assert (await client.get("/limits/explode")).status_code == 404


async def test_what_is_held_up_is_shown_with_who_and_why_and_let_go_by_forms(app, operator, pool):
    world = await settle(pool)
    of_type = {"domain": QUIET, "command_type": world.command_type}
    async with browser(app, OPERATOR) as client:
        shown = (await client.get("/limits")).text
        assert all(each in shown for each in ("Olga", "it is broken", "5 at once", "5 failures alike", "Close …"))
        assert "Nothing is paused" in (await client.get("/limits?domain=nobody")).text

        async def do(what, **fields):
            form = {"csrf": csrf_in(await client.get(f"/limits/{what}"))}
            return await client.post(f"/limits/{what}", data=form | fields)

        refused = await do("resume", **of_type)
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        assert f'value="{world.command_type}"' in refused.text
        done = await do("resume", **of_type, reason="it is mended")
        assert "Resumed." in (await client.get(done.headers["location"])).text
        (deed,) = await operator.trail.list(limit=1)
        assert (deed.operator, deed.what, deed.reason) == ("Olga", "RESUMED", "it is mended")
        assert (await do("resume", **of_type, reason="again")).status_code == 409
        assert await operator.paused() == []

        assert (await do("pause", domain=QUIET, reason="stocktaking")).status_code == 303
        (pause,) = await operator.paused()
        assert (pause.command_type, pause.operator, pause.reason) == (None, "Olga", "stocktaking")

        assert (await do("limit", **of_type, reason="less", rate="3", per_seconds="")).status_code == 303
        ((limit, *_),) = [(each.limit, each) for each in await operator.limits.list()]
        assert (limit.rate, limit.max_running) == (3, None)
        assert (await do("limit", **of_type, reason="none of it")).status_code == 400
        assert (await do("unlimit", **of_type, reason="enough")).status_code == 303
        assert await operator.limits.list() == []

        assert (await do("close", **of_type, fingerprint=FINGERPRINT, reason="mended")).status_code == 303
        assert (await operator.breakers.history())[0].reason == "mended"
        assert (await do("rule", **of_type, failures="9", within="", probe_after="", drip="")).status_code == 303
        assert [(each.failures, each.drip) for each in await operator.breakers.rules()] == [(9, 10.0)]
        assert (await do("unrule", **of_type)).status_code == 303
        assert (await do("unrule", **of_type)).status_code == 409


async def test_a_program_asks_and_does_the_same(app, operator, pool):
    world = await settle(pool)
    of_type = {"domain": QUIET, "command_type": world.command_type}
    async with browser(app, authorization=f"Bearer {OPERATOR}") as program:
        (pause,) = (await program.get("/api/pauses")).json()
        assert (pause["operator"], pause["command_type"]) == ("Olga", world.command_type)
        (state,) = (await program.get("/api/limits")).json()
        assert (state["limit"]["max_running"], state["running"]) == (5, 0)
        (breaker,) = (await program.get("/api/breakers")).json()
        assert (breaker["fingerprint"], breaker["state"]) == (FINGERPRINT, "OPEN")
        assert len((await program.get("/api/breakers/rules")).json()) == 1
        assert len((await program.get("/api/breakers/history?limit=1")).json()) == 1
        opened = await program.post("/api/breakers/open", json=of_type | {"fingerprint": "a" * 12, "reason": "known"})
        assert opened.json() == {"domain": QUIET, "command_type": world.command_type, "operator": "Olga"}
        assert len(await operator.breakers.list()) == 2


async def test_a_blocked_key_is_shown_and_goes_on_without_its_command(app, operator, pool):
    command_id, key = uuid4(), "order 7"
    await operator.send([SendRequest("shop", "Order", each, {}, key=key) for each in (command_id, uuid4())])
    async with pool.connection() as conn:
        await conn.execute(TROUBLE)
    async with browser(app, OPERATOR) as client:
        shown = (await client.get("/limits")).text
        assert "order 7" in shown
        assert f"/commands/shop/{command_id}" in shown
        form = {"csrf": csrf_in(await client.get("/limits/release")), "domain": "shop", "key": key}
        assert (await client.post("/limits/release", data=form | {"reason": "it is late"})).status_code == 303
        assert (await client.post("/limits/release", data=form | {"reason": "again"})).status_code == 409
    (released,) = [each for each in await operator.audit(command_id) if each.event_type == "KEY_RELEASED"]
    assert (released.details["operator"], released.details["reason"]) == ("Olga", "it is late")
