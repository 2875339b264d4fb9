"""What the command line prints of a real database, and what it changes there."""

import asyncio
import json
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest

from mainstay import BatchCommand, HandlerRegistry, PermanentCommandError, SendRequest, Worker
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.commands import PostgresCommandStore
from tests.support.cli import run
from tests.support.waiting import eventually

NIL = "00000000-0000-0000-0000-000000000000"


@asynccontextmanager
async def an_operator(dsn):
    async with Operator.connect(dsn) as operator:
        yield operator


def send(dsn, *requests):
    async def sending():
        async with an_operator(dsn) as operator:
            await operator.send(list(requests))

    asyncio.run(sending())
    return [str(request.command_id) for request in requests]


def a_request(command_type="Order", **fields):
    return SendRequest("shop", command_type, uuid4(), {"n": 1, "note": "[bold]as is[/bold]"}, **fields)


@pytest.fixture
def pending(dsn):
    """Id of a command that waits."""
    return send(dsn, a_request())[0]


@pytest.fixture
def broken(dsn):
    """Ids of three commands that wait for a decision."""
    keys = send(dsn, *(a_request("Bad") for _ in range(3)))

    async def fail():
        registry = HandlerRegistry()

        @registry.handler("shop", "Bad")
        async def bad(command, context):
            raise PermanentCommandError("BROKEN", "it is [red]broken[/red]")

        async with an_operator(dsn) as operator:
            worker = Worker(operator.pool, "shop", registry)
            running = asyncio.create_task(worker.run(concurrency=2, poll_interval=0.05))

            async def all_failed():
                return sum(each.commands for each in await operator.failure_groups()) == 3

            await eventually(all_failed)
            await worker.stop()
            await running

    asyncio.run(fail())
    return keys


@pytest.fixture
def batch(dsn):
    """Id of a batch of two commands."""

    async def create():
        async with an_operator(dsn) as operator:
            commands = [BatchCommand("Order", uuid4(), {}) for _ in range(2)]
            return await operator.bus.create_batch("shop", commands, name="January")

    return str(asyncio.run(create()).batch_id)


def query(dsn, text):
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(text)


# --- the schema -------------------------------------------------------------------------------------------------------


def test_commands_are_listed_by_their_tenant_and_show_in_whose_name_they_are(dsn):
    theirs, _, _ = send(dsn, a_request(tenant_id="acme", actor_id="ann"), a_request(tenant_id="globex"), a_request())
    listed = run("commands", "list", "--tenant", "acme", "--dsn", dsn, "--json").json
    shown = run("commands", "show", theirs, "--dsn", dsn).out

    assert [each["command_id"] for each in listed] == [theirs]
    assert "acme" in shown
    assert "ann" in shown
    assert run("commands", "list", "--tenant", "nobody", "--dsn", dsn).out.strip() == "No commands found."


def test_an_empty_database_is_not_ready_until_it_is_upgraded(empty_dsn):
    assert run("commands", "list", "--dsn", empty_dsn).code == 4
    before = run("schema", "status", "--dsn", empty_dsn)
    assert before.code == 4
    assert "not installed" in before.out

    first = run("schema", "upgrade", "--dsn", empty_dsn, "--json")
    second = run("schema", "upgrade", "--dsn", empty_dsn)

    assert first.json["changed"] is True
    assert second.code == 0
    assert "Nothing to do" in second.out
    assert "ready" in run("schema", "status", "--dsn", empty_dsn).out
    assert run("schema", "status", "--dsn", empty_dsn, "--json").json["is_current"] is True


# --- empty ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["commands", "list"], "No commands were sent yet."),
        (["commands", "list", "--status", "completed"], "No commands found."),
        (["batches", "list", "--status", "in-progress"], "No batches found."),
        (["batches", "list", "--status", "with failures"], "No batches found."),
        (["batches", "list", "--status", "COMPLETED"], "No batches found."),
        (["tsq", "list"], "Nothing waits for a decision."),
        (["tsq", "groups"], "Nothing waits for a decision."),
        (["tsq", "cancel", "--all", "--yes"], "Nothing to do"),
        (["batches", "list"], "No batches were created yet."),
        (["batches", "list", "--domain", "shop"], "No batches found."),
        (["stats"], "No commands were sent yet."),
        (["fsck"], "0 commands, nothing found."),
    ],
)
def test_nothing_is_told_in_a_sentence(dsn, command, text):
    result = run(*command, "--dsn", dsn)

    assert result.code == 0
    assert text in result.out


