"""The console's trail: everything that is done there stands in the database with the user, or nothing was done."""

from html import unescape

import pytest

from mainstay import OperatorRules
from mainstay.operations.console import console
from mainstay.operations.console.asking import OPERATIONS
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.console_world import settle

ELSEWHERE = {
    "begin_load": "a demo's load is no decision",
    "stop_load": "nor is its end",
    "begin_fsck": "looking changes nothing",
    "preview_edit": "nor does this",
    "preview_schedule": "nor this",
    "continue_action": "its action says who decided",
    "cancel_process": "the process's own audit trail says who",
    "replay_dead_letters": "each dead letter says who",
    "undo_action": "each command's audit trail says who",
    "undo_command": "the command's audit trail says who",
}
"""What leaves no deed, and why."""
NOTED = {
    "pause": "PAUSED", "resume": "RESUMED", "set_limit": "SET", "remove_limit": "REMOVED", "set_breaker": "SET",
    "remove_breaker": "REMOVED", "open_breaker": "OPENED", "close_breaker": "CLOSED", "release_key": "RELEASED",
    "begin_action": "DECIDED", "approve_action": "APPROVED", "stop_action": "STOPPED", "set_rules": "CHANGED",
    "retry_command": "DECIDED", "complete_command": "DECIDED", "cancel_command": "DECIDED", "retry_edited": "DECIDED",
    "cancel_waiting": "CANCELED", "cancel_batch": "DECIDED", "retry_batch": "DECIDED", "seal_batch": "SEALED",
    "pause_schedule": "PAUSED", "resume_schedule": "RESUMED", "run_schedule": "FIRED", "remove_schedule": "REMOVED",
    "set_schedule": "SET", "pause_projection": "PAUSED", "resume_projection": "RESUMED",
    "discard_dead_letters": "DISCARDED", "swap_projection": "SWAPPED", "drop_rebuild": "FORGOTTEN",
    "rebuild_projection": "REBUILD_BEGUN",
}  # fmt: skip
"""What each operation that changes something leaves in the trail."""


def test_of_everything_that_can_be_done_it_is_said_where_it_stands():
    changing = {name for name, each in OPERATIONS.items() if each.method == "POST"}
    assert changing == {*NOTED, *ELSEWHERE}


async def test_what_is_done_in_the_console_stands_with_the_user_and_what_is_refused_does_not(pool, operator):
    world = await settle(pool)
    app = console(operator, auth=tokens())
    before = len(await operator.trail.list(limit=500))
    headers = {"authorization": f"Bearer {OPERATOR}"}
    paused = {"domain": "another", "reason": "a release"}
    async with browser(app) as client:

        async def do(path, **fields):
            return (await client.post(f"/api{path}", json=fields, headers=headers)).status_code

        assert await do("/pauses/pause", **paused) == 200
        assert await do("/pauses/pause", **paused) == 409
        assert await do("/pauses/pause", **paused | {"reason": " "}) == 400
        assert await do("/limits/set", domain="another", command_type="Do", max_running=2, reason="slow") == 200
        assert await do("/limits/set", domain="another", command_type="Do", reason="slow") == 400
        assert await do("/breakers/set", domain="another", command_type="Do") == 200
        assert await do("/breakers/set", domain="another", command_type="Do", failures=3, reason="too late") == 200
        assert await do("/breakers/remove", domain="another", command_type="Do", reason="of no use") == 200
        assert await do("/rules", approve_above=100, reason_required=True, reason="two see more") == 200
        assert await do("/rules", approve_above=-1, reason="nonsense") == 400
        viewer = {"authorization": f"Bearer {VIEWER}"}
        assert (await client.post("/api/rules", json={"reason": "me, too"}, headers=viewer)).status_code == 403
    found = list(reversed(await operator.trail.list(limit=500)))[before:]
    assert [(each.operator, each.subject, each.what, each.reason) for each in found] == [
        ("Olga", "another", "PAUSED", "a release"),
        ("Olga", "another.Do", "SET", "slow"),
        ("Olga", "another.Do", "SET", None),
        ("Olga", "another.Do", "SET", "too late"),
        ("Olga", "another.Do", "REMOVED", "of no use"),
        ("Olga", "operators", "CHANGED", "two see more"),
    ]
    assert world.command_type


