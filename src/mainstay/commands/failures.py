"""Failures that are alike: what an operator looks at when many commands wait.

A failure belongs to the group of its domain, command type, error type, error code and *fingerprint*: what its message
says apart from whom it is about. ``order 17 was not found`` and ``order 18 was not found`` have one fingerprint. The
database writes it beside the command when it comes to the troubleshooting queue, so counting groups reads no command.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from mainstay.commands.command import TroubleshootingItem

_READ = 2000
"""Characters of a message that its fingerprint goes by."""
_QUOTED = re.compile(r"\"[^\"]*\"|(?<![A-Za-z])'[^']*'")
_NUMBERED = re.compile(r"[A-Za-z0-9_.:/-]*[0-9][A-Za-z0-9_.:/-]*")
_SPACES = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Commands in the troubleshooting queue that failed alike.

    Args:
        group_id: A short name for the five that follow it; the same for ever.
        domain: Whose commands.
        command_type: Which of them.
        error_type: TRANSIENT, PERMANENT.
        error_code: What the handlers said.
        fingerprint: What they all said in words; see `fingerprint`.
        commands: How many.
        first_seen: Since when the longest waiting of them waits.
        last_seen: Since when the newest of them waits.
        example_id: The newest of them.
        example_message: What it said.
    """

    group_id: str
    domain: str
    command_type: str
    error_type: str | None
    error_code: str | None
    fingerprint: str
    commands: int
    first_seen: datetime
    last_seen: datetime
    example_id: UUID
    example_message: str | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which commands of the troubleshooting queue; all conditions must hold, None means any.

    Args:
        domain: Of this domain.
        command_type: Of this type.
        error_code: With this error code.
        group_id: Of this failure group.
        batch_id: Of this batch.
        command_ids: Only these.
    """

    domain: str | None = None
    command_type: str | None = None
    error_code: str | None = None
    group_id: str | None = None
    batch_id: UUID | None = None
    command_ids: tuple[UUID, ...] | None = None


class Waiting(NamedTuple):
    """Where a command stands among those that wait for an operator, the longest waiting first."""

    since: datetime
    command_id: UUID
    domain: str

    @classmethod
    def of(cls, item: TroubleshootingItem) -> "Waiting":
        """That of a command."""
        return cls(item.updated_at, item.command_id, item.domain)


@dataclass(frozen=True, slots=True)
class Kind:
    """Commands in the troubleshooting queue whose payloads are alike in form.

    Args:
        domain: Whose commands.
        command_type: Which of them.
        headers: What they say of the payload's version; empty if nothing.
    """

    domain: str
    command_type: str
    headers: dict[str, Any]


class FailureStore(Protocol):
    """What grouping asks of a database."""

    async def list_kinds(self, which: Selection) -> list[Kind]:
        """The forms of payload that a selection has, by domain, type and version."""
        ...

    async def list_groups(self, which: Selection) -> list[FailureGroup]:
        """What waits for an operator, by what went wrong, the largest group first."""
        ...


def fingerprint(message: str | None) -> str:
    """What an error message says apart from whom it is about, as a hash: 12 hexadecimal digits.

    Left out: words with digits in them (numbers, ids, dates, addresses) and quoted parts. The memory store's reading of
    the SQL function of this name; the contract compares the two.
    """
    normal = _QUOTED.sub("?", (message or "")[:_READ])
    normal = _SPACES.sub(" ", _NUMBERED.sub("?", normal))
    return hashlib.sha256(normal.encode()).hexdigest()[:12]


def group_id(domain: str, command_type: str, error_type: str | None, error_code: str | None, found: str) -> str:
    """The id of a failure group.

    Args:
        domain: Whose commands.
        command_type: Which of them.
        error_type: TRANSIENT, PERMANENT.
        error_code: What the handlers said.
        found: The fingerprint of the message.
    """
    key = "\x1f".join((domain, command_type, error_type or "", error_code or "", found))
    return hashlib.sha256(key.encode()).hexdigest()[:12]
