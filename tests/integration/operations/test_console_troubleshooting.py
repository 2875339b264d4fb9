"""The console's troubleshooting: decisions on one, many and a whole group, followed to their end."""

import asyncio
import html
import json
import re
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field

from mainstay import (
    Action,
    CommandModel,
    CommandStatus,
    HandlerRegistry,
    OperatorRules,
    Selection,
    StorageUnavailableError,
)
from mainstay.commands.actions import ActionState, StepState
from mainstay.operations.console import Role, TokenAccess, User, console
from mainstay.storage.postgres.commands import command_store
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.troubled import troubled
from tests.support.waiting import eventually

SECOND = "second-token-" + "z" * 20
WAITING = CommandStatus.IN_TROUBLESHOOTING_QUEUE
BEARER = {"authorization": f"Bearer {OPERATOR}"}
ODETTE = {"authorization": f"Bearer {SECOND}"}


def made(operator, **options):
    users = {OPERATOR: User("Olga", Role.OPERATOR), SECOND: User("Odette", Role.OPERATOR)}
    return console(operator, auth=TokenAccess({**users, VIEWER: User("Vera")}), personal=["mail"], **options)


@pytest.fixture
def app(operator):
    return made(operator)


async def decided(operator, ids, kind="OPERATOR_RETRY"):
    """Who decided on each of some commands, and why, as their audit trails say."""
    trails = [await operator.audit(each) for each in ids]
    return [[(e.details["operator"], e.details["reason"]) for e in t if e.event_type == kind] for t in trails]


async def test_a_group_is_seen_paged_previewed_retried_followed_and_taken_back(app, operator):
    ids = await troubled(operator, 55)
    (other,) = await troubled(operator, 1, error_code="OTHER")
    (group, _) = await operator.failure_groups()
    async with browser(app, OPERATOR) as client:
        listed = await client.get("/troubleshooting")
        assert f'href="/troubleshooting/groups/{group.group_id}"' in listed.text
        first = await client.get(f"/troubleshooting/groups/{group.group_id}")
        newer = re.search(r'rel="next" href="([^"]+)"', first.text)[1].replace("&amp;", "&")
        second = await client.get(newer)
        ticks = re.findall(r'name="command_id" value="([^"]+)"', first.text + second.text)
        assert sorted(ticks) == sorted(map(str, ids))
        assert 'rel="next"' not in second.text

        whole = {"action": "RETRY", "group_id": group.group_id, "domain": "shop"}
        seen = await client.get("/troubleshooting/decide", params=whole)
        assert "Retry 55 commands?" in seen.text
        assert await operator.decisions.list_actions() == []
        form = {"csrf": csrf_in(seen), **whole, "expect": "55"}
        for wrong, status, word in (
            ({"reason": " "}, 400, "reason"),
            ({"reason": "mended", "expect": "54"}, 409, "found 55"),
            ({"reason": "mended", "rate": "often"}, 400, "rate"),
            ({"reason": "mended", "action": "EAT"}, 400, "action: Input should be"),
        ):
            refused = await client.post("/troubleshooting/decide", data=form | wrong)
            assert (refused.status_code, word in refused.text) == (status, True), wrong
        assert await operator.decisions.list_actions() == []

        answer = await client.post("/troubleshooting/decide", data=form | {"reason": "mended"})
        assert answer.status_code == 303, answer.text
        action = answer.headers["location"]
        page = await client.get(action)
        assert "55 of 55" in page.text
        assert str(min(ids)) in page.text
        assert "Retry" in (await client.get("/actions")).text
        assert "Nothing of this group waits" in (await client.get(f"/troubleshooting/groups/{group.group_id}")).text
        assert await decided(operator, ids) == [[("Olga", "mended")]] * 55
        assert (await operator.command(other)).status is WAITING

        picked = await command_store(operator.pool).receive("shop", limit=2, lease_seconds=60, worker="w1")
        late = {each.command.command_id for each in picked}
        back = [each for each in ids if each not in late]
        undone = await client.post(f"{action}/undo", data={"csrf": csrf_in(page), "reason": "too early"})
        assert undone.status_code == 303, undone.text
        assert "Took back 53. Too late for 2: a worker has received them." in (await client.get(action)).text
        assert {(await operator.command(each)).status for each in back} == {WAITING}
        assert await decided(operator, back, "OPERATOR_UNDO") == [[("Olga", "too early")]] * 53
        assert await decided(operator, late, "OPERATOR_UNDO") == [[], []]


