"""``mainstay tsq actions`` and what can be done with them: go on, approve, stop, undo. And the operators' rules."""

import asyncio
from typing import TYPE_CHECKING, Annotated, TypeAlias
from uuid import UUID

import typer

from mainstay.commands.actions import ActionState, StepState
from mainstay.errors import ConfigurationError, InvalidOperationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Limit, Offset, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstay.commands.actions import ActionStep, OperatorAction, OperatorRules, Undone
    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator, Resolved

ActionId: TypeAlias = Annotated[UUID, typer.Argument(metavar="ACTION_ID", help="Id of the action.", show_default=False)]
_STYLES = {"PROPOSED": "yellow", "RUNNING": "cyan", "DONE": "green", "STOPPED": "bright_black"}


def _state(text: str) -> ActionState:
    try:
        return ActionState(text.strip().upper())
    except ValueError:
        raise ConfigurationError(f"no state {text!r}; there are: proposed, running, done, stopped") from None


def _step_state(text: str) -> StepState:
    try:
        return StepState(text.strip().upper())
    except ValueError:
        raise ConfigurationError(f"no state {text!r}; there are: waiting, applied, refused, undone") from None


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("undo")(undo)
    group.command("actions")(actions)
    group.command("steps")(steps)
    group.command("approve")(approve)
    group.command("resume")(resume)
    group.command("stop")(stop)
    group.command("rules")(rules)


