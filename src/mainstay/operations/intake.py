"""Commands out of a JSON Lines file: one object a line, checked before anything is sent.

A line without ``command_id`` gets one that is derived from the file's name, the line's number and the line itself, so
that the same file sent again is the same commands again: known ones are refused, or left out if asked for. A line that
was changed or moved is another command.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final
from uuid import UUID, uuid5

from mainstay.commands.checks import checked_request
from mainstay.commands.command import SendRequest
from mainstay.errors import CommandError, InvalidInputError, InvalidPayloadError, MainstayError
from mainstay.message import checked_id
from mainstay.retry import DEFAULT_MAX_ATTEMPTS
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT, from_json

LONGEST_LINE: Final = 4 * 1024 * 1024
"""Bytes."""
_IDS: Final = UUID("8f1d9c1e-58a4-5b1c-9f0e-2f6f3a8f6c11")
_REQUIRED: Final = ("domain", "command_type", "data")
_OPTIONAL: Final = (
    "command_id", "correlation_id", "reply_to", "max_attempts", "batch_id", "delay", "not_before", "headers",
    "key", "priority", "expires_at", "unique_key", "unique_for", "on_conflict",
    "causation_id", "tenant_id", "actor_id",
)  # fmt: skip
_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1
_DIGITS: Final = 20
_BOM: Final = b"\xef\xbb\xbf"
_PLACE: Final = re.compile(r": line 1 (column \d+) \(char \d+\)$")  # of one line there is only its column to tell


class LineError(MainstayError):
    """What is wrong with a line of a file.

    Args:
        source: Name of the file.
        number: Which line, counted from 1.
        problem: What is wrong with it.
    """

    def __init__(self, source: str, number: int, problem: str) -> None:
        self.source = source
        self.number = number
        super().__init__(f"{source}, line {number}: {problem}")


class InvalidLineError(LineError, InvalidInputError):
    """A line that cannot be accepted."""


class RefusedLineError(LineError, CommandError):
    """A line that is fine by itself but that the database refused."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command and the line it stands on."""

    number: int
    request: SendRequest


def read_lines(file: BinaryIO, source: str) -> Iterator[Line]:
    """Commands of a file, one at a time; empty lines are passed over.

    Args:
        file: Open for reading bytes.
        source: Its name, for errors and for ids.

    Raises:
        InvalidLineError: A line cannot be accepted.
    """
    for number, text in raw_lines(file, source, LONGEST_LINE):
        try:
            yield Line(number, parse_line(text, source, number))
        except InvalidInputError as error:
            raise InvalidLineError(source, number, str(error)) from error