async def test_only_the_ticked_ones_are_decided_on_and_those_that_are_gone_are_left_out(app, operator):
    ids = await troubled(operator, 4)
    async with browser(app, OPERATOR) as client:
        await operator.resolve(Action.CANCEL, Selection(command_ids=(ids[0],)), operator="Olga", reason="gone")
        ticked = {"scope": "ticked", "domain": "shop", "action": "COMPLETE", "command_id": list(map(str, ids[:3]))}
        seen = await client.get("/troubleshooting/decide", params=ticked)
        assert "Complete 2 commands?" in seen.text
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', seen.text))
        bad = await client.post("/troubleshooting/decide", data=fields | {"reason": "by hand", "result": "{"})
        assert (bad.status_code, "not valid JSON" in bad.text) == (400, True)
        done = await client.post("/troubleshooting/decide", data=fields | {"reason": "by hand", "result": '{"a": 1}'})
        assert done.status_code == 303, done.text
        nothing = await client.get("/troubleshooting/decide", params={"scope": "ticked", "action": "RETRY"})
        assert (nothing.status_code, "no command is ticked" in nothing.text) == (400, True)
        assert "Nothing to do" in (await client.get("/troubleshooting/decide", params=ticked)).text
    found = [await operator.command(each) for each in ids]
    done = CommandStatus.COMPLETED
    assert [each.status for each in found] == [CommandStatus.CANCELED, done, done, WAITING]
    assert found[1].result == {"a": 1}


async def test_an_action_that_a_console_left_in_the_middle_is_gone_on_with_by_the_next(operator, monkeypatch):
    ids = await troubled(operator, 30)
    run, parts = operator.decisions.run, asyncio.Semaphore(0)

    async def slowly(action_id, **options):
        """Parts of ten, each when it may."""

        async def part(key, _limit, ask=operator.decisions._store.run_action):
            await parts.acquire()
            return await ask(key, 10)

        monkeypatch.setattr(operator.decisions._store, "run_action", part)
        return await run(action_id, **options)

    monkeypatch.setattr(operator.decisions, "run", slowly)
    monkeypatch.setattr("mainstay.operations.console.carrying.PATIENCE", 0.01)
    first = made(operator)
    async with browser(first, **BEARER) as client:
        decision = {"action": "RETRY", "domain": "shop", "reason": "mended", "expect": 30}
        begun = (await client.post("/api/actions", json=decision)).json()
        path = f"/actions/{begun['action']['action_id']}"
        assert (begun["errand"], begun["action"]["state"]) == ("CARRYING_OUT", "RUNNING")
        parts.release()

        async def a_third():
            return (await client.get(f"/api{path}")).json()["action"]["position"] == 10

        await eventually(a_third)
        page = await client.get(path)
        assert "this console carries it out" in page.text
        assert "10 of 30" in page.text
        first.close()

        async def is_left():
            return (await client.get(f"/api{path}")).json()["errand"] is None

        await eventually(is_left)
    monkeypatch.undo()
    async with browser(made(operator), OPERATOR) as client:
        page = await client.get(path)
        assert "This console does not carry it out" in page.text
        assert (await client.post(f"{path}/continue", data={"csrf": csrf_in(page)})).status_code == 303
        assert "30 of 30" in (await client.get(path)).text
    assert await decided(operator, ids) == [[("Olga", "mended")]] * 30


