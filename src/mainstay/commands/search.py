"""What is looked for among all commands, and how far it was looked for."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mainstay.commands.checks import checked_time, domain_filter, type_filter
from mainstay.commands.command import CommandMetadata, Place
from mainstay.commands.lifecycle import CommandStatus
from mainstay.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which commands are looked for; None means any.

    Args:
        domain: Of this domain.
        command_type: Of this type.
        status: In this status.
        key: With this key.
        batch_id: Of this batch.
        correlation_id: Of this conversation.
        tenant_id: Of this tenant.
        since: Sent then, or later.
        until: Sent then, or earlier.
        text: With this text anywhere in the payload's JSON; A is a, and of other letters what the database's locale
            says. Asks for ``since``, too.

    Raises:
        InvalidInputError: A condition cannot be understood, or the text has no time window.
    """

    domain: str | None = None
    command_type: str | None = None
    status: CommandStatus | None = None
    key: str | None = None
    batch_id: UUID | None = None
    correlation_id: UUID | None = None
    tenant_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        """Check what a database would not understand."""
        domain_filter(self.domain)
        type_filter(self.command_type)
        checked_time(self.since, "since")
        checked_time(self.until, "until")
        for name in ("key", "tenant_id", "text"):
            if "\x00" in (getattr(self, name) or ""):
                raise InvalidInputError(f"{name} must not contain a zero character")
        if self.text is not None and self.since is None:
            raise InvalidInputError("text: to look into payloads, say since when they were sent, too")


@dataclass(frozen=True, slots=True)
class Found:
    """Commands that were found, newest first.

    Args:
        commands: Them.
        next: Where to look on; None if that was all.
        looked: How many commands were read for it.
        back_to: When the last of them was sent, if the search stopped before it had found enough or had read all.
    """

    commands: list[CommandMetadata]
    next: Place | None
    looked: int
    back_to: datetime | None