def actions(
    *,
    state: Annotated[
        ActionState | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            parser=_state,
            help="Only in this state: proposed, running, done or stopped.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List what operators decided, newest first: who, what, why, and how far it is."""
    found = ask(dsn, lambda operator: operator.decisions.list_actions(state, limit, offset))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    elif not found:
        out.show("No decision is in this state." if state else "Nothing was decided yet.")
    else:
        _show_actions(out, found)


def steps(
    *,
    action_id: ActionId,
    state: Annotated[
        StepState | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            parser=_step_state,
            help="Only in this state: waiting, applied, refused (left alone) or undone.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = 50,
    after: Annotated[int, typer.Option("--after", metavar="PLACE", min=0, help="Begin after this place.")] = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List the commands of an action: what became of each, and where it stands now."""
    found = ask(dsn, lambda operator: _steps(operator, action_id, state, limit, after))
    from mainstay.operations.cli.output import NUMBER, WHOLE, Output, table

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    elif not found:
        out.show("There is none; those of an action that ended long ago are pruned.")
    else:
        rows = table(("place", NUMBER), ("command", WHOLE), ("domain", WHOLE), ("state", WHOLE), ("is now", WHOLE))
        for each in found:
            is_now = each.status.replace("_", " ").lower()
            rows.add_row(f"{each.position:,}", str(each.command_id), each.domain, each.state.lower(), is_now)
        out.show(rows)


async def _steps(
    operator: "Operator", action_id: UUID, state: StepState | None, limit: int, after: int
) -> "list[ActionStep]":
    await operator.decisions.get_action(action_id)  # says so if there is none
    return await operator.decisions.list_steps(action_id, state, limit, after=after)


def _show_actions(out: "Output", found: "Sequence[OperatorAction]") -> None:
    from rich.text import Text

    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, ago, count, table

    rows = table(
        ("id", WHOLE), ("what", FOLDED), ("on", FOLDED), ("state", WHOLE), ("done", NUMBER), ("left\nalone", NUMBER),
        ("undone", NUMBER), ("who and why", FOLDED), ("when", NUMBER),
    )  # fmt: skip
    for each in found:
        who = Text(each.operator or "", style="bold")
        if each.approved_by:
            who.append(f" (approved by {each.approved_by})", style="not bold")
        if each.stopped_by:
            who.append(f" (stopped by {each.stopped_by})", style="not bold")
        who.append(f" {each.reason or ''}", style="not bold")
        rows.add_row(
            str(each.action_id),
            each.action.replace("_", " ").lower() + (f" at {each.rate:g}/s" if each.rate else ""),
            _selection(each.selection),
            Text(each.state.lower(), style=_STYLES[each.state]),
            f"{each.applied:,} of {each.total:,}",
            count(each.refused, "yellow"),
            count(each.undone, "yellow"),
            who,
            ago(each.created_at),
        )
    out.show(rows)


def _selection(selection: dict[str, object]) -> str:
    """What an action was asked to work on, in few words."""
    if isinstance(ids := selection.get("command_ids"), list):
        return f"{str(ids[0])[:8]}…" if len(ids) == 1 else f"{len(ids):,} ids"
    words = {"command_type": "type", "error_code": "code", "group_id": "group", "batch_id": "batch"}
    return ", ".join(f"{words.get(name, name)} {value}" for name, value in selection.items()) or "all"


def undo(
    *,
    command_id: Annotated[UUID | None, typer.Argument(metavar="ID", help="Which command.", show_default=False)] = None,
    action: Annotated[
        UUID | None, typer.Option("--action", metavar="ACTION_ID", help="All of this action.", show_default=False)
    ] = None,
    domain: Domain = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Take a retry back, of one command or of an action, where no worker has received the command since."""
    if (command_id is None) == (action is None):
        raise ConfigurationError("name one command by its id, or an action with --action")
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    told = asyncio.run(_undo(dsn, command_id, action, domain, name_of(operator), reason))
    late = [each for each in told if not each.undone]
    undone = len(told) - len(late) if action else 1
    if as_json:
        out.document({"undone": undone, "too_late": len(late), "commands": [each._asdict() for each in told]})
    else:
        if undone:
            out.show(
                f"[green]Took back {counted(undone, 'command')}[/]: as before, it waits for a decision.".replace(
                    "it waits", "it waits" if undone == 1 else "they wait"
                )
            )
        if late:
            out.show(f"[yellow]Too late[/] for {counted(len(late), 'command')}: a worker has received them.")
        if not told and action:
            out.show("Nothing to take back.")
    if late:
        raise typer.Exit(Exit.REFUSED)


async def _undo(  # noqa: PLR0917 - the options of one command
    dsn: str | None,
    command_id: UUID | None,
    action: UUID | None,
    domain: str | None,
    operator: str | None,
    reason: str | None,
) -> "list[Undone]":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as person:
        if action is not None:
            return await person.decisions.undo(action, operator, reason=reason)
        if command_id is not None:
            await person.undo_command(command_id, domain=domain, operator=operator, reason=reason)
        return []


def approve(*, action_id: ActionId, operator: Who = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Approve what another operator proposed, and carry it out."""
    _carry_out(dsn, action_id, as_json=as_json, approved_by=name_of(operator) or "")


def resume(*, action_id: ActionId, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Go on with an action whose operator's terminal was closed."""
    _carry_out(dsn, action_id, as_json=as_json)


def _carry_out(dsn: str | None, action_id: UUID, *, as_json: bool, approved_by: str | None = None) -> None:
    from mainstay.operations.cli.acted import show_resolved
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    told = asyncio.run(_run(out, dsn, action_id, approved_by))
    show_resolved(out, told.action, told.left)


async def _run(out: "Output", dsn: str | None, action_id: UUID, approved_by: str | None) -> "Resolved":
    from mainstay.operations.cli.acted import progress
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        if approved_by is not None:
            await operator.decisions.approve(action_id, approved_by)
        with progress(out) as bar:
            bar.begin(await operator.decisions.get_action(action_id))
            return await operator.carry_out(action_id, on_progress=bar.advance)


def stop(
    *,
    action_id: ActionId,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Stop an action, or refuse a proposal: of a retry with a rate, what is not due yet waits for a decision again."""
    found = ask(dsn, lambda person: person.decisions.stop(action_id, name_of(operator), reason=reason))
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    elif found.state is ActionState.DONE:
        raise InvalidOperationError(
            f"action {action_id} is done; nothing was changed. Take back what no worker has "
            f"yet: mainstay tsq undo --action {action_id}"
        )
    else:
        kept = counted(found.applied - found.undone, "command")
        out.show(f"[yellow]Stopped.[/] {kept} of {found.total:,} went through; the others wait for a decision.")


def rules(
    *,
    approve_above: Annotated[
        int | None,
        typer.Option(
            "--approve-above",
            metavar="N",
            min=0,
            help="A decision on more commands than this needs a second operator; 0: every one.",
            show_default=False,
        ),
    ] = None,
    no_approval: Annotated[bool, typer.Option("--no-approval", help="No decision needs a second operator.")] = False,
    reason_required: Annotated[
        bool | None,
        typer.Option("--reason-required/--reason-optional", help="Must decisions say why?", show_default=False),
    ] = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show or change what all operators of this database must keep to."""
    if approve_above is not None and no_approval:
        raise ConfigurationError("give --approve-above or --no-approval, not both")
    change = approve_above is not None or no_approval or reason_required is not None
    who = name_of(operator)
    found = ask(
        dsn,
        lambda person: _rules(person, approve_above, reason_required, who, change=change, drop=no_approval),
        reason=reason,
    )
    from mainstay.operations.cli.output import Output, counted, facts

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    above = found.approve_above
    told = (
        "no decision"
        if above is None
        else f"decisions on more than {counted(above, 'command')}"
        if above
        else "every decision"
    )
    out.show(
        facts(
            [
                ("needs a second operator", told),
                ("needs a reason", "every decision" if found.reason_required else "no decision"),
            ]
        )
    )


async def _rules(
    person: "Operator", above: int | None, required: bool | None, operator: str | None, *, change: bool, drop: bool
) -> "OperatorRules":
    from mainstay.commands.actions import OperatorRules

    found = await person.decisions.get_rules()
    if not change:
        return found
    above = None if drop else found.approve_above if above is None else above
    new = OperatorRules(above, found.reason_required if required is None else required)
    await person.decisions.set_rules(new, operator)
    return new
