"""Messages: what a bus carries."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from pydantic_core import from_json

DEAD_LETTER = "dead-letter-"
"""What the names of headers begin with that tell why a message lies apart."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be told to others: an event, as a rule.

    Attributes:
        id: Of the event; the same however often it is delivered.
        stream: What its order is kept within.
        version: Its number in the stream, from 1.
        position: Its place in the feed that it comes from.
        type: What happened.
        payload: Its data: JSON, as it was stored.
        headers: What else is to be known: texts by name. A relay's are listed in `mainstay.relay`.
    """

    id: UUID
    stream: str
    version: int
    position: int
    type: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Any:
        """The payload, parsed.

        Raises:
            ValueError: It is no JSON.
        """
        return from_json(self.payload)

    def laid_apart(self, group: str, error: BaseException, attempts: int) -> "Message":
        """The same as a dead letter, which tells why in its headers: ``dead-letter-error`` and its sisters."""
        why = {
            "group": group,
            "error": str(error)[:2_000],
            "error-type": type(error).__name__,
            "attempts": str(attempts),
        }
        return replace(self, headers={**self.headers, **{DEAD_LETTER + name: value for name, value in why.items()}})

    def restored(self) -> "Message":
        """The same as it was before it was laid apart."""
        kept = {name: value for name, value in self.headers.items() if not name.startswith(DEAD_LETTER)}
        return replace(self, headers=kept)


def partition_of(stream: str, partitions: int) -> int:
    """Which part of a topic takes a stream's messages: the CRC-32 of its name in UTF-8, modulo their number."""
    return 0 if partitions == 1 else zlib.crc32(stream.encode()) % partitions
