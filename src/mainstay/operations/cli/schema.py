"""``mainstay schema``: what the database has, and bringing it up to date."""

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Dsn

if TYPE_CHECKING:
    from mainstay.storage.postgres.migrate import SchemaStatus

HELP = "Install, upgrade and inspect the database schema."


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("upgrade")(upgrade)
    group.command("status")(status)
    group.command("print")(print_)


def upgrade(*, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Install mainstay in a database, or bring it up to date. Safe to run at every deployment, also several at once."""
    changed, now = asyncio.run(_upgrade(dsn))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document({"changed": changed, "version": now.database_version})
    else:
        done = f"The schema is now at version {now.database_version}."
        out.show(f"[green]{done}[/]" if changed else f"Nothing to do: the schema is at version {now.database_version}.")


async def _upgrade(dsn: str | None) -> "tuple[bool, SchemaStatus]":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn, creates=True, check_schema=False) as operator:
        changed = await operator.upgrade_schema()
        return changed, await operator.schema_status()


def status(*, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Say what a database has and what it lacks. Exit code 4 if this version of mainstay cannot run on it."""
    found = asyncio.run(_status(dsn))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(asdict(found) | {"is_current": found.is_current})
    else:
        _show(out, found)
    if not found.is_current:
        raise typer.Exit(Exit.SCHEMA)


async def _status(dsn: str | None) -> "SchemaStatus":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn, check_schema=False) as operator:
        return await operator.schema_status()


def _show(out: Any, found: "SchemaStatus") -> None:
    from rich.text import Text

    from mainstay.operations.cli.output import facts

    if found.is_current:
        verdict = "[green]ready[/]"
    elif found.database_version is None:
        verdict = "[red]not installed[/]: run `mainstay schema upgrade`"
    elif found.breaking:
        verdict = "[red]too new for this version of mainstay[/]: upgrade mainstay itself"
    elif found.drift:
        verdict = "[red]altered[/]: see below"
    else:
        verdict = "[red]out of date[/]: run `mainstay schema upgrade`"
    advice = {str(each): f". {each.advice}" for each in found.altered}
    pgmq = "missing" if found.pgmq_method is None else f"{found.pgmq_version or ''} by {found.pgmq_method}".strip()
    out.show(
        facts(
            [
                ("schema", Text.from_markup(verdict)),
                ("version of the database", str(found.database_version or "none")),
                ("version of this program", str(found.code_version)),
                ("to be applied", "\n".join([*found.pending, *found.changed_functions])),
                ("unknown here, and newer", "\n".join(found.newer)),
                ("PGMQ", pgmq),
                ("altered by hand", "\n".join(each + advice.get(each, "") for each in found.drift)),
            ]
        )
    )


def print_(
    *,
    since: Annotated[
        int | None,
        typer.Option("--since", metavar="N", help="Only what follows version N, for a database that has that.", min=0),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the schema as one SQL script, for Flyway, Alembic or psql. Needs no database."""
    from mainstay.storage.postgres.migrate import print_schema

    script = print_schema(since)
    if as_json:
        from mainstay.operations.cli.output import Output

        Output(as_json=True).document({"sql": script})
    else:
        sys.stdout.write(script)
