"""Showing what waits for a decision."""

from collections.abc import Sequence

from rich.text import Text

from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import FailureGroup
from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, count, table


def show_items(out: Output, items: Sequence[TroubleshootingItem]) -> None:
    """Print commands that wait."""
    rows = table(
        ("id", WHOLE), ("domain", FOLDED), ("type", FOLDED), ("error", FOLDED), ("tries", NUMBER), ("waits", NUMBER)
    )
    for each in items:
        error = Text.assemble((each.last_error_code or "", "red"), " ", each.last_error_msg or "")
        rows.add_row(
            str(each.command_id), each.domain, each.command_type, error, str(each.attempts), ago(each.updated_at)
        )
    out.show(rows)


def show_groups(out: Output, groups: Sequence[FailureGroup]) -> None:
    """Print groups of failures."""
    rows = table(
        ("group", WHOLE), ("commands", NUMBER), ("domain", FOLDED), ("type", FOLDED),
        ("error and latest message", FOLDED), ("first", NUMBER), ("last", NUMBER),
    )  # fmt: skip
    for each in groups:
        error = Text.assemble((each.error_code or "", "red"), " ", each.example_message or "")
        rows.add_row(
            each.group_id,
            count(each.commands),
            each.domain,
            each.command_type,
            error,
            ago(each.first_seen),
            ago(each.last_seen),
        )
    out.show(rows)
