"""Telling what became of a decision on many commands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mainstay.commands.actions import CANCEL_BATCH, ActionState, OperatorAction
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.output import Output, ago, counted, table
from mainstay.operations.operator import Acted

DONE = {"RETRY": "Retried", "COMPLETE": "Completed", "CANCEL": "Canceled", "CANCEL_BATCH": "Canceled"}
_SHOWN = 20


class ActionBar:
    """A progress bar on a terminal, for decisions that take a while."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, action: OperatorAction) -> None:
        """Show how far an action is; says its id, by which anybody can go on with it."""
        if self._task is None and action.state is ActionState.RUNNING:
            self._task = self._bar.add_task(f"action {action.action_id}", total=action.total, completed=action.position)

    def advance(self, steps: int) -> None:
        """So many commands more are done."""
        if self._task is not None:
            self._bar.advance(self._task, steps)


@contextmanager
def progress(out: Output) -> Iterator[ActionBar]:
    """A progress bar, where somebody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = out.as_json or not out.notes.is_terminal
    with Progress(*columns, console=out.notes, transient=True, disable=hidden) as bar:
        yield ActionBar(bar)


def show_resolved(out: Output, action: OperatorAction, left: Sequence[Acted]) -> None:
    """Print what became of an action.

    Args:
        out: Where to.
        action: As it is now.
        left: The commands that it left alone, and why.

    Raises:
        typer.Exit: With code 5, if something was left alone.
    """
    if out.as_json:
        out.document({"applied": action.applied, "refused": len(left), "action": action, "left_alone": left})
    elif action.state is ActionState.PROPOSED:
        out.show(f"[yellow]Proposed[/]: {action.action.lower()} {counted(action.total, 'command')}.")
        out.show(f"Another operator approves it with: mainstay tsq approve {action.action_id}")
    elif not action.total and not left:
        of_batch = action.action == CANCEL_BATCH
        out.show(f"Nothing to do: no command {'of it waits' if of_batch else 'that fits waits for a decision'}.")
    else:
        if action.applied:
            out.show(f"[green]{DONE[action.action]} {counted(action.applied, 'command')}.[/]")
        if action.rate and action.last_due_at and action.applied:
            last = ago(action.last_due_at)
            out.show(f"The last of them is handed out {last}. End it: mainstay tsq stop {action.action_id}")
        elif action.action == "RETRY" and action.applied > 1:
            out.note(f"Take back what no worker has yet: mainstay tsq undo --action {action.action_id}")
        if action.state is ActionState.STOPPED:
            how_far = f"{counted(action.position, 'command')} of {action.total:,}"
            out.show(f"[yellow]Stopped[/] by {action.stopped_by} after {how_far}.")
        _show_left(out, left)
    if left:
        raise typer.Exit(Exit.REFUSED)


def show_acted(out: Output, verb: str, done: Sequence[Acted]) -> None:
    """Print how many commands were changed, and why the others were not.

    Args:
        out: Where to.
        verb: What was done, in the past tense, capitalized.
        done: What became of each.

    Raises:
        typer.Exit: With code 5, if something was left alone.
    """
    left = [each for each in done if not each.applied]
    changed = len(done) - len(left)
    if out.as_json:
        out.document({"applied": changed, "refused": len(left), "commands": done})
    else:
        if changed:
            out.show(f"[green]{verb} {counted(changed, 'command')}.[/]")
        _show_left(out, left)
    if left:
        raise typer.Exit(Exit.REFUSED)


def _show_left(out: Output, left: Sequence[Acted]) -> None:
    if not left:
        return
    rows = table(("left alone", {"no_wrap": True}), ("because", {"overflow": "fold"}))
    for each in left[:_SHOWN]:
        rows.add_row(str(each.command_id), each.problem or "")
    out.show(rows)
    if len(left) > _SHOWN:
        out.note(f"and {len(left) - _SHOWN:,} more")
