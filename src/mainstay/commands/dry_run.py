"""What a dry run tells: what a command would do, as values."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mainstay.commands.aggregates import RaisedEvent
from mainstay.commands.ledger import StreamName
from mainstay.commands.store import Verb


@dataclass(frozen=True, slots=True)
class TriedSend:
    """A command that would be sent.

    Args:
        domain: Who would handle it.
        command_type: Name of the handler.
        command_id: As it would be; a derived id is the same in every run.
        data: The payload.
        is_known: It was sent before, so nothing would be.
    """

    domain: str
    command_type: str
    command_id: UUID
    data: Any
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class TriedRow:
    """A row that would be inserted or updated.

    Args:
        before: As it stands; None if it does not.
        after: As it would stand.
    """

    before: dict[str, Any] | None
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TriedTable:
    """What would be changed in a table that is not mainstay's: by inline projections, or by the handler.

    Args:
        table: With its schema.
        inserted: How often a row would be inserted.
        updated: How often one would be updated.
        deleted: How often one would be deleted.
        rows: What would stand there: the first of them; none if the table is too large to look for them.
    """

    table: str
    inserted: int
    updated: int
    deleted: int
    rows: tuple[TriedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a command would do.

    Args:
        domain: Of the command.
        command_id: Which.
        command_type: Its type.
        verb: COMPLETE; FAIL: refused by a business rule; RETRY: the handler failed; TROUBLESHOOT: for good.
        reply: What a COMPLETE would reply.
        error_code: Of anything else.
        error_message: Of anything else.
        stream: Of the aggregate; None if the handler has none.
        version_read: The version that was decided on.
        events: What would be appended, in order.
        sends: What would be sent, in order.
        changes: What else would be changed.
        replies_itself: The handler gave the reply; else it says the version of the stream.
    """

    domain: str
    command_id: UUID
    command_type: str
    verb: Verb
    reply: Any = None
    error_code: str | None = None
    error_message: str | None = None
    stream: StreamName | None = None
    version_read: int | None = None
    events: tuple[RaisedEvent, ...] = ()
    sends: tuple[TriedSend, ...] = ()
    changes: tuple[TriedTable, ...] = ()
    replies_itself: bool = False
