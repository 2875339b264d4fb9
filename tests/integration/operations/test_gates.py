"""Limits and pauses from the command line."""

import asyncio
from uuid import uuid4

import pytest

from mainstay import CommandBus
from tests.support.cli import run
from tests.support.servers import open_pool


@pytest.fixture
def sent(dsn):
    async def send():
        async with open_pool(dsn) as pool:
            await CommandBus(pool).send("shop", "Order", uuid4(), {})

    asyncio.run(send())


def test_a_limit_is_set_listed_and_removed(dsn):
    options = ["--max-running", 5, "--per", "customer_id", "--max-running-per", 1, "--rate", 100, "--per-seconds", 60]

    made = run("limits", "set", "shop", "Order", *options, "--burst", 10, "--dsn", dsn)
    listed = run("limits", "list", "--dsn", dsn)
    (state,) = run("limits", "list", "--dsn", dsn, "--json").json
    removed = [run("limits", "remove", "shop", "Order", "--dsn", dsn) for _ in range(2)]

    words = "5 at once; 1 at once per customer_id; 100 per 60 s, 10 together"
    assert words in made.out
    assert words in listed.out
    assert (state["limit"]["rate"], state["running"], state["parked"]) == (100, 0, 0)
    assert [each.code for each in removed] == [0, 5]
    assert "Nothing is limited." in run("limits", "list", "--dsn", dsn).out


@pytest.mark.parametrize(
    "options", ["", "--per a", "--rate 5 --burst 6", "--rate 5 --per-seconds 0.5", "--max-running 0"]
)
def test_a_limit_that_cannot_be_is_code_2(dsn, options):
    result = run("limits", "set", "shop", "Order", *options.split(), "--dsn", dsn)

    assert result.code == 2
    assert run("limits", "list", "--dsn", dsn, "--json").json == []


def test_what_is_paused_says_by_whom_and_why_until_it_is_resumed(dsn, sent):
    first = run("pause", "shop", "--reason", "stocktaking", "--operator", "ada", "--dsn", dsn)
    again = run("pause", "shop", "--dsn", dsn)
    run("pause", "shop", "--type", "Order", "--dsn", dsn)
    shown = run("paused", "--dsn", dsn)
    both = run("paused", "--dsn", dsn, "--json").json
    resumed = [run("resume", "shop", "--dsn", dsn), run("resume", "shop", "--dsn", dsn)]

    assert (first.code, again.code) == (0, 5)
    assert "stocktaking" in shown.out
    assert [(each["command_type"], each["reason"]) for each in both] == [(None, "stocktaking"), ("Order", None)]
    assert both[0]["operator"] == "ada"
    assert [each.code for each in resumed] == [0, 5]
    assert [each["command_type"] for each in run("paused", "--dsn", dsn, "--json").json] == ["Order"]
