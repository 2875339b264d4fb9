"""``mainstay limits``: how many commands of a type may run at once, or start in a time."""

from typing import Annotated, Any, TypeAlias

import typer

from mainstay.errors import InvalidOperationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Reason

HELP = "Limit how many commands of a type run at once, or start in a time."

OfDomain: TypeAlias = Annotated[str, typer.Argument(metavar="DOMAIN", help="Whose commands.", show_default=False)]
OfType: TypeAlias = Annotated[str, typer.Argument(metavar="TYPE", help="Which of them.", show_default=False)]


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("set")(set_)
    group.command("remove")(remove)


def list_(*, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List limits, what runs under each and what waits for it."""
    found = ask(dsn, lambda operator: operator.limits.list(domain))
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, count, table
    from mainstay.operations.wording import limit_in_words

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("Nothing is limited.")
        return
    rows = table(("domain", WHOLE), ("type", FOLDED), ("limit", FOLDED), ("running", NUMBER), ("parked", NUMBER))
    for each in found:
        limit = each.limit
        rows.add_row(
            limit.domain, limit.command_type, limit_in_words(limit), count(each.running), count(each.parked, "blue")
        )
    out.show(rows)


def set_(
    *,
    domain: OfDomain,
    command_type: OfType,
    max_running: Annotated[
        int | None, typer.Option("--max-running", metavar="N", help="So many may run at once.", show_default=False)
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(
            "--per",
            metavar="FIELD",
            help="Field of the payload, a.b for one inside another, or header:NAME; with --max-running-per.",
            show_default=False,
        ),
    ] = None,
    max_running_per: Annotated[
        int | None,
        typer.Option(
            "--max-running-per", metavar="N", help="So many with the same value may run at once.", show_default=False
        ),
    ] = None,
    rate: Annotated[
        int | None, typer.Option("--rate", metavar="N", help="So many may start in a time.", show_default=False)
    ] = None,
    per_seconds: Annotated[float, typer.Option("--per-seconds", metavar="S", help="That time, at least 1.")] = 1.0,
    burst: Annotated[
        int | None,
        typer.Option("--burst", metavar="N", help="So many may start together; all if not given.", show_default=False),
    ] = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Limit a command type, in place of the limits that it had. Holds for what is queued already."""
    wanted: dict[str, Any] = {"max_running": max_running, "per": per, "max_running_per": max_running_per}
    wanted |= {"rate": rate, "per_seconds": per_seconds, "burst": burst}
    limit = ask(dsn, lambda person: person.limits.set(domain, command_type, **wanted), who=operator, reason=reason)
    from mainstay.operations.cli.output import Output
    from mainstay.operations.wording import limit_in_words

    out = Output(as_json=as_json)
    if as_json:
        out.document(limit)
    else:
        out.show(f"[green]Limited {domain} {command_type}:[/] {limit_in_words(limit)}.")


def remove(
    *,
    domain: OfDomain,
    command_type: OfType,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Take the limits of a command type away; what waited for them goes on."""
    if not ask(dsn, lambda person: person.limits.remove(domain, command_type), who=operator, reason=reason):
        raise InvalidOperationError(f"{domain} {command_type} has no limit")
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"removed": True})
    else:
        out.show(f"[green]Removed the limits of {domain} {command_type}.[/]")
