"""``mainstay tsq retry``, ``complete`` and ``cancel``: decisions on commands that wait."""

import asyncio
import getpass
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import UUID

import typer

from mainstay.commands.failures import Selection
from mainstay.commands.store import Action
from mainstay.errors import ConfigurationError, ReasonRequiredError, SelectionChangedError
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Domain, Dsn, ErrorCode, Reason, Registry, Type

if TYPE_CHECKING:
    from mainstay.commands.actions import OperatorAction, Preview
    from mainstay.operations.cli.output import Output

CommandIds: TypeAlias = Annotated[
    list[UUID] | None, typer.Argument(metavar="ID", help="Which commands.", show_default=False)
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All that wait, or all that the filters leave.")]
Group: TypeAlias = Annotated[
    str | None,
    typer.Option("--group", "-g", metavar="GROUP", help="A group that `tsq groups` shows.", show_default=False),
]
Batch: TypeAlias = Annotated[
    UUID | None, typer.Option("--batch", metavar="ID", help="Only of this batch.", show_default=False)
]
Expect: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--expect", metavar="N", min=0, help="Do nothing unless it is about so many commands.", show_default=False
    ),
]
Preview_: TypeAlias = Annotated[bool, typer.Option("--preview", help="Show what it would do, and do nothing.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Who: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--operator",
        envvar=["MAINSTAY_OPERATOR", "USER"],
        metavar="NAME",
        help="Who decides; for the audit trail.",
        show_default=False,
    ),
]
_MEANS = {
    Action.RETRY: "They start over: attempts count from 1. `mainstay tsq undo` takes back what no worker has yet.",
    Action.COMPLETE: "They end COMPLETED, and who asked for a reply gets SUCCESS. That is final.",
    Action.CANCEL: "They end CANCELED, and who asked for a reply is told so. That is final.",
}


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("retry")(retry)
    group.command("complete")(complete)
    group.command("cancel")(cancel)


def retry(
    *,
    command_ids: CommandIds = None,
    every: All = False,
    group: Group = None,
    domain: Domain = None,
    command_type: Type = None,
    error_code: ErrorCode = None,
    batch: Batch = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON", help="Replaces the payload.", show_default=False),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Edit the payload of one command in $EDITOR.")] = False,
    registry: Registry = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", metavar="N/s", help="Hand them out at this rate: 5/s, 100/min, 20/h.", show_default=False
        ),
    ] = None,
    expect: Expect = None,
    preview: Preview_ = False,
    reason: Reason = None,
    operator: Who = None,
    yes: Yes = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Start commands over: attempts count from 1 again. With --data or --edit, one with another payload.

    With --registry, a payload that the handler's model refuses is refused here, field by field.
    """
    which = Selection(domain, command_type, error_code, group, batch, tuple(command_ids) if command_ids else None)
    choice = _Choice(which, every=every, expect=expect, preview=preview, yes=yes, as_json=as_json, registry=registry)
    who = name_of(operator)
    edited, one = _json_object(data, "--data"), len(command_ids or []) == 1 and not rate
    if not edit and (edited is None or not one):
        decision = {"operator": who, "reason": reason, "data": edited, "rate": _per_second(rate)}
        _decide(dsn, Action.RETRY, choice, **decision)
        return
    from mainstay.operations.cli.editing import retry_edited

    if not one or (edited is not None and edit):
        raise ConfigurationError("--edit is for one command, named by its id, without --data and --rate")
    (key,) = command_ids or []
    retry_edited(dsn, key, domain, edited, operator=who, reason=reason, choice=choice)


def complete(
    *,
    command_ids: CommandIds = None,
    every: All = False,
    group: Group = None,
    domain: Domain = None,
    command_type: Type = None,
    error_code: ErrorCode = None,
    batch: Batch = None,
    result: Annotated[
        str | None, typer.Option("--result", metavar="JSON", help="What the commands reply.", show_default=False)
    ] = None,
    expect: Expect = None,
    preview: Preview_ = False,
    reason: Reason = None,
    operator: Who = None,
    yes: Yes = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Complete commands by hand: what they should do was done otherwise. Final."""
    which = Selection(domain, command_type, error_code, group, batch, tuple(command_ids) if command_ids else None)
    choice = _Choice(which, every=every, expect=expect, preview=preview, yes=yes, as_json=as_json)
    replied = _json_object(result, "--result")
    _decide(dsn, Action.COMPLETE, choice, operator=name_of(operator), reason=reason, result=replied)