async def test_a_proposal_is_approved_by_a_second_operator_or_rejected(app, operator):
    ids = await troubled(operator, 3)
    await operator.decisions.set_rules(OperatorRules(approve_above=1), "Olga")
    named = {"action": "CANCEL", "domain": "shop", "command_ids": [str(each) for each in ids[:2]], "reason": "old"}
    async with browser(app, OPERATOR) as olga, browser(app, SECOND) as odette:
        for path, status in (("stop", CommandStatus.IN_TROUBLESHOOTING_QUEUE), ("approve", CommandStatus.CANCELED)):
            begun = await odette.post("/api/actions", json=named, headers=ODETTE)
            action = f"/actions/{begun.json()['action']['action_id']}"
            assert begun.json()["action"]["state"] == "PROPOSED"
            mine, theirs = await odette.get(action), await olga.get(action)
            assert "somebody else must approve it" in mine.text
            assert "Odette proposed it" in theirs.text
            own = await odette.post(f"{action}/approve", data={"csrf": csrf_in(mine)})
            assert (own.status_code, "proposed by Odette" in own.text) == (409, True)
            going = await odette.post(f"/api{action}/continue", json={}, headers=ODETTE)
            assert going.status_code == 409
            assert (await olga.post(f"{action}/{path}", data={"csrf": csrf_in(theirs)})).status_code == 303
            assert {(await operator.command(each)).status for each in ids[:2]} == {status}
        assert "approved by Olga" in (await olga.get("/actions")).text
        assert "stopped by Olga" in (await olga.get("/actions?state=STOPPED")).text
        assert "more than 1 command needs a second operator" in (await olga.get("/actions")).text
    assert await decided(operator, ids, "OPERATOR_CANCEL") == [[("Odette", "old")], [("Odette", "old")], []]


async def test_a_drip_hands_out_what_is_due_and_stopping_takes_back_the_rest(app, operator):
    ids = await troubled(operator, 3)
    async with browser(app, OPERATOR) as client:
        seen = await client.get("/troubleshooting/decide", params={"action": "RETRY", "domain": "shop"})
        form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', seen.text))
        form |= {"reason": "mended", "rate": "1", "rate_unit": "h"}
        action = (await client.post("/troubleshooting/decide", data=form)).headers["location"]
        page = await client.get(action)
        assert "Handed out 1 an hour" in page.text
        stopped = await client.post(f"{action}/stop", data={"csrf": csrf_in(page), "reason": "fails again"})
        assert stopped.status_code == 303
        found = (await client.get(f"/api{action}")).json()
        assert (found["action"]["state"], found["action"]["undone"], found["drips"]) == ("STOPPED", 2, False)
    found = [(await operator.command(each)).status for each in ids]
    assert sorted(found) == [WAITING, WAITING, CommandStatus.PENDING]


async def test_a_program_previews_decides_follows_and_is_told_what_is_wrong(app, operator):
    ids = await troubled(operator, 3, {"mail": "secret@example.org"})
    async with browser(app, **BEARER) as program:
        preview = (await program.get("/api/actions/preview?domain=shop")).json()
        assert (preview["commands"], preview["needs_approval"]) == (3, False)
        assert preview["sample"][0]["payload"] == {"mail": "•••"}
        named = await program.get(f"/api/troubleshooting?command_ids={ids[0]},{ids[2]}&limit=1")
        rest = await program.get(f"/api/troubleshooting?command_ids={ids[0]},{ids[2]}&after={named.json()['next']}")
        both = named.json()["commands"] + rest.json()["commands"]
        assert {each["command_id"] for each in both} == {str(ids[0]), str(ids[2])}
        twice = await program.get(f"/api/actions/preview?command_ids={ids[0]}&command_ids={ids[2]}")
        assert (twice.status_code, "twice" in twice.json()["detail"]) == (400, True)
        assert (await program.get(f"/api/failure-groups?batch_id={ids[0]}")).json() == []
        for body, status, word in (
            ({"action": "RETRY", "reason": "why"}, 400, "expect is needed"),
            ({"action": "RETRY", "expect": 3}, 400, "reason"),
            ({"action": "RETRY", "reason": "why", "expect": 2}, 409, "found 3"),
            ({"action": "CANCEL", "reason": "why", "expect": 3, "rate": 5}, 400, "rate"),
            ({"action": "RETRY", "reason": "why", "command_ids": [str(ids[0])], "group_id": "x"}, 400, "not both"),
            ({"action": "RETRY", "reason": "why", "command_ids": [str(uuid4())]}, 404, "there is no command"),
            ({"action": "RETRY", "reason": "why", "command_ids": ["x"]}, 400, "it must be a UUID, not 'x'"),
            ({"action": "RETRY", "reason": "why", "expect": 0, "group_id": "x"}, 409, "there is no group 'x'"),
        ):
            answer = await program.post("/api/actions", json=body)
            assert (answer.status_code, word in answer.json()["detail"]) == (status, True), body
        assert await operator.decisions.list_actions() == []

        begun = await program.post("/api/actions", json={"action": "RETRY", "reason": "why", "expect": 3})
        path = f"/api/actions/{begun.json()['action']['action_id']}"
        assert begun.json()["action"]["state"] == ActionState.DONE
        steps = (await program.get(f"{path}/commands?limit=2")).json()
        assert [each["state"] for each in steps["commands"]] == [StepState.APPLIED] * 2
        assert len((await program.get(f"{path}/commands?limit=2&after={steps['next']}")).json()["commands"]) == 1
        (listed,) = (await program.get("/api/actions?state=DONE&limit=1")).json()["actions"]
        assert listed["operator"] == "Olga"
        assert (await program.get("/api/rules")).json() == {"approve_above": None, "reason_required": False}
        one = await program.post(f"/api/troubleshooting/shop/{ids[0]}/undo", json={"reason": "too early"})
        assert one.json() == {"status": WAITING}
        assert (await program.post(f"{path}/undo", json={})).status_code == 400
        assert (await program.post(f"/api/actions/{uuid4()}/undo", json={"reason": "why"})).status_code == 404
        assert (await program.get(f"/api/actions/{uuid4()}")).status_code == 404
        assert (await program.get("/api/actions?after=guess")).status_code == 400
        ended = await program.post("/api/actions", json={"action": "CANCEL", "reason": "why", "expect": 1})
        final = await program.post(f"/api/actions/{ended.json()['action']['action_id']}/undo", json={"reason": "no"})
        assert (final.status_code, "final" in final.json()["detail"]) == (409, True)


