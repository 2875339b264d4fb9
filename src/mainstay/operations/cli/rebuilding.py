"""``mainstay projections rebuild``: build a projection's tables anew, compare, and swap."""

import asyncio
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mainstay.errors import ConfigurationError, InvalidOperationError
from mainstay.operations.cli.deciding import Who, Yes, name_of
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Dsn, Projection
from mainstay.operations.cli.projection_code import Code

if TYPE_CHECKING:
    from rich.progress import Progress

    from mainstay.app import SubscriptionManager
    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator
    from mainstay.projections.rebuildable import Rebuilt

_LOOK = 0.5
"""Seconds between two looks at how far it is."""


def rebuild(
    *,
    code: Code,
    name: Projection = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Build and compare, and leave it at that. Exit code 1 if they differ.")
    ] = False,
    if_same: Annotated[
        bool, typer.Option("--if-same", help="Swap without asking if nothing differs, else end with exit code 1.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Drop a rebuild that is under way or waits.")] = False,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards", metavar="N", min=1, help="How many it has afterwards.", show_default="as its settings say"
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the old tables, under other names.")] = False,
    sample: Annotated[int, typer.Option("--sample", metavar="N", min=0, help="Rows shown that differ.")] = 5,
    operator: Who = None,
    yes: Yes = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Build the tables of a projection anew beside those that serve, show what differs, and swap them.

    The old ones serve and follow until one transaction replaces them. It asks before that; if the answer is no, or it
    is interrupted, the new tables stay: the same command goes on with them, and --cancel drops them.
    """
    if compare + if_same + cancel + yes > 1:
        raise ConfigurationError("give one of --compare, --if-same, --cancel and --yes")
    asks = not (compare or if_same or cancel or yes)
    if asks and (as_json or not sys.stdin.isatty()):
        problem = "it asks before it swaps, and there is nobody to ask: add --yes, --if-same or --compare"
        raise ConfigurationError(problem)
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    how = {"actor": name_of(operator) or "", "keep": keep, "sample": sample, "shards": shards}
    if cancel:
        _cancel(out, dsn, code, name)
        return
    done = asyncio.run(_rebuild(out, dsn, (code, name), how, compare=compare, if_same=if_same, asks=asks))
    if as_json:
        out.document(_document(done))
    elif done.swapped:
        out.show(f"[green]Swapped[/]: {done.subscription} serves what was rebuilt up to position {done.position:,}.")
        if done.settled:
            out.show(f"It makes up for {counted(done.settled, 'dead letter')} of the old one.")
    else:
        out.note("The old tables serve on. The same command goes on with the new ones; --cancel drops them.")
    if not done.swapped and not (compare and done.is_same):
        raise typer.Exit(Exit.FOUND)


def _cancel(out: "Output", dsn: str | None, code: str, name: str | None) -> None:
    subscription, was_there = asyncio.run(_canceled(dsn, code, name))
    if not was_there:
        raise InvalidOperationError(f"no rebuild of {subscription} is under way")
    if out.as_json:
        out.document({"canceled": True})
    else:
        out.show(f"[green]Canceled the rebuild of {subscription}[/], and dropped its tables.")


async def _canceled(dsn: str | None, code: str, name: str | None) -> tuple[str, bool]:
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        manager, subscription = await _manager(operator, code, name)
        return subscription, await manager.cancel_rebuild(subscription)


async def _manager(operator: "Operator", code: str, name: str | None) -> "tuple[SubscriptionManager, str]":
    from mainstay.operations.loading import here
    from mainstay.operations.subscribing import PROJECTIONS, connections_for, manager_of, the_one

    manager = await manager_of(here(code, PROJECTIONS), code, operator.pool, registers=False)
    await operator.pool.resize(1, connections_for(manager))
    return manager, the_one(manager, name, code)


async def _rebuild(
    out: "Output",
    dsn: str | None,
    which: tuple[str, str | None],
    how: dict[str, Any],
    *,
    compare: bool,
    if_same: bool,
    asks: bool,
) -> "Rebuilt":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        manager, subscription = await _manager(operator, *which)
        if (shards := how.pop("shards")) is not None:
            how["config"] = replace(manager.subscriptions[subscription].config, shards=shards)
        if not (compare or if_same or asks):
            done = await _shown(out, operator, manager, subscription, how)
            _show(out, done)
            return done

        def accept(found: "Rebuilt") -> bool:
            return if_same and found.is_same

        first = await _shown(out, operator, manager, subscription, how | {"accept": accept})
        _show(out, first)
        if first.swapped or not asks:
            return first
        verdict = "Nothing differs." if first.is_same else "They differ."
        if not await asyncio.to_thread(typer.confirm, f"{verdict} Swap?"):
            return first
        last = await _shown(
            out, operator, manager, subscription, how | {"accept": lambda found: found.is_same or not first.is_same}
        )
        if not last.swapped:
            _show(out, last)
            out.note("Now they differ, which they did not when you were asked.")
        return last


async def _shown(
    out: "Output", operator: "Operator", manager: "SubscriptionManager", subscription: str, how: dict[str, Any]
) -> "Rebuilt":
    """Rebuild, with a bar where somebody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = out.as_json or not out.notes.is_terminal
    with Progress(*columns, console=out.notes, transient=True, disable=hidden) as bar:
        watching = asyncio.create_task(_watch(operator, subscription, bar))
        try:
            return await manager.rebuild(subscription, **how)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _watch(operator: "Operator", subscription: str, bar: "Progress") -> None:
    from mainstay.errors import StorageError
    from mainstay.projections.checks import rebuild_name

    task = bar.add_task(f"rebuilding {subscription}", total=None)
    while True:
        with suppress(StorageError):
            serving = await operator.projections.store.states(subscription)
            rebuilt = await operator.projections.store.states(rebuild_name(subscription))
            if serving and rebuilt:
                places = [min(each.checkpoint.position for each in some) for some in (rebuilt, serving)]
                bar.update(task, completed=places[0], total=places[1])
        await asyncio.sleep(_LOOK)


def _document(done: "Rebuilt") -> dict[str, Any]:
    return {
        "projection": done.subscription,
        "swapped": done.swapped,
        "same": done.is_same,
        "position": done.position,
        "settled": done.settled,
        "tables": done.tables,
    }


def _show(out: "Output", done: "Rebuilt") -> None:
    """What differs."""
    from rich.text import Text

    from mainstay.operations.cli.output import FOLDED, NUMBER, count, one_line, table

    if out.as_json:
        return
    rows = table(("table", FOLDED), ("rows", NUMBER), ("rows\nrebuilt", NUMBER), ("gone", NUMBER), ("come", NUMBER))
    for each in done.tables:
        rows.add_row(
            each.table, f"{each.serving:,}", f"{each.rebuilt:,}", count(each.gone, "red"), count(each.come, "green")
        )
    out.show(rows)
    for each in done.tables:
        if each.gone_rows or each.come_rows:
            out.show("", Text(each.table, style="bold"))
            out.show(*(Text(f"- {one_line(dict(row))}", style="red") for row in each.gone_rows))
            out.show(*(Text(f"+ {one_line(dict(row))}", style="green") for row in each.come_rows))
    out.show("")
