"""The ledger of decisions on PostgreSQL: what fsck finds, what pruning leaves, what people are shown."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from mainstay import PostgreSQLEventStore, StreamId
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.retention import Retention, prune
from tests.scenarios.aggregates import Account, Deposit, Withdraw
from tests.scenarios.decisions import DecisionScenarios
from tests.scenarios.postgres import OnPostgres, ask, run
from tests.scenarios.world import DOMAIN, World
from tests.support.cli import run as cli

IS_OF_COMMAND = "a decision is of a command that has completed or failed"
IS_THERE = "a command answered with the version and position of its own event has its decision"
HAS_EVENTS = "the events of a decision are in its stream, and of no other decision"


class TestOnPostgres(OnPostgres, DecisionScenarios):
    @pytest.fixture
    def event_store(self, pool):
        return PostgreSQLEventStore(pool)


@pytest.fixture
async def account(pool):
    """An account with a deposit, a withdrawal, and one that was refused; the ids of account and commands."""
    world, account_id = World(PostgresCommandStore(pool)), uuid4()
    world.registry.register_decider(domain=DOMAIN, decider=Account)
    sent = []
    async with world.working():
        for command in (
            Deposit(account_id=account_id, amount=10),
            Withdraw(account_id=account_id, amount=4),
            Withdraw(account_id=account_id, amount=7),
        ):
            sent.append((await world.bus.send(command)).command_id)
            await world.settled(sent[-1])
    await world.bus.close()
    return account_id, sent


async def findings(pool):
    return {each.invariant for each in (await Operator(pool).fsck()).findings}


# -- fsck --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("statement", "invariant"),
    [
        ("update commandbus.decision set subject_no = -subject_no", IS_OF_COMMAND),
        ("update commandbus.decision set command_id = gen_random_uuid() where events = 0", IS_OF_COMMAND),
        ("update commandbus.decision set events = 1 where events = 0", IS_OF_COMMAND),
        ("update commandbus.decision set events = 2 where version_read = 0", HAS_EVENTS),
        ("update commandbus.decision set version_read = 0 where version_read = 1", HAS_EVENTS),
        ("update commandbus.decision set version_read = 9 where version_read = 0", HAS_EVENTS),
        ("update commandbus.decision set stream_id = 'another' where version_read = 0", HAS_EVENTS),
        ("update commandbus.decision set tenant_id = 'another' where version_read = 0", HAS_EVENTS),
    ],
)
async def test_a_decision_that_does_not_fit_its_command_or_its_events_is_found(pool, account, statement, invariant):
    before = await findings(pool)
    await run(pool, statement)

    assert before == set()
    assert invariant in await findings(pool)


async def test_events_that_another_command_caused_are_found(pool, account):
    _, (_, second, _) = account
    await run(pool, "alter table eventsource.event disable trigger event_immutable")
    await run(pool, "update eventsource.event set causation_id = %s where version = 1", second)

    assert await findings(pool) == {HAS_EVENTS}


async def test_a_decision_may_outlive_the_content_of_its_events(pool, account):
    account_id, (first, _, _) = account
    store = PostgreSQLEventStore(pool)
    await store.tombstone(StreamId("Account", account_id), reason="asked to", actor="ada")
    decided = await Operator(pool).ledger.decided(DOMAIN, first)

    assert await findings(pool) == set()
    assert (decided.decision.version, decided.events, decided.tombstoned) == (1, (), True)


async def test_the_decision_of_no_command_is_deleted_by_repair_and_others_are_left(pool, account):
    await run(pool, "update commandbus.decision set command_id = gen_random_uuid() where events = 0")
    await run(pool, "update commandbus.decision set version_read = 9 where version_read = 0")
    done = await Operator(pool).repair()

    assert [(each.did, bool(each.left)) for each in done] == [
        ("the decision of no command is deleted", False),
        (None, True),
    ]
    assert await ask(pool, "select count(*) from commandbus.decision") == [(2,)]


async def test_a_decision_that_is_gone_is_missed_if_its_reply_and_its_event_tell_of_it(pool, account):
    await run(pool, "delete from commandbus.decision where version_read = 1")
    (found,) = (await Operator(pool).fsck()).findings
    (done,) = await Operator(pool).repair()

    assert (found.invariant, found.command_id) == (IS_THERE, account[1][1])
    assert found.details["reply"]["version"] == 2
    assert (done.did, "restore" in done.left) == (None, True)


# -- retention ---------------------------------------------------------------------------------------------------------
async def test_a_decision_outlives_the_payload_and_is_forgotten_with_its_command(pool, account):
    _, (first, _, refused) = account
    await prune(pool, Retention(timedelta(0)))
    kept = [await Operator(pool).bus.get_decision(DOMAIN, each) for each in (first, refused)]
    sound = await findings(pool)
    await prune(pool, Retention(timedelta(0), forget=True))

    assert [(each.version_read, each.events) for each in kept] == [(0, 1), (2, 0)]
    assert (kept[0].reply.data["version"], kept[1].reply.error_code) == (1, "NOT_ENOUGH")
    assert sound == set()
    assert await ask(pool, "select count(*) from commandbus.decision") == [(0,)]
    assert await findings(pool) == set()


# -- the command line --------------------------------------------------------------------------------------------------
async def shown(command_id, dsn, *options):
    return await asyncio.to_thread(cli, "commands", "show", command_id, "--dsn", dsn, *options)


async def test_a_command_is_shown_with_its_decision(pool, dsn, account):
    account_id, (_, second, refused) = account
    good, failed = await shown(second, dsn), await shown(refused, dsn)
    found = (await shown(second, dsn, "--json")).json["decision"]

    assert f"Account/{account_id}" in good.out
    assert "version 1, and made it version 2" in good.out
    assert "HandledWithdrawn" in good.out
    assert "version 2, and appended nothing" in failed.out
    assert (found["version_read"], found["version"], found["handler"]) == (1, 2, "tests.scenarios.aggregates.Account")
    assert [(each["version"], each["event_type"]) for each in found["events"]] == [(2, "HandledWithdrawn")]
    assert found["events"][0]["position"] > 0
    assert found["stream"] == {"category": "Account", "stream_id": str(account_id), "tenant_id": None}


async def test_a_command_without_a_decision_is_shown_without(pool, dsn):
    world = World(PostgresCommandStore(pool))
    command_id = await world.send()
    await world.bus.close()

    assert (await shown(command_id, dsn, "--json")).json["decision"] is None
    assert "Decision" not in (await shown(command_id, dsn)).out
