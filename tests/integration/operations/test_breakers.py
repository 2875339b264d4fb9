"""Breakers from the command line."""

import pytest

from tests.support.cli import run

PRINT = "0123456789ab"


def test_breakers_are_set_listed_and_removed(dsn):
    options = ["--failures", 3, "--within", 10, "--probe-after", 5, "--drip", 2]

    made = run("breakers", "set", "shop", "Order", *options, "--dsn", dsn)
    listed = run("breakers", "rules", "--dsn", dsn)
    (rule,) = run("breakers", "rules", "--dsn", dsn, "--json").json
    removed = [run("breakers", "remove", "shop", "Order", "--dsn", dsn) for _ in range(2)]

    words = "3 failures alike within 10 s; a probe after 5 s; then 2 a second"
    assert words in made.out
    assert words in listed.out
    assert (rule["failures"], rule["drip"]) == (3, 2.0)
    assert [each.code for each in removed] == [0, 5]
    assert "No command type has breakers." in run("breakers", "rules", "--dsn", dsn).out


@pytest.mark.parametrize("options", ["--failures 0", "--within 0", "--probe-after 100000000", "--drip 0"])
def test_a_rule_that_cannot_be_is_code_2(dsn, options):
    assert run("breakers", "set", "shop", "Order", *options.split(), "--dsn", dsn).code == 2
    assert run("breakers", "rules", "--dsn", dsn, "--json").json == []


def test_an_operator_opens_and_closes_a_breaker_and_the_history_tells_it(dsn):
    which = ["shop", "Order", PRINT]
    without = run("breakers", "open", *which, "--dsn", dsn)
    run("breakers", "set", "shop", "Order", "--operator", "ada", "--dsn", dsn)
    opened = [run("breakers", "open", *which, "--reason", "they called", "--dsn", dsn) for _ in range(2)]
    shown = run("breakers", "list", "--dsn", dsn)
    (found,) = run("breakers", "list", "--dsn", dsn, "--json").json
    closed = [run("breakers", "close", *which, "--operator", "bob", "--dsn", dsn) for _ in range(2)]
    told = run("breakers", "history", "--dsn", dsn)
    events = run("breakers", "history", "--dsn", dsn, "--json").json

    assert [without.code, *(each.code for each in opened + closed)] == [5, 0, 5, 0, 5]
    assert PRINT in shown.out
    assert (found["state"], found["parked"]) == ("OPEN", 0)
    assert [(each["event_type"], each["reason"]) for each in events] == [
        ("CLOSED", None),
        ("OPENED", "they called"),
        ("SET", None),
    ]
    assert events[0]["operator"] == "bob"
    assert "they called" in told.out


def test_a_fingerprint_that_is_none_is_code_2(dsn):
    assert run("breakers", "close", "shop", "Order", "down", "--dsn", dsn).code == 2


def test_where_nothing_is_open_it_says_so(dsn):
    assert "No breaker is open." in run("breakers", "list", "--dsn", dsn).out
    assert "Nothing happened yet." in run("breakers", "history", "--dsn", dsn).out
