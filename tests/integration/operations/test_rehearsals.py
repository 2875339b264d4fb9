"""Rehearsals from the command line and from code that blocks."""

import asyncio
import json
from uuid import uuid4

import pytest

from mainstay import (
    ConfigurationError,
    InvalidOperationError,
    Rehearsal,
    SyncMainstay,
)
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.scenarios.aggregates import Deposit
from tests.scenarios.postgres import run as execute
from tests.scenarios.world import DOMAIN, World
from tests.support import rehearsed_accounts
from tests.support.cli import run
from tests.support.servers import open_pool

HANDLERS = "tests.support.rehearsed_accounts:registry"
STRICT = "tests.support.rehearsed_accounts:generous"
EVENTS = "tests.support.rehearsed_accounts:events"
ACCOUNT = "00000000-0000-4000-8000-00000000000c"
TEN = json.dumps({"account_id": ACCOUNT, "amount": 10})


@pytest.fixture
def deposited(dsn):
    """Id of a deposit of ten, which is done."""

    async def deposit():
        async with open_pool(dsn) as pool:
            await execute(pool, "create table rehearsed_total (id text, amount int)")
            world = World(PostgresCommandStore(pool))
            world.registry = rehearsed_accounts.registry
            sent = await world.bus.send(Deposit(account_id=ACCOUNT, amount=10))
            async with world.working():
                await world.settled(sent.command_id)
            await world.bus.close()
            return sent.command_id

    return str(asyncio.run(deposit()))


def test_a_new_command_is_tried(dsn, deposited):
    shown = run("dry-run", HANDLERS, DOMAIN, "Deposit", TEN, "--event-store", EVENTS, "--dsn", dsn)
    found = run("dry-run", HANDLERS, DOMAIN, "Deposit", TEN, "--event-store", EVENTS, "--dsn", dsn, "--json")
    refused = run("dry-run", HANDLERS, DOMAIN, "Withdraw", TEN.replace("10", "11"), "--dsn", dsn)

    assert (shown.code, found.code, refused.code) == (0, 0, 0)
    for text in ("would complete", f"Account/{ACCOUNT}", "version 1", "HandledDeposited", "public.rehearsed_total"):
        assert text in shown.out
    assert "Nothing was changed." in shown.err
    assert found.json["events"] == [{"event_type": "HandledDeposited", "event_version": 1, "payload": {"amount": 10}}]
    assert found.json["changes"][0]["rows"][0]["after"] == {"id": "all", "amount": 10}
    assert "would be refused" in refused.out
    assert "NOT_ENOUGH there are 10 only" in refused.out


def test_a_command_that_was_sent_is_tried(dsn, deposited):
    found = run("dry-run", HANDLERS, "--command", deposited, "--dsn", dsn, "--json")

    assert (found.json["version_read"], found.json["reply"]) == (1, {"version": 2})


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([DOMAIN, "Broken", "{}"], 1, "KeyError"),
        ([DOMAIN, "Plain", "{}"], 5, "register it with transactional=True, or with aggregate="),
        ([DOMAIN, "Nobody", "{}"], 2, "Nobody"),
        ([DOMAIN, "Deposit", "{"], 2, "the payload is no JSON"),
        ([DOMAIN, "Deposit", "[]"], 2, "the payload must be a JSON object"),
        ([DOMAIN], 2, "give a new command as DOMAIN TYPE JSON, or one that was sent as --command ID"),
        ([DOMAIN, "Deposit", "--command", str(uuid4())], 2, "not both"),
        (["--command", str(uuid4())], 5, "no command"),
        ([DOMAIN, "Deposit", TEN, "--event-store", HANDLERS], 2, "it must be a store of events"),
    ],
)
def test_what_cannot_be_tried_says_why(dsn, arguments, code, text):
    result = run("dry-run", HANDLERS, *arguments, "--dsn", dsn)

    assert result.code == code
    assert text in result.out + result.err


def test_the_same_code_decides_the_same(dsn, deposited):
    shown = run("shadow", HANDLERS, "--dsn", dsn)
    found = run("shadow", HANDLERS, "--dsn", dsn, "--stream", f"Account/{ACCOUNT}", "--since", "1h", "--json")

    assert (shown.code, found.code) == (0, 0)
    assert "equal" in shown.out
    assert "1 command in" in shown.err
    assert (found.json["equal"], found.json["different"], found.json["differences"]) == (1, 0, [])


def test_a_shadow_run_needs_no_more_than_to_read(dsn, deposited):
    reading = f"{dsn}{'&' if '?' in dsn else '?'}options=-c%20default_transaction_read_only%3Don"
    found = run("shadow", HANDLERS, "--dsn", reading, "--json")
    written = run("dry-run", HANDLERS, DOMAIN, "Deposit", TEN, "--dsn", reading, "--json")

    assert (found.code, found.json["equal"]) == (0, 1)
    assert written.code == 3  # so the setting is in force


def test_what_differs_is_shown_and_ends_with_code_1(dsn, deposited):
    shown = run("shadow", STRICT, "--dsn", dsn)
    found = run("shadow", STRICT, "--dsn", dsn, "--json")
    ignored = run("shadow", STRICT, "--dsn", dsn, "--ignore", "amount")
    counted = run("shadow", STRICT, "--dsn", dsn, "--show", 0)
    other = run("shadow", STRICT, "--dsn", dsn, "--until", "1h", "--json")

    assert (shown.code, found.code, ignored.code, counted.code, other.code) == (1, 1, 0, 1, 0)
    for text in (
        deposited,
        f"Account/{ACCOUNT} at version 0",
        '-      "amount": 10',
        '+      "amount": 11',
        "different",
    ):
        assert text in shown.out
    (difference,) = found.json["differences"]
    assert (difference["command_id"], difference["version_read"]) == (deposited, 0)
    assert [each["what"] for each in difference["differences"]] == ["events"]
    assert "There are 1 more: --show 1 shows all." in counted.err
    assert other.json["checked"] == 0


def test_what_cannot_be_compared_says_why(dsn, deposited):
    found = run("shadow", "tests.support.rehearsed_accounts:other", "--dsn", dsn)

    assert found.code == 0
    assert "not comparable: it has no handler any more" in found.out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--stream", "Account"], 2, "a stream is named by its category and its id"),
        (["--stream", "Account/nothing"], 5, "Account/nothing"),
        (["--since", "soon"], 2, "--since is so long ago"),
        (["--limit", "0"], 2, "--limit"),
    ],
)
def test_what_makes_no_sense_says_so(dsn, arguments, code, text):
    result = run("shadow", HANDLERS, *arguments, "--dsn", dsn)

    assert result.code == code
    assert text in result.out + result.err


def test_code_that_blocks_rehearses(dsn, deposited):
    with SyncMainstay.connect(dsn) as app:
        rehearsal = app.rehearsal(rehearsed_accounts.registry, event_store=rehearsed_accounts.events)
        found = rehearsal.dry_run(Deposit(account_id=ACCOUNT, amount=5))
        with pytest.raises(InvalidOperationError):
            rehearsal.dry_run(DOMAIN, "Plain", {})
        assert rehearsal.shadow().equal == 1

    assert (found.reply, found.changes[0].inserted) == ({"version": 2}, 1)


async def test_a_rehearsal_needs_a_registry(pool):
    with pytest.raises(ConfigurationError, match="registry must be a HandlerRegistry"):
        Rehearsal(pool, {})
