"""``mainstay keys``: which keys are in use, what blocks them, and letting one go on."""

from typing import Annotated

import typer

from mainstay.errors import InvalidOperationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.limits import OfDomain
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Limit, Offset, Reason

HELP = "See which keys are in use and what blocks them, and let one go on."

Key = Annotated[str, typer.Argument(metavar="KEY", help="What commands share.", show_default=False)]


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("show")(show)
    group.command("release")(release)


def list_(
    *,
    blocked: Annotated[
        bool, typer.Option("--blocked", help="Only those whose command waits for an operator or its next attempt.")
    ] = False,
    domain: Domain = None,
    limit: Limit = 50,
    offset: Offset = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List keys in use, the longest waiting first."""
    found = ask(dsn, lambda operator: operator.keys(domain=domain, blocked=blocked, limit=limit, offset=offset))
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, count, status, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("No key is blocked." if blocked else "No keys are in use.")
        return
    rows = table(
        ("domain", FOLDED),
        ("key", FOLDED),
        ("its turn", WHOLE),
        ("status", WHOLE),
        ("since", NUMBER),
        ("waiting", NUMBER),
    )
    for each in found:
        rows.add_row(
            each.domain,
            each.key,
            str(each.head or ""),
            status(each.head_status) if each.head_status else "",
            ago(each.since) if each.since else "",
            count(each.waiting, "blue"),
        )
    out.show(rows)


def show(*, domain: OfDomain, key: Key, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show a key: whose turn it is, and how many wait. Exit code 5 if it is not in use."""
    found = ask(dsn, lambda operator: operator.keys(domain=domain, key=key, limit=1))
    if not found:
        message = f"key {key!r} of domain {domain} is not in use"
        raise InvalidOperationError(message)
    from mainstay.operations.cli.output import Output, facts, moment, status

    out = Output(as_json=as_json)
    (state,) = found
    if as_json:
        out.document(state)
        return
    out.show(
        facts(
            [
                ("key", state.key),
                ("domain", state.domain),
                ("its turn", str(state.head or "")),
                ("status", status(state.head_status) if state.head_status else ""),
                ("since", moment(state.since)),
                ("due", moment(state.due_at)),
                ("last error", state.error_code),
                ("waiting", str(state.waiting)),
            ]
        )
    )
    if state.is_blocked:
        out.note("Retry, cancel or complete that command, or let the key go on without it: mainstay keys release")


def release(
    *,
    domain: OfDomain,
    key: Key,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Let a key go on without the command that blocks it, which stays where it is. Exit code 5 if nothing blocks it."""
    done = ask(dsn, lambda person: person.release_key(domain, key, operator=name_of(operator), reason=reason))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(done)
    else:
        out.show(f"[green]The key goes on.[/] {done.command_id} stays {done.status}; if it comes back, it is next.")
