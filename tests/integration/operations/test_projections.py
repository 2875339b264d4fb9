"""``mainstay projections``: how far they are, what they could not handle, and running them."""

import asyncio
import json
import signal
from urllib.request import urlopen

import psycopg
import pytest

from mainstay import PostgreSQLEventStore, ShardStatus, StreamId
from mainstay.operations.operator import Operator
from tests.support.cli import program, read_until, run
from tests.support.projected_accounts import MEND, TABLES, AmountPaid, manager
from tests.support.servers import open_pool
from tests.support.thorough import thorough
from tests.support.waiting import eventually, eventually_sync

CODE = "tests.support.projected_accounts"


def execute(dsn, statement, *parameters):
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


def pay(dsn, account, *amounts):
    async def paying():
        async with open_pool(dsn) as pool:
            store = PostgreSQLEventStore(pool)
            await store.append(StreamId("PaidAccount", account), [AmountPaid(amount=each) for each in amounts])

    asyncio.run(paying())


def project(dsn):
    """Run all projections until they have come to the end, or stopped."""

    async def projecting():
        async with open_pool(dsn, max_size=6) as pool:
            running = await manager(pool)
            store = Operator(pool).projections.store
            end = (await PostgreSQLEventStore(pool).horizon()).position

            async def done():
                states = await store.states()
                return all(each.checkpoint.position == end or each.status is ShardStatus.STOPPED for each in states)

            async with running:
                await eventually(done)

    asyncio.run(projecting())


@pytest.fixture
def paid(dsn):
    """Two accounts: of ann, the second event cannot be handled, and so the third waits behind it."""
    execute(dsn, TABLES)
    pay(dsn, "ann", 1, -2, 3)
    pay(dsn, "bob", 4, -5)
    project(dsn)
    return dsn


def amounts(dsn, projection="apart"):
    found = execute(dsn, "select account, amount from paid where projection = %s", projection)
    return sorted((account, amount) for account, amount in found)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_where_no_projection_is_known_it_says_so(dsn):
    assert "No projection is known yet" in run("projections", "list", "--dsn", dsn).out
    assert "No projection is known yet" in run("projections", "lag", "--dsn", dsn).out
    assert run("projections", "list", "--dsn", dsn, "--json").json == []
    assert "No dead letter waits." in run("projections", "dead-letters", "groups", "--dsn", dsn).out


def test_the_list_tells_how_far_each_is_and_why_one_stopped(paid):
    pay(paid, "bob", 6, 7)

    listed = run("projections", "list", "--dsn", paid)
    apart, strict = run("projections", "list", "--dsn", paid, "--json").json

    assert "strict stopped: PaidAccountAmountPaid at position 2 of PaidAccount/ann failed" in listed.out
    assert "mainstay projections resume strict" in listed.err
    assert "not running" in listed.out
    assert (apart["status"], apart["position"], apart["events"], apart["dead_letters"]) == ("ACTIVE", 5, 2, 3)
    assert (strict["status"], strict["position"], strict["events"], strict["horizon"]) == ("STOPPED", 1, 6, 7)
    assert strict["seconds"] > 0


def test_a_rebuild_that_stopped_is_gone_on_with_or_dropped_not_resumed(paid):
    execute(paid, "insert into eventsource.subscription (subscription, shards) values ('strict~rebuild', 1)")
    execute(paid, "update eventsource.shard set subscription = 'strict~rebuild' where subscription = 'strict'")

    listed = run("projections", "list", "--dsn", paid)

    assert "strict~rebuild stopped: " in listed.out
    assert "go on with it: mainstay projections rebuild MODULE:NAME strict; or drop it: " in listed.err
    assert "resume" not in listed.err


def test_stats_have_a_line_for_events_and_one_for_projections(paid):
    shown = run("stats", "--dsn", paid)
    found = run("stats", "--dsn", paid, "--json").json

    assert "events       5 in 2 streams, the last " in shown.out
    assert "projections  1 not running, 1 stopped; the slowest 4 events behind" in shown.out
    assert "3 dead letters" in shown.out
    assert (found["events"]["events"], found["events"]["horizon"]) == (5, 5)
    assert [(each["projection"], each["dead_letters"]) for each in found["projections"]] == [
        ("apart", 3),
        ("strict", 0),
    ]
    assert "events" not in run("stats", "--domain", "shop", "--dsn", paid).out