def raw_lines(file: BinaryIO, source: str, longest: int) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not empty, without white space around them, each with its number.

    Args:
        file: Open for reading bytes.
        source: Its name, for errors.
        longest: Bytes that a line may have.

    Raises:
        InvalidLineError: A line is longer.
    """
    number = 0
    while raw := file.readline(longest + 1):
        number += 1
        if len(raw) > longest:
            raise InvalidLineError(source, number, f"longer than {longest:,} bytes")
        if text := raw.removeprefix(_BOM).strip():
            yield number, text


def read_chunks(file: BinaryIO, source: str, size: int) -> Iterator[list[Line]]:
    """`read_lines` in lists of ``size``, the last one shorter."""
    chunk: list[Line] = []
    for line in read_lines(file, source):
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def parse_line(text: bytes, source: str, number: int) -> SendRequest:
    """The command that a line describes.

    Args:
        text: The line, without white space around it.
        source: Name of its file.
        number: Its number there.

    Raises:
        InvalidInputError: It cannot be accepted; the message names the field.
    """
    try:
        fields = exact_json(text)
    except InvalidInputError as error:
        raise InvalidInputError(_PLACE.sub(r" at \1", str(error))) from error
    if not isinstance(fields, dict):
        raise InvalidInputError(f"a command is a JSON object, not {_kind(fields)}")
    unknown = [name for name in fields if name not in _REQUIRED and name not in _OPTIONAL]
    if unknown:
        raise InvalidInputError(
            f"unknown field {unknown[0]!r}; there are {', '.join(_REQUIRED)} and, if needed, {', '.join(_OPTIONAL)}"
        )
    missing = [name for name in _REQUIRED if name not in fields]
    if missing:
        raise InvalidInputError(f"{missing[0]!r} is missing")
    request = SendRequest(
        domain=fields["domain"],
        command_type=fields["command_type"],
        command_id=_id(fields, "command_id") or derived_id(source, number, text),
        data=fields["data"],
        correlation_id=_id(fields, "correlation_id"),
        reply_to=fields.get("reply_to"),
        max_attempts=fields.get("max_attempts"),
        batch_id=_id(fields, "batch_id"),
        delay=fields.get("delay"),
        not_before=_time(fields, "not_before"),
        headers=fields.get("headers"),
        key=fields.get("key"),
        priority=fields.get("priority", 0),
        expires_at=_time(fields, "expires_at"),
        unique_key=fields.get("unique_key"),
        unique_for=fields.get("unique_for"),
        on_conflict=fields.get("on_conflict", "refuse"),
        causation_id=_id(fields, "causation_id"),
        tenant_id=fields.get("tenant_id"),
        actor_id=fields.get("actor_id"),
    )
    if fields["data"] is None:
        raise InvalidInputError("data must be a JSON object, not null")
    try:
        checked_request(request, default_max_attempts=DEFAULT_MAX_ATTEMPTS, payload_limit=DEFAULT_PAYLOAD_LIMIT)
    except OverflowError as error:
        raise InvalidInputError(f"delay or not_before is out of range: {error}") from error
    return request


def exact_json(document: bytes) -> Any:
    """The value of a JSON document, with every integer as it was written.

    orjson, which reads everything else, makes a float of an integer beyond 64 bits and so changes it silently. Such
    integers are refused here, as they are in Python.

    Raises:
        InvalidPayloadError: Not JSON, or an integer does not fit in 64 bits.
    """
    found = from_json(document)
    if _LONG_NUMBER.search(document):
        json.loads(document, parse_int=_checked_integer)
    return found


def _checked_integer(digits: str) -> int:
    if len(digits.lstrip("-")) <= _DIGITS and _SMALLEST <= (number := int(digits)) <= _LARGEST:
        return number
    raise InvalidPayloadError(f"the integer {digits:.40} does not fit in 64 bits; send it as text")


def derived_id(source: str, number: int, text: bytes) -> UUID:
    """The id of a line that brings none."""
    return uuid5(_IDS, f"{source}\n{number}\n{text.decode('utf-8', 'replace')}")


def blame(error: MainstayError, chunk: list[Line], source: str) -> RefusedLineError | None:
    """The line of a chunk that the database refused; None if the error is about none of them.

    Args:
        error: What sending the chunk raised.
        chunk: What was sent.
        source: Name of the file.
    """
    wanted = {
        "command_id": getattr(error, "command_id", None),
        "batch_id": getattr(error, "batch_id", None),
        "reply_to": getattr(error, "queue", None),
    }
    for name, value in wanted.items():
        fitting = [line for line in chunk if value is not None and getattr(line.request, name) == value]
        if fitting:  # of two with one id the second is the duplicate
            return RefusedLineError(source, fitting[-1].number, str(error))
    return None


def _id(fields: dict[str, Any], name: str) -> UUID | None:
    value = fields.get(name)
    return None if value is None else checked_id(value, name)


def _time(fields: dict[str, Any], name: str) -> datetime | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            time.astimezone(UTC)  # overflows where no clock in UTC could show it
    except OverflowError:
        raise InvalidInputError(f"{name} is out of range: {value}") from None
    except (TypeError, ValueError):
        raise InvalidInputError(f"{name} must be a time such as 2030-01-31T12:00:00+00:00, not {value!r:.80}") from None
    return time


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
