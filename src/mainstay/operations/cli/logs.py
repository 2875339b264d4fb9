"""What a worker process says while it runs: lines for people on standard error, or JSON on standard output."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from mainstay.errors import shown
from mainstay.telemetry import ContextFilter

_PLAIN = "%(asctime)s %(levelname)-7s %(message)s"
_RAW = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f\ud800-\udfff]")
"""Control characters but for tab, line feed, carriage return, and escape, with which colours begin; and halves of
characters, which no file takes."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "correlation_id"}


def set_up(level: str, *, as_json: bool) -> None:
    """Let everything that is logged come out.

    Args:
        level: The least that is shown: debug, info, warning, error.
        as_json: One JSON object a line on standard output.
    """
    handler = logging.StreamHandler(sys.stdout if as_json else sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines(_PLAIN, colour=sys.stderr.isatty()))
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonLines(logging.Formatter):
    """A record as one JSON object: ts, level, logger, message, correlation_id, and what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        correlation = getattr(record, "correlation_id", None)
        if correlation:
            line["correlation_id"] = correlation
        line |= fields_of(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except (TypeError, ValueError):  # half of a character, a number of 100 digits, an object that tells nothing
            return json.dumps({name: value if isinstance(value, str) else shown(value) for name, value in line.items()})


def escaped(text: str) -> str:
    """A text without the characters that break what reads it, a NUL for instance; they stand as they are typed.

    Lines, tabs and colours stay.
    """
    return _RAW.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainLines(logging.Formatter):
    """A record as a line: when, how bad, what, and then its fields and its correlation; and its traceback.

    Args:
        form: As of `logging.Formatter`.
        colour: Colour the levels.
    """

    _COLOURS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "1;31", "DEBUG": "90"}  # noqa: RUF012 - never changed

    def __init__(self, form: str, *, colour: bool) -> None:
        super().__init__(form)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line and its traceback."""
        return escaped(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, without a traceback."""
        fields = {name: value for name, value in fields_of(record).items() if not name.startswith("_")}
        correlation = getattr(record, "correlation_id", None)
        if correlation:
            fields["correlation_id"] = correlation
        line = " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in fields.items())])
        colour = self._COLOURS.get(record.levelname) if self._colour else None
        return f"\x1b[{colour}m{line}\x1b[0m" if colour else line
