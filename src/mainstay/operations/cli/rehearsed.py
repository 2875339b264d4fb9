"""What dry runs tell, as tables."""

from rich.console import RenderableType
from rich.text import Text

from mainstay.commands.dry_run import DryRun, TriedTable
from mainstay.operations.cli.decided import stream_text
from mainstay.operations.cli.output import FOLDED, NUMBER, Output, facts, one_line, pretty_json, table

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
    rows = table((f"{change.table}: {told}", FOLDED), ("would be", FOLDED))
    for row in change.rows:
        rows.add_row("" if row.before is None else one_line(row.before), one_line(row.after))
    out.show(rows)
