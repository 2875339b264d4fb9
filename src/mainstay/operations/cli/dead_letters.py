"""``mainstay projections dead-letters``: events that projections could not handle."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mainstay.errors import ConfigurationError, ReasonRequiredError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Preview_, Who, Yes, name_of
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Dsn, Limit, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstay.operations.cli.output import Output
    from mainstay.operations.projections import LetterGroup
    from mainstay.projections.store import DeadLetter, DeadLetterStatus

HELP = "Events that a projection could not handle, with all that wait behind them in their keys."

Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="The projection.", show_default=False)]
Key: TypeAlias = Annotated[
    str | None, typer.Option("--key", "-k", metavar="KEY", help="Only of this key.", show_default=False)
]
_SHOWN = 20


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("groups")(groups)
    group.command("list")(list_)
    group.command("show")(show)
    group.command("discard")(discard)


def groups(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only of this projection.", show_default=False)
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List what lies apart by key: which event failed and why, and how many wait with it."""
    found = ask(dsn, lambda operator: operator.projections.letter_groups(name))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    elif not found:
        out.show("[green]No dead letter waits.[/]")
    else:
        _show_groups(out, found)
        out.note(
            "Handle again: mainstay projections replay MODULE:NAME. Give up: mainstay projections dead-letters discard"
        )


def _show_groups(out: "Output", found: "Sequence[LetterGroup]") -> None:
    from mainstay.operations.cli.output import FOLDED, NUMBER, ago, table

    rows = table(
        ("projection", FOLDED), ("key", FOLDED), ("letters", NUMBER), ("first at", NUMBER), ("error", FOLDED),
        ("laid down", NUMBER),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            each.subscription, each.key, f"{each.count:,}", f"{each.first.position:,}", _error(each.first),
            ago(each.first.created_at),
        )  # fmt: skip
    out.show(rows)


def list_(
    *,
    name: Name,
    key: Key = None,
    status: Annotated[
        str,
        typer.Option("--status", "-s", metavar="STATUS", help="Those that are waiting, handled or discarded; or all."),
    ] = "waiting",
    after: Annotated[int, typer.Option("--after", metavar="POSITION", min=0, help="Only behind this position.")] = 0,
    limit: Limit = 50,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List the dead letters of a projection by position."""
    asked: dict[str, Any] = {"key": key, "status": _status(status), "after": after, "limit": limit}
    found = ask(dsn, lambda operator: operator.projections.dead_letters(name, **asked))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    elif not found:
        out.show("[green]No dead letter waits.[/]" if status == "waiting" else "No dead letters found.")
    else:
        _show_letters(out, found)
        if len(found) == limit:
            out.note(f"There may be more: --after {found[-1].position}")


def _status(text: str) -> "DeadLetterStatus | None":
    from mainstay.projections.store import DeadLetterStatus

    if text.lower() == "all":
        return None
    try:
        return DeadLetterStatus(text.upper())
    except ValueError:
        raise ConfigurationError(f"no status {text!r}; there are: waiting, handled, discarded, all") from None


def _show_letters(out: "Output", found: "Sequence[DeadLetter]") -> None:
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, ago, table

    decided = any(each.status != "WAITING" for each in found)
    rows = table(
        ("position", NUMBER), ("type", FOLDED), ("key", FOLDED), ("tried", NUMBER), ("error", FOLDED),
        ("laid down", NUMBER), *([("became", WHOLE)] if decided else []),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            f"{each.position:,}", each.event_type, each.key, str(each.attempts or ""), _error(each),
            ago(each.created_at), *([each.status.lower()] if decided else []),
        )  # fmt: skip
    out.show(rows)


def _error(letter: "DeadLetter") -> Any:
    from rich.text import Text

    if letter.error is None and letter.error_type is None:
        return Text("waits behind its key", style="bright_black")
    return Text.assemble((letter.error_type or "", "red"), f" {letter.error or ''}")


def show(
    *,
    name: Name,
    position: Annotated[int, typer.Argument(metavar="POSITION", min=1, help="Of the event.", show_default=False)],
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter with its error and its event."""
    letter, recorded = ask(dsn, lambda operator: operator.projections.dead_letter(name, position))
    from rich.text import Text

    from mainstay.operations.cli.event_output import show_event
    from mainstay.operations.cli.output import Output, facts, moment
    from mainstay.operations.event_lines import document_of

    out = Output(as_json=as_json)
    if as_json:
        out.document({"letter": letter, "event": None if recorded is None else document_of(recorded)})
        return
    by = f" by {letter.actor}" if letter.actor else ""
    out.show(
        facts(
            [
                ("projection", letter.subscription),
                ("key", letter.key),
                ("status", f"{letter.status.lower()}{by}"),
                ("reason", letter.reason),
                ("error", _error(letter)),
                ("attempts", str(letter.attempts or "")),
                ("laid down", moment(letter.created_at)),
            ]
        )
    )
    out.show("")
    if recorded is None:
        out.show(Text("The log has no such event any more: the letter can only be discarded.", style="red"))
    else:
        show_event(out, recorded)


def discard(
    *,
    name: Name,
    positions: Annotated[
        list[int] | None, typer.Argument(metavar="[POSITION]...", help="Which ones.", show_default=False)
    ] = None,
    key: Key = None,
    every: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    preview: Preview_ = False,
    reason: Reason = None,
    operator: Who = None,
    yes: Yes = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Give events up that lie apart: the projection never handles them. Final.

    What waits behind them in their keys still does, and can be replayed; a key for which nothing waits any more goes on
    with its next event.
    """
    if bool(positions) + (key is not None) + every != 1:
        raise ConfigurationError("name positions, or give --key or --all")
    asks = not (yes or preview or (positions and len(positions) == 1))
    if asks and (as_json or not sys.stdin.isatty()):
        raise ConfigurationError("it asks before it discards many, and there is nobody to ask: add --yes")
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    done = asyncio.run(
        _discard(out, dsn, name, (positions, key), preview=preview, asks=asks, told=(name_of(operator), reason))
    )
    if done is None:
        return
    if as_json:
        out.document({"discarded": done})
    else:
        out.show(f"[green]Discarded {counted(done, 'dead letter')}.[/]" if done else "Nothing to do: none waits.")


async def _discard(
    out: "Output",
    dsn: str | None,
    name: str,
    which: tuple[list[int] | None, str | None],
    *,
    preview: bool,
    asks: bool,
    told: tuple[str | None, str | None],
) -> int | None:
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.cli.output import counted

    who, reason = told
    async with connected(dsn) as operator:
        if not (preview or reason) and (await operator.decisions.get_rules()).reason_required:
            raise ReasonRequiredError("the rules here ask for a reason: add --reason")
        letters = await operator.projections.chosen(name, *which)
        if preview and out.as_json:
            out.document({"would_discard": len(letters), "letters": letters})
            return None
        if letters and (preview or asks):
            _show_letters(out, letters[:_SHOWN])
            if len(letters) > _SHOWN:
                out.note(f"and {len(letters) - _SHOWN:,} more")
        if preview:
            out.show("", f"It would discard {counted(len(letters), 'dead letter')}: {name} never handles these events.")
            return None
        question = f"Discard {counted(len(letters), 'dead letter')}? {name} never handles these events."
        if letters and asks and not await asyncio.to_thread(typer.confirm, question):
            out.show("Nothing was changed.")
            raise typer.Exit(Exit.FOUND)
        return await operator.projections.discard(letters, operator=who, reason=reason)
