"""The console's page of commands: conditions, and searches that do not read everything."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mainstay import BatchCommand, SendRequest
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.search import Sought
from mainstay.errors import InvalidInputError
from mainstay.operations.console import console
from mainstay.storage.postgres import searching
from mainstay.tenancy import tenant_scope
from tests.support.console import VIEWER, browser, tokens


async def test_commands_are_found_by_each_condition_and_by_all_of_them(operator):
    app = console(operator, auth=tokens(), personal=["mail"])
    batch, talk, wanted, other = uuid4(), uuid4(), uuid4(), uuid4()
    begun = datetime.now(UTC)
    await operator.bus.create_batch("shop", [BatchCommand("Bill", uuid4(), {})], batch_id=batch)
    with tenant_scope("blue"):
        data = {"account": "DE 11 Über", "mail": "x@example.org"}
        await operator.send([SendRequest("shop", "Bill", wanted, data, correlation_id=talk, key="k1")])
    await operator.send([SendRequest("office", "Bill", other, {"account": 2})])

    async def ids(**conditions):
        async with browser(app, VIEWER) as client:
            answer = await client.get("/api/commands", params=conditions)
            assert answer.status_code == 200, answer.text
            assert answer.json()["next"] is None
            return {each["command_id"] for each in answer.json()["commands"]}

    for conditions in (
        {"tenant_id": "blue"},
        {"correlation_id": str(talk)},
        {"key": "k1"},
        {"text": "de 11", "within": "60"},
        {"text": "Über", "since": begun.isoformat(), "domain": "shop", "command_type": "Bill", "status": "PENDING"},
    ):
        assert await ids(**conditions) == {str(wanted)}, conditions
    assert await ids(domain="office") == {str(other)}
    assert len(await ids(batch_id=str(batch))) == 1
    for conditions in (
        {"tenant_id": "red"},
        {"correlation_id": str(uuid4())},
        {"correlation_id": str(talk), "status": "FAILED"},
        {"status": "IN_TROUBLESHOOTING_QUEUE"},
        {"until": begun.replace(tzinfo=None).isoformat()},
        {"text": "example.org", "within": "60"},  # what is masked is not found by guessing
    ):
        assert await ids(**conditions) == set(), conditions
    async with browser(app, VIEWER) as client:
        refused = await client.get("/commands?text=x")
        assert (refused.status_code, "say since when" in refused.text) == (400, True)
        assert (await client.get("/commands?within=-1")).status_code == 400
    for wrong in ({"text": "\x00", "since": begun}, {"since": begun.replace(tzinfo=None)}):
        with pytest.raises(InvalidInputError):
            Sought(**wrong)


async def test_a_search_stops_says_how_far_it_came_and_goes_on_there(operator, monkeypatch):
    first = uuid4()
    await operator.send([SendRequest("shop", "Rare", first, {})])
    await operator.send([SendRequest("shop", "Often", uuid4(), {}) for _ in range(20)])
    monkeypatch.setattr(searching, "LOOK", 8)
    rare = Sought(command_type="Rare")

    steps, after = [], None
    for _ in range(3):
        found = await operator.search.commands(rare, limit=1, after=after)
        steps.append((len(found.commands), found.looked, found.next is None, found.back_to is None))
        after = found.next
    assert steps == [(0, 8, False, False), (0, 8, False, False), (1, 5, True, True)]
    assert [each.command_id for each in found.commands] == [first]

    window = Sought(command_type="Rare", until=found.commands[0].created_at - timedelta(seconds=1))
    assert (await operator.search.commands(window)).looked == 0
    async with browser(console(operator, auth=tokens()), VIEWER) as client:
        page = (await client.get("/commands?command_type=Rare&limit=1")).text
        assert "None among the newest 8 commands" in page
        assert "Look further" in page


async def test_what_an_index_leads_to_is_looked_at_alone_unless_it_is_much(operator, monkeypatch):
    batch = uuid4()
    await operator.bus.create_batch("shop", [BatchCommand("Bill", uuid4(), {}) for _ in range(5)], batch_id=batch)
    await operator.send([SendRequest("shop", "Often", uuid4(), {}) for _ in range(5)])
    mine = Sought(batch_id=batch, status=CommandStatus.PENDING)
    assert (await operator.search.commands(mine)).looked == 5
    page = await operator.search.commands(mine, limit=2)
    rest = await operator.search.commands(mine, limit=3, after=page.next)
    assert (len(page.commands), len(rest.commands), rest.next) == (2, 3, None)
    assert len({each.command_id for each in page.commands + rest.commands}) == 5
    monkeypatch.setattr(searching, "_FEW", 4)
    assert (await operator.search.commands(mine)).looked == 10