def test_one_that_runs_is_said_to_by_whom(paid):
    async def look():
        async with open_pool(paid) as pool, await manager(pool):
            operator = Operator(pool)

            async def owned():
                return [each.owned for each in await operator.projections.list()] == [1, 0]

            await eventually(owned)
            return await asyncio.to_thread(run, "projections", "list", "--dsn", paid)

    assert "running" in asyncio.run(look()).out


def test_the_lag_is_told_shard_by_shard_and_can_be_judged(paid):
    shown = run("projections", "lag", "--dsn", paid)
    found = run("projections", "lag", "strict", "--dsn", paid, "--json").json
    verdicts = [run("projections", "lag", *which, "--at-most", 0, "--dsn", paid).code for which in ([], ["apart"])]

    lines = {line.split()[0]: line for line in shown.out.splitlines() if line.split()}
    assert " stopped " in lines["strict"]
    assert " not running " in lines["apart"]
    assert [(each["subscription"], each["shard"], each["events"], each["exact"]) for each in found] == [
        ("strict", 0, 4, True)
    ]
    assert [(each["status"], each["owned"]) for each in found] == [("STOPPED", False)]
    assert verdicts == [1, 0]
    assert run("projections", "lag", "nothing", "--dsn", paid).code == 5


@pytest.mark.thorough
def test_lag_can_be_watched_until_ctrl_c(paid):
    options = ("projections", "lag", "--watch", "--interval", "0.1", "--json")
    with program(*options, env={"DATABASE_URL": paid}) as watching:
        seen = [watching.stdout.readline() for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=30)

    assert all('"subscription":"strict"' in line for line in seen)
    assert (watching.returncode, errors) == (0, "")


# --- letting them go on or not ----------------------------------------------------------------------------------------


def test_a_projection_is_paused_by_somebody_for_a_reason_and_resumed(paid):
    options = ["--reason", "stocktaking", "--operator", "ada", "--dsn", paid]
    paused = [run("projections", "pause", "apart", *options) for _ in range(2)]
    listed = run("projections", "list", "--dsn", paid)
    apart, _ = run("projections", "list", "--dsn", paid, "--json").json
    resumed = [run("projections", "resume", "apart", "--dsn", paid) for _ in range(2)]

    assert [each.code for each in paused] == [0, 5]
    assert "apart is paused by ada: stocktaking" in listed.out
    assert (apart["status"], apart["actor"], apart["reason"]) == ("PAUSED", "ada", "stocktaking")
    assert [each.code for each in resumed] == [0, 5]


@pytest.mark.thorough
def test_one_that_is_not_wanted_any_more_is_forgotten(paid):
    forget = ("projections", "forget", "strict", "--dsn", paid)
    nobody = run(*forget)
    no = run(*forget, stdin="n\n", at_terminal=True)
    execute(paid, "update eventsource.shard set owner = 'me', leased_until = now() + interval '1 min'")
    runs = run(*forget, "--yes")
    execute(paid, "update eventsource.shard set owner = null, leased_until = null")
    yes = run(*forget, stdin="y\n", at_terminal=True)

    assert (nobody.code, no.code, yes.code) == (2, 1, 0)
    assert (runs.code, "runs in me" in runs.err) == (5, True)
    assert [each["subscription"] for each in run("projections", "list", "--dsn", paid, "--json").json] == ["apart"]
    assert run(*forget, "--yes").code == 5


def test_one_that_stopped_goes_on_with_the_very_event(paid):
    execute(paid, MEND)
    resumed = run("projections", "resume", "strict", "--dsn", paid)
    project(paid)

    assert resumed.code == 0
    assert amounts(paid, "strict") == [("ann", -2), ("ann", 1), ("ann", 3), ("bob", -5), ("bob", 4)]


@pytest.mark.parametrize(
    "command", ["pause nothing", "resume nothing", "dead-letters list nothing", "dead-letters show nothing 1"]
)
def test_one_that_is_not_known_is_code_5(dsn, command):
    result = run("projections", *command.split(), "--dsn", dsn)

    assert (result.code, "no subscription 'nothing' is known" in result.err) == (5, True)


