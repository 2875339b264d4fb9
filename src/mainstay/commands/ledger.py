"""The ledger of decisions: what each handler on an aggregate had read, and what followed from its command.

Promises. A command whose handler decided on an aggregate has one entry from the moment it is COMPLETED or FAILED. It is
written in the transaction that ends the command: the stream and the version that was read, how many events followed
(they have the next versions), the next commands, and the handler with its version. The reply stands in the command. A
refusal is a decision too: no events followed. Whoever was overtaken and decided again has the entry of the decision
that counted.

Entries are never changed. They outlive the payload, and go when the command itself is forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from mainstay.commands.command import Reply
from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.serialization import storable

HandlerVersion: TypeAlias = int | str
"""A whole number, or a short text."""
FIRST_VERSION = "1"
"""Of a handler that says none."""
_LONGEST_VERSION = 50


class StreamName(NamedTuple):
    """A stream of events, as the ledger names it."""

    category: str
    stream_id: str
    tenant_id: str | None = None


class NewDecision(NamedTuple):
    """What a handler decided, on its way in.

    Args:
        stream: Of the aggregate.
        version_read: Its version when it was loaded.
        events: How many were appended.
        handler: Who decided: module and name of the function, or of the decider.
        handler_version: Of its code.
        sends: Domain and id of the next commands, in order.
    """

    stream: StreamName
    version_read: int
    events: int
    handler: str
    handler_version: str
    sends: tuple[tuple[str, UUID], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on a command.

    Args:
        number: Grows in the order in which commands were sent.
        domain: Of the command.
        command_id: Which.
        command_type: Its type.
        decided_at: When.
        handler: Who decided: module and name of the function, or of the decider.
        handler_version: As it was registered.
        stream: Of the aggregate.
        version_read: Its version when it was loaded.
        events: How many followed; they have the versions ``version_read + 1`` to ``version``.
        sends: Domain and id of the next commands, in order.
        reply: How the command ended.
    """

    number: int
    domain: str
    command_id: UUID
    command_type: str
    decided_at: datetime
    handler: str
    handler_version: str
    stream: StreamName
    version_read: int
    events: int
    sends: tuple[tuple[str, UUID], ...]
    reply: Reply | None

    @property
    def version(self) -> int:
        """Of the stream, after it."""
        return self.version_read + self.events


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions to list; None means any. ``since`` is included, ``until`` is not."""

    domain: str | None = None
    command_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    stream: StreamName | None = None


class LedgerStore(Protocol):
    """What is asked of a database about decisions."""

    async def get(self, domain: str, command_id: UUID) -> Decision | None:
        """What was decided on a command; None if nothing was."""
        ...

    async def list(self, which: DecisionFilter, *, after: int, limit: int) -> Sequence[Decision]:
        """Decisions with higher numbers than ``after``, in order."""
        ...


def checked_stream(stream: StreamName | None) -> StreamName | None:
    """A stream to ask for, or None.

    Raises:
        InvalidInputError: Something else.
    """
    if stream is not None and not isinstance(stream, StreamName):
        raise InvalidInputError(
            f"a stream is named by a StreamName, such as StreamName('Order', '17'), not {shown(stream)}"
        )
    return stream


def checked_version(version: HandlerVersion | None) -> str | None:
    """The version of a handler, as the ledger keeps it.

    Raises:
        ConfigurationError: Neither a whole number, not below 0, nor a short text.
    """
    if version is None:
        return None
    is_number = isinstance(version, int) and not isinstance(version, bool) and version >= 0
    is_text = isinstance(version, str) and 0 < len(version) <= _LONGEST_VERSION
    if not (is_number or is_text) or storable(str(version)) != str(version):
        raise ConfigurationError(
            f"version must be a whole number, or a text of at most {_LONGEST_VERSION} characters, not {shown(version)}"
        )
    return str(version)
