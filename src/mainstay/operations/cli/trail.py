"""``mainstay trail``: who changed what, when and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.options import AsJson, Dsn, Limit, Since, Until
from mainstay.operations.cli.times import period

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstay.operations.cli.output import Output
    from mainstay.storage.postgres.trail import Deed


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("trail")(trail)


def trail(
    *,
    operator: Annotated[
        str | None, typer.Option("--operator", metavar="NAME", help="Only what this one did.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            "-k",
            metavar="KIND",
            help="Only to a schedule, pause, limit, breaker, rules, action, command, batch, key or projection.",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject", "-s", metavar="NAME", help="Only to what is called so, or begins so.", show_default=False
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    after: Annotated[
        int | None, typer.Option("--after", metavar="ID", min=0, help="Only before this one.", show_default=False)
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List what operators changed, newest first: who, what, when and why.

    What became of a command stands in its own audit trail (`mainstay commands audit`), too.
    """
    conditions: dict[str, Any] = {
        "operator": operator,
        "kind": _kind(kind),
        "subject": subject,
        **period(since, until),
        "after": after,
    }
    found = ask(dsn, lambda person: person.trail.list(limit=min(limit + 1, 10_000), **conditions))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    page = found[:limit]
    if as_json:
        out.document(page)
    elif not page:
        asked = any(each is not None for each in conditions.values())
        out.show("Nothing of the kind was done." if asked else "No operator has changed anything yet.")
    else:
        _show(out, page)
        if len(found) > limit:
            out.note(f"There are more: --after {page[-1].deed_id} shows what came before.")


def _kind(text: str | None) -> Any:
    from mainstay.storage.postgres.trail import DeedKind

    if text is None:
        return None
    try:
        return DeedKind(text.strip().upper())
    except ValueError:
        raise ConfigurationError(
            f"no kind {text!r}; there are: {', '.join(each.lower() for each in DeedKind)}"
        ) from None


def _show(out: "Output", found: "Sequence[Deed]") -> None:
    from rich.text import Text

    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, table
    from mainstay.operations.wording import deed_in_words

    rows = table(
        ("id", NUMBER), ("when", WHOLE), ("who", FOLDED), ("did", FOLDED), ("to", FOLDED), ("what changed", FOLDED),
        ("why", FOLDED),
    )  # fmt: skip
    for each in found:
        who = Text(each.operator) if each.operator else Text(f"role {each.role}", "bright_black")
        rows.add_row(
            f"{each.deed_id}",
            f"{each.at.astimezone():%Y-%m-%d %H:%M:%S}",
            who,
            each.what.replace("_", " ").lower(),
            f"{each.kind.lower()} {each.subject}",
            deed_in_words(each.details),
            each.reason or "",
        )
    out.show(rows)
