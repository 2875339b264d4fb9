"""``mainstay doctor``: is this database fit for commands, and if not, what to do."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Dsn

if TYPE_CHECKING:
    from mainstay.operations.cli.output import Output
    from mainstay.storage.postgres.doctor import Check

_MARKS = {"OK": "[green]✓[/]", "WARNING": "[yellow]![/]", "FAULT": "[red]✗[/]"}


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("doctor")(doctor)


def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 for a warning, too.")] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Look at what makes commands slow, unsafe or stand still, and say what to do. Changes nothing.

    Versions, schema, rights, settings, autovacuum, long transactions, queues, processes, feed, projections, clock,
    connections, pooler, indexes and sizes. Exit code 1 if there is a fault.
    """
    checks = asyncio.run(_doctor(dsn))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    levels = [check.level.value for check in checks]
    if as_json:
        out.document({"faults": levels.count("FAULT"), "warnings": levels.count("WARNING"), "checks": checks})
    else:
        _show(out, checks)
    if "FAULT" in levels or (strict and "WARNING" in levels):
        raise typer.Exit(Exit.FOUND)


async def _doctor(dsn: str | None) -> "tuple[Check, ...]":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn, check_schema=False) as operator:
        return await operator.doctor()


def _show(out: "Output", checks: "tuple[Check, ...]") -> None:
    from rich.markup import escape

    from mainstay.operations.cli.output import counted

    for check in checks:
        out.show(f"{_MARKS[check.level]} [bold]{check.name}[/]: {escape(check.seen)}")
        if check.advice:
            out.show(f"    {escape(check.advice)}")
    faults = [check for check in checks if check.level == "FAULT"]
    warnings = [check for check in checks if check.level == "WARNING"]
    out.show("")
    if not faults and not warnings:
        out.show("[green]Fit[/]: nothing to do.")
    else:
        out.show(f"{counted(len(faults), 'fault')}, {counted(len(warnings), 'warning')}.")
