"""``mainstay prune``: take away what is no longer needed of ended commands."""

import asyncio
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mainstay.errors import ConfigurationError
from mainstay.operations.cli.options import AsJson, Dsn

if TYPE_CHECKING:
    from mainstay.storage.postgres.retention import Pruned, Retention

_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*")


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("prune")(prune)


def prune(
    *,
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="TIME", help="Of commands that ended so long ago: 90d, 12h, 30min, 0s."),
    ],
    audit: Annotated[
        str | None,
        typer.Option("--audit", metavar="TIME", help="Keep audit trails for so long.", show_default="as the payload"),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option("--archive", metavar="TIME", help="Keep archived messages for so long.", show_default="for ever"),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete the commands themselves: their ids may be sent again.")
    ] = False,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=1.0, help="Commands looked at in a second, at most.")
    ] = 2000.0,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Clear payload, headers and error text of commands that ended long ago, and delete their audit trails.

    The same for processes (state, what their steps sent and got), batches (custom data) and operators' actions (what
    taking them back needs). A slim row stays (id, type, outcome, result), so that a late resend of a known id is still
    refused. Runs beside workers, in small transactions.
    """
    from mainstay.operations.cli.output import Output
    from mainstay.storage.postgres.retention import Retention

    kept = Retention(
        span("--older-than", older_than),
        None if audit is None else span("--audit", audit),
        None if archive is None else span("--archive", archive),
        forget=forget,
        per_second=rate,
    )
    done = asyncio.run(_prune(dsn, kept))
    out = Output(as_json=as_json)
    if as_json:
        out.document(done)
    else:
        out.show(
            f"Pruned {done.pruned:,} commands of {done.walked:,}, {done.processes:,} processes, {done.batches:,} "
            f"batches and {done.actions:,} operators' actions, forgot {done.forgotten:,}; deleted {done.audit:,} "
            f"audit events and {done.archive:,} archived messages."
        )


async def _prune(dsn: str | None, retention: "Retention") -> "Pruned":
    from mainstay.operations.cli.connection import connected

    async with connected(dsn) as operator:
        return await operator.prune(retention)


def span(option: str, text: str) -> timedelta:
    """A time as it is written: 90d, 12h, 30min or 0s.

    Raises:
        ConfigurationError: It is written otherwise.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{option} is a number and a unit, such as 90d, 12h, 30min or 0s, not {text!r}")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})
