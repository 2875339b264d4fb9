"""``mainstay relay``: publishes events to a broker, by the user's own code."""

import asyncio
from typing import Annotated, Any, Literal, cast

import typer

from mainstay.operations.cli.options import (
    AsJson,
    Dsn,
    Grace,
    LogLevel,
    MetricsHost,
    MetricsPort,
    ReportEvery,
    checked_log_level,
)


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("relay")(relay)


def relay(
    *,
    code: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="Where the bus is, or a Relay, several, or a function that returns one of these and may take the "
            "pool. The current directory is searched first.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="What is published is known under it.", show_default="by the topic"
        ),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="CATEGORY", help="Only events of these streams.", show_default=False),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only events of this type.", show_default=False)
    ] = None,
    shards: Annotated[
        int, typer.Option("--shards", metavar="N", min=1, max=64, help="Parts that publish side by side; it stays so.")
    ] = 1,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, max=10_000, help="Events that are published at once.")
    ] = 500,
    on_error: Annotated[
        str | None,
        typer.Option(
            "--on-error",
            metavar="stop|dead_letter",
            help="What follows when the broker refuses an event.",
            show_default="stop",
        ),
    ] = None,
    grace: Grace = 30.0,
    report_every: ReportEvery = 10.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_level: LogLevel = "info",
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Publish events to a bus until SIGTERM or SIGINT.

    A relay is a subscription: `mainstay projections` shows how far it is, pauses it, and replays what the broker
    refused. Several such processes share its shards. Logs go to standard error; with --json they are JSON lines on
    standard output.
    """
    from mainstay.operations.cli import logs
    from mainstay.projections.config import SubscriptionConfig

    logs.set_up(checked_log_level(log_level), as_json=as_json)
    options: dict[str, Any] = {"name": name, "categories": categories or None, "types": types or None}
    if on_error is not None:
        options["on_error"] = cast("Literal['stop', 'dead_letter']", on_error)
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    how = {"grace": grace, "report_every": report_every, "metrics": metrics}
    asyncio.run(_run(dsn, code, SubscriptionConfig(batch_size=batch_size, shards=shards), options, how))


async def _run(dsn: str | None, code: str, config: Any, options: dict[str, Any], how: dict[str, Any]) -> None:
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.loading import here
    from mainstay.operations.subscribing import RELAYS, connections_for, relays_of, work

    found = here(code, RELAYS)
    async with connected(dsn, max_size=4, prepare=True, serves=True) as operator:
        manager = await relays_of(found, code, operator.pool, config=config, options=options)
        await operator.pool.resize(1, connections_for(manager))
        await work(manager, **how)
