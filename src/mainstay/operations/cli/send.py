"""``mainstay send``: commands out of a JSON Lines file."""

import asyncio
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.options import AsJson, Dsn, File

if TYPE_CHECKING:
    from rich.progress import Progress

    from mainstay.operations.cli.output import Output

_STDIN = "-"


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("send")(send)


def send(
    *,
    file: File,
    chunk: Annotated[
        int,
        typer.Option(
            "--chunk", metavar="N", min=1, max=10_000, help="Commands in a transaction: all of them are sent, or none."
        ),
    ] = 1000,
    skip_known: Annotated[
        bool, typer.Option("--skip-known", help="Leave out commands that were sent before, instead of refusing.")
    ] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Send commands from a file with one JSON object in each line.

    A line has "domain", "command_type" and "data" and, if needed, "command_id", "correlation_id", "reply_to",
    "max_attempts", "batch_id", "delay" (seconds), "not_before", "headers", "key", "priority", "expires_at",
    "unique_key", "unique_for" (seconds), "causation_id", "tenant_id", "actor_id" and "on_conflict": "refuse" or "skip"
    it when its unique key is held.

    A line without "command_id" gets one that is derived from the file's name, the line's number and its content. So a
    file that is sent again sends nothing twice: what was sent is refused or, with --skip-known, left out. That is also
    how to go on after an error: mend the line, and send the file again with --skip-known.
    """
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    began = time.monotonic()
    with ExitStack() as stack:
        source, opened, size = _open(file, stack)
        bar = stack.enter_context(_progress(out, size))
        done = asyncio.run(_send(dsn, opened, source, chunk, skip_known, bar))
    seconds = time.monotonic() - began
    if as_json:
        told = {"sent": done.sent, "known": done.known, "skipped": done.skipped, "chunks": done.chunks}
        out.document(told | {"seconds": round(seconds, 3)})
        return
    left = f" Left out because they were sent before: {done.known:,}." if done.known else ""
    left += f" Left out because their unique keys are held: {done.skipped:,}." if done.skipped else ""
    rate = f" ({done.sent / seconds:,.0f} a second)" if done.sent else ""
    out.show(f"[green]Sent {counted(done.sent, 'command')}[/] in {seconds:.1f} s{rate}.{left}")


@dataclass(slots=True)
class _Done:
    sent: int = 0
    known: int = 0
    skipped: int = 0
    chunks: int = 0


def _open(file: str, stack: ExitStack) -> tuple[str, BinaryIO, int | None]:
    """Name, stream and size of the file."""
    if file == _STDIN:
        return "standard input", sys.stdin.buffer, None
    path = Path(file)
    try:
        opened = stack.enter_context(path.open("rb"))
        return path.name, opened, path.stat().st_size
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


def _progress(out: "Output", size: int | None) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("sending"),
        BarColumn(),
        TextColumn("{task.fields[commands]:,} commands"),
        TimeElapsedColumn(),
        console=out.notes,
        transient=True,
        disable=out.as_json or not out.notes.is_terminal,
    )
    bar.add_task("sending", total=size, commands=0)
    return bar


async def _send(  # noqa: PLR0917 - its only caller has them all
    dsn: str | None, file: BinaryIO, source: str, size: int, skip_known: bool, bar: "Progress"
) -> _Done:
    from mainstay.errors import DuplicateCommandError, MainstayError
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.cli.output import counted
    from mainstay.operations.intake import InvalidLineError, RefusedLineError, blame, read_chunks

    done = _Done()
    async with connected(dsn) as operator:
        chunks = read_chunks(file, source, size)
        try:
            while lines := await asyncio.to_thread(next, chunks, None):
                try:
                    sent = await operator.send([line.request for line in lines], skip_known=skip_known)
                except MainstayError as error:
                    blamed = blame(error, lines, source)
                    if blamed is None:
                        raise
                    raise blamed from error
                done.sent += sent.sent
                done.known += sent.known
                done.skipped += sent.skipped
                done.chunks += 1
                position = file.tell() if file.seekable() else None
                bar.update(bar.task_ids[0], completed=position, commands=done.sent + done.known + done.skipped)
        except (InvalidLineError, RefusedLineError) as error:
            before = f"Sent before its chunk: {counted(done.sent, 'command')}." if done.sent else "Nothing was sent."
            known = isinstance(error.__cause__, DuplicateCommandError)
            hint = " --skip-known leaves out what was sent before." if known else ""
            error.args = (f"{error}. {before}{hint}",)
            raise
    return done