@pytest.mark.parametrize("command", [["commands", "list"], ["tsq", "list"], ["batches", "list"], ["events", "streams"]])
def test_nothing_is_an_empty_array_in_json(dsn, command):
    assert run(*command, "--dsn", dsn, "--json").json == []


# --- commands ---------------------------------------------------------------------------------------------------------


def test_commands_are_listed_shown_and_followed(dsn, pending):
    listed = run("commands", "list", "--dsn", dsn)
    shown = run("commands", "show", pending, "--dsn", dsn)
    trail = run("commands", "audit", pending, "--dsn", dsn)

    assert pending in listed.out
    assert "pending" in listed.out
    assert "[bold]as is[/bold]" in shown.out
    assert "sent" in trail.out
    assert run("commands", "show", pending, "--dsn", dsn, "--json").json["command_id"] == pending
    assert [each["event_type"] for each in run("commands", "audit", pending, "--dsn", dsn, "--json").json] == ["SENT"]


def test_commands_are_filtered(dsn, pending):
    assert len(run("commands", "list", "--dsn", dsn, "--json", "-d", "shop", "-t", "Order", "-s", "pending").json) == 1
    assert run("commands", "list", "--dsn", dsn, "--json", "-t", "Other").json == []
    assert run("commands", "list", "--dsn", dsn, "-d", "No Domain").code == 2


@pytest.mark.parametrize("word", ["troubleshooting", "TSQ", "in troubleshooting queue", "IN_TROUBLESHOOTING_QUEUE"])
def test_a_status_may_be_written_as_people_or_programs_do(dsn, broken, word):
    assert len(run("commands", "list", "--dsn", dsn, "--json", "-s", word).json) == 3
    assert run("commands", "list", "--dsn", dsn, "--json", "-s", "In-Progress").json == []


@pytest.mark.parametrize("command", ["show", "audit"])
def test_an_unknown_command_is_code_5(dsn, command):
    result = run("commands", command, NIL, "--dsn", dsn)

    assert result.code == 5
    assert f"there is no command {NIL}" in result.err


def test_a_command_that_runs_is_cancelled_only_if_asked_for(dsn, pending):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("select commandbus.receive('shop', 1, 60, 'nobody')")

    left = run("commands", "cancel", pending, "--dsn", dsn)
    asked = run("commands", "cancel", pending, "--dsn", dsn, "--running", "--json")

    assert (left.code, asked.code) == (5, 0)
    assert asked.json["commands"][0]["status"] == "IN_PROGRESS"
    assert "CANCEL_REQUESTED" in run("commands", "audit", pending, "--dsn", dsn, "--json").out


def test_cancelling_tells_what_was_left_alone(dsn, pending):
    both = run("commands", "cancel", pending, NIL, "--dsn", dsn, "--reason", "enough")
    again = run("commands", "cancel", pending, "--dsn", dsn, "--json")

    assert both.code == again.code == 5
    assert "Canceled 1 command." in both.out
    assert NIL in both.out
    assert again.json["commands"][0]["status"] == "CANCELED"


# --- troubleshooting --------------------------------------------------------------------------------------------------


def test_what_waits_for_a_decision_is_shown_with_its_error(dsn, broken):
    listed = run("tsq", "list", "--dsn", dsn, "--limit", 2)
    grouped = run("tsq", "groups", "--dsn", dsn)
    shown = run("tsq", "show", broken[0], "--dsn", dsn)

    assert "BROKEN it is [red]broken[/red]" in listed.out
    assert "2 of 3 are shown" in listed.err
    assert "BROKEN" in grouped.out
    assert "permanent, attempt 1" in shown.out
    assert run("tsq", "show", broken[0], "--dsn", dsn, "--json").json["last_error_code"] == "BROKEN"


