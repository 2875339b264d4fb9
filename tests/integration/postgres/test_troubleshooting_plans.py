"""What the questions about what waits and about keys read of all commands: those meant, each by its primary key.

Told by the plans, not by time. Each is asked in a new session without statistics and with them, and with a plan that
does not know what is asked (decision 5). 10,000 commands wait, and 2,000
keys are in use; MAINSTAY_TROUBLED_AMONG=1000000 puts more beside them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor

from mainstay.storage.postgres import queries
from tests.integration.postgres.test_event_plans import explained
from tests.support.servers import Server

FOLDER = Path(__file__).parent
AMONG = int(os.environ.get("MAINSTAY_TROUBLED_AMONG", "20000"))
BATCH = "00000000-0000-4000-8000-000000000001"
ALL = dict.fromkeys(["domain", "command_type", "error_code", "group_id", "batch_id", "command_ids"])
PLACE = dict.fromkeys(["after_since", "after_id", "after_domain"])
TROUBLE, COMMANDS, KEYS = queries.load("troubleshooting"), queries.load("commands"), queries.load("keys")
KEYS_ASKED = {"domain": None, "key": None, "limit": 50, "offset": 0}
QUESTIONS = {
    # The rows that are given, and how many commands may be read for them.
    "groups": (TROUBLE["list_groups"], ALL, 16, 16),
    "groups of a batch": (TROUBLE["list_groups"], ALL | {"batch_id": BATCH}, 3, 2_500),
    "a page": (TROUBLE["select_troubled"], ALL | PLACE | {"limit": 51}, 51, 60),
    "a page of a domain": (TROUBLE["select_troubled"], ALL | PLACE | {"domain": "domain1", "limit": 51}, 51, 60),
    "a page of a batch": (TROUBLE["select_troubled"], ALL | PLACE | {"batch_id": BATCH, "limit": 51}, 51, 2_100),
    "the command line's list": (
        COMMANDS["list_troubleshooting"],
        {"domain": None, "command_type": None, "limit": 50, "offset": 0},
        50,
        60,
    ),
    "forms of payload": (TROUBLE["list_kinds"], ALL | {"header": "schema_version"}, 16, 10_100),
    "keys": (KEYS["list_keys"], KEYS_ASKED, 50, 50),
    "one key": (KEYS["list_keys"], KEYS_ASKED | {"key": "key 7"}, 1, 1),
    "blocked keys": (KEYS["list_blocked_keys"], KEYS_ASKED, 8, 8),
}
NAIVE = """
    select c.* from commandbus.troubleshooting as t
    join commandbus.command as c on c.command_id = t.command_id and c.domain = t.domain
    order by t.since, t.command_id, t.domain limit %(limit)s
"""
MOMENTS = ("no statistics", "statistics", "plans that know nothing")

Session = psycopg.Connection[Any]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's steps."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def read_of_commands(plan: dict[str, Any]) -> tuple[set[str], float]:
    """How a plan reads commands, and how many of them."""
    reads = [each for each in nodes(plan) if each.get("Relation Name") == "command" and each["Actual Loops"]]
    ways = {each.get("Index Name", each["Node Type"]) for each in reads}
    return ways, sum(
        (each["Actual Rows"] + each.get("Rows Removed by Filter", 0)) * each["Actual Loops"] for each in reads
    )


@pytest.fixture(scope="module")
def plans(postgres_server: Server) -> Iterator[tuple[Session, dict[str, dict[str, dict[str, Any]]]]]:
    """The plans of all questions, at each moment."""
    with postgres_server.database(untouched=True) as name:
        dsn = postgres_server.dsn(name)
        with psycopg.connect(dsn, autocommit=True) as conn, ClientCursor(conn) as cursor:
            for table in ("command", "troubleshooting", "key_head", "keyed"):
                conn.execute(f"alter table commandbus.{table} set (autovacuum_enabled = false)".encode())
            cursor.execute((FOLDER / "many_commands.sql").read_bytes(), {"deferred": 0, "completed": AMONG})
            cursor.execute((FOLDER / "many_failures.sql").read_bytes())
            cursor.execute((FOLDER / "many_keys.sql").read_bytes(), {"keys": 2_000})
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for moment in MOMENTS:
            with psycopg.connect(dsn, autocommit=True) as conn:
                if moment == "statistics":
                    conn.execute("vacuum analyze")
                generic = moment == "plans that know nothing"
                found[moment] = {
                    each: explained(conn, sql, asked, generic=generic) for each, (sql, asked, _, _) in QUESTIONS.items()
                }
        with psycopg.connect(dsn, autocommit=True) as conn:
            yield conn, found


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", QUESTIONS)
def test_only_commands_that_wait_are_read_each_by_its_primary_key(plans, name: str, moment: str) -> None:
    _, found = plans
    _, _, rows, most = QUESTIONS[name]
    ways, read = read_of_commands(found[moment][name])

    print(f"{moment}: {read:,.0f} commands by {ways}")
    assert found[moment][name]["Actual Rows"] == rows
    assert ways == {"command_pkey"}
    assert read <= most


def test_a_join_as_one_would_write_it_reads_all_commands(plans) -> None:
    """The control."""
    conn, _ = plans
    _, read = read_of_commands(explained(conn, NAIVE, {"limit": 51}))

    assert read >= AMONG
