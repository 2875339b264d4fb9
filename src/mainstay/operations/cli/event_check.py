"""``mainstay events check``: whether the code that is about to be deployed can read every event."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mainstay.operations.cli.event_files import progress
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Dsn

if TYPE_CHECKING:
    from rich.progress import Progress

    from mainstay.operations.readability import Readability


def add_to(group: typer.Typer) -> None:
    """Add this command to its group."""
    group.command("check")(check)


def check(
    *,
    code: Annotated[
        str,
        typer.Argument(
            metavar="MODULE[:NAME]",
            help="The module that defines the event classes; with a name, an EventRegistry or a store in it. The "
            "current directory is searched first.",
            show_default=False,
        ),
    ],
    categories: Annotated[
        list[str] | None,
        typer.Option("--category", "-c", metavar="CATEGORY", help="Only of this category; several times for several."),
    ] = None,
    after: Annotated[int, typer.Option("--after", metavar="POSITION", min=0, help="Only behind this position.")] = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Read every event with your classes and upcasters, and name those that cannot be read. Exit code 1 if there are.

    An event whose type has no class, one of a version that no upcaster takes further, one whose payload does not fit
    its class: by type, with the first position of each. Changes nothing.
    """
    from mainstay.operations.cli.output import FOLDED, NUMBER, Output, counted, table

    out = Output(as_json=as_json)
    began = time.monotonic()
    with progress(out, "reading") as bar:
        found = asyncio.run(_check(dsn, code, categories, after, bar))
    seconds = time.monotonic() - began
    if as_json:
        out.document({"read": found.read, "unreadable": found.unreadable, "faults": found.faults})
    else:
        if found.faults:
            rows = table(
                ("type", FOLDED), ("version", NUMBER), ("events", NUMBER), ("first at", NUMBER), ("problem", FOLDED)
            )
            for each in found.faults:
                rows.add_row(
                    each.event_type, str(each.event_version), f"{each.events:,}", f"{each.position:,}", each.problem
                )  # fmt: skip
            out.show(rows, "")
        verdict = (
            f"[red]{counted(found.unreadable, 'event')} of {found.read:,} cannot be read[/]"
            if found.faults
            else f"[green]Every event can be read[/]: {found.read:,}"
        )
        out.show(f"{verdict}, in {seconds:.1f} s.")
    if found.faults:
        raise typer.Exit(Exit.FOUND)


async def _check(
    dsn: str | None, code: str, categories: list[str] | None, after: int, bar: "Progress"
) -> "Readability":
    from mainstay.events.log import FeedFilter
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.readability import Readability, codec_of

    codec = codec_of(code)
    found = Readability(codec)
    async with connected(dsn) as operator:
        up_to = (await operator.events.log.horizon()).position
        task = bar.add_task("", total=max(up_to - after, 1), events=0)
        wanted = FeedFilter(categories=frozenset(categories) if categories else None)
        async for page in operator.events.exported(wanted, after=after, up_to=up_to):
            found.take(page)
            if page:
                bar.update(task, completed=page[-1].position - after, events=found.read)
    return found
