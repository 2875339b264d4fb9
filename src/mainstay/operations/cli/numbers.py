"""``mainstay stats`` and ``mainstay fsck``: how much there is of what, and whether it is as it must be."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mainstay.commands.lifecycle import TERMINAL, CommandStatus
from mainstay.errors import ConfigurationError
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.exits import Exit
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Interval, Watch
from mainstay.operations.cli.repairs import show_repairs

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mainstay.commands.store import DomainStats, FsckReport
    from mainstay.operations.cli.feed_numbers import Feed
    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator

_SHOWN = 50


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("stats")(stats)
    app.command("fsck")(fsck)


def stats(
    *,
    domain: Domain = None,
    watch: Watch = False,
    interval: Interval = 2.0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Count the commands of each domain by where they stand, and say how it is with events and projections.

    With --domain the commands only.
    """
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if watch:
        with suppress(KeyboardInterrupt):  # that is how one stops watching
            asyncio.run(_watch(out, dsn, domain, interval))
    else:
        _print_stats(out, *ask(dsn, lambda operator: _look(operator, domain)), None)


async def _look(operator: "Operator", domain: str | None) -> "tuple[Sequence[DomainStats], Feed | None]":
    from mainstay.operations.cli.feed_numbers import Feed

    found = await operator.stats(domain)
    if domain is not None:
        return found, None
    return found, Feed(await operator.events.numbers(), await operator.projections.list())


async def _watch(out: "Output", dsn: str | None, domain: str | None, interval: float) -> None:
    from rich.console import Group
    from rich.live import Live

    from mainstay.operations.cli.connection import connected

    before: dict[str, tuple[float, int]] = {}
    async with connected(dsn) as operator, AsyncExitStack() as stack:
        live = None
        if out.console.is_terminal and not out.as_json:
            live = stack.enter_context(Live(console=out.console, auto_refresh=False))
        while True:
            found, feed = await _look(operator, domain)
            rates = _rates(before, found)
            if live:
                live.update(Group(*_stats_lines(found, feed, rates)), refresh=True)
            else:
                _print_stats(out, found, feed, rates)
            await asyncio.sleep(interval)


def _rates(before: dict[str, tuple[float, int]], found: "Sequence[DomainStats]") -> dict[str, float]:
    """Commands ended per second since the last look, by domain; notes this look."""
    now = time.monotonic()
    rates: dict[str, float] = {}
    for each in found:
        ended = sum(each.by_status.get(status, 0) for status in TERMINAL)
        if each.domain in before:
            moment, number = before[each.domain]
            rates[each.domain] = (ended - number) / max(now - moment, 0.001)
        before[each.domain] = (now, ended)
    return rates


def _print_stats(
    out: "Output", found: "Sequence[DomainStats]", feed: "Feed | None", rates: dict[str, float] | None
) -> None:
    if out.as_json:
        out.document({"domains": found} | (feed.document() if feed else {}))
    else:
        out.show(*_stats_lines(found, feed, rates))


def _stats_lines(
    found: "Sequence[DomainStats]", feed: "Feed | None", rates: dict[str, float] | None
) -> "list[RenderableType]":
    told = feed.lines() if feed else []
    first = _stats_table(found, rates) if found else "No commands were sent yet."
    return [first, "", *told] if told else [first]


def _stats_table(found: "Sequence[DomainStats]", rates: dict[str, float] | None) -> "Table":
    from mainstay.operations.cli.output import NUMBER, STATUS_STYLES, count, duration, table

    parked, breakers = any(each.parked for each in found), any(each.breakers for each in found)
    keyed = any(each.keyed for each in found)
    shown = [CommandStatus.IN_PROGRESS, CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELED]
    rows = table(
        ("domain", {"no_wrap": True}),
        ("ready", NUMBER),
        ("deferred", NUMBER),
        *([("parked", NUMBER)] if parked else []),
        *([("wait for\ntheir key", NUMBER)] if keyed else []),
        *([("breakers", NUMBER)] if breakers else []),
        *((STATUS_STYLES[status][0].replace(" ", "\n"), NUMBER) for status in shown),
        ("trouble-\nshooting", NUMBER),
        ("oldest\nready", NUMBER),
        *([("ended per\nsecond", NUMBER)] if rates is not None else []),
    )
    for each in found:
        oldest = each.oldest_ready_seconds
        rows.add_row(
            each.domain,
            count(each.by_status.get(CommandStatus.PENDING, 0) - each.deferred - each.parked - each.keyed, "blue"),
            count(each.deferred, "blue"),
            *([count(each.parked, "blue")] if parked else []),
            *([count(each.keyed, "blue")] if keyed else []),
            *([count(each.breakers, "red")] if breakers else []),
            *(count(each.by_status.get(status, 0), STATUS_STYLES[status][1]) for status in shown),
            count(each.by_status.get(CommandStatus.IN_TROUBLESHOOTING_QUEUE, 0), "red"),
            "" if oldest is None else duration(oldest),
            *([f"{rates.get(each.domain, 0.0):,.0f}"] if rates is not None else []),
        )
    return rows


def fsck(
    *,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what is safe to mend, and say what was done."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: only say what would be done.")] = False,
    operator: Annotated[
        str | None,
        typer.Option(
            "--operator",
            metavar="NAME",
            envvar=["MAINSTAY_OPERATOR", "USER"],
            show_default=False,
            help="With --repair: who asks for it; for the audit trail.",
        ),
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Check what must always be true of commands, events and projections, in one snapshot. Exit code 1 if it is not.

    Changes nothing without --repair; with it, exit code 1 if something is left.
    """
    if repair:
        show_repairs(
            ask(dsn, lambda person: person.repair(dry_run=dry_run, operator=operator)), dry_run=dry_run, as_json=as_json
        )
        return
    if dry_run:
        raise ConfigurationError("--dry-run goes with --repair")
    report = ask(dsn, lambda operator: operator.fsck())
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(
            {
                "clean": report.clean,
                "commands": report.commands,
                "events": report.events,
                "checked": report.checked,
                "findings": report.findings,
            }
        )
    else:
        _show_report(out, report)
    if not report.clean:
        raise typer.Exit(Exit.FOUND)


def _show_report(out: "Output", report: "FsckReport") -> None:
    from mainstay.operations.cli.output import FOLDED, WHOLE, counted, one_line, table

    broken = {finding.invariant for finding in report.findings}
    for rule in report.checked:
        out.show(f"[red]✗[/] {rule}" if rule in broken else f"[green]✓[/] {rule}")
    out.show("")
    looked_at = counted(report.commands, "command")
    looked_at += f" and {counted(report.events, 'event')}" if report.events else ""
    if report.clean:
        out.show(f"[green]Clean[/]: {looked_at}, nothing found.")
        return
    rows = table(("what must be true", FOLDED), ("domain", FOLDED), ("command", WHOLE), ("found instead", FOLDED))
    for finding in report.findings[:_SHOWN]:
        rows.add_row(finding.invariant, finding.domain or "", str(finding.command_id or ""), one_line(finding.details))
    out.show(rows)
    if len(report.findings) > _SHOWN:
        out.note(f"and {len(report.findings) - _SHOWN:,} more; --json has all of them")
    out.show(f"[red]{counted(len(report.findings), 'finding')}[/] in {looked_at}.")
