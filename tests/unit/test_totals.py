"""What CI prints at its end: the tests of both runs, added up."""

import runpy
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/totals.py"
counts = runpy.run_path(str(SCRIPT))["counts"]

GREEN = "....\n===== 8 passed, 2 skipped, 5 deselected in 12.34s =====\n"
SHAKY = (
    "..F.\n===== 1 failed, 6 passed, 1 error in 100.20s (0:01:40) =====\n"
    "===== 2 passed in 1.00s =====\n===== UNSTEADY: failed beside the others\n"
)
RED = "===== 3 failed, 6 passed in 7.00s =====\nno second look: 5 tests failed\n"


def added(tmp_path, first, second):
    """What the script prints of two logs, the second of which may be missing."""
    for name, text in (("first", first), ("second", second)):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
    arguments = [f"{name}={tmp_path / name}" for name in ("first", "second")]
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_sum_of_both_runs_is_the_last_line(tmp_path):
    assert added(tmp_path, GREEN, RED) == [
        "first: 8 passed, 0 failed, 2 skipped in 12s",
        "second: 6 passed, 3 failed in 7s",
        "===== 14 passed, 3 failed, 2 skipped in 19s =====",
    ]


def test_what_passed_at_a_second_look_has_passed_and_is_told():
    found = counts(SHAKY)

    assert (found["passed"], found["failed"], found["errors"], found["unsteady"]) == (8, 0, 0, 2)


def test_a_run_that_did_not_finish_is_a_failure(tmp_path):
    assert counts("....")["failed"] == 1
    assert (
        added(tmp_path, GREEN, None)[-1] == "===== 8 passed, 1 failed, 2 skipped (pytest did not finish) in 12s ====="
    )
