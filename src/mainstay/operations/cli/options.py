"""Options that many commands share; each is written once."""

from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from mainstay.commands.lifecycle import BatchStatus, CommandStatus
from mainstay.errors import ConfigurationError

_IN_WORDS = {"TROUBLESHOOTING": CommandStatus.IN_TROUBLESHOOTING_QUEUE, "TSQ": CommandStatus.IN_TROUBLESHOOTING_QUEUE}


def _as_in_code(text: str) -> str:
    return text.strip().upper().replace("-", "_").replace(" ", "_")


def batch_status(text: str) -> BatchStatus:
    """A batch's status as it is written anywhere: in tables, in JSON, or by hand."""
    word = _as_in_code(text)
    try:
        return BatchStatus.COMPLETED_WITH_FAILURES if word == "WITH_FAILURES" else BatchStatus(word)
    except ValueError:
        raise ConfigurationError(
            f"no status {text!r}; there are: pending, in-progress, completed, completed-with-failures"
        ) from None


def _status(text: str) -> CommandStatus:
    """A status as it is written anywhere: in tables, in JSON, or by hand."""
    word = _as_in_code(text)
    try:
        return _IN_WORDS.get(word) or CommandStatus(word)
    except ValueError:
        raise ConfigurationError(
            f"no status {text!r}; there are: pending, in-progress, completed, failed, canceled, troubleshooting"
        ) from None


Dsn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="DATABASE_URL",
        show_default=False,
        metavar="DSN",
        help="Connection string or URL of the database. `embedded` or `embedded:NAME`: a PostgreSQL of your own, "
        "which is started if it does not run; `schema upgrade` makes the database.",
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there; errors, too.")
]
MetricsPort: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="Answer Prometheus at /metrics, and probes at /health/live and /health/ready.",
        show_default="nowhere",
    ),
]
MetricsHost: TypeAlias = Annotated[
    str, typer.Option("--metrics-host", metavar="ADDRESS", help="Where to listen for them.")
]
Grace: TypeAlias = Annotated[
    float, typer.Option("--grace", metavar="SECONDS", min=0.1, help="Seconds that the batches in hand get.")
]
ReportEvery: TypeAlias = Annotated[
    float,
    typer.Option("--report-every", metavar="SECONDS", min=0.1, help="Seconds between two lines that say how far."),
]
LogLevel: TypeAlias = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
]
Domain: TypeAlias = Annotated[
    str | None, typer.Option("--domain", "-d", metavar="DOMAIN", help="Only of this domain.", show_default=False)
]
Type: TypeAlias = Annotated[
    str | None, typer.Option("--type", "-t", metavar="TYPE", help="Only of this command type.", show_default=False)
]
Tenant: TypeAlias = Annotated[
    str | None, typer.Option("--tenant", metavar="TENANT", help="Only of this tenant.", show_default=False)
]
ErrorCode: TypeAlias = Annotated[
    str | None,
    typer.Option("--error-code", "-e", metavar="CODE", help="Only those with this error code.", show_default=False),
]
Status: TypeAlias = Annotated[
    CommandStatus | None,
    typer.Option(
        "--status",
        "-s",
        metavar="STATUS",
        parser=_status,
        help="Only in this status: pending, in-progress, completed, failed, canceled or troubleshooting.",
        show_default=False,
    ),
]
Registry: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="MODULE:NAME",
        help="Where the handlers are, as for `mainstay worker`: another payload must fit their models.",
        show_default=False,
    ),
]
Running: TypeAlias = Annotated[
    bool, typer.Option("--running", help="Also those that are being handled: ask their workers to stop.")
]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=10_000, help="Rows at most.")]
Offset: TypeAlias = Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Rows to leave out first.")]
Reason: TypeAlias = Annotated[
    str | None, typer.Option("--reason", "-r", metavar="TEXT", help="Why; for the audit trail.", show_default=False)
]
Since: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Not before: so long ago (10min, 2h), or 2030-01-31T12:00.", show_default=False
    ),
]
Until: TypeAlias = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Not after: as --since.", show_default=False),
]
Watch: TypeAlias = Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")]
Interval: TypeAlias = Annotated[
    float, typer.Option("--interval", metavar="SECONDS", help="Seconds between two looks.", min=0.1)
]
File: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE.jsonl", help="The file; - is standard input.", show_default=False)
]
Projection: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Which projection, if there are several.", show_default=False)
]
CommandId: TypeAlias = Annotated[UUID, typer.Argument(metavar="ID", help="Id of the command.", show_default=False)]


def checked_log_level(level: str) -> str:
    """The level itself, if it is one.

    Raises:
        ConfigurationError: It is none.
    """
    if level.lower() not in {"debug", "info", "warning", "error"}:
        raise ConfigurationError("--log-level is debug, info, warning or error")
    return level
