"""What commands print, and how: tables for people, JSON for programs."""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mainstay.commands.lifecycle import BatchStatus, CommandStatus

PIPE_WIDTH = 200
"""Columns where nobody looks: wide enough that no id or message is cut."""
_DAY = 86_400
_HOUR = 3_600
_MINUTE = 60

STATUS_STYLES: Final[dict[str, tuple[str, str]]] = {
    CommandStatus.PENDING: ("pending", "blue"),
    CommandStatus.IN_PROGRESS: ("in progress", "cyan"),
    CommandStatus.COMPLETED: ("completed", "green"),
    CommandStatus.FAILED: ("failed", "yellow"),
    CommandStatus.CANCELED: ("canceled", "bright_black"),
    CommandStatus.IN_TROUBLESHOOTING_QUEUE: ("troubleshooting", "red"),
    BatchStatus.COMPLETED_WITH_FAILURES: ("with failures", "yellow"),
}


class Output:
    """Where a command prints.

    Args:
        as_json: Standard output gets one JSON document and nothing else.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = _console(stderr=False)
        self.notes = _console(stderr=True)

    def document(self, value: Any) -> None:
        """Print a value as JSON, indented for a person and on one line for a program."""
        option = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
        if sys.stdout.isatty():
            option |= orjson.OPT_INDENT_2
        sys.stdout.write(orjson.dumps(value, default=_plain, option=option).decode())
        sys.stdout.flush()

    def show(self, *parts: RenderableType) -> None:
        """Print for people; a text may have rich's markup, cells of tables have none."""
        for part in parts:
            self.console.print(Text.from_markup(part) if isinstance(part, str) else part)

    def note(self, text: str, style: str = "bright_black") -> None:
        """Say something beside the result; nothing with ``--json``."""
        if not self.as_json:
            self.notes.print(Text(text, style=style))


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(stderr=stderr, highlight=False, markup=False, width=width)


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def counted(number: int, what: str) -> str:
    """A number of things: ``1 command``, ``2,000 commands``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def table(*columns: str | tuple[str, dict[str, Any]]) -> Table:
    """An empty table in the house's style.

    Args:
        columns: Headers, or headers with the arguments of rich's `add_column`.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for column in columns:
        name, options = column if isinstance(column, tuple) else (column, {})
        made.add_column(name, **options)
    return made


def facts(pairs: Iterable[tuple[str, RenderableType | None]]) -> Table:
    """Names and values below each other; pairs without a value are left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="bright_black", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            made.add_row(name, value)
    return made


NUMBER: Final[dict[str, Any]] = {"justify": "right", "no_wrap": True}
WHOLE: Final[dict[str, Any]] = {"no_wrap": True}
FOLDED: Final[dict[str, Any]] = {"overflow": "fold", "min_width": 8}


def status(value: str) -> Text:
    """A status as people say it, in its colour."""
    word, style = STATUS_STYLES.get(value, (value.replace("_", " ").lower(), ""))
    return Text(word, style=style)


def count(value: int, style: str = "") -> Text:
    """A number with separators; grey if it is zero."""
    return Text(f"{value:,}", style=style if value else "bright_black")


def ago(moment: datetime | None) -> str:
    """How long ago, or in how long, in the largest unit that fits."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    length = duration(abs(seconds))
    return f"in {length}" if seconds < 0 else f"{length} ago"


def duration(seconds: float) -> str:
    """A length of time in one unit: 12 s, 3 min, 2 h, 5 d."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def moment(value: datetime | None) -> str | None:
    """A point in time in the local zone, with how long ago it was."""
    return None if value is None else f"{value.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  ({ago(value)})"


def pretty_json(value: Any) -> Text | None:
    """A JSON value, indented; None for nothing."""
    if value is None:
        return None
    return Text(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode())


def one_line(value: dict[str, Any] | None) -> str:
    """A JSON object on one line, for people; what is null is left out."""
    shown = {name: each for name, each in (value or {}).items() if each is not None}
    return ", ".join(f"{name.replace('_', ' ')}: {_short(each)}" for name, each in shown.items())


def _short(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=_plain).decode()
