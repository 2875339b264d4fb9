"""The console's room for schedules."""

import json
import re
from datetime import datetime
from html import unescape
from itertools import pairwise

import pytest

from tests.support.console import OPERATOR, VIEWER, browser, csrf_in

NAME = "nightly/every <b>shop</b>?"


async def test_schedules_are_listed_and_shown_with_what_comes_next(app, operator):
    async with browser(app, VIEWER) as client:
        assert "No schedules were set yet" in (await client.get("/schedules")).text
        data = {"mail": "a@example.org", "n": 1}
        await operator.schedules.set(NAME, "shop", "Report", data, cron="30 2 * * *", timezone="Europe/Berlin")
        await operator.schedules.set("tick", "mail", "Tick", every=90)
        listed = (await client.get("/schedules")).text
        for each in ("30 2 * * *", "at 02:30 every day", "Europe/Berlin", "every 90 s", "&lt;b&gt;", "mail.Tick"):
            assert each in listed
        assert "tick" not in (await client.get("/schedules?domain=shop")).text
        assert "This domain has no schedules" in (await client.get("/schedules?domain=nobody")).text
        link = "/schedules/one?name=nightly%2Fevery+%3Cb%3Eshop%3C%2Fb%3E%3F"
        assert link in listed
        shown = (await client.get(link)).text
        assert "role operator is needed" in shown
        assert "a@example.org" not in shown
        facts = (await client.get(f"/api{link}")).json()
        assert (facts["data"], facts["every"], facts["is_paused"]) == ({"mail": "•••", "n": 1}, None, False)
        due = [datetime.fromisoformat(each) for each in facts["upcoming"]]
        assert len(due) == 5
        assert {(each - one).days for one, each in pairwise(due)} <= {0, 1}
        assert [each["every"] for each in (await client.get("/api/schedules?domain=mail")).json()] == [90.0]
        assert (await client.get("/schedules/one?name=nobody")).status_code == 404


async def test_a_schedule_is_paused_resumed_fired_and_removed_with_a_reason(app, operator):
    await operator.schedules.set(NAME, "shop", "Report", {}, every=3600, unique_key="one report")
    async with browser(app, OPERATOR) as client:
        page = await client.get("/schedules/one", params={"name": NAME})
        form = {"csrf": csrf_in(page), "name": NAME}

        async def do(what, reason="as agreed"):
            return await client.post(f"/schedules/{what}", data=form | {"reason": reason})

        refused = await do("pause", "")
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        assert (await operator.schedules.get(NAME)).is_paused is False

        said = (await client.get((await do("pause")).headers["location"])).text
        assert "Paused." in said
        assert "Resume</button>" in said
        (deed, _set) = await operator.trail.list()
        assert (deed.operator, deed.what, deed.reason) == ("Olga", "PAUSED", "as agreed")
        assert (await operator.schedules.get(NAME)).is_paused is True
        assert (await client.get("/api/schedules")).json()[0]["upcoming"] == []
        await do("resume")
        assert (await operator.schedules.get(NAME)).is_paused is False

        fired = await do("run")
        assert "Report" in (await client.get(fired.headers["location"])).text
        again = await do("run")  # the first still holds the unique key
        assert (again.status_code, "one report" in again.text) == (409, True)

        assert "Removed." in (await client.get((await do("remove")).headers["location"])).text
        assert (await do("remove")).status_code == 404
        assert (await do("explode")).status_code == 404
    assert await operator.schedules.list() == []
    assert len(await operator.commands(command_type="Report")) == 1


def _written(answer) -> dict[str, str]:
    """What a form has in its fields."""
    boxes = re.findall(r'<input[^>]* name="(\w+)"[^>]* value="([^"]*)"', answer.text)
    boxes += re.findall(r'<textarea name="(\w+)"[^>]*>([^<]*)</textarea>', answer.text)
    chosen = re.findall(r'<select name="(\w+)">.*?<option value="(\w+)" selected', answer.text)
    return {name: unescape(value) for name, value in [*boxes, *chosen]}


async def test_a_schedule_is_set_after_its_next_times_were_seen(app, operator):
    async with browser(app, OPERATOR) as client:
        listed = (await client.get("/schedules")).text
        assert "/schedules/set" in listed
        fields = _written(await client.get("/schedules/set")) | {
            "name": NAME, "domain": "shop", "command_type": "Report", "cron": "30 2 * * MON-FRI",
            "timezone": "Europe/Berlin", "data": '{"n": 1}', "priority": "2",
        }  # fmt: skip
        unseen = await client.post("/schedules/set", data=fields | {"do": "set", "reason": "as agreed"})
        assert (unseen.status_code, "This is another rule" in unseen.text) == (200, True)
        seen = await client.post("/schedules/set", data=fields | {"do": "look"})
        assert "It would fire at 02:30 on weekdays" in seen.text
        assert len(re.findall("<time>\\w+ \\d+ \\w+ \\d+, 02:30:00</time>", seen.text)) == 5
        assert await operator.schedules.list() == []

        fields = _written(seen)
        other = await client.post("/schedules/set", data=fields | {"do": "set", "reason": "x", "cron": "0 3 * * *"})
        assert "This is another rule" in other.text
        assert "at 03:00 every day" in other.text
        without = await client.post("/schedules/set", data=fields | {"do": "set", "reason": ""})
        assert (without.status_code, "reason" in without.text) == (400, True)
        assert await operator.schedules.list() == []

        done = await client.post("/schedules/set", data=fields | {"do": "set", "reason": "as agreed"})
        assert "Set. A worker" in (await client.get(done.headers["location"])).text
    (made,) = await operator.schedules.list()
    assert (made.cron, made.timezone, made.data, made.priority) == ("30 2 * * MON-FRI", "Europe/Berlin", {"n": 1}, 2)
    (deed,) = await operator.trail.list()
    assert (deed.operator, deed.what, deed.subject, deed.reason) == ("Olga", "SET", NAME, "as agreed")


