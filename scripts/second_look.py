"""Run the tests that just failed three times more, one at a time, on the now quiet machine.

Thousands of tests start servers and processes and share two cores with them; now and then the machine stalls for longer
than a test waits. Such a failure says nothing about the code, and must not be mistaken for one that does: a test that
fails in any of the three repetitions has failed. One that passes all three is listed as unsteady, which is a fault of
the test and wants mending. More than three failures at once are no accident and get no second look, and neither does a
run that did not come to its end: its exit code, the argument, tells.
"""

import json
import subprocess
import sys
from pathlib import Path

ACCIDENTS = 3
REPETITIONS = 3
TESTS_FAILED = "1"
"""Pytest's exit code when it has run all tests and some failed."""
FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    """Look again at what failed.

    Returns:
        The exit code: 0 if every test passed every time.
    """
    if sys.argv[1:] != [TESTS_FAILED]:
        print(f"no second look: the tests were not run to their end (exit code {' '.join(sys.argv[1:])})")
        return 1
    tests = sorted(json.loads(FAILED.read_text(encoding="utf-8"))) if FAILED.exists() else []
    if not 0 < len(tests) <= ACCIDENTS:
        print(f"no second look: {len(tests)} tests failed, and only 1 to {ACCIDENTS} may be an accident")
        return 1
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider", *tests]
    for repetition in range(1, REPETITIONS + 1):
        print(f"\n===== second look, {repetition} of {REPETITIONS}", flush=True)
        if subprocess.run(command, check=False).returncode:
            return 1
    print("\n===== UNSTEADY: failed beside the others, passed three times alone. These tests want mending:")
    print(*tests, "", sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
