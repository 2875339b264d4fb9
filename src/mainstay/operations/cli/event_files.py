"""``mainstay events export`` and ``import``: events to and from JSON Lines files."""

import asyncio
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.options import AsJson, Dsn, File

if TYPE_CHECKING:
    from rich.progress import Progress

    from mainstay.operations.cli.output import Output

_STDIO = "-"
_TAIL = 64 * 1024


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("export")(export)
    group.command("import")(import_)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be exported, and where to."""

    file: str
    resume: bool
    overwrite: bool
    stream: str | None
    tenant: str | None
    categories: list[str] | None
    after: int
    up_to: int | None


def export(
    *,
    file: Annotated[
        str, typer.Argument(metavar="FILE.jsonl", help="Where to; - is standard output.", show_default=False)
    ],
    categories: Annotated[
        list[str] | None,
        typer.Option("--category", "-c", metavar="CATEGORY", help="Only of this category; several times for several."),
    ] = None,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="STREAM", help="Only of this stream.", show_default=False)
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT", help="Only of this tenant.", show_default=False)
    ] = None,
    after: Annotated[int, typer.Option("--after", metavar="POSITION", min=0, help="Only behind this position.")] = 0,
    up_to: Annotated[
        int | None,
        typer.Option(
            "--up-to", metavar="POSITION", min=1, help="Only up to this position.", show_default="all there is"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on behind the last event in the file: after an interruption, or later.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Write events to a file with one JSON object in each line, in the order of the feed, as `events import` reads it.

    All that can be given out when it begins, or what the options leave of it. An interrupted export is continued with
    --resume and the same options, and so is one of yesterday.
    """
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json and file == _STDIO:
        raise ConfigurationError("--json and - both want standard output: export to a file")
    if stream is not None and categories:
        raise ConfigurationError("give --stream or --category, not both")
    if resume and overwrite:
        raise ConfigurationError("give --resume or --overwrite, not both")
    began = time.monotonic()
    wanted = _Wanted(file, resume, overwrite, stream, tenant, categories, after, up_to)
    with progress(out, "exporting") as bar:
        count, begun, horizon = asyncio.run(_export(dsn, wanted, bar))
    seconds = time.monotonic() - began
    if as_json:
        out.document({"exported": count, "after": begun, "up_to": horizon, "seconds": round(seconds, 3)})
        return
    from mainstay.operations.cli.output import counted

    rate = f" ({count / seconds:,.0f} a second)" if count else ""
    what = f"Exported {counted(count, 'event')} up to position {horizon:,} in {seconds:.1f} s{rate}."
    out.note(what, style="green" if count else "bright_black")


