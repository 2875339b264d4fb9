"""``mainstay breakers``: what is held when commands of a type fail alike."""

from typing import Annotated, Any, TypeAlias

import typer

from mainstay.errors import InvalidOperationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.limits import OfDomain, OfType
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Limit, Reason

HELP = "Hold what fails alike until one command gets through, and let the rest drip back."

Fingerprint: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FINGERPRINT", help="As `breakers list` and `tsq groups --json` show it.", show_default=False
    ),
]


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("rules")(rules)
    group.command("set")(set_)
    group.command("remove")(remove)
    group.command("open")(open_)
    group.command("close")(close)
    group.command("history")(history)


def list_(*, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List breakers that are open or closing, and what they hold."""
    found = ask(dsn, lambda operator: operator.breakers.list(domain))
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, count, moment, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("No breaker is open.")
        return
    rows = table(
        ("domain", WHOLE), ("type", FOLDED), ("fingerprint", WHOLE), ("state", WHOLE), ("since", NUMBER),
        ("parked", NUMBER), ("failed\nprobes", NUMBER), ("next", FOLDED), ("message", FOLDED),
    )  # fmt: skip
    for each in found:
        upcoming = "probe runs" if each.probe_id else moment(each.next_at)
        rows.add_row(
            each.domain, each.command_type, each.fingerprint, each.state, ago(each.since), count(each.parked, "blue"),
            count(each.failed_probes, "red"), upcoming, each.example_message or "",
        )  # fmt: skip
    out.show(rows)


def rules(*, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List which command types have breakers."""
    found = ask(dsn, lambda operator: operator.breakers.rules(domain))
    from mainstay.operations.cli.output import FOLDED, WHOLE, Output, table
    from mainstay.operations.wording import rule_in_words

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("No command type has breakers.")
        return
    rows = table(("domain", WHOLE), ("type", FOLDED), ("breakers", FOLDED))
    for each in found:
        rows.add_row(each.domain, each.command_type, rule_in_words(each))
    out.show(rows)


def set_(
    *,
    domain: OfDomain,
    command_type: OfType,
    failures: Annotated[int, typer.Option("--failures", metavar="N", help="So many that are alike open one.")] = 5,
    within: Annotated[float, typer.Option("--within", metavar="S", help="In so many seconds.")] = 60.0,
    probe_after: Annotated[
        float, typer.Option("--probe-after", metavar="S", help="Seconds until one command is let go as a probe.")
    ] = 30.0,
    drip: Annotated[
        float, typer.Option("--drip", metavar="N", help="Commands a second, after a probe ended well.")
    ] = 10.0,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Give a command type breakers, in place of the rule that it had."""
    wanted: dict[str, Any] = {"failures": failures, "within": within, "probe_after": probe_after, "drip": drip}
    wanted["operator"] = name_of(operator)
    rule = ask(dsn, lambda person: person.breakers.set(domain, command_type, **wanted), reason=reason)
    from mainstay.operations.cli.output import Output
    from mainstay.operations.wording import rule_in_words

    out = Output(as_json=as_json)
    if as_json:
        out.document(rule)
    else:
        out.show(f"[green]Set for {domain} {command_type}:[/] {rule_in_words(rule)}.")


def remove(
    *,
    domain: OfDomain,
    command_type: OfType,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Take the breakers of a command type away; what they hold goes on. Exit code 5 if it has none."""
    who = name_of(operator)
    if not ask(dsn, lambda person: person.breakers.remove(domain, command_type, operator=who), reason=reason):
        raise InvalidOperationError(f"{domain} {command_type} has no breakers")
    _done(f"Removed the breakers of {domain} {command_type}.", "removed", as_json=as_json)


def open_(
    *,
    domain: OfDomain,
    command_type: OfType,
    fingerprint: Fingerprint,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Open a breaker before it opens by itself. Exit code 5 if it is open, or the type has no breakers."""
    which = (domain, command_type, fingerprint)
    if not ask(dsn, lambda person: person.breakers.force_open(*which, operator=name_of(operator), reason=reason)):
        raise InvalidOperationError(f"the breaker {fingerprint} of {domain} {command_type} is open already")
    _done(f"Opened the breaker {fingerprint} of {domain} {command_type}.", "opened", as_json=as_json)


def close(
    *,
    domain: OfDomain,
    command_type: OfType,
    fingerprint: Fingerprint,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Let go what a breaker holds; failures count as attempts again. Exit code 5 if there is nothing to close."""
    which = (domain, command_type, fingerprint)
    if not ask(dsn, lambda person: person.breakers.force_close(*which, operator=name_of(operator), reason=reason)):
        raise InvalidOperationError(f"{domain} {command_type} has no breaker {fingerprint} to close")
    _done(f"Closed the breaker {fingerprint} of {domain} {command_type}.", "closed", as_json=as_json)


def history(*, domain: Domain = None, limit: Limit = 50, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """List what happened to breakers and their rules, newest first."""
    found = ask(dsn, lambda operator: operator.breakers.history(domain, limit))
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, Output, ago, one_line, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("Nothing happened yet.")
        return
    rows = table(
        ("when", NUMBER), ("domain", WHOLE), ("type", FOLDED), ("fingerprint", WHOLE), ("what", WHOLE),
        ("by", FOLDED), ("why", FOLDED), ("details", FOLDED),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            ago(each.at), each.domain, each.command_type, each.fingerprint or "", each.event_type,
            each.operator or "", each.reason or "", one_line(each.details),
        )  # fmt: skip
    out.show(rows)


def _done(words: str, what: str, *, as_json: bool) -> None:
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({what: True})
    else:
        out.show(f"[green]{words}[/]")
