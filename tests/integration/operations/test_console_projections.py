"""The console's room for projections: how far they are, letting them rest, and what they could not handle."""

import pytest

from mainstay import PostgreSQLEventStore, StreamId, SubscriptionManager
from mainstay.operations.console import console
from tests.support.console import OPERATOR, VIEWER, browser, csrf_in, tokens
from tests.support.projected_accounts import QUICK, TABLES, AmountPaid, Apart, Strict
from tests.support.waiting import eventually

HOSTILE = "<script>alert(1)</script>"
APART = {"subscription": "apart"}
STRICT = {"subscription": "strict"}


@pytest.fixture
def app(operator):
    return console(operator, auth=tokens(), personal=["amount"])


@pytest.fixture
async def paid(pool, operator):
    """Of ann, the second event cannot be handled, and so the third waits behind it; one projection stopped there."""
    async with pool.connection() as conn:
        await conn.execute(TABLES)
    store = PostgreSQLEventStore(pool)
    manager = SubscriptionManager(store)
    for each in (Apart(), Strict()):
        await manager.subscribe(each, QUICK)
    await store.append(StreamId("PaidAccount", f"ann {HOSTILE}"), [AmountPaid(amount=each) for each in (1, -2, 3)])
    await store.append(StreamId("PaidAccount", "bob"), [AmountPaid(amount=each) for each in (4, -5)])

    async def done():
        apart, strict = await operator.projections.list()
        return apart.dead_letters == 3 and strict.status == "STOPPED"

    async with manager:
        await eventually(done)


async def test_pages_tell_how_far_each_is_why_one_stopped_and_what_lies_apart(app, operator, paid):
    async with browser(app, VIEWER) as client:
        for path, words in (
            ("/projections", ["apart", "strict", "stopped", "not running", "not_negative"]),
            (
                "/projections/one?subscription=apart",
                ["CheckViolation", "PaidAccountAmountPaid", "role operator", "1 of 1"],
            ),
            ("/projections/one?subscription=strict", ["An event stopped it", "not_negative", "None waits"]),
            ("/projections/dead-letters?subscription=apart", ["waits behind its key", "CheckViolation"]),
            ("/projections/dead-letters?subscription=apart&status=HANDLED", ["No dead letter meets"]),
            ("/projections/dead-letters?subscription=apart&status=ALL&limit=1", ['rel="next"']),
            ("/projections/dead-letter?subscription=apart&position=2", ["CheckViolation", "•••", "/events/2"]),
            ("/projections/dead-letter?subscription=apart&position=3", ["waits behind an earlier event"]),
        ):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert [each for each in words if each not in answer.text] == [], path
            assert HOSTILE not in answer.text, path
        for path in ("one?subscription=nobody", "dead-letters?subscription=nobody"):
            assert (await client.get(f"/projections/{path}")).status_code == 404, path
        assert (await client.get("/projections/one")).status_code == 400
        assert (await client.get("/projections/dead-letter?subscription=apart&position=1")).status_code == 400
        apart, strict = (await client.get("/api/projections")).json()
        facts = (await client.get("/api/projection", params=APART)).json()
        (shard,) = (await client.get("/api/projection", params=STRICT)).json()["shards"]
        letters = (await client.get("/api/projection/dead-letters", params=APART | {"limit": 2})).json()
        rest = (await client.get("/api/projection/dead-letters", params=APART | {"after": letters["next"]})).json()
    assert (apart["state"], apart["events"], apart["dead_letters"]) == ("not running", 0, 3)
    assert (strict["state"], strict["events"], strict["shards"]) == ("stopped", 4, 1)
    assert (shard["position"], shard["events"], shard["status"]) == (1, 4, "STOPPED")
    assert [(each["count"], each["first"]["position"]) for each in facts["letters"]] == [(2, 2), (1, 5)]
    assert [each["position"] for each in letters["letters"] + rest["letters"]] == [2, 3, 5]
    assert rest["next"] is None
    assert facts["rebuild"] is None


async def test_where_no_projection_is_known_it_says_what_makes_one_known(app):
    async with browser(app, VIEWER) as client:
        assert "mainstay projections run" in (await client.get("/projections")).text


async def test_a_projection_rests_and_goes_on_in_the_name_of_the_user(app, operator, paid):
    async with browser(app, OPERATOR) as client:
        page = "/projections/one?subscription=apart"
        form = APART | {"csrf": csrf_in(await client.get(page))}
        refused = await client.post("/projections/one/pause", data=form | {"reason": " "})
        assert (refused.status_code, "reason" in refused.text) == (400, True)
        paused = await client.post("/projections/one/pause", data=form | {"reason": "tables are moved"})
        assert paused.status_code == 303
        shown = (await client.get(paused.headers["location"])).text
        assert "Paused by Olga" in shown
        assert "tables are moved" in shown
        again = await client.post("/projections/one/pause", data=form | {"reason": "once more"})
        assert (again.status_code, "already" in again.text) == (409, True)
        resumed = await client.post("/projections/one/resume", data=form | {"reason": "they are there"})
        assert "goes on within a second" in (await client.get(resumed.headers["location"])).text
        assert (
            await client.post("/api/projection/resume", json=APART, headers={"x-csrf-token": form["csrf"]})
        ).status_code == 409
        strict = await client.post("/projections/one/resume", data=form | STRICT)
        assert strict.status_code == 303
        assert (await client.post("/projections/one/forge", data=form)).status_code == 404
    assert [each.status for each in await operator.projections.list()] == ["ACTIVE", "ACTIVE"]
    assert {each.actor for each in await operator.projections.list()} == {"Olga"}
    done = [(each.subject, each.what, each.reason) for each in await operator.trail.list(limit=3)]
    assert done == [
        ("strict", "RESUMED", None),
        ("apart", "RESUMED", "they are there"),
        ("apart", "PAUSED", "tables are moved"),
    ]