def test_one_command_is_retried_with_other_data(dsn, broken):
    result = run(
        *("tsq", "retry", broken[0], "--dsn", dsn, "--data", '{"n": 2}', "--reason", "mended", "--operator", "Ada")
    )

    assert (result.code, result.out) == (0, '- /n: 1\n+ /n: 2\n- /note: "[bold]as is[/bold]"\nRetried 1 command.\n')
    assert run("commands", "show", broken[0], "--dsn", dsn, "--json").json["data"] == {"n": 2}
    decided = run("commands", "audit", broken[0], "--dsn", dsn, "--json").json[-1]
    assert decided["event_type"] == "OPERATOR_RETRY"
    assert (decided["details"]["operator"], decided["details"]["reason"]) == ("Ada", "mended")


def test_the_operator_is_the_user_unless_named(dsn, broken):
    run("tsq", "cancel", broken[0], "--dsn", dsn, USER="grace")

    assert run("commands", "audit", broken[0], "--dsn", dsn, "--json").json[-1]["details"]["operator"] == "grace"


def test_many_commands_are_completed_with_a_result(dsn, broken):
    result = run("tsq", "complete", *broken, "--dsn", dsn, "--result", '{"by": "hand"}', "--json")

    assert (result.json["applied"], result.json["refused"]) == (3, 0)
    assert run("commands", "show", broken[2], "--dsn", dsn, "--json").json["result"] == {"by": "hand"}


def test_all_that_fit_the_filters_are_decided_on(dsn, broken):
    other = run("tsq", "cancel", "--all", "--yes", "--dsn", dsn, "--error-code", "OTHER")
    right = run("tsq", "cancel", "--all", "--yes", "--dsn", dsn, "--type", "Bad", "--error-code", "BROKEN")

    assert "Nothing to do" in other.out
    assert right.out == "Canceled 3 commands.\n"


def test_a_decision_on_all_shows_them_and_asks(dsn, broken):
    refused = run("tsq", "retry", "--all", "--dsn", dsn, stdin="n\n", at_terminal=True)
    agreed = run("tsq", "retry", "--all", "--dsn", dsn, stdin="y\n", at_terminal=True)

    assert refused.code == 1
    assert "Nothing was changed." in refused.out
    assert "BROKEN" in refused.out
    assert "Retry 3 commands?" in refused.out
    assert "Retried 3 commands." in agreed.out


def test_a_decision_on_what_does_not_wait_is_code_5(dsn, pending):
    result = run("tsq", "retry", pending, NIL, "--dsn", dsn)

    assert result.code == 5
    assert "it is PENDING, not in the troubleshooting queue" in result.out
    assert "there is no such command" in result.out


# --- batches, numbers -------------------------------------------------------------------------------------------------


def test_batches_are_listed_and_shown(dsn, batch):
    listed = run("batches", "list", "--dsn", dsn)
    shown = run("batches", "show", batch, "--dsn", dsn)

    assert batch in listed.out
    assert "0 of 2" in listed.out
    assert "January" in shown.out
    assert len(run("batches", "show", batch, "--dsn", dsn, "--json").json["commands"]) == 2
    assert "no commands in this status" in run("batches", "show", batch, "--dsn", dsn, "-s", "failed").out


def test_an_unknown_batch_is_code_5(dsn):
    assert run("batches", "show", NIL, "--dsn", dsn).code == 5


def test_stats_count_by_domain(dsn, broken):
    send(dsn, a_request())

    shown = run("stats", "--dsn", dsn)
    (numbers,) = run("stats", "--dsn", dsn, "--json", "--domain", "shop").json["domains"]

    assert "shop" in shown.out
    assert numbers["by_status"] == {"PENDING": 1, "IN_TROUBLESHOOTING_QUEUE": 3}
    assert numbers["ready"] == 1


def test_fsck_lists_what_it_checked(dsn, pending):
    result = run("fsck", "--dsn", dsn)

    assert "✓ attempts stay within max_attempts" in result.out
    assert run("fsck", "--dsn", dsn, "--json").json["clean"] is True


