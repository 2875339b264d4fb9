"""Finding commands from the command line: page by page, and by what they are."""

import asyncio
from uuid import uuid4

from mainstay import SendRequest
from mainstay.operations.operator import Operator
from tests.support.cli import run


def send(dsn, *requests):
    async def sending():
        async with Operator.connect(dsn) as operator:
            await operator.send(list(requests))

    asyncio.run(sending())
    return [str(request.command_id) for request in requests]


def a_request(**fields):
    return SendRequest("shop", "Order", uuid4(), {"n": 1}, **fields)


def test_a_page_says_that_there_is_another(dsn):
    send(dsn, *(a_request() for _ in range(3)))

    first = run("commands", "list", "--dsn", dsn, "--limit", 2)
    page = run("commands", "list", "--dsn", dsn, "--limit", 2, "--json").json
    later = send(dsn, a_request())
    rest = run("commands", "list", "--dsn", dsn, "--limit", 2, "--after", page[-1]["command_id"], "--json")
    counted = run("commands", "list", "--dsn", dsn, "--limit", 1, "--offset", 2)

    assert f"--after {page[-1]['command_id']}" in first.err
    assert len(rest.json) == 1
    assert not {each["command_id"] for each in [*page, *rest.json]} & {*later}
    assert "--offset 3" in counted.err
    assert run("commands", "list", "--dsn", dsn, "--after", uuid4()).code == 5
    refused = run("commands", "list", "--dsn", dsn, "--offset", 2, "--key", "k")
    assert (refused.code, "go on with --after" in refused.err) == (2, True)


def test_commands_are_found_by_key_batch_conversation_time_and_text(dsn):
    keyed, other, said = send(
        dsn,
        a_request(key="k"),
        a_request(correlation_id=(talk := uuid4())),
        SendRequest("shop", "Order", uuid4(), {"name": "Grace Hopper"}),
    )

    def found(*conditions):
        return [each["command_id"] for each in run("commands", "list", "--dsn", dsn, "--json", *conditions).json]

    assert found("--key", "k") == [keyed]
    assert found("--correlation", talk) == [other]
    assert found("--batch", uuid4()) == []
    assert found("--text", "grace hopper", "--since", "1h") == [said]
    assert len(found("--since", "1h")) == 3
    assert found("--until", "1h") == []
    assert len(found("--until", "2999-01-01", "-n", 2)) == 2
    asked = run("commands", "list", "--dsn", dsn, "--text", "grace")
    assert (asked.code, "since" in asked.err) == (2, True)
    assert run("commands", "list", "--dsn", dsn, "--since", "soon").code == 2