async def test_dead_letters_are_given_up_one_by_one_or_by_key_in_the_name_of_the_user(app, operator, paid):
    async with browser(app, OPERATOR) as client:
        page = await client.get("/projections/dead-letter?subscription=apart&position=5")
        form = APART | {"csrf": csrf_in(page), "reason": "as agreed"}
        one = await client.post("/projections/one/discard", data=form | {"position": "5"})
        assert one.status_code == 303
        assert "Discarded" in (await client.get(one.headers["location"])).text
        (group,) = (await client.get("/api/projection", params=APART)).json()["letters"]
        api = {"headers": {"x-csrf-token": form["csrf"]}}
        asked = APART | {"key": group["key"], "reason": "as agreed"}
        for wrong in ({"expect": 3}, {"positions": [2]}, {"key": None}, {"key": None, "positions": [5]}):
            answer = await client.post("/api/projection/dead-letters/discard", json=asked | wrong, **api)
            assert answer.status_code == 400, wrong
        assert (await operator.projections.list("apart"))[0].dead_letters == 2
        done = await client.post("/api/projection/dead-letters/discard", json=asked | {"expect": 2}, **api)
        assert done.json() == {"discarded": 2}
        assert (await client.post("/api/projection/dead-letters/discard", json=asked, **api)).status_code == 409
        every = (await client.get("/projections/dead-letters?subscription=apart&status=DISCARDED")).text
    assert every.count("discarded") >= 3
    letters = await operator.projections.dead_letters("apart", status=None)
    assert {(each.status, each.actor, each.reason) for each in letters} == {("DISCARDED", "Olga", "as agreed")}


async def test_viewers_let_nothing_rest_and_give_nothing_up(app, operator, paid):
    before = (await operator.projections.list(), await operator.projections.dead_letters("apart"))
    async with browser(app, VIEWER) as viewer:
        csrf = csrf_in(await viewer.get("/login"))
        for action in ("pause", "resume", "discard"):
            form = APART | {"reason": "why", "position": "2", "csrf": csrf}
            assert (await viewer.post(f"/projections/one/{action}", data=form)).status_code == 403, action
        for place in ("pause", "resume", "dead-letters/discard"):
            answer = await viewer.post(f"/api/projection/{place}", json=APART, headers={"x-csrf-token": csrf})
            assert answer.status_code == 403, place
    after = (await operator.projections.list(), await operator.projections.dead_letters("apart"))
    assert [each.status for each in after[0]] == [each.status for each in before[0]]
    assert after[1] == before[1]


async def test_each_shard_is_behind_by_what_comes_after_it_though_events_are_counted_once(pool, operator):
    """The same numbers as of a count for each shard, at places between events, at none, and beyond the last."""
    store = PostgreSQLEventStore(pool)
    await store.append(StreamId("PaidAccount", "ann"), [AmountPaid(amount=each) for each in range(7)])
    places = {"early": (0, 3), "late": (3, 6), "level": (7, 7), "beyond": (9, 5)}
    async with pool.connection() as conn:
        for name, positions in places.items():
            await conn.execute("insert into eventsource.subscription (subscription, shards) values (%s, 2)", [name])
            for shard, position in enumerate(positions):
                await conn.execute(
                    "insert into eventsource.shard (subscription, shard, position, event_position) "
                    "values (%s, %s, %s, 0)",
                    [name, shard, position],
                )
    shards = await operator.projections.shards()
    found = {name: [each.lag for each in shards if each.state.subscription == name] for name in places}
    alone = {name: [each.lag for each in await operator.projections.shards(name)] for name in places}
    behind = {name: [max(0, 7 - position) for position in positions] for name, positions in places.items()}
    for lags in (found, alone):
        assert {name: [each.events for each in mine] for name, mine in lags.items()} == behind
        assert all(each.exact and (each.seconds > 0) == (each.events > 0) for mine in lags.values() for each in mine)
    whole = {each.subscription: (each.position, each.events, each.shards) for each in await operator.projections.list()}
    assert whole == {name: (min(each), max(behind[name]), 2) for name, each in places.items()}


async def test_a_subscription_fares_as_its_worst_shard_and_names_who_holds_it(pool, operator):
    """Of three shards one runs, one whose lease has ended is paused, one stopped; the first two alone are paused."""
    shards = [("ACTIVE", "b", "1 hour", None), ("PAUSED", "a", "-1 hour", "mending"), ("STOPPED", "a", "1 hour", "no")]
    async with pool.connection() as conn:
        for name, count in (("three", 3), ("two", 2), ("one", 1)):
            await conn.execute(
                "insert into eventsource.subscription (subscription, shards) values (%s, %s)", [name, count]
            )
            for shard, (status, owner, lease, reason) in enumerate(shards[:count]):
                await conn.execute(
                    "insert into eventsource.shard (subscription, shard, position, event_position, status, owner,"
                    " leased_until, reason, actor) values (%s, %s, 0, 0, %s, %s, now() + %s::interval, %s, %s)",
                    [name, shard, status, owner, lease, reason, reason and "Olga"],
                )
    found = {each.subscription: each for each in await operator.projections.list()}
    told = {name: (each.status, each.reason, each.actor, each.owned, each.owners) for name, each in found.items()}
    assert told == {
        "three": ("STOPPED", "no", "Olga", 2, ("a", "b")),
        "two": ("PAUSED", "mending", "Olga", 1, ("b",)),
        "one": ("ACTIVE", None, None, 1, ("b",)),
    }
