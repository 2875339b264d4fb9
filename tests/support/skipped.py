"""What was skipped, a line for each reason: two hundred tests that want the same program say so once."""

from collections import Counter
from typing import Any

import pytest


def reasons(reports: list[Any]) -> list[str]:
    """The reasons, the most frequent first, each with how many tests it kept from running."""
    counted = Counter(_reason(report) for report in reports)
    return [f"{many:5,}  {reason}" for reason, many in counted.most_common()]


def _reason(report: Any) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return str(text).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped."""
    if found := reasons(terminalreporter.getreports("skipped")):
        terminalreporter.section("skipped, and why")
        for line in found:
            terminalreporter.line(line)
