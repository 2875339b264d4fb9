"""The tables at the end of a run."""

from collections.abc import Iterator
from typing import Any, Final

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mainstay.operations.demo.figures import Report
from mainstay.storage.postgres.operations import Latency

_LATENCIES: Final = (
    ("idle wait", "idle: sent → received"),
    ("idle handling", "idle: received → completed"),
    ("backlog wait", "loaded: sent → received"),
    ("backlog handling", "loaded: received → ended"),
)
_RIGHT: Final[dict[str, Any]] = {"justify": "right", "no_wrap": True}


def tables(report: Report) -> Iterator[RenderableType]:
    """Everything that a run came to."""
    yield _outcomes(report)
    yield _dice(report)
    yield _throughput(report)
    yield _latencies(report)
    if report.killed:
        yield _killed(report)
    if any(each.commands for each in report.decisions):
        yield _decisions(report)
    yield _checks(report)
    yield _verdict(report)


def _table(title: str, *columns: tuple[str, dict[str, Any]]) -> Table:
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold cyan",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for name, options in columns:
        made.add_column(name, **options)
    return made


def _mark(holds: bool) -> Text:  # noqa: FBT001 - a mark is for a yes or a no
    return Text("✓", "green") if holds else Text("✗", "bold red")


def _outcomes(report: Report) -> RenderableType:
    rows = _table(
        f"What should come of {report.commands:,} commands, and what came",
        ("before any operator", {}), ("expected", _RIGHT), ("tolerance", _RIGHT), ("happened", _RIGHT), ("", {}),
    )  # fmt: skip
    for each in report.outcomes:
        rows.add_row(
            each.name, f"{each.expected:,.1f}", f"± {each.tolerance:,.1f}", f"{each.happened:,}", _mark(each.holds)
        )
    return rows


def _dice(report: Report) -> RenderableType:
    return Text(
        f"Dice decide how each attempt ends: random numbers that the seed, {report.seed}, repeats.",
        "bright_black",
    )


def _throughput(report: Report) -> RenderableType:
    handlers = f"{report.concurrency} {'handler' if report.concurrency == 1 else 'handlers'}"
    crew = f"1 worker process, {handlers}" if report.workers == 1 else (
        f"{report.workers} worker processes, {handlers} each"
    )  # fmt: skip
    rows = _table(f"How many: {crew}", ("", {}), ("per second", _RIGHT), ("measured", {}))
    rows.add_row("sent", Text(f"{report.sent_per_second:,.0f}", "bold"), "from the first send to the last")
    rows.add_row("handled", Text(f"{report.worked_per_second:,.0f}", "bold"), "while 5 % to 90 % of them had ended")
    return rows


def _latencies(report: Report) -> RenderableType:
    rows = _table(
        f"How fast: PostgreSQL {report.server}, full audit",
        ("", {}), ("half within", _RIGHT), ("95 %", _RIGHT), ("99 %", _RIGHT), ("all", _RIGHT),
    )  # fmt: skip
    for name, words in _LATENCIES:
        found = report.latencies.get(name)
        if found:
            rows.add_row(words, *_spans(found))
    return rows


def _spans(found: Latency) -> Iterator[str]:
    for seconds in (found.p50, found.p95, found.p99, found.longest):
        yield f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _killed(report: Report) -> RenderableType:
    rows = _table("What the SIGKILL cost", ("", {}), ("commands", _RIGHT))
    killed = report.killed
    if killed:
        rows.add_row(f"worker {killed.worker} had handled", f"{killed.handled:,}")
        rows.add_row("it held when it was killed", f"{killed.leases_expired:,}")
        rows.add_row("of these run again by other workers", f"{killed.started_again:,}")
        if killed.exhausted:
            rows.add_row("of these out of attempts, so in troubleshooting", f"{killed.exhausted:,}")
        unharmed = all(check.holds for check in report.checks)
        rows.add_row(
            "lost, or with a transactional effect done twice",
            Text("0", "green") if unharmed else Text("see below", "red"),
        )
    return rows


def _decisions(report: Report) -> RenderableType:
    rows = _table(
        "What the operator decided in troubleshooting",
        ("decision", {}), ("commands", _RIGHT), ("what became of them", {}), ("", {}),
    )  # fmt: skip
    for each in report.decisions:
        if each.commands:
            rows.add_row(
                each.what,
                f"{each.commands:,}",
                f"{each.as_expected:,} {each.became}",
                _mark(each.as_expected == each.commands),
            )
    return rows


def _checks(report: Report) -> RenderableType:
    rows = _table("What must hold", ("", {}), ("", {}), ("found", {}))
    for each in report.checks:
        rows.add_row(_mark(each.holds), each.name, Text(each.found, "" if each.holds else "red"))
    return rows


def _verdict(report: Report) -> RenderableType:
    if report.holds:
        return Text(f"Everything holds, after {report.seconds:.0f} s.", "bold green")
    marks = [each.holds for each in report.outcomes] + [each.holds for each in report.checks]
    broken = marks.count(False)
    return Text(f"{broken} of these do not hold.", "bold red")
