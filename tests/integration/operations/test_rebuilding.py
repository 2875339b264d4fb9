"""``mainstay projections rebuild``: what differs is shown before anything is swapped."""

import asyncio

import psycopg
import pytest

from mainstay import PostgreSQLEventStore, StreamId
from tests.support.cli import run
from tests.support.projected_accounts import TABLES, AmountPaid, balances
from tests.support.servers import open_pool

CODE = "tests.support.projected_accounts:balances"
REBUILD = ("projections", "rebuild", CODE)


def execute(dsn, statement):
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(statement)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture
def paid(dsn):
    """The balances of two accounts, of which one is wrong."""
    execute(dsn, TABLES)

    async def project():
        async with open_pool(dsn, max_size=6) as pool:
            store, manager = PostgreSQLEventStore(pool), await balances(pool)
            for account in ("ann", "bob"):
                await store.append(StreamId("PaidAccount", account), [AmountPaid(amount=each) for each in (1, 2)])
            async with manager:
                await manager.wait_until((await store.horizon()).position)

    asyncio.run(project())
    execute(dsn, "update balance set amount = 99 where account = 'bob'")
    return dsn


def balance(dsn):
    return execute(dsn, "select account, amount from balance order by account")


WRONG, RIGHT = [("ann", 3), ("bob", 99)], [("ann", 3), ("bob", 3)]


def test_what_differs_is_shown_and_swapped_if_the_answer_is_yes(paid):
    no = run(*REBUILD, "--dsn", paid, stdin="n\n", at_terminal=True)
    before = balance(paid)
    yes = run(*REBUILD, "balances", "--keep", "--dsn", paid, stdin="y\n", at_terminal=True)

    assert run("fsck", "--dsn", paid).code == 0
    assert (no.code, "They differ. Swap?" in no.out, "--cancel" in no.err) == (1, True, True)
    assert "- amount: 99, account: bob" in no.out
    assert "+ amount: 3, account: bob" in no.out
    assert before == WRONG
    assert (yes.code, "Swapped: balances serves" in yes.out) == (0, True)
    assert balance(paid) == RIGHT
    assert execute(paid, "select amount from balance__old where account = 'bob'") == [(99,)]


@pytest.mark.thorough
def test_a_program_swaps_unasked_or_only_if_nothing_differs(paid):
    refused = run(*REBUILD, "--if-same", "--dsn", paid, "--json")
    swapped = run(*REBUILD, "--yes", "--dsn", paid, "--json")
    again = run(*REBUILD, "--if-same", "--shards", 2, "--dsn", paid)

    assert (refused.code, refused.json["swapped"], refused.json["same"]) == (1, False, False)
    (table,) = refused.json["tables"]
    assert (table["table"], table["gone"], table["come"]) == ("balance", 1, 1)
    assert (swapped.code, swapped.json["swapped"]) == (0, True)
    assert again.code == 0
    assert balance(paid) == RIGHT
    assert len(run("projections", "lag", "balances", "--dsn", paid, "--json").json) == 2


@pytest.mark.thorough
def test_it_can_be_compared_only_and_dropped(paid):
    compared = run(*REBUILD, "--compare", "--dsn", paid)
    told = run("doctor", "--dsn", paid)
    dropped = [run(*REBUILD, "--cancel", "--dsn", paid) for _ in range(2)]
    execute(paid, "update balance set amount = 3")
    same = run(*REBUILD, "--compare", "--dsn", paid, "--json")

    assert run("fsck", "--dsn", paid).code == 0
    assert compared.code == 1
    assert "A rebuild of projection balances was begun" in told.out
    assert [each.code for each in dropped] == [0, 5]
    assert (same.code, same.json["same"], same.json["swapped"]) == (0, True, False)
    assert balance(paid) == RIGHT


@pytest.mark.parametrize(
    "options", [[], ["--yes", "--compare"], ["--cancel", "--if-same"], ["other", "--yes"], ["--yes", "--shards", "0"]]
)
def test_a_rebuild_that_makes_no_sense_is_code_2(paid, options):
    assert run(*REBUILD, *options, "--dsn", paid).code == 2
    assert balance(paid) == WRONG


def test_a_projection_that_names_no_tables_is_not_rebuilt(paid):
    execute(paid, "insert into eventsource.subscription (subscription, shards) values ('apart', 1)")
    execute(
        paid, "insert into eventsource.shard (subscription, shard, position, event_position) values ('apart', 0, 0, 0)"
    )

    result = run("projections", "rebuild", "tests.support.projected_accounts:Apart", "--yes", "--dsn", paid)

    assert (result.code, "names no tables" in result.err) == (2, True)
