"""Events as JSON Lines: what `mainstay events export` writes, and `mainstay events import` reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final
from uuid import UUID

import orjson
from pydantic_core import from_json, to_json

from mainstay.deciding.store import stream_name
from mainstay.errors import EventError, InvalidInputError
from mainstay.events import checks
from mainstay.events.log import NewEvent, RecordedEvent
from mainstay.events.stream import LARGEST_VERSION, StreamId
from mainstay.message import checked_id
from mainstay.operations.intake import InvalidLineError, LineError, derived_id, raw_lines
from mainstay.storage.postgres.event_intake import PlacedEvent

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes."""
_REQUIRED: Final = ("category", "stream_id", "event_type", "occurred_at", "payload")
_OPTIONAL: Final = (
    "tenant_id", "version", "event_id", "event_version", "correlation_id", "causation_id", "actor_id", "metadata",
    "tags", "tombstoned",
)  # fmt: skip
_PASSED_OVER: Final = ("position", "recorded_at")
"""What only the log that an event comes from can say."""


class RefusedEventLineError(LineError, EventError):
    """A line that is fine by itself, but whose event cannot stand where it stood."""


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event and the line it stands on.

    Attributes:
        number: Of the line.
        placed: The event; None if its stream was tombstoned, so that nothing is left of it.
    """

    number: int
    placed: PlacedEvent | None


def document_of(recorded: RecordedEvent, *, full: bool = True) -> dict[str, Any]:
    """What is stored of an event, as a JSON object.

    Args:
        recorded: The event.
        full: With payload and metadata.
    """
    event = recorded.event
    document: dict[str, Any] = {
        "position": recorded.position,
        **stream_name(recorded.stream)._asdict(),
        "version": recorded.version,
        "event_id": str(event.event_id),
        "event_type": event.event_type,
        "event_version": event.event_version,
        "occurred_at": event.occurred_at.isoformat(),
        "recorded_at": recorded.recorded_at.isoformat(),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "actor_id": event.actor_id,
        "tags": list(event.tags),
        "tombstoned": recorded.tombstoned,
    }
    if full:
        document["metadata"] = None if event.metadata is None else _on_one_line(event.metadata)
        document["payload"] = _on_one_line(event.payload)
    return document


def line_of(recorded: RecordedEvent) -> bytes:
    """The line of an event: what it does not have is left out."""
    document = document_of(recorded)
    kept = {name: value for name, value in document.items() if value is not None and value is not False and value != []}
    return orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE)


def _on_one_line(document: bytes) -> orjson.Fragment:
    """A JSON document just as it is stored, unless somebody wrote it by hand on several lines."""
    is_broken = b"\n" in document or b"\r" in document
    return orjson.Fragment(to_json(from_json(document)) if is_broken else document)


def read_chunks(file: BinaryIO, source: str, size: int) -> Iterator[list[EventLine]]:
    """The events of a file in lists of ``size``, the last one shorter.

    Args:
        file: Open for reading bytes.
        source: Its name, for errors and for ids.
        size: Events in a list.

    Raises:
        InvalidLineError: A line cannot be accepted; the events before it in its list are not given out.
    """
    chunk: list[EventLine] = []
    for number, text in raw_lines(file, source, LONGEST_LINE):
        try:
            chunk.append(EventLine(number, parse_event(text, source, number)))
        except InvalidInputError as error:
            raise InvalidLineError(source, number, str(error)) from error
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def parse_event(text: bytes, source: str, number: int) -> PlacedEvent | None:
    """The event that a line describes; None if its stream was tombstoned.

    Args:
        text: The line.
        source: Name of its file.
        number: Its number there.

    Raises:
        InvalidInputError: It cannot be accepted; the message names the field.
    """
    try:
        fields = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        problem = str(error).replace(" at line 1 column", " at column")
        raise InvalidInputError(f"not valid JSON: {problem}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError("an event is a JSON object")
    allowed = (*_REQUIRED, *_OPTIONAL, *_PASSED_OVER)
    if unknown := [name for name in fields if name not in allowed]:
        raise InvalidInputError(
            f"unknown field {unknown[0]!r}; there are {', '.join(_REQUIRED)} and, if needed, {', '.join(_OPTIONAL)}"
        )
    if missing := [name for name in _REQUIRED if fields.get(name) is None]:
        raise InvalidInputError(f"{missing[0]!r} is missing")
    stream = StreamId(fields["category"], fields["stream_id"], fields.get("tenant_id"))
    if fields.get("tombstoned"):
        return None
    if (version := fields.get("version")) is not None:
        checks.check_number(version, "version", 1, LARGEST_VERSION)
    event = NewEvent(
        _id(fields, "event_id") or derived_id(source, number, text),
        fields["event_type"],
        to_json(fields["payload"]),
        _time(fields["occurred_at"]),
        1 if fields.get("event_version") is None else fields["event_version"],
        _id(fields, "correlation_id"),
        _id(fields, "causation_id"),
        fields.get("actor_id"),
        None if fields.get("metadata") is None else to_json(fields["metadata"]),
        _tags(fields.get("tags")),
    )
    checks.check_event(event)
    return PlacedEvent(stream, version, event)


def _id(fields: dict[str, Any], name: str) -> UUID | None:
    value = fields.get(name)
    return None if value is None else checked_id(value, name)


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidInputError("tags must be an array of texts")
    return tuple(value)


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        message = f"occurred_at must be a time such as 2030-01-31T12:00:00+00:00, not {value!r:.80}"
        raise InvalidInputError(message) from None
