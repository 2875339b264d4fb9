"""``mainstay demo``: the main job, on real input, with everything checked."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from mainstay.operations.cli.output import Output
    from mainstay.operations.demo.figures import Report
    from mainstay.operations.demo.run import Screen, Settings

_SVG_WIDTH = 84


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("demo")(demo)


def demo(
    *,
    commands: Annotated[
        int, typer.Option("--commands", "-n", metavar="N", min=1, max=1_000_000, help="How many are sent.")
    ] = 10_000,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", metavar="N", help="Of the dice that decide what fails: the same seed fails the same commands."
        ),
    ] = 1,
    workers: Annotated[int, typer.Option("--workers", "-w", metavar="N", min=1, max=16, help="Worker processes.")] = 3,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", metavar="N", min=1, max=200, help="Handlers at once in each.")
    ] = 8,
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill a worker on the way.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Afterwards keep the database up until Ctrl-C.")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Serve the console meanwhile, and afterwards until Ctrl-C.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="PATH", help="Also write the tables as a picture.", show_default=False),
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            metavar="DSN",
            help="Use this database, as it is, instead of a fresh one on a PostgreSQL of your own. "
            "Nothing is dropped in it, and DATABASE_URL is not looked at.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send 10,000 commands, kill a worker, and check everything.

    Some of the commands fail, by dice (random numbers that a seed repeats) that always fall the same way, and what
    must come of them is calculated. Ends with tables: what the dice let expect beside what happened, how fast it was,
    what the kill cost, what an operator did, and what must always hold. Exit code 1 if something does not.
    """
    from mainstay.operations.cli.output import Output
    from mainstay.operations.demo.run import Settings

    out = Output(as_json=as_json)
    settings = Settings(commands, seed, workers, concurrency, kill=kill)
    progress = out.notes if as_json else out.console
    try:
        report = asyncio.run(_until_signal(_demo(out, progress, settings, dsn, svg, keep=keep, console=console)))
    except ExceptionGroup as group:  # what matters is what went wrong first
        raise group.exceptions[0] from group
    if not report.holds:
        raise typer.Exit(Exit.FOUND)


async def _until_signal(work: Coroutine[Any, Any, "Report"]) -> "Report":
    """Let SIGTERM end the demo as Ctrl-C does: in order.

    Raises:
        KeyboardInterrupt: It came.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated:
            raise KeyboardInterrupt from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _demo(
    out: "Output",
    progress: "Console",
    settings: "Settings",
    dsn: str | None,
    svg: Path | None,
    *,
    keep: bool,
    console: bool,
) -> "Report":
    from rich.text import Text

    from mainstay.operations.demo.run import directed
    from mainstay.operations.demo.screen import screen_for
    from mainstay.operations.demo.tables import tables

    screen = screen_for(progress)
    async with _place(screen, dsn) as (where, url), AsyncExitStack() as stack:
        with screen:
            run_settings = settings if dsn is None else replace(settings, run=str(uuid4()))
            async with directed(url, run_settings, screen) as run:
                seen_at = await stack.enter_async_context(_console(url)) if console else None
                if seen_at:
                    progress.print(Text(f"The console is at {seen_at}"))
                report = await run.run()
        if out.as_json:
            out.document(asdict(report) | {"holds": report.holds})
        else:
            for part in tables(report):
                out.show("", part)
        if svg:
            _write_svg(report, svg)
            out.note(f"The picture is in {svg}.")
        if console:
            progress.print(Text(f"\nThe console is at {seen_at} until Ctrl-C."))
        elif keep:
            progress.print(Text(f"\nThe database is up until Ctrl-C. Look around: mainstay stats --dsn '{where}'"))
            progress.print(Text(f"In a browser: mainstay console --demo --dsn '{where}'"))
        else:
            progress.print(Text("\nTo watch it in a browser: mainstay demo --console"))
        if keep or console:
            await asyncio.Event().wait()
    return report


@asynccontextmanager
async def _place(screen: "Screen", dsn: str | None) -> AsyncIterator[tuple[str, str]]:
    """What to call the database, and its connection string."""
    from mainstay.operations.cli.connection import EMBEDDED, database
    from mainstay.operations.demo.place import fresh_database

    if dsn:
        async with database(dsn) as url:
            yield dsn, url
    else:
        screen.begin("Start PostgreSQL")
        async with fresh_database() as (name, url):
            yield f"{EMBEDDED}:{name}", url


@asynccontextmanager
async def _console(url: str) -> AsyncIterator[str]:
    """Where the console is, for as long as the block lasts."""
    from mainstay.operations.cli.console import PORT
    from mainstay.operations.cli.serving import serving
    from mainstay.operations.console import Anybody
    from mainstay.operations.operator import Operator

    async with Operator.connect(url) as operator, AsyncExitStack() as stack:
        try:
            served = await stack.enter_async_context(serving(operator, ("127.0.0.1", PORT), auth=Anybody()))
        except ConfigurationError:  # somebody else is there
            served = await stack.enter_async_context(serving(operator, ("127.0.0.1", 0), auth=Anybody()))
        yield served.url


def _write_svg(report: "Report", path: Path) -> None:
    """The tables as a picture."""
    from mainstay.operations.cli.picture import picture
    from mainstay.operations.demo.tables import tables

    path.write_text(picture("mainstay demo", *tables(report), width=_SVG_WIDTH), encoding="utf-8")
