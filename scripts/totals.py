"""Add up what runs of pytest printed: a line for each run, and a last one for all, which reads as pytest's own.

Usage: totals.py NAME=LOG [NAME=LOG ...]. A test that failed beside the others and passed at a second look has passed.
"""

import re
import sys
from collections import Counter
from pathlib import Path

CLOSING = re.compile(r"^=+ (?P<counts>.*\b(?:passed|failed|errors?|skipped|no tests ran)\b.*) in (?P<seconds>[0-9.]+)s")
SHOWN = ("passed", "failed", "errors", "skipped", "xfailed")


def counts(log: str) -> Counter[str]:
    """What a run counted, and the seconds it took.

    Args:
        log: What it printed, the second look at its failures included.

    Returns:
        Tests by outcome, `seconds`, and as `unsteady` those that passed at the second look only. A run that did not
        come to its end counts as one failure.
    """
    closing = next(filter(None, map(CLOSING.match, log.splitlines())), None)
    if closing is None:
        return Counter({"passed": 0, "failed": 1, "unfinished": 1})
    found = Counter({"passed": 0, "failed": 0})
    for number, outcome in re.findall(r"(\d+) (\w+)", closing["counts"]):
        found[{"error": "errors"}.get(outcome, outcome)] += int(number)
    if re.search(r"^===== UNSTEADY", log, re.MULTILINE):
        found["unsteady"] = found["failed"] + found["errors"]
        found["passed"] += found["unsteady"]
        found["failed"] = found["errors"] = 0
    found["seconds"] = round(float(closing["seconds"]))
    return found


def line(found: Counter[str]) -> str:
    """Counts in words, as pytest says them."""
    told = ", ".join(
        f"{found[outcome]} {outcome}" for outcome in SHOWN if outcome in {"passed", "failed"} or found[outcome]
    )
    if found["unsteady"]:
        told += f", {found['unsteady']} of the passed only at a second look"
    if found["unfinished"]:
        told += " (pytest did not finish)"
    return f"{told} in {found['seconds']}s"


def main() -> int:
    """Print the lines.

    Returns:
        The exit code, 0: whether tests failed is said by the runs themselves.
    """
    total: Counter[str] = Counter()
    for argument in sys.argv[1:]:
        name, _, log = argument.partition("=")
        path = Path(log)
        found = counts(path.read_text(encoding="utf-8", errors="replace") if path.exists() else "")
        print(f"{name}: {line(found)}")
        total.update(found)
    print(f"===== {line(total)} =====")
    return 0


if __name__ == "__main__":
    sys.exit(main())
