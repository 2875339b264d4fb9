"""``mainstay tsq``: the troubleshooting queue, where commands wait for a person's decision."""

import asyncio
from typing import TYPE_CHECKING

import typer

from mainstay.operations.cli import actions, deciding
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.options import AsJson, CommandId, Domain, Dsn, ErrorCode, Limit, Offset, Type

if TYPE_CHECKING:
    from mainstay.commands.command import TroubleshootingItem
    from mainstay.commands.failures import FailureGroup

HELP = "Decide on commands that wait: retry, complete or cancel them."


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("groups")(groups)
    group.command("show")(show)
    deciding.add_to(group)
    actions.add_to(group)


def list_(
    *,
    domain: Domain = None,
    command_type: Type = None,
    limit: Limit = 50,
    offset: Offset = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List the commands that wait for a decision, the longest waiting first."""
    items, found = asyncio.run(_list(dsn, domain, command_type, limit, offset))
    from mainstay.operations.cli.failures import show_items
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(items)
    elif not found:
        out.show("[green]Nothing waits for a decision.[/]")
    else:
        show_items(out, items)
        waiting = sum(group.commands for group in found)
        out.note(f"{len(items):,} of {waiting:,} are shown. `mainstay tsq groups` counts them by what went wrong.")


async def _list(
    dsn: str | None, domain: str | None, command_type: str | None, limit: int, offset: int
) -> "tuple[list[TroubleshootingItem], list[FailureGroup]]":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        items = await operator.troubleshooting(domain=domain, command_type=command_type, limit=limit, offset=offset)
        return items, await operator.failure_groups(domain=domain, command_type=command_type)


def groups(
    *,
    domain: Domain = None,
    command_type: Type = None,
    error_code: ErrorCode = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Count the commands that wait for a decision by what went wrong, the largest group first."""
    found = ask(
        dsn, lambda operator: operator.failure_groups(domain=domain, command_type=command_type, error_code=error_code)
    )
    from mainstay.operations.cli.failures import show_groups
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    elif not found:
        out.show("[green]Nothing waits for a decision.[/]")
    else:
        show_groups(out, found)
        waiting = counted(sum(group.commands for group in found), "command")
        out.note(
            f"{waiting} in {counted(len(found), 'group')}. Decide: mainstay tsq retry|complete|cancel --group GROUP"
        )


def show(*, command_id: CommandId, domain: Domain = None, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show a command that waits, with its payload and what went wrong."""
    found = ask(dsn, lambda operator: operator.troubleshooting_item(command_id, domain))
    from rich.text import Text

    from mainstay.operations.cli.output import Output, facts, moment, pretty_json

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    kind = (found.last_error_type or "").replace("_", " ").lower()
    out.show(
        facts(
            [
                ("command", str(found.command_id)),
                ("domain", found.domain),
                ("type", found.command_type),
                ("error", Text.assemble((found.last_error_code or "", "red"), f" ({kind}, attempt {found.attempts})")),
                ("message", found.last_error_msg),
                ("waits since", moment(found.updated_at)),
                ("sent", moment(found.created_at)),
                ("correlation", str(found.correlation_id or "")),
                ("batch", str(found.batch_id or "")),
                ("reply to", found.reply_to),
                ("data", pretty_json(found.payload)),
            ]
        )
    )
    out.note(f"Decide: mainstay tsq retry|complete|cancel {command_id}")