def test_fsck_ends_with_code_1_when_something_is_found(dsn, pending):
    query(dsn, "update commandbus.command set attempts = 9")

    result = run("fsck", "--dsn", dsn)

    assert result.code == 1
    assert "✗ attempts stay within max_attempts" in result.out
    assert pending in result.out
    (finding,) = run("fsck", "--dsn", dsn, "--json").json["findings"]
    assert finding["details"]["attempts"] == 9


# --- sending ----------------------------------------------------------------------------------------------------------


def a_file(path, lines, name="orders.jsonl"):
    file = path / name
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def orders(count):
    return [{"domain": "shop", "command_type": "Order", "data": {"n": n}} for n in range(count)]


def count(dsn):
    return query(dsn, "select count(*) from commandbus.command").fetchone()[0]


def test_a_file_is_sent_in_chunks(dsn, tmp_path):
    result = run("send", a_file(tmp_path, orders(25)), "--dsn", dsn, "--chunk", 10, "--json")

    assert (result.json["sent"], result.json["known"], result.json["chunks"]) == (25, 0, 3)
    assert count(dsn) == 25


def test_standard_input_is_sent(dsn):
    result = run("send", "-", "--dsn", dsn, stdin=json.dumps(orders(1)[0]))

    assert "Sent 1 command in" in result.out


def test_a_file_sent_again_is_refused_with_its_line(dsn, tmp_path):
    file = a_file(tmp_path, ["", *orders(3)])
    run("send", file, "--dsn", dsn)

    again = run("send", file, "--dsn", dsn)

    assert again.code == 5
    assert "orders.jsonl, line 2: " in again.err
    assert "--skip-known" in again.err
    assert count(dsn) == 3


def test_known_commands_are_left_out_if_asked_for(dsn, tmp_path):
    run("send", a_file(tmp_path, orders(3)), "--dsn", dsn)

    again = run("send", a_file(tmp_path, orders(5)), "--dsn", dsn, "--skip-known", "--json")

    assert (again.json["sent"], again.json["known"]) == (2, 3)


def test_a_line_whose_unique_key_is_held_is_refused_or_left_out(dsn, tmp_path):
    daily = orders(1)[0] | {"unique_key": "daily"}
    run("send", a_file(tmp_path, [daily]), "--dsn", dsn)
    (holder,) = query(dsn, "select command_id from commandbus.command").fetchone()

    refused = run("send", a_file(tmp_path, [*orders(2), daily], "b.jsonl"), "--dsn", dsn)
    skipped = run("send", a_file(tmp_path, [*orders(2), daily | {"on_conflict": "skip"}], "c.jsonl"), "--dsn", dsn)
    shown = run("commands", "show", holder, "--dsn", dsn)

    assert refused.code == 5
    assert "b.jsonl, line 3: " in refused.err
    assert str(holder) in refused.err
    assert "unique keys are held: 1" in skipped.out
    assert count(dsn) == 3
    assert "daily" in shown.out


def test_a_wrong_line_sends_nothing_of_its_chunk_and_everything_before_it(dsn, tmp_path):
    file = a_file(tmp_path, [*orders(25), "oops", *orders(3)])

    result = run("send", file, "--dsn", dsn, "--chunk", 10)

    assert result.code == 2
    assert "orders.jsonl, line 26: not valid JSON" in result.err
    assert "Sent before its chunk: 20 commands." in result.err
    assert count(dsn) == 20


def test_a_mended_file_goes_on_where_it_stopped(dsn, tmp_path):
    run("send", a_file(tmp_path, [*orders(25), "oops"]), "--dsn", dsn, "--chunk", 10)

    result = run("send", a_file(tmp_path, orders(26)), "--dsn", dsn, "--skip-known", "--json")

    assert (result.json["sent"], result.json["known"]) == (6, 20)


def test_a_refused_line_is_named_and_its_chunk_not_sent(dsn, tmp_path):
    file = a_file(tmp_path, [*orders(2), orders(1)[0] | {"reply_to": "nowhere"}])

    result = run("send", file, "--dsn", dsn, "--json")

    assert result.code == 5
    assert result.json["error"]["type"] == "QueueNotFoundError"
    assert "line 3" in result.json["error"]["message"]
    assert count(dsn) == 0


