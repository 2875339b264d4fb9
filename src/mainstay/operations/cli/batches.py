"""``mainstay batches``: how far batches are."""

import asyncio
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from mainstay.commands.lifecycle import BatchStatus, CommandStatus
from mainstay.operations.cli import batch_actions
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Interval, Limit, Offset, Status, batch_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from mainstay.commands.command import BatchMetadata, CommandMetadata
    from mainstay.operations.cli.output import Output

HELP = "See how far batches are; seal, cancel or retry them."
_BAR = 10


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("list")(list_)
    group.command("show")(show)
    batch_actions.add_to(group)


def list_(
    *,
    domain: Domain = None,
    status: Annotated[
        BatchStatus | None,
        typer.Option(
            "--status",
            "-s",
            metavar="STATUS",
            parser=batch_status,
            help="Only in this status: pending, in-progress, completed or completed-with-failures.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = 50,
    offset: Offset = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first."""
    found = ask(dsn, lambda operator: operator.batches(domain=domain, status=status, limit=limit, offset=offset))
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
        return
    if not found:
        out.show("No batches found." if domain or status else "No batches were created yet.")
        return
    _show_batches(out, found)


def _show_batches(out: "Output", found: "Sequence[BatchMetadata]") -> None:
    from mainstay.operations.cli.output import FOLDED, NUMBER, WHOLE, ago, count, table

    rows = table(
        ("id", WHOLE), ("domain", FOLDED), ("name", FOLDED), ("status", FOLDED), ("done", WHOLE),
        ("to decide", NUMBER), ("created", NUMBER),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            str(each.batch_id),
            each.domain,
            each.name or "",
            _status(each),
            bar(each),
            count(each.in_troubleshooting_count, "red"),
            ago(each.created_at),
        )
    out.show(rows)


def _status(batch: "BatchMetadata") -> "Text":
    """Where a batch stands; an open one says so."""
    from mainstay.operations.cli.output import status as word

    shown = word(batch.status)
    return shown if batch.sealed else shown.append(", open", style="yellow")


def bar(batch: "BatchMetadata", width: int = _BAR) -> "Text":
    """How much of a batch has ended, as a bar in the colours of how it ended."""
    from rich.text import Text

    total = max(batch.total_count, 1)
    drawn = Text()
    for number, style in (
        (batch.completed_count, "green"),
        (batch.failed_count, "yellow"),
        (batch.canceled_count, "bright_black"),
        (batch.in_troubleshooting_count, "red"),
    ):
        drawn.append("━" * round(width * number / total), style=style)
    drawn.append("╌" * max(width - len(drawn), 0), style="bright_black")
    ended = batch.completed_count + batch.failed_count + batch.canceled_count
    drawn.append(f" {ended:,} of {batch.total_count:,}")
    return drawn


def show(
    *,
    batch_id: Annotated[UUID, typer.Argument(metavar="ID", help="Id of the batch.", show_default=False)],
    domain: Domain = None,
    status: Status = None,
    limit: Limit = 20,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until it has ended.")] = False,
    interval: Interval = 0.5,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show a batch, its counts, its parts and its newest commands; with --watch how far it is, until it has ended."""
    if watch:
        from mainstay.operations.cli.output import Output

        batch_actions.run_watch(Output(as_json=as_json), dsn, batch_id, domain, interval)
        return
    found, parts, commands = asyncio.run(_show(dsn, batch_id, domain, status, limit))
    from mainstay.operations.cli.commands import show_commands
    from mainstay.operations.cli.output import Output, count, facts, moment, pretty_json

    out = Output(as_json=as_json)
    if as_json:
        out.document({"batch": found, "parts": parts, "commands": commands})
        return
    out.show(
        facts(
            [
                ("batch", str(found.batch_id)),
                ("domain", found.domain),
                ("name", found.name),
                ("status", _status(found)),
                ("part of", str(found.parent_id or "")),
                ("done", bar(found)),
                ("completed", count(found.completed_count, "green")),
                ("failed", count(found.failed_count, "yellow")),
                ("canceled", count(found.canceled_count)),
                ("troubleshooting", count(found.in_troubleshooting_count, "red")),
                ("created", moment(found.created_at)),
                ("started", moment(found.started_at)),
                ("completed at", moment(found.completed_at)),
                ("data", pretty_json(found.custom_data)),
            ]
        ),
        "",
    )
    if parts:
        _show_batches(out, parts)
        out.show("")
    if commands:
        show_commands(out, commands)
    else:
        out.show("It has no commands in this status." if status else "It has no commands.")


async def _show(
    dsn: str | None, batch_id: UUID, domain: str | None, status: CommandStatus | None, limit: int
) -> "tuple[BatchMetadata, list[BatchMetadata], list[CommandMetadata]]":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        batch = await operator.batch(batch_id, domain)
        parts = await operator.bus.list_batches(batch.domain, parent_id=batch_id, limit=limit)
        return batch, parts, await operator.batch_commands(batch, status=status, limit=limit)
