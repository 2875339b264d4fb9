"""``mainstay dry-run``: what a command would do, without a trace."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Domain, Dsn

if TYPE_CHECKING:
    from mainstay.commands.dry_run import DryRun

Handlers = Annotated[
    str,
    typer.Argument(metavar="MODULE:NAME", help="Where the handlers are, as for `mainstay worker`.", show_default=False),
]
EventStorePath = Annotated[
    str | None,
    typer.Option(
        "--event-store",
        metavar="MODULE:NAME",
        help="Where the store of events is, or a function that makes it of the pool: with its inline projections.",
        show_default="that of the database, without any",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("dry-run")(dry_run)


def dry_run(
    *,
    registry: Handlers,
    about: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DOMAIN TYPE JSON]", help="A new command: whose, its type, and its payload.", show_default=False
        ),
    ] = None,
    command_id: Annotated[
        UUID | None,
        typer.Option("--command", metavar="ID", help="A command that was sent, instead.", show_default=False),
    ] = None,
    domain: Domain = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT", help="Whose command.", show_default="nobody's")
    ] = None,
    event_store: EventStorePath = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show what a command would do if it were handled now, and leave no trace of it.

    Its handler is run as a worker would, in a transaction that is rolled back: shown are the events that it would
    append, the commands that it would send, its reply or refusal, and what it or inline projections would change in
    other tables. Only for handlers that are transactional or on an aggregate. Exit code 1 if the handler failed.
    """
    given = _new_command(about or [], command_id)
    found = asyncio.run(_dry_run(dsn, registry, event_store, given, command_id, domain, tenant))
    from mainstay.operations.cli.output import Output
    from mainstay.operations.cli.rehearsed import show_dry_run

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    else:
        show_dry_run(out, found)
    if found.verb not in {"COMPLETE", "FAIL"}:
        raise typer.Exit(Exit.FOUND)


def _new_command(about: list[str], command_id: UUID | None) -> tuple[str, str, dict[str, Any]] | None:
    if command_id is not None:
        if about:
            raise ConfigurationError("give a new command, or --command ID, not both")
        return None
    match about:
        case [domain, command_type]:
            return domain, command_type, {}
        case [domain, command_type, text]:
            try:
                data = json.loads(text)
            except ValueError as error:
                raise ConfigurationError(f"the payload is no JSON: {error}") from error
            if not isinstance(data, dict):
                raise ConfigurationError("the payload must be a JSON object")
            return domain, command_type, data
    raise ConfigurationError("give a new command as DOMAIN TYPE JSON, or one that was sent as --command ID")


async def _dry_run(  # noqa: PLR0917 - the options of the command
    dsn: str | None,
    registry: str,
    event_store: str | None,
    given: tuple[str, str, dict[str, Any]] | None,
    command_id: UUID | None,
    domain: str | None,
    tenant: str | None,
) -> "DryRun":
    from mainstay.operations.cli.rehearsing import rehearsing

    async with rehearsing(dsn, registry, event_store) as (operator, rehearsal):
        if given is not None:
            return await rehearsal.dry_run(*given, tenant_id=tenant)
        if command_id is None:  # pragma: no cover - it is one or the other
            raise ConfigurationError("there is nothing to try")
        known = await operator.command(command_id, domain)
        return await rehearsal.dry_run_again(known.domain, command_id)