# --- dead letters -----------------------------------------------------------------------------------------------------


def letters(dsn, *options):
    return run("projections", "dead-letters", "list", "apart", *options, "--dsn", dsn, "--json").json


def test_dead_letters_are_listed_by_key_and_one_by_one_with_their_errors(paid):
    groups = run("projections", "dead-letters", "groups", "--dsn", paid)
    counted = run("projections", "dead-letters", "groups", "apart", "--dsn", paid, "--json").json
    listed = run("projections", "dead-letters", "list", "apart", "--dsn", paid)

    assert "CheckViolation" in groups.out
    assert [(each["key"], each["count"], each["first"]["position"]) for each in counted] == [
        ("PaidAccount/ann", 2, 2),
        ("PaidAccount/bob", 1, 5),
    ]
    assert listed.out.count("CheckViolation") == 2
    assert listed.out.count("waits behind its key") == 1
    assert [each["position"] for each in letters(paid, "--after", 2, "--limit", 1)] == [3]
    assert [each["position"] for each in letters(paid, "--key", "PaidAccount/bob")] == [5]
    assert run("projections", "dead-letters", "list", "apart", "--status", "gone", "--dsn", paid).code == 2


def test_one_is_shown_with_its_event(paid):
    shown = run("projections", "dead-letters", "show", "apart", 2, "--dsn", paid)
    found = run("projections", "dead-letters", "show", "apart", 2, "--dsn", paid, "--json").json
    execute(paid, "update eventsource.dead_letter set event_id = gen_random_uuid() where position = 2")
    without = run("projections", "dead-letters", "show", "apart", 2, "--dsn", paid)

    assert "not_negative" in shown.out
    assert '"amount": -2' in shown.out
    assert (found["letter"]["attempts"], found["event"]["payload"]) == (1, {"amount": -2})
    assert "can only be discarded" in without.out
    assert run("projections", "dead-letters", "show", "apart", 1, "--dsn", paid).code == 2


@pytest.mark.thorough
def test_what_is_discarded_is_never_handled_and_its_key_goes_on(paid):
    discard = ("projections", "dead-letters", "discard", "apart")
    seen = run(*discard, "--key", "PaidAccount/ann", "--preview", "--dsn", paid)
    as_json = run(*discard, "--all", "--preview", "--dsn", paid, "--json").json
    one = run(*discard, 2, "--reason", "a typo", "--operator", "ada", "--dsn", paid)
    again = run(*discard, 2, "--dsn", paid)
    rest = run(*discard, "--all", "--yes", "--dsn", paid, "--json").json

    assert "would discard 2 dead letters" in seen.out
    assert as_json["would_discard"] == 3
    assert "Discarded 1 dead letter." in one.out
    assert (again.code, "position 2" in again.err) == (2, True)
    assert rest == {"discarded": 2}
    assert letters(paid) == []
    (first, *_) = letters(paid, "--status", "discarded")
    assert (first["actor"], first["reason"]) == ("ada", "a typo")
    assert len(letters(paid, "--status", "all")) == 3
    pay(paid, "ann", 8)
    project(paid)
    assert amounts(paid) == [("ann", 1), ("ann", 8), ("bob", 4)]


def test_it_asks_before_it_discards_many(paid):
    discard = ("projections", "dead-letters", "discard", "apart", "--all", "--dsn", paid)

    nobody = run(*discard)
    no = run(*discard, stdin="n\n", at_terminal=True)
    yes = run(*discard, stdin="y\n", at_terminal=True)

    assert (nobody.code, "--yes" in nobody.err) == (2, True)
    assert (no.code, "Nothing was changed." in no.out) == (1, True)
    assert "Discarded 3 dead letters." in yes.out


@pytest.mark.parametrize("options", [[], ["--all", "--key", "x"], ["2", "--all"]])
def test_what_is_discarded_is_said_in_one_way(dsn, options):
    assert run("projections", "dead-letters", "discard", "apart", *options, "--dsn", dsn).code == 2


