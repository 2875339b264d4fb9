"""What the console does about projections whose code it has: handling dead letters again, and rebuilds."""

import re

import pytest

from mainstay import PostgreSQLEventStore, StreamId, SubscriptionManager
from mainstay.errors import ConfigurationError, InvalidOperationError
from mainstay.operations.console import console
from mainstay.operations.console.building import Building, projecting_of
from mainstay.operations.operator import Operator
from tests.support.cli import run
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.projected_accounts import MEND, QUICK, TABLES, AmountPaid, Apart, Balances
from tests.support.servers import open_pool
from tests.support.waiting import eventually

APART, BALANCES = {"subscription": "apart"}, {"subscription": "balances"}
REASON = {"reason": "the constraint is dropped"}


@pytest.fixture
async def wide_pool(dsn):
    async with open_pool(dsn, max_size=8) as opened:
        yield opened


@pytest.fixture
async def operator(wide_pool):
    made = Operator(wide_pool)
    yield made
    await made.bus.close()


@pytest.fixture
async def manager(wide_pool, operator):
    """Of ann, the second payment lies apart and the third behind it; in the balances, one of bob is wrong."""
    store = PostgreSQLEventStore(wide_pool)
    made = SubscriptionManager(store)
    async with wide_pool.connection() as conn:
        await conn.execute(TABLES)
    for each in (Apart(), Balances()):
        await made.subscribe(each, QUICK)
    await store.append(StreamId("PaidAccount", "ann"), [AmountPaid(amount=each) for each in (1, -2, 3)])
    await store.append(StreamId("PaidAccount", "bob"), [AmountPaid(amount=5)])
    async with made:
        await made.wait_until((await store.horizon()).position)
    async with wide_pool.connection() as conn:
        await conn.execute("update balance set amount = 99 where account = 'bob'")
    return made


@pytest.fixture
def app(operator, manager):
    made = console(operator, auth=tokens(), projections=manager, personal=["account"])
    yield made
    made.close()


async def rows(pool, query):
    async with pool.connection() as conn:
        return await (await conn.execute(query)).fetchall()


async def ended(client, which):
    """The job of a projection, as soon as it is over."""
    found = []

    async def over():
        facts = (await client.get("/api/projection", params=which)).json()
        found[:] = [facts["job"]]
        return facts["job"]["ended_at"] is not None

    await eventually(over)
    return found[0]


async def test_dead_letters_are_handled_again_once_the_cause_is_mended(app, operator, wide_pool):
    async with browser(app, OPERATOR) as client:
        page = await client.get("/projections/one?subscription=apart")
        form = APART | REASON | {"csrf": csrf_in(page)}
        assert "Handle again" in page.text
        assert (await client.post("/projections/one/replay", data=form | {"reason": ""})).status_code == 400
        assert (await client.post("/projections/one/replay", data=form)).status_code == 303
        failed = await ended(client, APART)
        again = (await client.get("/projections/one?subscription=apart")).text
        async with wide_pool.connection() as conn:
            await conn.execute(MEND)
        (key,) = failed["failed"]
        done = await client.post(
            "/api/projection/dead-letters/replay",
            json=APART | REASON | {"key": key},
            headers={"x-csrf-token": form["csrf"]},
        )
        assert done.status_code == 200
        job = await ended(client, APART)
        shown = (await client.get("/projections/one?subscription=apart")).text
    assert (failed["handled"], "not_negative" in failed["failed"][key]) == (0, True)
    assert "Failed again" in again
    assert (job["handled"], job["failed"], job["actor"]) == (2, {}, "Olga")
    assert "2 events were handled" in shown
    letters = await operator.projections.dead_letters("apart", status=None)
    assert {(each.status, each.actor, each.reason) for each in letters} == {("HANDLED", "Olga", REASON["reason"])}
    assert sorted(await rows(wide_pool, "select amount from paid")) == [(-2,), (1,), (3,), (5,)]


async def test_a_rebuild_is_compared_before_it_is_swapped_and_never_by_itself(app, wide_pool):
    wrong, right = [("ann", 2), ("bob", 99)], [("ann", 2), ("bob", 5)]
    balances = "select account, amount from balance order by account"
    async with browser(app, OPERATOR) as client:
        place = "/projections/one?subscription=balances"
        form = BALANCES | {"csrf": csrf_in(await client.get(place))}
        assert (await client.post("/projections/one/rebuild", data=form)).status_code == 303
        found = (await ended(client, BALANCES))["found"]
        shown = (await client.get(place)).text
        assert (found["same"], found["swapped"], found["tables"][0]["gone_rows"]) == (
            False, False, [{"account": "•••", "amount": 99}],
        )  # fmt: skip
        assert "They differ" in shown
        assert "bob" not in shown
        assert await rows(wide_pool, balances) == wrong
        rebuild = (await client.get("/api/projections")).json()[2]
        assert (rebuild["subscription"], rebuild["rebuild_of"]) == ("balances~rebuild", "balances")
        refused = await client.post("/projections/one/pause", data=form | REASON | {"subscription": "balances~rebuild"})
        assert refused.status_code == 409

        await client.post("/projections/one/swap", data=form | {"differing": "false"})
        assert (await ended(client, BALANCES))["found"]["swapped"] is False
        assert await rows(wide_pool, balances) == wrong
        differing = re.search(
            r'name="differing" value="(\w+)">Swap, though they differ', (await client.get(place)).text
        )
        await client.post("/projections/one/swap", data=form | {"differing": differing[1], "keep": "true"})
        assert (await ended(client, BALANCES))["found"]["swapped"] is True
        assert "Swapped" in (await client.get(place)).text
        deeds = reversed((await client.get("/api/trail", params={"subject": "balances"})).json()["deeds"])
    assert [(each["what"], each["operator"]) for each in deeds] == [("REBUILD_BEGUN", "Olga"), ("SWAPPED", "Olga")]
    assert await rows(wide_pool, balances) == right
    assert await rows(wide_pool, "select amount from balance__old where account = 'bob'") == [(99,)]


