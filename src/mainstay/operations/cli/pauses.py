"""``mainstay pause``, ``resume`` and ``paused``: let commands of a domain or a type start, or not."""

import typer

from mainstay.errors import InvalidOperationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.limits import OfDomain
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Reason, Type


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("paused")(paused)


def pause(
    *,
    domain: OfDomain,
    command_type: Type = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Let no command of a domain, or of one type, start any more. What runs goes on. Exit code 5 if it is paused."""
    if not ask(dsn, lambda person: person.pause(domain, command_type, operator=name_of(operator), reason=reason)):
        raise InvalidOperationError(f"{_named(domain, command_type)} is paused already; see `mainstay paused`")
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"paused": True})
    else:
        out.show(f"[green]Paused {_named(domain, command_type)}.[/] Nothing more starts; what runs goes on.")


def resume(
    *,
    domain: OfDomain,
    command_type: Type = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Let commands start again, in the order in which they stood in the queue. Exit code 5 if nothing was paused."""
    if not ask(dsn, lambda person: person.resume(domain, command_type), who=operator, reason=reason):
        raise InvalidOperationError(f"{_named(domain, command_type)} is not paused; see `mainstay paused`")
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"resumed": True})
    else:
        out.show(f"[green]Resumed {_named(domain, command_type)}.[/]")


def paused(*, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List what is paused, by whom and why."""
    found = ask(dsn, lambda operator: operator.paused(domain))
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, count, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("Nothing is paused.")
        return
    rows = table(
        ("domain", WHOLE), ("type", FOLDED), ("since", NUMBER), ("by", FOLDED), ("why", FOLDED), ("parked", NUMBER)
    )
    for each in found:
        which = each.command_type or "(all)"
        rows.add_row(
            each.domain, which, ago(each.since), each.operator or "", each.reason or "", count(each.parked, "blue")
        )
    out.show(rows)


def _named(domain: str, command_type: str | None) -> str:
    return f"domain {domain}" if command_type is None else f"{domain} {command_type}"
