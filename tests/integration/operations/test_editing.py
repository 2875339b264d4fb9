"""Editing a payload from the command line when the handler's model is known."""

import asyncio
import sys
from uuid import uuid4

import pytest

from mainstay import SendRequest
from mainstay.commands.store import Outcome, Verb
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.cli import run


@pytest.fixture
def broken(dsn):
    """Ids of two commands that wait for a decision."""
    requests = [SendRequest("shop", "Bad", uuid4(), {"n": 1}) for _ in range(2)]

    async def fail():
        async with Operator.connect(dsn) as operator:
            await operator.send(requests)
            store = PostgresCommandStore(operator.pool)
            received = await store.receive("shop", limit=2, lease_seconds=60, worker="w1")
            said = {"error_type": "PERMANENT", "error_code": "BROKEN", "error_message": "it is broken"}
            await store.complete("shop", [Outcome(each.lease, Verb.TROUBLESHOOT, **said) for each in received])

    asyncio.run(fail())
    return [request.command_id for request in requests]


@pytest.fixture
def bad_model(tmp_path, monkeypatch):
    """Where the command line finds a registry whose model of the broken commands wants a text."""
    (tmp_path / "typed_shop.py").write_text(
        "from mainstay import CommandModel, HandlerRegistry\n"
        "class Bad(CommandModel, domain='shop'):\n"
        "    n: int\n"
        "registry = HandlerRegistry()\n"
        "registry.register(Bad, lambda command, context: None)\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "typed_shop:registry"
    sys.modules.pop("typed_shop", None)


def test_an_edit_that_the_model_refuses_is_shown_and_refused_field_by_field(dsn, broken, bad_model):
    retry = ("tsq", "retry", broken[0], "--dsn", dsn, "--registry", bad_model)
    refused = run(*retry, "--data", '{"n": "two"}')
    as_json = run(*retry, "--data", '{"n": "two"}', "--json")
    previewed = run(*retry, "--data", '{"n": "two"}', "--preview")

    assert refused.code == as_json.code == previewed.code == 2
    assert refused.out.splitlines()[:2] == ["- /n: 1", '+ /n: "two"']
    assert "Refused by the handler's model; nothing was changed:\n  n: Input should be a valid integer" in refused.out
    assert previewed.out == refused.out
    assert (as_json.json["applied"], as_json.json["problems"][0]["path"]) == (False, "n")
    assert run("tsq", "show", broken[0], "--dsn", dsn, "--json").json["payload"]["n"] == 1
    many = run("tsq", "retry", "--all", "--yes", "--dsn", dsn, "--registry", bad_model, "--data", "{}")
    assert (many.code, "n: Field required" in many.err) == (2, True)
    assert run(*retry, "--data", '{"n": 2}').code == 0


def test_a_refused_edit_goes_back_into_the_editor(dsn, broken, bad_model, tmp_path):
    for name, n in (("first", '"two"'), ("second", "2")):
        (tmp_path / name).write_text(f'{{"n": {n}}}\n')
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nif [ -e turned ]; then cp second "$1"; else cp first "$1"; touch turned; fi\n')
    editor.chmod(0o755)
    call = ("tsq", "retry", broken[0], "--edit", "--dsn", dsn, "--registry", bad_model)
    mended = run(*call, stdin="y\ny\n", at_terminal=True, VISUAL=str(editor))

    assert mended.code == 0, mended
    assert "n: Input should be a valid integer" in mended.out
    assert mended.out.endswith("Retried 1 command.\n")
    assert run("commands", "show", broken[0], "--dsn", dsn, "--json").json["data"] == {"n": 2}
    (tmp_path / "turned").unlink()
    given_up = run(*("tsq", "retry", broken[1], "--edit", *call[4:]), stdin="n\n", at_terminal=True, VISUAL=str(editor))
    assert given_up.code == 2
