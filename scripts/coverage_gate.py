"""Hold lines and branches to the threshold each: coverage's own gate adds the two up, and lines hide branches.

Usage: coverage_gate.py coverage.json, after `coverage json`. The threshold is `fail_under` in pyproject.toml.
"""

import json
import sys
import tomllib
from pathlib import Path


def main(report: Path) -> int:
    """Print both figures.

    Args:
        report: What `coverage json` wrote.

    Returns:
        The exit code: 0 if both figures reach the threshold, else 1.
    """
    settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    threshold = settings["tool"]["coverage"]["report"]["fail_under"]
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    enough = True
    for what, covered, number in (
        ("line", totals["covered_lines"], totals["num_statements"]),
        ("branch", totals["covered_branches"], totals["num_branches"]),
    ):
        percent = 100 * covered / number if number else 100.0
        enough = enough and percent >= threshold
        print(f"{what:<6} coverage {percent:6.2f} %  ({covered} of {number}; at least {threshold} %)")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
