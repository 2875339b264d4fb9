"""The command line on databases that were not made for mainstay: other encodings, a limit on every statement."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests.support.cli import run

EMOJI = "\N{SLEEPING FACE}"


@pytest.fixture
def odd_dsn(request: pytest.FixtureRequest, server) -> Iterator[str]:
    """A database in another encoding."""
    name = f"mainstay_test_odd_{request.param.lower()}"
    with psycopg.connect(server.admin_dsn, autocommit=True) as conn:
        which = sql.Identifier(name), sql.Literal(request.param)
        conn.execute(sql.SQL("drop database if exists {}").format(which[0]))
        conn.execute(
            sql.SQL("create database {} encoding {} lc_collate 'C' lc_ctype 'C' template template0").format(*which)
        )
    yield server.dsn(name)
    server.drop_database(name)


@pytest.mark.parametrize("odd_dsn", ["SQL_ASCII", "LATIN1"], indirect=True)
def test_the_doctor_names_a_database_that_cannot_hold_all_text(odd_dsn):
    made = run("schema", "upgrade", "--dsn", odd_dsn)
    told = run("doctor", "--dsn", odd_dsn, "--json").json
    faults = {each["name"]: each["seen"] for each in told["checks"] if each["level"] == "FAULT"}

    assert made.code == 0, made.err
    assert "text with other characters is refused" in faults.pop("encoding")
    assert not any("b'" in seen for seen in faults.values()), faults


@pytest.mark.parametrize("odd_dsn", ["LATIN1"], indirect=True)
def test_text_that_a_database_cannot_hold_is_refused_by_the_encoding_s_name(odd_dsn):
    run("schema", "upgrade", "--dsn", odd_dsn)

    refused = run("pause", "shop", "--reason", EMOJI, "--dsn", odd_dsn)
    kept = run("pause", "shop", "--reason", "café", "--dsn", odd_dsn)

    assert refused.code != 0
    assert "LATIN1" in refused.err
    assert "unexpected" not in refused.err
    assert kept.code == 0


@pytest.mark.parametrize("command", [("stats",), ("fsck",), ("commands", "list")])
def test_a_statement_that_takes_too_long_says_so(dsn, command):
    limited = f"{dsn}{'&' if '?' in dsn else '?'}options={quote('-c statement_timeout=300')}"
    with psycopg.connect(dsn) as conn:
        conn.execute("lock table commandbus.command, pgmq.meta in access exclusive mode")
        told = run(*command, "--dsn", limited, "--json")

    said = json.loads(told.out or "{}") if told.out else {}
    assert told.code != 0
    assert "statement timeout" in (told.err + json.dumps(said))
    assert "unexpected" not in (told.err + json.dumps(said))