async def test_a_viewer_sees_what_is_decided_and_is_offered_nothing(app, operator):
    await troubled(operator, 2)
    (group,) = await operator.failure_groups()
    begun = await operator.decisions.begin(Action.RETRY, Selection("shop"), operator="Olga", reason="mended")
    async with browser(app, VIEWER) as viewer:
        for path in (
            "/troubleshooting",
            f"/troubleshooting/groups/{group.group_id}",
            "/troubleshooting/decide?action=RETRY",
            "/actions",
            f"/actions/{begun.action_id}",
        ):
            shown = await viewer.get(path)
            assert shown.status_code == 200, path
            assert re.findall(r'<form method="post" action="([^"]+)"', shown.text) == ["/logout"], path


class Address(BaseModel):
    street: str = Field(json_schema_extra={"x-personal": True})
    city: str


class Bad(CommandModel, domain="shop"):
    mail: str = Field(json_schema_extra={"x-personal": True})
    address: Address
    amount: int


@pytest.fixture
def checking(operator):
    """A console that knows the handler's model."""
    registry = HandlerRegistry()

    @registry.handler(Bad)
    async def bad(_command, _context):
        return None

    return console(operator, auth=tokens(), registry=registry)


PAYLOAD = {
    "mail": "ann@example.org",
    "address": {"street": "High St", "city": "Ulm"},
    "amount": "many",
    "note": "a\u200bb",
}


