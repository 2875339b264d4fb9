"""``mainstay projections run`` and ``replay``: what needs the user's own code."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import (
    AsJson,
    Dsn,
    Grace,
    LogLevel,
    MetricsHost,
    MetricsPort,
    Projection,
    Reason,
    ReportEvery,
    checked_log_level,
)

if TYPE_CHECKING:
    from mainstay.projections.replay import Replayed

Code: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:NAME",
        help="Where the projections are: a SubscriptionManager, a Projection or several, or a function that returns "
        "one of these and may take the pool. The current directory is searched first.",
        show_default=False,
    ),
]


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("run")(run)
    group.command("replay")(replay)


def run(
    *,
    code: Code,
    grace: Grace = 30.0,
    connections: Annotated[
        int | None,
        typer.Option("--connections", metavar="N", min=2, help="Database connections at most.", show_default="enough"),
    ] = None,
    report_every: ReportEvery = 10.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_level: LogLevel = "info",
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Run projections until SIGTERM or SIGINT.

    The first signal lets the batches in hand end and gives the shards back; a second one stops at once. Several such
    processes share the shards. Logs go to standard error; with --json they are JSON lines on standard output.
    """
    from mainstay.operations.cli import logs

    logs.set_up(checked_log_level(log_level), as_json=as_json)
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    how = {"grace": grace, "report_every": report_every, "metrics": metrics}
    asyncio.run(_run(dsn, code, connections, how))


async def _run(dsn: str | None, code: str, connections: int | None, how: dict[str, Any]) -> None:
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.loading import here
    from mainstay.operations.subscribing import PROJECTIONS, connections_for, manager_of, work

    found = here(code, PROJECTIONS)
    async with connected(dsn, max_size=connections or 4, prepare=True, serves=True) as operator:
        manager = await manager_of(found, code, operator.pool)
        if connections is None:
            await operator.pool.resize(1, connections_for(manager))
        await work(manager, **how)


def replay(
    *,
    code: Code,
    name: Projection = None,
    key: Annotated[
        str | None, typer.Option("--key", "-k", metavar="KEY", help="Only of this key.", show_default=False)
    ] = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Handle dead letters again, in order, key by key; a key ends at the first event that fails again.

    Each event is one transaction, beside the processes that run the projection. Exit code 1 if something failed again.
    """
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    told: dict[str, Any] = {"key": key, "reason": reason, "actor": name_of(operator) or ""}
    with out.notes.status("handling again") if out.notes.is_terminal and not as_json else _nothing():
        subscription, done = asyncio.run(_replay(dsn, code, name, told))
    from mainstay.operations.cli.output import FOLDED, counted, table

    if as_json:
        out.document({"projection": subscription, "handled": done.handled, "failed": done.failed})
    elif not done.handled and not done.failed:
        out.show(f"Nothing to do: no dead letter of {subscription} waits.")
    else:
        if done.handled:
            out.show(f"[green]Handled {counted(done.handled, 'event')}.[/]")
        if done.failed:
            rows = table(("failed again", FOLDED), ("because", FOLDED))
            for each, error in done.failed.items():
                rows.add_row(each, error)
            out.show(rows)
    if done.failed:
        raise typer.Exit(Exit.FOUND)


async def _replay(dsn: str | None, code: str, name: str | None, told: dict[str, Any]) -> "tuple[str, Replayed]":
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.loading import here
    from mainstay.operations.subscribing import PROJECTIONS, manager_of, the_one

    found = here(code, PROJECTIONS)
    async with connected(dsn) as operator:
        manager = await manager_of(found, code, operator.pool, registers=False)
        subscription = the_one(manager, name, code)
        return subscription, await manager.replay(subscription, **told)


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()
