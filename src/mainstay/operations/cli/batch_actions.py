"""``mainstay batches seal``, ``cancel``, ``retry`` and ``watch``: what operators do with batches."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import UUID

import typer

from mainstay.commands.failures import Selection
from mainstay.commands.store import Action
from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.deciding import Who, name_of
from mainstay.operations.cli.options import AsJson, Domain, Dsn, Reason, Running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import RenderableType

    from mainstay.commands.command import BatchMetadata
    from mainstay.operations.cli.output import Output
    from mainstay.operations.operator import Operator, Resolved

BatchId: TypeAlias = Annotated[UUID, typer.Argument(metavar="ID", help="Id of the batch.", show_default=False)]
_WIDE = 40


def add_to(group: typer.Typer) -> None:
    """Add these commands to their group."""
    group.command("seal")(seal)
    group.command("cancel")(cancel)
    group.command("retry")(retry)


def seal(
    *,
    batch_id: BatchId,
    domain: Domain = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Say that nothing more comes into a batch whose sender died: it ends with what it has."""
    found = ask(dsn, lambda person: _seal(person, batch_id, domain), who=operator, reason=reason)
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    if as_json:
        out.document(found)
    else:
        out.show(f"[green]Sealed[/]: it has {counted(found.total_count, 'command')}.")


async def _seal(operator: "Operator", batch_id: UUID, domain: str | None) -> "BatchMetadata":
    batch = await operator.batch(batch_id, domain)
    await operator.bus.seal_batch(batch.domain, batch_id)
    return await operator.batch(batch_id, batch.domain)


def cancel(
    *,
    batch_id: BatchId,
    domain: Domain = None,
    reason: Reason = None,
    operator: Who = None,
    running: Running = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Cancel the commands of a batch that wait. Those that are being handled go on, unless you say --running. Final."""

    def decide(person: "Operator", batch: "BatchMetadata", **options: Any) -> "Awaitable[Resolved]":
        return person.cancel_batch(batch, operator=name_of(operator), reason=reason, running=running, **options)

    _act(dsn, batch_id, domain, decide, as_json=as_json)


def retry(
    *,
    batch_id: BatchId,
    domain: Domain = None,
    reason: Reason = None,
    operator: Who = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Start the commands of a batch over that wait for a decision. FAILED ones are final."""

    def decide(person: "Operator", batch: "BatchMetadata", **options: Any) -> "Awaitable[Resolved]":
        which = Selection(batch.domain, batch_id=batch_id)
        return person.resolve(Action.RETRY, which, operator=name_of(operator), reason=reason, **options)

    _act(dsn, batch_id, domain, decide, as_json=as_json)


def _act(
    dsn: str | None,
    batch_id: UUID,
    domain: str | None,
    decide: "Callable[..., Awaitable[Resolved]]",
    *,
    as_json: bool,
) -> None:
    """Carry a decision on a batch out, and tell what became of it."""
    from mainstay.operations.cli.acted import progress, show_resolved
    from mainstay.operations.cli.connection import connected
    from mainstay.operations.cli.output import Output

    out = Output(as_json=as_json)

    async def act() -> "Resolved":
        async with connected(dsn) as person:
            batch = await person.batch(batch_id, domain)
            with progress(out) as bar:
                return await decide(person, batch, on_begin=bar.begin, on_progress=bar.advance)

    told = asyncio.run(act())
    show_resolved(out, told.action, told.left)


async def watch(out: "Output", dsn: str | None, batch_id: UUID, domain: str | None, interval: float) -> None:
    """Show how far a batch is until it has ended: on a terminal in place, else a line for each change."""
    from rich.live import Live

    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        batch = await operator.batch(batch_id, domain)
        looks = operator.bus.watch_batch(batch.domain, batch_id, interval=interval)
        if out.as_json or not out.console.is_terminal:
            async for found in looks:
                if out.as_json:
                    out.document(found)
                else:
                    out.show(_line(found))
            return
        with Live(console=out.console, auto_refresh=False) as live:
            async for found in looks:
                live.update(_picture(found), refresh=True)


def _picture(batch: "BatchMetadata") -> "RenderableType":
    """A wide bar and the numbers below it."""
    from rich.console import Group
    from rich.text import Text

    from mainstay.operations.cli.batches import bar
    from mainstay.operations.cli.output import count, facts
    from mainstay.operations.cli.output import status as word

    waiting = batch.total_count - sum(_ended(batch))
    return Group(
        Text.assemble((batch.name or str(batch.batch_id), "bold"), "  ", word(batch.status)),
        bar(batch, _WIDE),
        facts(
            [
                ("completed", count(batch.completed_count, "green")),
                ("failed", count(batch.failed_count, "yellow")),
                ("canceled", count(batch.canceled_count)),
                ("to decide", count(batch.in_troubleshooting_count, "red")),
                ("under way", count(waiting, "blue")),
                ("", Text("open: more may come", style="yellow") if not batch.sealed else None),
            ]
        ),
    )


def _line(batch: "BatchMetadata") -> str:
    completed, failed, canceled, troubled = _ended(batch)
    return (
        f"{batch.status.lower()}: {completed:,} completed, {failed:,} failed, {canceled:,} canceled, "
        f"{troubled:,} to decide, of {batch.total_count:,}{'' if batch.sealed else ' (open)'}"
    )


def _ended(batch: "BatchMetadata") -> tuple[int, int, int, int]:
    return batch.completed_count, batch.failed_count, batch.canceled_count, batch.in_troubleshooting_count


def run_watch(out: "Output", dsn: str | None, batch_id: UUID, domain: str | None, interval: float) -> None:
    """`watch`, which Ctrl-C ends."""
    with suppress(KeyboardInterrupt):  # that is how one stops watching
        asyncio.run(watch(out, dsn, batch_id, domain, interval))