async def test_a_payload_is_edited_checked_compared_and_retried_and_what_is_hidden_stays(checking, operator):
    (key,) = await troubled(operator, 1, PAYLOAD)
    path = f"/commands/shop/{key}/edit"
    async with browser(checking, OPERATOR) as client:
        assert f'href="{path}"' in (await client.get(f"/commands/shop/{key}")).text
        first = await client.get(path)
        text = html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", first.text, re.DOTALL)[1])
        shown = json.loads(text)
        assert shown == PAYLOAD | {"mail": "•••1", "address": {"street": "•••2", "city": "Ulm"}}
        form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', first.text)) | {"reason": "mended"}

        async def sent(data, to=path, **changes):
            written = data if isinstance(data, str) else json.dumps(data)
            return await client.post(to, data=form | changes | {"data": written})

        for data, word in (
            ("{", "not valid JSON"),
            ("[]", "must be a JSON object"),
            ('{"a":' * 900 + "1" + "}" * 900, "cannot be written as JSON"),
            ('{"amount": 123456789012345678901234567890}', "does not fit in 64 bits"),
            (shown | {"note": "•••1"}, "stands for a hidden value"),
            (shown, '<span class="line">  &#34;amount&#34;: &#34;many&#34;,</span><span class="wrong"'),
            ({"amount": 1}, "mail: Field required"),
        ):
            for to in (path, f"{path}/retry"):
                refused = await sent(data, to)
                assert refused.status_code == 400, (data, to)
            assert word in (await sent(data)).text, data
        assert (await operator.command(key)).data == PAYLOAD

        right = shown | {"amount": 3, "address": {"street": "New St", "city": "Ulm"}}
        seen = await sent(right)
        assert "Retry it with this payload?" in seen.text
        assert re.findall(r'class="id">(/\w+(?:/\w+)?)<', seen.text) == ["/address/street", "/amount"]
        assert "<del>&#34;•••&#34;</del>" in seen.text
        assert "High St" not in seen.text
        assert "Edit the payload" in (await sent(right, again="yes")).text
        stale = await sent(right, f"{path}/retry", seen="2020-01-01T00:00:00+00:00")
        assert (stale.status_code, "decided on meanwhile" in stale.text) == (409, True)
        done = await sent(right, f"{path}/retry")
        assert done.status_code == 303, done.text
        retried = await client.get(done.headers["location"])
        assert "High St" not in retried.text
        assert "example.org" not in retried.text
        assert (await client.get(path)).status_code == 409
    now = await operator.command(key)
    assert now.data == PAYLOAD | {"amount": 3, "address": {"street": "New St", "city": "Ulm"}}
    assert now.status is CommandStatus.PENDING
    assert await decided(operator, [key]) == [[("Olga", "mended")]]


async def test_a_program_edits_as_a_person_does_and_nobody_elses_edit_is_lost(app, operator):
    (key,) = await troubled(operator, 1, {"mail": "ann@example.org", "n": 1})
    path = f"/api/troubleshooting/shop/{key}/edit"
    async with browser(app, **BEARER) as program:
        found = (await program.get(path)).json()
        assert found["payload"] == {"mail": "•••1", "n": 1}
        edit = {"data": found["payload"] | {"n": 2}, "seen": found["seen"]}
        seen = (await program.post(path, json=edit)).json()
        assert seen == {"diff": [{"path": "/n", "before": 1, "after": 2}], "problems": []}
        await operator.retry_edited(key, {"mail": "bea@example.org", "n": 1}, operator="Odette")
        gone = await program.post(f"{path}/retry", json=edit | {"reason": "why"})
        assert gone.status_code == 409
        await operator.undo_command(key, operator="Odette")
        done = await program.post(f"{path}/retry", json=edit | {"reason": "why"})
        assert done.json() == {"status": "PENDING"}
    assert (await operator.command(key)).data == {"mail": "ann@example.org", "n": 2}


async def test_an_action_that_could_not_go_on_says_why_until_it_does(app, operator, monkeypatch):
    ids = await troubled(operator, 2)
    run = operator.decisions._store.run_action

    async def gone(_key, _limit):
        raise StorageUnavailableError("the server closed the connection")

    monkeypatch.setattr(operator.decisions._store, "run_action", gone)
    async with browser(app, OPERATOR) as client:
        decision = {"action": "RETRY", "domain": "shop", "reason": "mended", "expect": 2}
        begun = await client.post("/api/actions", json=decision, headers=BEARER)
        assert begun.json()["problem"] == "the server closed the connection"
        (action,) = await operator.decisions.list_actions()
        page = await client.get(f"/actions/{action.action_id}")
        bad = await client.post(f"/actions/{action.action_id}/continue", data={"csrf": csrf_in(page)})
        assert bad.status_code == 503
        assert "It was interrupted: the server closed the connection" in page.text
        monkeypatch.setattr(operator.decisions._store, "run_action", run)
        await client.post(f"/actions/{action.action_id}/continue", data={"csrf": csrf_in(page)})
        page = await client.get(f"/actions/{action.action_id}")
        assert ("2 of 2" in page.text, "interrupted" in page.text) == (True, False)
    assert await decided(operator, ids) == [[("Olga", "mended")]] * 2
