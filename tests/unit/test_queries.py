"""Query files: every query has one name, one sentence, and some SQL."""

from importlib.resources import files
from pathlib import Path

import pytest

from mainstay.errors import ConfigurationError
from mainstay.storage.postgres import queries
from mainstay.storage.query_files import QueryFile, read

TWO = """-- What operators ask.

-- name: list_stuck
-- Commands whose lease ended
-- without an outcome.
select 1
  from t  -- a remark
 where a = %(a)s;

-- name: count
-- How many.
select count(*) from t
"""


def test_a_file_gives_its_queries_by_name_in_order() -> None:
    found = QueryFile("operations", TWO)

    assert list(found) == ["list_stuck", "count"]
    assert len(found) == 2
    assert found["list_stuck"] == "select 1\n  from t  -- a remark\n where a = %(a)s"
    assert found["count"] == "select count(*) from t"
    assert found.sentence("list_stuck") == "Commands whose lease ended without an outcome."


def test_an_unknown_name_is_a_key_error_that_lists_the_known_ones() -> None:
    found = QueryFile("operations", TWO)

    assert "nothing" not in found
    assert found.get("nothing") is None
    with pytest.raises(KeyError, match=r"'nothing' in queries/operations.sql; there are: count, list_stuck"):
        found["nothing"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select 1;\n-- name: a\n-- One.\nselect 1", "before the first"),
        ("-- name: a\n-- One.\nselect 1;\n-- name: a\n-- Two.\nselect 2", "two queries are named 'a'"),
        ("-- name:\n-- One.\nselect 1", "'' is no name"),
        ("-- name: two words\n-- One.\nselect 1", "'two words' is no name"),
        ("-- name: a\nselect 1", "'a' has no sentence"),
        ("-- name: a\n--\nselect 1", "'a' has no sentence"),
        ("-- name: a\n-- One.\n;", "'a' is empty"),
    ],
)
def test_a_malformed_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"queries/room\.sql: .*{complaint}"):
        QueryFile("room", text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        read(tmp_path, "nowhere")


def test_a_room_is_read_once_per_process() -> None:
    assert queries.load("schema") is queries.load("schema")


def test_every_query_file_of_the_package_can_be_read() -> None:
    folder = files("mainstay.storage.postgres") / "queries"
    rooms = [file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql")]

    assert "schema" in rooms
    assert all(len(queries.load(room)) for room in rooms)
