"""``mainstay dry-run`` and ``mainstay shadow``: what handlers would do, without a trace."""

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Type

if TYPE_CHECKING:
    from rich.progress import Progress

    from mainstay.commands.dry_run import DryRun
    from mainstay.commands.shadow import Shadowed, ShadowReport
    from mainstay.operations.cli.output import Output

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
    app.command("shadow")(shadow)


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
    other tables. Only for handlers that are transactional or on an aggregate; what those do outside of their
    transaction, such as a call over HTTP, is done. Exit code 1 if the handler failed.
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


def shadow(
    *,
    registry: Handlers,
    domain: Domain = None,
    command_type: Type = None,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="CATEGORY/ID", help="Only decisions on this stream.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Decided since then: 2h, 3d, 2030-01-31.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Decided before then.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="So many at most.", show_default="all")
    ] = None,
    after: Annotated[
        int, typer.Option("--after", metavar="NUMBER", min=0, help="Go on where another run has ended.")
    ] = 0,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            metavar="FIELD",
            help="A field of payloads and replies that may differ, such as a time; several times for several.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[int, typer.Option("--show", metavar="N", min=0, help="Differences to show in full.")] = 10,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Decide again on recorded commands with this code, at the versions that they read, and show what differs.

    Compared are outcome, stream, events, next commands, reply and the code of a refusal, not ids and times. Nothing is
    written, so it may run beside workers, or on a replica; but what a handler does outside of its transaction, such as
    a call over HTTP, it does again. Exit code 1 if anything came out otherwise; what cannot be compared is counted by
    its reason.
    """
    from mainstay.operations.cli.output import Output
    from mainstay.operations.cli.rehearsed import shadow_document, show_shadow
    from mainstay.operations.cli.times import period

    out = Output(as_json=as_json)
    asked: dict[str, Any] = {
        "domain": domain,
        "command_type": command_type,
        **period(since, until),
        "limit": limit,
        "after": after,
        "ignore": ignore or [],
        "keep": show,
    }
    began = time.monotonic()
    with _progress(out, limit) as bar:
        report = asyncio.run(_shadow(dsn, registry, stream, asked, bar))
    if as_json:
        out.document(shadow_document(report))
    else:
        show_shadow(out, report, time.monotonic() - began)
    if not report.agrees:
        raise typer.Exit(Exit.FOUND)


def _progress(out: "Output", limit: int | None) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("deciding again"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} commands, {task.fields[different]:,} different"),
        TimeElapsedColumn(),
        console=out.notes,
        transient=True,
        disable=out.as_json or not out.notes.is_terminal,
    )
    bar.add_task("", total=limit, different=0)
    return bar


async def _shadow(
    dsn: str | None, registry: str, stream: str | None, asked: dict[str, Any], bar: "Progress"
) -> "ShadowReport":
    from mainstay.deciding.store import stream_name
    from mainstay.operations.cli.rehearsing import rehearsing

    different = 0

    def count(found: "Shadowed") -> None:
        nonlocal different
        different += bool(found.differences)
        bar.update(bar.task_ids[0], advance=1, different=different)

    async with rehearsing(dsn, registry, None) as (operator, rehearsal):
        if stream is not None:
            asked["stream"] = stream_name((await operator.events.stream(stream)).stream)
        return await rehearsal.shadow(**asked, on_each=count)
