"""What dry runs and shadow runs tell, as tables and documents."""

import difflib
import json
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from mainstay.commands.dry_run import DryRun, TriedTable
from mainstay.commands.shadow import Shadowed, ShadowReport
from mainstay.operations.cli.decided import stream_text
from mainstay.operations.cli.output import FOLDED, NUMBER, Output, count, counted, facts, one_line, pretty_json, table

_MOST_LINES = 60

_WORDS = {
    "COMPLETE": ("would complete", "green"),
    "FAIL": ("would be refused", "yellow"),
    "RETRY": ("would fail, and be tried again", "red"),
    "TROUBLESHOOT": ("would need an operator", "red"),
}


def show_dry_run(out: Output, found: DryRun) -> None:
    """For people."""
    word, style = _WORDS[found.verb]
    error = " ".join(part for part in (found.error_code, found.error_message) if part)
    pairs: list[tuple[str, RenderableType | None]] = [
        ("command", f"{found.domain}.{found.command_type} {found.command_id}"),
        ("outcome", Text(word, style=style)),
        ("error", error),
        ("stream", None if found.stream is None else stream_text(found.stream)),
        ("read", None if found.version_read is None else f"version {found.version_read}"),
        ("reply", pretty_json(found.reply) if found.verb == "COMPLETE" else None),
    ]
    out.show(facts(pairs))
    if found.events:
        rows = table(("version", NUMBER), "would append", ("payload", FOLDED))
        for version, event in enumerate(found.events, (found.version_read or 0) + 1):
            rows.add_row(str(version), event.event_type, one_line(event.payload))
        out.show(rows)
    if found.sends:
        rows = table("would send", ("payload", FOLDED), "")
        for each in found.sends:
            rows.add_row(
                f"{each.domain}.{each.command_type}", one_line(each.data), "known already" if each.is_known else ""
            )
        out.show(rows)
    for change in found.changes:
        _show_change(out, change)
    out.note("Nothing was changed.")


def _show_change(out: Output, change: TriedTable) -> None:
    counts = {"inserted": change.inserted, "updated": change.updated, "deleted": change.deleted}
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    out.show(Text.assemble((change.table, "bold"), f": {told}"))
    if change.rows:
        rows = table(("is", FOLDED), ("would be", FOLDED))
        for row in change.rows:
            rows.add_row("" if row.before is None else one_line(row.before), one_line(row.after))
        out.show(rows)


def shadow_document(report: ShadowReport) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "checked": report.checked,
        "equal": report.equal,
        "different": report.different,
        "not_comparable": report.not_comparable,
        "last": report.last,
        "differences": [
            {
                "domain": each.decision.domain,
                "command_id": each.decision.command_id,
                "command_type": each.decision.command_type,
                "number": each.decision.number,
                "handler": each.decision.handler,
                "handler_version": each.decision.handler_version,
                "stream": each.decision.stream._asdict(),
                "version_read": each.decision.version_read,
                "differences": list(each.differences),
            }
            for each in report.differences
        ],
    }


def show_shadow(out: Output, report: ShadowReport, seconds: float) -> None:
    """For people."""
    for each in report.differences:
        _show_difference(out, each)
    if report.different > len(report.differences):
        out.note(f"There are {report.different - len(report.differences):,} more: --show {report.different} shows all.")
    rows = table("decided again", ("commands", NUMBER))
    rows.add_row("equal", count(report.equal, "green"))
    rows.add_row("different", count(report.different, "red"))
    for reason, number in sorted(report.not_comparable.items()):
        rows.add_row(f"not comparable: {reason}", count(number, "yellow"))
    out.show(rows)
    if not report.equal + report.different:
        out.note("No decision was compared: none is recorded, or the options leave none that could be.")
    out.note(f"{counted(report.checked, 'command')} in {seconds:.1f} s. Nothing was written.")


def _show_difference(out: Output, found: Shadowed) -> None:
    decision = found.decision
    out.show(
        Text.assemble((f"{decision.domain}.{decision.command_type} {decision.command_id}", "bold")),
        Text(
            f"on {stream_text(decision.stream)} at version {decision.version_read}, "
            f"then decided by {decision.handler}, version {decision.handler_version}",
            style="bright_black",
        ),
    )
    for each in found.differences:
        out.show(Text(f"  {each.what}"))
        for line in _diff(each.before, each.after):
            out.show(Text(f"    {line}", style={"-": "red", "+": "green"}.get(line[0], "")))
    out.show("")


def _diff(before: Any, after: Any) -> list[str]:
    """What was recorded, with a minus, and what came out now, with a plus, with some lines around."""
    found = list(difflib.unified_diff(_lines(before), _lines(after), lineterm=""))[2:]
    found = [line for line in found if not line.startswith("@@")]
    return found if len(found) <= _MOST_LINES else [*found[:_MOST_LINES], f" … {len(found) - _MOST_LINES} more lines"]


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False).splitlines()