async def test_a_rebuild_that_waits_is_dropped(app, wide_pool):
    async with browser(app, OPERATOR) as client:
        place = "/projections/one?subscription=balances"
        form = BALANCES | {"csrf": csrf_in(await client.get(place))}
        await client.post("/projections/one/rebuild", data=form)
        await ended(client, BALANCES)
        dropped = await client.post("/projections/one/drop", data=form | {"keep": "true"})
        assert "Dropped" in (await client.get(dropped.headers["location"])).text
        facts = (await client.get("/api/projection", params=BALANCES)).json()
        assert (facts["rebuild"], facts["job"], facts["tables"]) == (None, None, True)
        assert (await client.post("/projections/one/drop", data=form)).status_code == 409
        names_none = await client.post("/projections/one/rebuild", data=form | APART)
        assert names_none.status_code == 303
        assert "names no tables" in (await ended(client, APART))["problem"]
    assert await rows(wide_pool, "select to_regclass('balance__rebuild')") == [(None,)]


async def test_without_the_code_the_exact_command_is_said_and_nothing_is_done(operator, manager):
    async def failing():
        raise ConfigurationError("shop.projections cannot be imported")

    async with browser(console(operator, auth=tokens()), OPERATOR) as client:
        form = APART | REASON | {"csrf": csrf_in(await client.get("/projections/one?subscription=apart"))}
        shown = (await client.get("/projections/one?subscription=apart")).text
        for action in ("replay", "rebuild", "swap", "drop"):
            refused = await client.post(f"/projections/one/{action}", data=form)
            assert (refused.status_code, "--projections MODULE:NAME" in refused.text) == (409, True), action
    async with browser(console(operator, auth=tokens(), projections=failing), VIEWER) as client:
        broken = (await client.get("/projections/one?subscription=apart")).text
    assert "mainstay projections replay MODULE:NAME apart" in shown
    assert "mainstay projections rebuild MODULE:NAME apart" in shown
    assert "cannot be imported" in broken
    with pytest.raises(ConfigurationError, match="a function that gives one"):
        console(operator, auth=tokens(), projections=7)


async def test_viewers_begin_nothing(app, operator):
    async with browser(app, VIEWER) as viewer:
        csrf = csrf_in(await viewer.get("/login"))
        for action in ("replay", "rebuild", "swap", "drop"):
            form = BALANCES | REASON | {"csrf": csrf}
            assert (await viewer.post(f"/projections/one/{action}", data=form)).status_code == 403, action
        for place in ("dead-letters/replay", "rebuild", "rebuild/swap", "rebuild/drop"):
            answer = await viewer.post(f"/api/projection/{place}", json=BALANCES, headers={"x-csrf-token": csrf})
            assert answer.status_code == 403, place
        facts = (await viewer.get("/api/projection", params=BALANCES)).json()
        assert (facts["job"], facts["rebuild"]) == (None, None)
        assert "role operator is needed" in (await viewer.get("/projections/one?subscription=balances")).text


async def test_one_thing_at_a_time_is_done_about_a_projection_and_what_is_in_hand_is_let_go_of(operator, manager):
    building = Building(projecting_of(manager))
    async with operator.projections.store.borrowed("apart", 0):  # so the replay waits
        first = await building.replay("apart", actor="Olga", key=None, reason="why")
        with pytest.raises(InvalidOperationError, match="begun by Olga, goes on here"):
            await building.replay("apart", actor="Vera", key=None, reason="why")
        building.close()

        async def over():
            return building.job("apart").ended_at is not None

        await eventually(over)
    assert first.ended_at is None
    assert building.job("apart").problem == "The console was stopped meanwhile."
    assert len(await operator.projections.dead_letters("apart")) == 2


@pytest.mark.parametrize("option", ["--projections", "--aggregate", "--events"])
def test_the_program_does_not_start_without_the_code_that_it_is_told_of(option):
    ended = run("console", "--dsn", "postgresql://127.0.0.1:1/nowhere", "--demo", option, "nothing:here")
    assert (ended.code, "no module 'nothing'" in ended.err) == (2, True)
