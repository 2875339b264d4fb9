"""The console's room for schedules."""

import logging
from datetime import datetime
from itertools import pairwise

import pytest

from mainstay.operations.console import console
from mainstay.operations.operator import Operator
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens

NAME = "nightly/every <b>shop</b>?"


@pytest.fixture
async def operator(pool):
    made = Operator(pool)
    yield made
    await made.bus.close()


@pytest.fixture
def app(operator):
    return console(operator, auth=tokens(), personal=["mail"])


async def test_schedules_are_listed_and_shown_with_what_comes_next(app, operator):
    async with browser(app, VIEWER) as client:
        assert "No schedules were set yet" in (await client.get("/schedules")).text
        data = {"mail": "a@example.org", "n": 1}
        await operator.schedules.set(NAME, "shop", "Report", data, cron="30 2 * * *", timezone="Europe/Berlin")
        await operator.schedules.set("tick", "mail", "Tick", every=90)
        listed = (await client.get("/schedules")).text
        for each in ("30 2 * * *", "Europe/Berlin", "every 90 s", "&lt;b&gt;", "mail.Tick"):
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


async def test_a_schedule_is_paused_resumed_fired_and_removed_with_a_reason(app, operator, caplog):
    await operator.schedules.set(NAME, "shop", "Report", {}, every=3600, unique_key="one report")
    async with browser(app, OPERATOR) as client:
        page = await client.get("/schedules/one", params={"name": NAME})
        form = {"csrf": csrf_in(page), "name": NAME}

        async def do(what, reason="as agreed"):
            return await client.post(f"/schedules/{what}", data=form | {"reason": reason})

        refused = await do("pause", "")
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        assert (await operator.schedules.get(NAME)).is_paused is False

        with caplog.at_level(logging.WARNING):
            said = (await client.get((await do("pause")).headers["location"])).text
        assert "Paused." in said
        assert "Resume</button>" in said
        assert [(each.operator, each.reason) for each in caplog.records] == [("Olga", "as agreed")]
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
