"""The rules of the schema folder, which hold before any server is asked."""

from pathlib import Path

import pytest

from mainstay.errors import ConfigurationError
from mainstay.storage.postgres import schema_files
from mainstay.storage.postgres.schema_files import SchemaFiles, release_key

FUNCTION = "create or replace function commandbus.{name}(a int) returns int language sql as $body$ select {a} $body$;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "functions" / "commands").mkdir(parents=True)
    (tmp_path / "ledger.sql").write_text("create schema mainstay;\n")
    (tmp_path / "pgmq.sql").write_text("-- '<version>'\n<install_sql>\n")
    migration(tmp_path, "0001_commands", "-- breaking: no\ncreate schema commandbus;\n")
    return tmp_path


def migration(folder: Path, name: str, text: str) -> None:
    (folder / "migrations" / f"{name}.sql").write_bytes(text.encode())


def function(folder: Path, path: str, text: str) -> None:
    (folder / "functions" / path).parent.mkdir(exist_ok=True)
    (folder / "functions" / path).write_text(text)


def names(found: SchemaFiles) -> list[str]:
    return [f"{schema}.{name}" for schema, name in found.expected_functions()]


def test_the_packaged_folder_keeps_its_own_rules() -> None:
    found = schema_files.load()

    assert found.version >= 1
    assert "commandbus" in found.schemas
    assert all(each.function.body for each in found.functions)


def test_a_folder_is_read_in_order(folder) -> None:
    migration(folder, "0002_batches", "-- breaking: yes\nselect 1;\n")
    function(folder, "commands/send.sql", FUNCTION.format(name="send", a="1"))
    function(folder, "batches/open.sql", FUNCTION.format(name="open", a="2"))
    found = schema_files.load(folder)

    assert [(str(each), each.breaking) for each in found.migrations] == [
        ("0001_commands", False),
        ("0002_batches", True),
    ]
    assert [each.path for each in found.functions] == ["batches/open.sql", "commands/send.sql"]
    assert found.functions[0].function.body == " select 2 "
    assert found.version == 2
    assert found.schemas == ("commandbus",)
    assert "CREATE TABLE IF NOT EXISTS pgmq.meta" in found.pgmq
    assert "<" not in found.pgmq.splitlines()[0]


def test_line_ends_do_not_count_as_an_edit(folder) -> None:
    before = schema_files.load(folder).migrations[0].hash
    migration(folder, "0001_commands", "-- breaking: no\r\ncreate schema commandbus;\r\n")

    assert schema_files.load(folder).migrations[0].hash == before


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("2_short", "-- breaking: no\n", "the name must look like 0001_what_it_does.sql"),
        ("0002_Upper", "-- breaking: no\n", "the name must look like"),
        ("0003_gap", "-- breaking: no\n", "number 0002 expected here"),
        ("0001_twice", "-- breaking: no\n", "number 0002 expected here"),
        ("0002_silent", "select 1;\n", "one line '-- breaking: yes' or '-- breaking: no'"),
        ("0002_unsure", "-- breaking: maybe\n", "one line '-- breaking"),
        ("0002_torn", "-- breaking: yes\n-- breaking: no\n", "one line '-- breaking"),
        (
            "0002_drop",
            "-- breaking: no\ndrop function commandbus.send;\n",
            "commandbus.send comes from a function file",
        ),
    ],
)
def test_a_migration_that_breaks_a_rule_is_refused(folder, name, text, complaint) -> None:
    migration(folder, name, text)

    with pytest.raises(ConfigurationError, match=rf"schema/migrations/{name}\.sql: .*{complaint}"):
        schema_files.load(folder)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("commands/send.sql", FUNCTION.format(name="receive", a=1), "it defines receive"),
        ("commands/send.sql", FUNCTION.format(name="send", a=1) * 2, "it defines send, send"),
        ("commands/send.sql", "select 1;\n", "it defines none"),
        (
            "other/taken.sql",
            FUNCTION.format(name="taken", a=1),
            "commandbus.taken is defined in commands/taken.sql too",
        ),
    ],
)
def test_a_function_file_that_breaks_a_rule_is_refused(folder, path, text, complaint) -> None:
    function(folder, "commands/taken.sql", FUNCTION.format(name="taken", a=1))
    function(folder, path, text)

    with pytest.raises(ConfigurationError, match=rf"schema/functions/{path}: .*{complaint}"):
        schema_files.load(folder)


def test_a_table_may_have_functions_of_its_own_until_a_migration_drops_them(folder) -> None:
    clock, key = (FUNCTION.format(name=name, a=1) for name in ("clock", "key"))
    migration(folder, "0002_clock", f"-- breaking: no\n{clock}{key}")

    assert names(schema_files.load(folder)) == ["commandbus.clock", "commandbus.key"]

    migration(folder, "0003_no_clock", "-- breaking: no\ndrop function commandbus.clock;\n")

    assert names(schema_files.load(folder)) == ["commandbus.key"]


def test_a_function_without_dollar_quotes_has_no_body_to_compare(folder) -> None:
    atomic = "create or replace function commandbus.one() returns int begin atomic select 1; end;\n"
    migration(folder, "0002_one", f"-- breaking: no\n{atomic}{FUNCTION.format(name='two', a=2)}")
    found = schema_files.load(folder).expected_functions()

    assert found["commandbus", "one"].body is None
    assert found["commandbus", "two"].body == " select 2 "


def test_releases_have_an_order() -> None:
    ordered = ["", "0", "0.9", "0.10.0.dev1", "0.10a1", "0.10b1", "0.10rc1", "0.10rc2", "0.10.1", "0.10.1.post1", "1"]

    assert sorted(set(ordered), key=release_key) == ordered
    assert release_key("0.10") == release_key("0.10.0")
    assert release_key("0.10.1") == release_key("0.10.1+local")
