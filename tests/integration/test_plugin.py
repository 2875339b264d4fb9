"""The fixtures for users, as a user would run them."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import psycopg
import pytest

@pytest.mark.parametrize("attempt", [1, 2])
def test_a_database_is_fresh_and_has_the_schema(mainstay_dsn, attempt):
    with psycopg.connect(mainstay_dsn) as conn:
        schemas = {name for (name,) in conn.execute("select nspname from pg_namespace")}
        conn.execute("create table mine ()")

    assert {"mainstay", "pgmq"} <= schemas
"""


def test_every_test_of_a_user_gets_a_fresh_database_with_the_schema(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mainstay.testing.plugin"]\n')
    (tmp_path / "test_theirs.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert "2 passed" in done.stdout, done.stdout + done.stderr