def test_looking_at_an_embedded_database_that_is_not_there_does_not_make_it(data_dir):
    env = {"MAINSTAY_DATA_DIR": str(data_dir)}
    for _ in range(2):
        looked = run("stats", "--dsn", "embedded:a shop", **env)

        assert looked.code == 4
        assert looked.err.startswith("Error: the embedded server has no database 'a shop': `mainstay schema upgrade")

    assert run("schema", "upgrade", "--dsn", "embedded:a shop", **env).code == 0
    assert run("stats", "--dsn", "embedded:a shop", **env).out == "No commands were sent yet.\n"


# --- actions ----------------------------------------------------------------------------------------------------------


def test_a_preview_changes_nothing(dsn, broken):
    (group,) = run("tsq", "groups", "--dsn", dsn, "--json").json
    seen = run("tsq", "retry", "--group", group["group_id"], "--rate", "60/min", "--preview", "--dsn", dsn)

    assert (seen.code, group["commands"]) == (0, 3)
    assert "Retry 3 commands." in seen.out
    assert "One every 1 s" in seen.out
    assert run("tsq", "actions", "--dsn", dsn).out == "Nothing was decided yet.\n"
    assert run("tsq", "retry", "--all", "--yes", "--expect", 2, "--dsn", dsn).code == 5


def test_a_proposal_is_approved_by_somebody_else_and_retries_are_taken_back(dsn, broken):
    run("tsq", "rules", "--approve-above", 2, "--reason-required", "--dsn", dsn)
    refused = run("tsq", "retry", "--all", "--yes", "--dsn", dsn, USER="ada")
    proposed = run("tsq", "retry", "--all", "--yes", "--reason", "mended", "--dsn", dsn, "--json", USER="ada").json
    key = proposed["action"]["action_id"]
    own = run("tsq", "approve", key, "--dsn", dsn, USER="ada")
    approved = run("tsq", "approve", key, "--dsn", dsn, USER="bob")
    listed = run("tsq", "actions", "--dsn", dsn)
    one = run("tsq", "undo", broken[0], "--dsn", dsn)
    undone = run("tsq", "steps", key, "--state", "undone", "--dsn", dsn).out
    rest = run("tsq", "undo", "--action", key, "--dsn", dsn, "--json")

    assert [str(each) in undone for each in broken] == [True, False, False]
    assert "ask for a reason" in refused.err
    assert (proposed["action"]["state"], proposed["applied"]) == ("PROPOSED", 0)
    assert (own.code, approved.out.splitlines()[0]) == (5, "Retried 3 commands.")
    assert "approved by bob" in listed.out
    assert "Took back 1 command" in one.out
    assert rest.json["undone"] == 2
    assert run("tsq", "undo", broken[0], "--dsn", dsn).code == 5


def test_a_retry_at_a_rate_is_stopped(dsn, broken):
    sent = run("tsq", "retry", "--all", "--yes", "--rate", "1/h", "--dsn", dsn, "--json").json
    stopped = run("tsq", "stop", sent["action"]["action_id"], "--dsn", dsn)

    assert stopped.out == "Stopped. 1 command of 3 went through; the others wait for a decision.\n"
    assert len(run("tsq", "list", "--dsn", dsn, "--json").json) == 2


def test_a_batch_is_cancelled_and_watched_to_its_end(dsn, batch):
    canceled = run("batches", "cancel", batch, "--reason", "a mistake", "--dsn", dsn, "--json").json

    async def fold():
        async with an_operator(dsn) as operator:
            await PostgresCommandStore(operator.pool).fold_batches("shop")

    asyncio.run(fold())
    watched = run("batches", "show", batch, "--watch", "--dsn", dsn)

    assert canceled["action"]["action"] == "CANCEL_BATCH"
    assert watched.out == (
        f"completed_with_failures: 0 completed, 0 failed, {canceled['applied']} canceled, 0 to decide, of 2\n"
    )