async def test_a_change_keeps_what_is_hidden_and_nobody_elses_is_lost(app, operator):
    data, headers = {"mail": "a@example.org", "n": 1}, {"mail": "b@example.org"}
    await operator.schedules.set(NAME, "shop", "Report", data, every=3600, headers=headers)
    async with browser(app, OPERATOR) as client:
        where = {"name": NAME}
        shown = await client.get("/schedules/set", params=where)
        assert "example.org" not in shown.text
        fields = _written(shown)
        fields |= {"data": json.dumps(json.loads(fields["data"]) | {"n": 2}), "every": "60"}
        ready = _written(await client.post("/schedules/set", data=fields | {"do": "look"}))
        moved = fields | {"do": "look", "command_type": "Another"}  # whose fields others may see
        refused = await client.post("/schedules/set", data=moved)
        assert (refused.status_code, "stands for a hidden value" in refused.text) == (400, True)
        done = await client.post("/schedules/set", data=ready | {"do": "set", "reason": "more often"})
        assert done.status_code == 303, done.text
        changed = await operator.schedules.get(NAME)
        assert (changed.data, changed.headers) == ({"mail": "a@example.org", "n": 2}, headers)
        assert changed.every.total_seconds() == 60
        late = await client.post("/schedules/set", data=ready | {"do": "set", "reason": "too late"})
        assert (late.status_code, "changed meanwhile" in late.text) == (409, True)
        await operator.schedules.remove(NAME)
        gone = await client.post("/schedules/set", data=ready | {"do": "set", "reason": "too late"})
        assert (gone.status_code, "removed meanwhile" in gone.text) == (409, True)
    assert await operator.schedules.list() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cron": "often"}, "cron"),
        ({"cron": "", "every": ""}, "cron or every"),
        ({"every": "60"}, "cron or every"),
        ({"timezone": "Berlin"}, "time zone"),
        ({"not_before": "soon"}, "not_before"),
        ({"data": "[1]"}, "JSON object"),
        ({"data": "{"}, "JSON"),
        ({"data": '{"mail": "•••1"}'}, "stands for a hidden value"),
        ({"headers": "[]"}, "JSON object"),
        ({"priority": "99"}, "priority"),
        ({"domain": "No Domain"}, "domain"),
        ({"name": ""}, "name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_what_cannot_be_a_schedule_says_why_and_keeps_what_was_written(app, operator, change, told):
    async with browser(app, OPERATOR) as client:
        fields = _written(await client.get("/schedules/set"))
        wanted = {
            "name": "n",
            "domain": "shop",
            "command_type": "Report",
            "cron": "* * * * *",
            "key": "my key",
        } | change
        refused = await client.post("/schedules/set", data=fields | wanted | {"do": "look"})
    assert refused.status_code == 400
    assert told in unescape(refused.text)
    assert "my key" in refused.text
    assert await operator.schedules.list() == []


async def test_what_cannot_be_seen_is_not_changed_by_showing_it(app, operator):
    data = {"word": "a\u202eb", "two": "1\r\n2"}
    await operator.schedules.set("n", "shop", "Report", data, every=60)
    async with browser(app, OPERATOR) as client:
        fields = _written(await client.get("/schedules/set?name=n"))
        assert "\\u202e" in fields["data"]
        windows = fields | {"data": fields["data"].replace("\n", "\r\n")}  # as browsers send it
        ready = _written(await client.post("/schedules/set", data=windows | {"do": "look"}))
        assert ready["data"] == fields["data"]
        await client.post("/schedules/set", data=ready | {"do": "set", "reason": "to see"})
        assert (await operator.schedules.get("n")).data == data
        await operator.schedules.set("n", "shop", "Report", data, every=60, key="a\u202eb")
        refused = await client.get("/schedules/set?name=n")
        assert (refused.status_code, "key has characters" in refused.text) == (409, True)


async def test_programs_set_a_schedule_by_the_api(app, operator):
    headers = {"authorization": f"Bearer {OPERATOR}"}
    wanted = {"name": "n", "domain": "shop", "command_type": "Report", "cron": "0 4 * * MON", "data": {"mail": "a@b"}}
    async with browser(app) as client:
        seen = await client.post("/api/schedules/preview", json=wanted, headers=headers)
        assert (seen.json()["in_words"], len(seen.json()["upcoming"])) == ("at 04:00 on Monday", 5)
        assert seen.json()["changes"] is False
        assert (await client.post("/api/schedules/set", json=wanted, headers=headers)).status_code == 400
        made = await client.post("/api/schedules/set", json=wanted | {"reason": "as agreed"}, headers=headers)
        assert (made.json()["data"], made.json()["in_words"]) == ({"mail": "•••"}, "at 04:00 on Monday")
        setting = (await client.get("/api/schedules/setting?name=n", headers=headers)).json()
        assert setting["data"] == {"mail": "•••1"}
        again = await client.post("/api/schedules/set", json=setting | {"reason": "the same"}, headers=headers)
        assert again.status_code == 200
        assert (await client.get("/api/schedules/setting?name=m", headers=headers)).status_code == 404
        viewer = {"authorization": f"Bearer {VIEWER}"}
        assert (await client.post("/api/schedules/set", json=wanted, headers=viewer)).status_code == 403
        assert (
            "role operator is needed"
            in (await client.get("/schedules/set", headers=viewer | {"accept": "text/html"})).text
        )
    assert (await operator.schedules.get("n")).data == {"mail": "a@b"}
    assert [each.what for each in await operator.trail.list()] == ["SET"]
