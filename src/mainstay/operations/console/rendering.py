"""Templates, and what makes text harmless on its way into them.

Everything that a template prints is escaped (Jinja's autoescape, never switched off), and characters that would not be
seen, or would turn the order of those beside them, are printed as what they are: ``U+202E``. That is done to every text
that is printed, by the environment itself; a template cannot forget it.
"""

import hashlib
import json
import re
import shlex
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mainstay.commands.lifecycle import CommandStatus

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"

STATUS_WORDS: Final[dict[str, str]] = {
    CommandStatus.PENDING: "pending",
    CommandStatus.IN_PROGRESS: "in progress",
    CommandStatus.COMPLETED: "completed",
    CommandStatus.FAILED: "failed",
    CommandStatus.CANCELED: "canceled",
    CommandStatus.IN_TROUBLESHOOTING_QUEUE: "troubleshooting",
}
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BRIEF: Final = 24
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def seen(text: str) -> str:
    """A text all of whose characters are seen: control characters and marks of direction are named."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def escaped(document: str) -> str:
    """JSON text that says the same with what would not be seen escaped, to be edited and sent back."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", document.replace("\r\n", "\n"))


def _finalized(value: Any) -> Any:
    """What is printed for a value; of nothing, nothing."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    return seen(str(value))


def as_json(value: Any) -> str:
    """A JSON value, indented."""
    return to_json(value, indent=True).decode()


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """A value as JSON, however deep it is."""
    option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=plain, option=option)
    except orjson.JSONEncodeError:  # deeper than it goes: a payload may be as deep, and an answer is around that
        return json.dumps(value, default=_unfolded, indent=2 if indent else None, ensure_ascii=False).encode()


def json_line(value: Any) -> str:
    """A JSON value on one line."""
    return orjson.dumps(value, default=plain, option=orjson.OPT_NON_STR_KEYS).decode()


def one_line(value: dict[str, Any] | None) -> str:
    """A JSON object on one line; what is null is left out."""
    kept = {name: each for name, each in (value or {}).items() if each is not None}
    return ", ".join(
        f"{name.replace('_', ' ')}: {each if isinstance(each, str) else to_json(each).decode()}"
        for name, each in kept.items()
    )


def plain(value: Any) -> Any:
    """For JSON, what it does not know."""
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def _unfolded(value: Any) -> Any:
    """For JSON, what the standard library does not know."""
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return value.isoformat() if isinstance(value, datetime) else plain(value)


def number(value: float | None) -> str:
    """A whole number with separators."""
    return "" if value is None else f"{value:,.0f}"


def figure(value: float | None) -> Markup:
    """A whole number in a table: where there is nothing to count it stands back, so that the others are seen."""
    return Markup('<span class="nil">0</span>') if value == 0 else Markup(number(value))  # noqa: S704  # digits


def length(seconds: float | None) -> str:
    """A length of time in one unit: 340 ms, 12 s, 3 min, 2 h, 5 d."""
    if seconds is None:
        return ""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:.0f} ms"


def when(moment: datetime | None) -> Markup:
    """A time: how long ago, and on hover exactly; the script turns it into the viewer's zone."""
    if moment is None:
        return Markup("")
    since = (datetime.now(UTC) - moment).total_seconds()
    said = f"{length(since)} ago" if since >= 0 else f"in {length(-since)}"
    exact = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, said)


def status_word(status: str | None) -> str:
    """A status as people say it."""
    return STATUS_WORDS.get(status or "", (status or "").replace("_", " ").lower())


def status_mark(status: str | None) -> Markup:
    """A status with its color; the word stands beside it for whoever does not see that."""
    kind = re.sub(r"[^a-z]", "-", status_word(status))
    return Markup('<span class="status {0}">{1}</span>').format(kind, seen(status_word(status)))


def short(value: UUID | str | None) -> str:
    """The beginning of an id, which is enough to tell those on one page apart."""
    return "" if value is None else str(value)[:8]


def brief(value: UUID | str | None) -> str:
    """An id that fits in a table: of a UUID its beginning, of others what is no longer than that of most."""
    text = "" if value is None else str(value)
    return short(text) if _UUID.fullmatch(text) else text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"


@cache
def environment() -> Environment:
    """The templates."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "json": as_json,
        "json_line": json_line,
        "one_line": one_line,
        "number": number,
        "figure": figure,
        "length": length,
        "when": when,
        "status": status_mark,
        "status_word": status_word,
        "quoted": shlex.quote,
        "short": short,
        "brief": brief,
    }
    made.globals |= {"statuses": [status.value for status in CommandStatus]}
    return made


@cache
def asset_version() -> str:
    """Changes when a static file does, so that browsers may keep them for long."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
