"""What goes into a queue and what comes out of it: the values, and the checks before they reach SQL.

Shared by the client and by the fake that stands in for it in unit tests, so that both refuse the same things.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mainstay.errors import InvalidInputError, shown
from mainstay.retry import as_seconds
from mainstay.serialization import to_json

_LARGEST_INTEGER = 2**31 - 1
_LARGEST_BIGINT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PgmqMessage:
    """A message as it was read.

    Args:
        msg_id: Its number in the queue.
        read_count: How often it was read, this time included.
        enqueued_at: When it was sent.
        vt: Until when nobody else sees it.
        message: The JSON value that was sent.
        headers: The JSON object sent along, if any.
        last_read_at: When it was read, where PGMQ records it (1.10 and newer).
    """

    msg_id: int
    read_count: int
    enqueued_at: datetime
    vt: datetime
    message: Any
    headers: dict[str, Any] | None = None
    last_read_at: datetime | None = None

    @property
    def read_ct(self) -> int:
        """`read_count` under the name of PGMQ's column."""
        return self.read_count


@dataclass(frozen=True, slots=True)
class PgmqQueue:
    """A queue as PGMQ lists it."""

    queue_name: str
    is_partitioned: bool
    is_unlogged: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PgmqMetrics:
    """A queue in numbers, under the names of PGMQ's columns.

    Args:
        queue_name: The queue.
        queue_length: Messages in it, visible or not; archived ones are not counted.
        oldest_msg_age_sec: Seconds since the oldest of them was sent; None if there is none.
        newest_msg_age_sec: Seconds since the newest of them was sent; None if there is none.
        total_messages: How many were ever sent.
        scrape_time: When this was read.
        queue_visible_length: Messages that a read would find now.
    """

    queue_name: str
    queue_length: int
    oldest_msg_age_sec: int | None
    newest_msg_age_sec: int | None
    total_messages: int
    scrape_time: datetime
    queue_visible_length: int


def checked_seconds(duration: timedelta | float) -> float:
    """Seconds of a duration that PGMQ can add to a time.

    Raises:
        ConfigurationError: Not a duration, negative, or more than a century.
        InvalidInputError: More than 68 years.
    """
    seconds = as_seconds(duration)
    if seconds > _LARGEST_INTEGER:
        raise InvalidInputError(f"a duration of {seconds:g} seconds is too long; {_LARGEST_INTEGER} is the limit")
    return seconds


def checked_lease(duration: timedelta | float) -> int:
    """Whole seconds of a visibility timeout, rounded up: a lease may be longer than asked, never shorter.

    Raises:
        ConfigurationError: Not a duration, or negative.
        InvalidInputError: More than 68 years.
    """
    return math.ceil(checked_seconds(duration))


def checked_count(value: object, name: str) -> int:
    """A number of messages: 1 to 2^31 - 1.

    Raises:
        InvalidInputError: Anything else; the message names the argument.
    """
    return _checked_integer(value, name, _LARGEST_INTEGER)


def checked_msg_id(value: object) -> int:
    """The number of a message: what PGMQ counts from 1, or, of an urgent command, a negative one.

    Raises:
        InvalidInputError: Anything else.
    """
    if isinstance(value, int) and -_LARGEST_BIGINT <= value < 0:
        return value
    return _checked_integer(value, "msg_id", _LARGEST_BIGINT)


def _checked_integer(value: object, name: str, largest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise InvalidInputError(f"{name} must be a whole number from 1 to {largest}, not {shown(value)}")
    return value


def written_batch(
    messages: Sequence[Any], headers: Sequence[Mapping[str, Any] | None] | None
) -> tuple[list[bytes], list[bytes | None] | None]:
    """Messages of a batch and their headers as JSON.

    Raises:
        InvalidPayloadError: One of them cannot be stored; the error says which.
        InvalidInputError: There are not as many headers as messages.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InvalidInputError(f"messages must be a list, not {type(messages).__name__}")
    documents = [to_json(one, what=f"messages[{index}]") for index, one in enumerate(messages)]
    if headers is None:
        return documents, None
    if len(headers) != len(documents):
        raise InvalidInputError(f"{len(documents)} messages need as many headers, not {len(headers)}")
    return documents, [written_headers(one, f"headers[{index}]") for index, one in enumerate(headers)]


def written_headers(headers: Mapping[str, Any] | None, what: str = "headers") -> bytes | None:
    """Headers as JSON.

    Raises:
        InvalidPayloadError: They cannot be stored.
    """
    return None if headers is None else to_json(headers, what=what)