async def test_the_trail_is_shown_filtered_and_page_by_page(app, operator):
    async with browser(app, VIEWER) as client:
        assert "No operator has changed anything yet" in (await client.get("/trail")).text
        for number in range(3):
            await operator.pause(f"d{number}", operator="<b>Ann</b>", reason="a & b")
        await operator.schedules.set("nightly", "shop", "Do", every=60)
        await operator.schedules.set("nightly", "shop", "Do", every=90)
        shown = await client.get("/trail")
        for each in (
            "&lt;b&gt;Ann&lt;/b&gt;",
            "a &amp; b",
            "role ",
            "schedules/one?name=nightly",
            "00:01:00 → 00:01:30",
        ):
            assert each in shown.text
        assert "nightly" not in (await client.get("/trail?kind=PAUSE")).text
        assert "nightly" in (await client.get("/trail", params={"subject": "night"})).text
        only = (await client.get("/trail", params={"operator": "<b>Ann</b>"})).text
        assert "d0" in only
        assert "nightly" not in only
        assert "Nothing of the kind" in (await client.get("/trail?until=2020-01-01T00:00")).text
        assert "Nothing of the kind" not in (await client.get("/trail?since=2020-01-01T00:00")).text
        page = (await client.get("/api/trail?limit=2")).json()
        assert [each["subject"] for each in page["deeds"]] == ["nightly", "nightly"]
        rest = (await client.get("/api/trail", params={"limit": 2, "after": page["next"]})).json()
        assert [each["subject"] for each in rest["deeds"]] == ["d2", "d1"]
        last = (await client.get("/api/trail", params={"limit": 2, "after": rest["next"]})).json()
        assert ([each["subject"] for each in last["deeds"]], last["next"]) == (["d0"], None)
        wrong = await client.get("/trail?kind=NOTHING&operator=somebody")
        assert (wrong.status_code, 'value="somebody"' in wrong.text) == (400, True)


async def test_the_rules_are_changed_by_a_form_with_a_reason(app, operator):
    async with browser(app, OPERATOR) as client:
        form = {"csrf": csrf_in(await client.get("/actions"))}

        async def change(**fields):
            return await client.post("/actions/rules", data=form | fields)

        refused = await change(approve_above="7")
        assert (refused.status_code, "reason" in refused.text, 'value="7"' in refused.text) == (400, True, True)
        assert await operator.decisions.get_rules() == OperatorRules()
        done = await change(approve_above="7", reason_required="true", reason="two see more")
        shown = (await client.get(done.headers["location"])).text
        for each in (
            "The rules were changed.",
            "more than 7 commands needs a second operator",
            "Every decision says why.",
        ):
            assert each in unescape(shown)
        assert await operator.decisions.get_rules() == OperatorRules(7, reason_required=True)
        await change(reason="too slow")
        assert await operator.decisions.get_rules() == OperatorRules()
    deeds = await operator.trail.list()
    assert [(each.operator, each.reason) for each in deeds] == [("Olga", "too slow"), ("Olga", "two see more")]
    async with browser(app, VIEWER) as client:
        assert "What operators must keep to" not in (await client.get("/actions")).text


@pytest.mark.parametrize("user", [OPERATOR])
async def test_a_user_whose_change_cannot_be_noted_changes_nothing(app, operator, pool, user):
    async with pool.connection() as conn:
        await conn.execute(
            "alter table commandbus.operator_trail add constraint full_up check (kind <> 'LIMIT') not valid"
        )
    async with browser(app) as client:
        fields = {"domain": "shop", "command_type": "Do", "max_running": 1, "reason": "slow"}
        answer = await client.post("/api/limits/set", json=fields, headers={"authorization": f"Bearer {user}"})
    assert answer.status_code >= 500
    assert await operator.limits.list() == []