def test_where_the_rules_ask_for_a_reason_one_is_needed(paid):
    run("tsq", "rules", "--reason-required", "--dsn", paid)

    assert run("projections", "dead-letters", "discard", "apart", 2, "--dsn", paid).code != 0
    assert len(letters(paid)) == 3


def test_dead_letters_are_handled_again_in_order_once_the_cause_is_mended(paid):
    failed = run("projections", "replay", f"{CODE}:manager", "apart", "--dsn", paid)
    execute(paid, MEND)
    ann = run("projections", "replay", f"{CODE}:apart", "--key", "PaidAccount/ann", "--dsn", paid, "--json")
    rest = run("projections", "replay", f"{CODE}:Apart", "--operator", "ada", "--reason", "mended", "--dsn", paid)
    nothing = run("projections", "replay", f"{CODE}:Apart", "--dsn", paid)

    assert failed.code == 1
    assert failed.out.count("CheckViolation") == 2
    assert ann.json == {"projection": "apart", "handled": 2, "failed": {}}
    assert "Handled 1 event." in rest.out
    assert "no dead letter of apart waits" in nothing.out
    assert amounts(paid) == [("ann", -2), ("ann", 1), ("ann", 3), ("bob", -5), ("bob", 4)]
    assert letters(paid, "--status", "handled")[-1]["reason"] == "mended"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        thorough("number", "is int: it must be"),
        thorough("empty", "has no subscriptions"),
        thorough("Broken", "cannot be called"),
        ("manager", "has several projections, name one: apart, strict"),
        thorough("several", "has several projections"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_code_that_names_no_projection_is_code_2(paid, code, words):
    result = run("projections", "replay", f"{CODE}:{code}", "--dsn", paid)

    assert (result.code, words in result.err) == (2, True)


def test_a_projection_that_was_never_run_is_not_made_known_by_a_replay(dsn):
    assert run("projections", "replay", f"{CODE}:Apart", "--dsn", dsn).code == 5
    assert run("projections", "list", "--dsn", dsn, "--json").json == []
    assert run("projections", "replay", f"{CODE}:Apart", "other", "--dsn", dsn).code == 5


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["manager", thorough("several")])
def test_a_process_runs_them_and_gives_the_shards_back_when_it_is_told_to_end(dsn, code):
    execute(dsn, TABLES)
    options = ("projections", "run", f"{CODE}:{code}", "--json", "--report-every", "0.1", "--metrics-port", "0")
    with program(*options, env={"DATABASE_URL": dsn}) as running:
        port = json.loads(read_until(running, lambda line: "listening for probes" in line)[-1])["port"]
        read_until(running, lambda line: '"message":"started"' in line)
        assert urlopen(f"http://127.0.0.1:{port}/health/live", timeout=10).status == 200
        pay(dsn, "ann", 1, 2)
        eventually_sync(lambda: amounts(dsn) == amounts(dsn, "strict") == [("ann", 1), ("ann", 2)])
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=60)

    assert running.returncode == 0
    assert '"message":"stopped"' in out.splitlines()[-1]
    assert execute(dsn, "select count(*) from eventsource.shard where owner is not null") == [(0,)]


@pytest.mark.thorough
def test_one_that_stops_does_not_end_the_process(paid):
    execute(paid, "update eventsource.shard set status = 'ACTIVE', reason = null")
    options = ("projections", "run", f"{CODE}:manager", "--json", "--report-every", "0.1")
    with program(*options, env={"DATABASE_URL": paid}) as running:
        read_until(running, lambda line: "STOPPED" in line)
        pay(paid, "cy", 9)
        eventually_sync(lambda: ("cy", 9) in amounts(paid))
        execute(paid, MEND)
        assert run("projections", "resume", "strict", "--dsn", paid).code == 0
        eventually_sync(lambda: ("cy", 9) in amounts(paid, "strict"))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)

    assert running.returncode == 0


@pytest.mark.thorough
def test_one_that_was_stopped_says_so_when_its_process_starts(paid):
    options = ("projections", "run", f"{CODE}:manager", "--json")
    with program(*options, env={"DATABASE_URL": paid}) as running:
        told = read_until(running, lambda line: "handles nothing until" in line)[-1]
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)

    assert "strict is stopped and handles nothing until it is resumed (`mainstay projections resume strict`): " in told
    assert running.returncode == 0