def _target(wanted: _Wanted, stack: ExitStack) -> tuple[BinaryIO, int]:
    """Where to write, and the position of the last event that is there."""
    file, resume, overwrite = wanted.file, wanted.resume, wanted.overwrite
    if file == _STDIO:
        if resume or overwrite:
            raise ConfigurationError("--resume and --overwrite are for files")
        return sys.stdout.buffer, 0
    path = Path(file)
    try:
        if not resume:
            return stack.enter_context(path.open("wb" if overwrite else "xb")), 0
        opened = stack.enter_context(path.open("r+b" if path.exists() else "x+b"))
        return opened, _last_position(opened, file)
    except FileExistsError:
        raise ConfigurationError(
            f"{file} exists: --resume goes on behind its last event, --overwrite replaces it"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error


def _last_position(opened: BinaryIO, file: str) -> int:
    """The position on the last whole line, behind which the file is cut off."""
    import orjson

    end = opened.seek(0, 2)
    kept, read = b"", 0
    while read < end and kept.count(b"\n") < 2:  # noqa: PLR2004 - the end of the last line, and of the one before it
        read = min(end, max(_TAIL, 2 * read))
        opened.seek(end - read)
        kept = opened.read(read)
    whole = kept.rfind(b"\n") + 1
    last = kept[:whole].rstrip(b"\n").rpartition(b"\n")[2]
    position = 0
    if last:
        try:
            position = int(orjson.loads(last)["position"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise ConfigurationError(f"{file} ends with a line that no export has written: it is left alone") from None
    opened.seek(end - len(kept) + whole)
    opened.truncate()
    return position


async def _export(dsn: str | None, wanted: _Wanted, bar: "Progress") -> tuple[int, int, int]:
    """How many events were written, from where, and up to where."""
    from mainstay.events.log import FeedFilter
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.event_lines import line_of

    count = 0
    async with connected(dsn) as operator:
        events = operator.events
        stream = None if wanted.stream is None else (await events.stream(wanted.stream, wanted.tenant)).stream
        horizon = (await events.log.horizon()).position
        up_to = horizon if wanted.up_to is None else min(wanted.up_to, horizon)
        with ExitStack() as stack:
            target, reached = _target(wanted, stack)
            after = max(wanted.after, reached)
            task = bar.add_task("", total=max(up_to - after, 1), events=0)
            if stream is not None:
                pages = events.exported_stream(stream, after=after, up_to=up_to)
            else:
                categories = frozenset(wanted.categories) if wanted.categories else None
                fits = FeedFilter(categories=categories, tenant_id=wanted.tenant)
                pages = events.exported(fits, after=after, up_to=up_to)
            async for page in pages:
                await asyncio.to_thread(target.write, b"".join(map(line_of, page)))
                target.flush()
                count += len(page)
                if page:
                    bar.update(task, completed=page[-1].position - after, events=count)
    return count, after, up_to


def import_(
    *,
    file: File,
    chunk: Annotated[
        int,
        typer.Option(
            "--chunk", metavar="N", min=1, max=100_000, help="Events in a transaction: all are appended, or none."
        ),
    ] = 5000,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Append the events of a file that are not there yet: what `events export` wrote, or one JSON object a line.

    A line has "category", "stream_id", "event_type", "occurred_at" and "payload" and, if needed, "tenant_id",
    "version", "event_id", "event_version", "correlation_id", "causation_id", "actor_id", "metadata" and "tags".

    An event with a version comes to stand there in its stream, or is there already; if it can be neither, its chunk is
    refused and the line named. One without is appended unless its id is in the stream; without an id it gets one that
    is derived from the file's name, the line's number and its content. So the same file again changes nothing, and
    after an error one mends the line and imports the file again. Positions and the time of recording are new.
    """
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    began = time.monotonic()
    with ExitStack() as stack:
        source, opened, size = _source(file, stack)
        bar = stack.enter_context(progress(out, "importing"))
        done = asyncio.run(_import(dsn, opened, source, chunk, size, bar))
    seconds = time.monotonic() - began
    if as_json:
        out.document(done.told() | {"seconds": round(seconds, 3)})
        return
    rate = f" ({done.imported / seconds:,.0f} a second)" if done.imported else ""
    left = f" Were there already: {done.known:,}." if done.known else ""
    left += f" Left out, because their streams are tombstoned: {done.tombstoned:,}." if done.tombstoned else ""
    out.show(f"[green]Imported {counted(done.imported, 'event')}[/] in {seconds:.1f} s{rate}.{left}")


@dataclass(slots=True)
class _Done:
    imported: int = 0
    known: int = 0
    tombstoned: int = 0
    chunks: int = 0

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "imported": self.imported, "known": self.known, "tombstoned": self.tombstoned, "chunks": self.chunks,
        }  # fmt: skip


def _source(file: str, stack: ExitStack) -> tuple[str, BinaryIO, int | None]:
    """Name, stream and size of the file."""
    if file == _STDIO:
        return "standard input", sys.stdin.buffer, None
    path = Path(file)
    try:
        return path.name, stack.enter_context(path.open("rb")), path.stat().st_size
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


async def _import(  # noqa: PLR0917 - its only caller has them all
    dsn: str | None, file: BinaryIO, source: str, size: int, length: int | None, bar: "Progress"
) -> _Done:
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.cli.output import counted
    from mainstay.operations.event_lines import RefusedEventLineError, read_chunks
    from mainstay.operations.intake import InvalidLineError

    done = _Done()
    task = bar.add_task("", total=length, events=0)
    async with connected(dsn) as operator:
        chunks = read_chunks(file, source, size)
        try:
            while lines := await asyncio.to_thread(next, chunks, None):
                told = await operator.events.import_lines(lines, source)
                done.imported += told.imported
                done.known += told.known
                done.tombstoned += told.tombstoned
                done.chunks += 1
                completed = file.tell() if file.seekable() else None
                bar.update(task, completed=completed, events=done.imported + done.known + done.tombstoned)
        except (InvalidLineError, RefusedEventLineError) as error:
            before = f"Imported before its chunk: {counted(done.imported, 'event')}."
            error.args = (f"{error}. {before if done.imported else 'Nothing was imported.'}",)
            raise
    return done


def progress(out: "Output", doing: str) -> "Progress":
    """A bar for going through events, where somebody looks; its task has a field ``events``."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn(doing),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        console=out.notes,
        transient=True,
        disable=out.as_json or not out.notes.is_terminal,
    )
