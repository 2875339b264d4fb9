"""``mainstay keys``: what blocks a key, and letting it go on."""

import asyncio
from uuid import uuid4

import psycopg

from mainstay import SendRequest
from mainstay.operations.operator import Operator
from tests.support.cli import run
from tests.support.troubled import TROUBLE


def blocked(dsn: str) -> list[str]:
    """Two commands of one key, the first of them in troubleshooting."""
    requests = [SendRequest("shop", "Order", uuid4(), {}, key="customer-7") for _ in range(2)]

    async def send() -> None:
        async with Operator.connect(dsn) as operator:
            await operator.send(requests)

    asyncio.run(send())
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(TROUBLE)
    return [str(request.command_id) for request in requests]


def test_a_blocked_key_is_found_and_let_go(dsn):
    first, second = blocked(dsn)

    listed = run("keys", "list", "--blocked", "--dsn", dsn)
    shown = run("keys", "show", "shop", "customer-7", "--dsn", dsn, "--json")
    released = run("keys", "release", "shop", "customer-7", "--dsn", dsn, "--reason", "enough", USER="ada")
    again = run("keys", "release", "shop", "customer-7", "--dsn", dsn)
    audit = run("commands", "audit", first, "--dsn", dsn, "--json")
    with psycopg.connect(dsn, autocommit=True) as conn:
        taken = conn.execute("select command_id from commandbus.receive('shop', 9, 60, 'nobody')").fetchall()

    assert "customer-7" in listed.out
    assert (shown.json["head"], shown.json["waiting"], shown.json["error_code"]) == (first, 1, "BROKEN")
    assert (released.code, again.code) == (0, 5)
    assert audit.json[-1]["event_type"] == "KEY_RELEASED"
    assert audit.json[-1]["details"] == {"operator": "ada", "reason": "enough"}
    assert [str(row[0]) for row in taken] == [second]


def test_keys_that_nobody_uses_are_said_to_be_so(dsn):
    listed, blocked_ones = run("keys", "list", "--dsn", dsn), run("keys", "list", "--blocked", "--dsn", dsn)
    shown = run("keys", "show", "shop", "none", "--dsn", dsn)

    assert (listed.out.strip(), blocked_ones.out.strip()) == ("No keys are in use.", "No key is blocked.")
    assert (shown.code, "not in use" in shown.err) == (5, True)
