"""What deciding in groups asks of a database that holds commands and events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mainstay.commands.deciders import Fate
from mainstay.commands.ledger import StreamName
from mainstay.commands.store import Outcome
from mainstay.events.log import NewEvent
from mainstay.events.snapshot import Snapshot
from mainstay.events.stream import StreamId


@dataclass(frozen=True, slots=True)
class StreamConsequence:
    """What follows from one command; see `mainstay.commands.deciders.Consequence`.

    Args:
        stream_id: In which stream.
        version_read: Its version when it was decided on.
        written: The events, in order; none if nothing follows.
        sends: What is no event.
        snapshot: To be kept after the COMMIT.
    """

    stream_id: StreamId
    version_read: int
    written: tuple[NewEvent, ...] = ()
    sends: Sequence[Any] = ()
    snapshot: Snapshot | None = None

    @property
    def stream(self) -> StreamName:
        """In which stream, as the ledger names it."""
        stream = self.stream_id
        tenant_id = None if stream.tenant_id is None else str(stream.tenant_id)
        return StreamName(stream.category, str(stream.id), tenant_id)

    @property
    def events(self) -> int:
        """How many."""
        return len(self.written)

    @property
    def version(self) -> int:
        """That of the stream after it."""
        return self.version_read + len(self.written)


class ToCommit(NamedTuple):
    """What is to be written of one command."""

    outcome: Outcome
    consequence: StreamConsequence


class GroupStore(Protocol):
    """Commits groups; `mainstay.commands.deciders.Deciders.commit` says what that means."""

    async def commit(self, domain: str, group: Sequence[ToCommit]) -> list[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing.

        Args:
            domain: Whose commands, each once.
            group: Those of one stream in the order in which they were decided on, each at the version after the one
                before it.

        Raises:
            StorageUnavailableError: Whether it was committed is unknown; it may be repeated as it is.
            WouldWaitError: Somebody makes the same stream, or holds alone what it would append; nothing was written.
            MainstayError: Something in it is refused; nothing was written.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held. It can be used again."""
        ...
