"""``mainstay worker``: a process that handles commands."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.exits import Exit, report
from mainstay.operations.cli.options import AsJson, Dsn, LogLevel, MetricsHost, MetricsPort, checked_log_level

if TYPE_CHECKING:
    from mainstay.operations.working import Plan
    from mainstay.storage.postgres.retention import Retention


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("worker")(worker)


def worker(
    *,
    registry: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="Where the handlers are: a HandlerRegistry, or a function that returns one and may take the pool. "
            "The current directory is searched first.",
            show_default=False,
        ),
    ],
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain",
            "-d",
            metavar="DOMAIN",
            help="Only this one; may be given several times.",
            show_default="all domains of the registry",
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", "-c", metavar="N", min=1, help="Handlers that may run at once, in each domain."),
    ] = 10,
    poll_interval: Annotated[
        float,
        typer.Option(
            "--poll-interval", metavar="SECONDS", min=0.01, help="Seconds after which it looks even if nothing woke it."
        ),
    ] = 1.0,
    visibility_timeout: Annotated[
        float,
        typer.Option(
            "--visibility-timeout",
            metavar="SECONDS",
            min=1.0,
            help="Seconds after which the commands of a worker that died run elsewhere.",
        ),
    ] = 30.0,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", metavar="SECONDS", min=0.0, help="Seconds that running handlers get when the worker is stopped."
        ),
    ] = 30.0,
    group_commit: Annotated[
        bool,
        typer.Option(
            "--group-commit/--no-group-commit",
            help="Decide on the commands of deciders many at a time, and commit them together, or each in a "
            "transaction of its own.",
        ),
    ] = True,
    snapshots: Annotated[
        int | None,
        typer.Option(
            "--snapshots",
            metavar="EVENTS",
            min=1,
            help="Leave a snapshot of an aggregate each time that its stream has grown by so many events.",
            show_default="never",
        ),
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option(
            "--connections",
            metavar="N",
            min=2,
            help="Database connections at most.",
            show_default="enough for the transactional handlers",
        ),
    ] = None,
    pgbouncer: Annotated[
        bool, typer.Option("--pgbouncer", help="Behind PgBouncer in transaction mode: poll only, prepare nothing.")
    ] = False,
    report_every: Annotated[
        float,
        typer.Option(
            "--report-every",
            metavar="SECONDS",
            min=0.1,
            help="Seconds between two lines that say how much was handled.",
        ),
    ] = 10.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    prune: Annotated[
        str | None,
        typer.Option(
            "--prune",
            metavar="TIME",
            help="Prune what ended so long ago (90d, 12h), as `mainstay prune --older-than`; of all workers that are "
            "told so, one does.",
            show_default="never",
        ),
    ] = None,
    prune_audit: Annotated[
        str | None,
        typer.Option("--prune-audit", metavar="TIME", help="Keep audit trails for so long.", show_default="as --prune"),
    ] = None,
    prune_archive: Annotated[
        str | None,
        typer.Option(
            "--prune-archive", metavar="TIME", help="Keep archived messages for so long.", show_default="for ever"
        ),
    ] = None,
    prune_every: Annotated[
        str, typer.Option("--prune-every", metavar="TIME", help="Time between the end of a run and the next.")
    ] = "1h",
    log_level: LogLevel = "info",
    follow_stdin: Annotated[bool, typer.Option("--stop-at-eof", hidden=True)] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Handle commands until SIGTERM or SIGINT.

    The first signal stops it gently: handlers that run may finish, everything else is given back to other workers. A
    second signal stops it at once, and what was running is given back, too. Handlers that run in threads cannot be
    stopped: if some still run at the end, it names them and exits with code 1 all the same. Logs go to standard
    error; with --json they are JSON lines on standard output.
    """
    from mainstay.operations.cli import logs
    from mainstay.operations.cli.prune import span
    from mainstay.operations.working import Plan, leave, left_behind

    logs.set_up(checked_log_level(log_level), as_json=as_json)
    plan = Plan(
        concurrency=concurrency,
        poll_interval=poll_interval,
        visibility_timeout=visibility_timeout,
        grace=grace,
        group_commit=group_commit,
        snapshots=snapshots,
        listens=not pgbouncer,
        report_every=report_every,
        stops_at_eof=follow_stdin,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        retention=_retention(prune, prune_audit, prune_archive),
        prune_every=span("--prune-every", prune_every),
    )
    try:
        finished = asyncio.run(_work(dsn, registry, domain or [], connections, plan))
    except (Exception, KeyboardInterrupt) as error:
        if running := left_behind():
            report(error, as_json=as_json)
            leave(running)
        raise
    if running := left_behind():
        leave(running)
    if not finished:
        raise typer.Exit(Exit.INTERRUPTED)


def _retention(prune: str | None, audit: str | None, archive: str | None) -> "Retention | None":
    from mainstay.operations.cli.prune import span
    from mainstay.storage.postgres.retention import Retention

    if prune is None:
        if audit or archive:
            raise ConfigurationError("--prune-audit and --prune-archive are for --prune")
        return None
    return Retention(
        span("--prune", prune),
        None if audit is None else span("--prune-audit", audit),
        None if archive is None else span("--prune-archive", archive),
    )


async def _work(dsn: str | None, registry: str, domains: list[str], connections: int | None, plan: "Plan") -> bool:
    from mainstay.collecting import collect_rarely
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.loading import here, registry_of
    from mainstay.operations.working import WorkerGroup, connections_for

    found = here(registry)
    async with connected(dsn, max_size=connections or 4, prepare=plan.listens, serves=True) as operator:
        handlers = await registry_of(found, registry, operator.pool)
        if connections is None:
            await operator.pool.resize(1, connections_for(handlers, domains, plan.concurrency))
        workers = WorkerGroup(operator.pool, handlers, domains, plan)
        collect_rarely()
        return await workers.run()
