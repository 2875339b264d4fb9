"""Retrying one command with another payload: the edit is shown before it is taken."""

import asyncio
import os
import shlex
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import typer
from rich.text import Text

from mainstay.errors import ConfigurationError, InvalidPayloadError
from mainstay.operations.cli.connection import connected
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.output import Output
from mainstay.operations.intake import exact_json
from mainstay.serialization import checked_object

if TYPE_CHECKING:
    from mainstay.commands.edits import Edit
    from mainstay.operations.operator import Operator


def retry_edited(
    dsn: str | None,
    command_id: UUID,
    domain: str | None,
    data: dict[str, Any] | None,
    *,
    operator: str | None,
    reason: str | None,
    choice: Any,
) -> None:
    """Show what an edit changes, and carry it out.

    Args:
        dsn: Which database.
        command_id: Which command.
        domain: Of it, where two use the same id.
        data: The new payload; None: have it edited.
        operator: Who decides.
        reason: Why.
        choice: Whether to ask, to look only, how to print, and where the handlers are whose models it must fit.
    """
    out = Output(as_json=choice.as_json)
    asyncio.run(_retry(out, dsn, command_id, domain, data, operator, reason, choice))


async def _retry(  # noqa: PLR0917 - the options of one command
    out: Output,
    dsn: str | None,
    command_id: UUID,
    domain: str | None,
    data: dict[str, Any] | None,
    operator: str | None,
    reason: str | None,
    choice: Any,
) -> None:
    async with connected(dsn, registry=choice.registry) as person:
        asks = data is None and not choice.preview
        payload = await _edited(person, command_id, domain, None) if data is None else data
        edit = await person.preview_edit(command_id, payload, domain=domain)
        while data is None and edit.problems and not out.as_json:
            show_edit(out, edit)
            if not await asyncio.to_thread(typer.confirm, "Edit again?"):
                raise typer.Exit(Exit.USAGE)
            payload = await _edited(person, command_id, domain, payload)
            edit = await person.preview_edit(command_id, payload, domain=domain)
        if out.as_json:
            applied = not (choice.preview or edit.problems)
            out.document({"command_id": command_id, "applied": applied, **asdict(edit)})
        else:
            show_edit(out, edit)
        if edit.problems:
            raise typer.Exit(Exit.USAGE)
        if choice.preview:
            return
        if asks and not await asyncio.to_thread(typer.confirm, "Retry it so?"):
            out.show("Nothing was changed.")
            raise typer.Exit(Exit.FOUND)
        await person.retry_edited(command_id, payload, domain=domain, operator=operator, reason=reason)
    if not out.as_json:
        out.show("[green]Retried 1 command.[/]")


async def _edited(
    person: "Operator", command_id: UUID, domain: str | None, refused: dict[str, Any] | None
) -> dict[str, Any]:
    """The payload, or one that was refused, as it comes out of the editor; what is no JSON object goes back in."""
    item = await person.troubleshooting_item(command_id, domain)
    text = orjson.dumps(
        item.payload if refused is None else refused, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    ).decode()
    while True:
        changed = await asyncio.to_thread(_in_editor, text)
        if changed == text:
            raise typer.Exit(Exit.FOUND)
        try:
            return checked_object(exact_json(changed.encode("utf-8", "surrogateescape")))
        except InvalidPayloadError as error:
            if not await asyncio.to_thread(typer.confirm, f"{error}. Edit again?"):
                raise typer.Exit(Exit.FOUND) from error
            text = changed


def _in_editor(text: str) -> str:
    """The text as the person leaves it in ``$VISUAL`` or ``$EDITOR``.

    Raises:
        ConfigurationError: There is no such program, or it failed.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="mainstay-") as folder:
        file = Path(folder) / "payload.json"
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)  # noqa: S603 - the person's own editor
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigurationError(f"the editor {editor!r} did not work (set EDITOR): {error}") from error
        return file.read_text(encoding="utf-8", errors="surrogateescape")


def show_edit(out: Output, edit: "Edit") -> None:
    """Print an edit, a line for what goes and a line for what comes, and what the handler's model refuses in it."""
    for change in edit.diff:
        for sign, side, style in (("-", "before", "red"), ("+", "after", "green")):
            if side in change:
                value = orjson.dumps(change[side]).decode()
                out.show(Text(f"{sign} {change['path'] or '/'}: {value}", style=style))
    if not edit.diff:
        out.note("The payload stays as it is.")
    if edit.problems:
        out.show("[bold red]Refused[/] by the handler's model; nothing was changed:")
    for problem in edit.problems:
        out.show(Text(f"  {problem.path or 'payload'}: {problem.message} ({problem.kind})", style="red"))
