"""``mainstay workers``: who is alive, and handles what."""

import typer

from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.options import AsJson, Dsn


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("workers")(workers)


def workers(*, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show the workers that are alive, and the commands in their hands.

    A worker that was killed is shown until its leases end, 30 seconds at most if it was waiting.
    """
    found = ask(dsn, lambda operator: operator.activity.workers())
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("No worker is alive: mainstay worker MODULE:NAME starts one.")
        return
    rows = table(
        ("worker", FOLDED),
        ("domain", FOLDED),
        ("does", WHOLE),
        ("command", WHOLE),
        ("since", NUMBER),
        ("lease ends", NUMBER),
    )
    for each in found:
        if not each.handles:
            rows.add_row(each.name, each.domain, "waits for commands", "", "", "")
        for handled in each.handles:
            rows.add_row(
                each.name,
                each.domain,
                handled.command_type,
                str(handled.command_id),
                ago(handled.since),
                ago(handled.leased_until),
            )
    out.show(rows)