def cancel(
    *,
    command_ids: CommandIds = None,
    every: All = False,
    group: Group = None,
    domain: Domain = None,
    command_type: Type = None,
    error_code: ErrorCode = None,
    batch: Batch = None,
    expect: Expect = None,
    preview: Preview_ = False,
    reason: Reason = None,
    operator: Who = None,
    yes: Yes = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Give commands up. Final."""
    which = Selection(domain, command_type, error_code, group, batch, tuple(command_ids) if command_ids else None)
    choice = _Choice(which, every=every, expect=expect, preview=preview, yes=yes, as_json=as_json)
    _decide(dsn, Action.CANCEL, choice, operator=name_of(operator), reason=reason)


class _Choice:
    """Which commands a decision is about, and whether to ask first."""

    def __init__(
        self,
        which: Selection,
        *,
        every: bool,
        expect: int | None,
        preview: bool,
        yes: bool,
        as_json: bool,
        registry: str | None = None,
    ) -> None:
        """Check that the options go together."""
        filters = [which.command_type, which.error_code, which.group_id, which.batch_id]
        if bool(which.command_ids) == (every or bool(which.group_id or which.batch_id)):
            raise ConfigurationError(
                "name commands by their ids, or give --group, --batch or --all (with filters, if you like)"
            )
        if which.command_ids and any(filters):
            raise ConfigurationError("--type and --error-code are filters for --all")
        self.which = which
        self.expect = expect
        self.preview = preview
        self.asks = not (which.command_ids or yes or preview)
        self.as_json = as_json
        self.registry = registry
        if self.asks and (as_json or not sys.stdin.isatty()):
            raise ConfigurationError("it asks before it acts on many, and there is nobody to ask: add --yes")


@dataclass(slots=True)
class _Told:
    """What became of a decision, for showing."""

    action: "OperatorAction"
    left: "list[Any]"


def _decide(dsn: str | None, action: Action, choice: _Choice, **decision: Any) -> None:
    """Carry a decision out, and tell what became of it."""
    from mainstay.operations.cli.output import Output

    out = Output(as_json=choice.as_json)
    told = asyncio.run(_act(out, dsn, action, choice, decision))
    if told is None:
        return
    from mainstay.operations.cli.acted import show_resolved

    show_resolved(out, told.action, told.left)


async def _act(
    out: "Output", dsn: str | None, action: Action, choice: _Choice, decision: dict[str, Any]
) -> _Told | None:
    from mainstay.operations.cli.acted import progress
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.selecting import refuse_unknown

    async with connected(dsn, registry=choice.registry) as operator:
        which, expect = choice.which, choice.expect
        unknown = await refuse_unknown(operator, which)
        if choice.preview or choice.asks:
            if (
                not (choice.preview or decision.get("reason"))
                and (await operator.decisions.get_rules()).reason_required
            ):
                raise ReasonRequiredError("the rules here ask for a reason: add --reason")
            seen = await operator.decisions.preview(which)
            if expect is not None and seen.commands != expect:
                raise SelectionChangedError(expect, seen.commands)
            _show_preview(out, action, seen, decision.get("rate"))
            if choice.preview or not seen.commands:
                return None
            expect = seen.commands
            await _ask(out, action, seen)
        with progress(out) as bar:
            told = await operator.resolve(
                action, which, expect=expect, on_begin=bar.begin, on_progress=bar.advance, **decision
            )
        return _Told(told.action, [*told.left, *unknown])


async def _ask(out: "Output", action: Action, seen: "Preview") -> None:
    from mainstay.operations.cli.output import counted

    verb = f"Propose to {action.lower()}" if seen.needs_approval else action.capitalize()
    if not await asyncio.to_thread(typer.confirm, f"{verb} {counted(seen.commands, 'command')}?"):
        out.show("Nothing was changed.")
        raise typer.Exit(Exit.FOUND)


def _show_preview(out: "Output", action: Action, seen: "Preview", rate: float | None) -> None:
    """What a decision would do."""
    from mainstay.operations.cli.failures import show_groups, show_items
    from mainstay.operations.cli.output import counted, duration

    if out.as_json:
        out.document({"action": action, "preview": seen})
        return
    if not seen.commands:
        out.show("Nothing to do: no command that fits waits for a decision.")
        return
    show_groups(out, seen.groups)
    if len(seen.sample) > 1 or len(seen.groups) > 1:
        out.show("")
        show_items(out, seen.sample)
        if seen.commands > len(seen.sample):
            out.note(f"and {seen.commands - len(seen.sample):,} more")
    out.show("", f"[bold]{action.capitalize()}[/] {counted(seen.commands, 'command')}. {_MEANS[action]}")
    if rate:
        last = duration((seen.commands - 1) / rate)
        out.show(f"One every {1 / rate:g} s, the last in {last}; `mainstay tsq stop` ends it.")
    if seen.needs_approval:
        out.show("[yellow]A second operator must approve it[/]: it is only written down now.")


def name_of(operator: str | None) -> str | None:
    """The operator's name; MAINSTAY_OPERATOR's, or else the account's, if none was given."""
    if told := operator or os.environ.get("MAINSTAY_OPERATOR"):
        return told
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return None


def _per_second(text: str | None) -> float | None:
    """A rate as it is written: 5/s, 100/min, 20/h, or a number of commands a second."""
    if text is None:
        return None
    number, _, unit = text.partition("/")
    seconds = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}.get(unit.strip().lower())
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    if seconds is None or not 0 < rate < float("inf"):
        raise ConfigurationError(f"--rate: {text!r} is no rate; write 5/s, 100/min or 20/h")
    return rate / seconds


def _json_object(text: str | None, option: str) -> dict[str, Any] | None:
    if text is None:
        return None
    from mainstay.errors import InvalidPayloadError
    from mainstay.operations.intake import exact_json
    from mainstay.serialization import checked_object

    try:
        return checked_object(exact_json(text.encode("utf-8", "surrogateescape")), what=option)
    except InvalidPayloadError as error:
        problem = str(error)
        raise ConfigurationError(problem if problem.startswith(option) else f"{option}: {problem}") from error
