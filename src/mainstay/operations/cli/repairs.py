"""Telling what `mainstay fsck --repair` did."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mainstay.operations.cli.exits import Exit

if TYPE_CHECKING:
    from mainstay.storage.postgres.repair import Repair


def show_repairs(repairs: "Sequence[Repair]", *, dry_run: bool, as_json: bool) -> None:
    """Print each, and exit with code 1 if something is left."""
    from mainstay.operations.cli.output import FOLDED, WHOLE, Output, counted, table

    out = Output(as_json=as_json)
    mended = [each for each in repairs if each.did]
    if as_json:
        out.document(
            {"dry_run": dry_run, "mended": len(mended), "left": len(repairs) - len(mended), "findings": repairs}
        )
    elif not repairs:
        out.show("[green]Clean[/]: nothing to mend.")
    else:
        done = "would be done" if dry_run else "done"
        rows = table(("what must be true", FOLDED), ("domain", FOLDED), ("command", WHOLE), (done, FOLDED))
        for each in repairs:
            finding = each.finding
            what = each.did or f"left: {each.left}"
            rows.add_row(finding.invariant, finding.domain or "", str(finding.command_id or ""), what)
        out.show(rows)
        verb = "would be mended" if dry_run else "mended"
        out.show(f"{counted(len(mended), 'finding')} {verb}, {len(repairs) - len(mended):,} left.")
    if len(mended) < len(repairs):
        raise typer.Exit(Exit.FOUND)
