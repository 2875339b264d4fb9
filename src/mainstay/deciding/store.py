"""What deciding in groups asks of a database that holds commands and events."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from mainstay.commands.deciders import Fate
from mainstay.commands.ledger import StreamName
from mainstay.commands.store import Outcome
from mainstay.events.log import NewEvent
from mainstay.events.reading import Tail
from mainstay.events.snapshot import Snapshot
from mainstay.events.stream import StreamId


def stream_name(stream: StreamId) -> StreamName:
    """A stream's name in texts, as the ledger keeps it."""
    return StreamName(stream.category, str(stream.id), None if stream.tenant_id is None else str(stream.tenant_id))


class StreamConsequence(NamedTuple):
    """What follows from one command; see `mainstay.commands.deciders.Consequence`.

    Args:
        stream_id: In which stream.
        version_read: Its version when it was decided on.
        written: The events, in order; none if nothing follows.
        sends: What is no event.
        snapshot: To be kept after the COMMIT.
        name: Of the stream, if it is known already.
    """

    stream_id: StreamId
    version_read: int
    written: tuple[NewEvent, ...] = ()
    sends: Sequence[Any] = ()
    snapshot: Snapshot | None = None
    name: StreamName | None = None

    @property
    def stream(self) -> StreamName:
        """In which stream, as the ledger names it."""
        return stream_name(self.stream_id) if self.name is None else self.name

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


@dataclass(frozen=True, slots=True)
class HeldStreams:
    """Streams in a transaction to which nobody else can append.

    Args:
        streams: Which.
        conn: The transaction, as the log of events knows it.
        commands: The transaction, as the store of commands knows it.
        found: Of some of them what was read as soon as they were held.
        snapshots: To be kept after the COMMIT.
    """

    streams: Collection[StreamId]
    conn: Any
    commands: Any = None
    found: Mapping[StreamId, Tail] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)


class GroupStore(Protocol):
    """Commits groups; `mainstay.commands.deciders.Deciders.commit` says what that means."""

    def holding(
        self, streams: Sequence[StreamId], after: Mapping[StreamId, int] | None = None
    ) -> AbstractAsyncContextManager[HeldStreams]:
        """A transaction that holds streams, as far as nobody else does; if others hold all, it waits for one.

        `commit` commits it, and nothing more may be done in the block. A stream that was never written cannot be held,
        and is among those that are.

        Args:
            streams: Which.
            after: Of some of them a version: what comes after it may be read in the same round trip.

        Raises:
            WouldWaitError: Others hold all of them for too long.
            StorageUnavailableError: The database cannot be reached.
        """
        ...

    async def commit(self, domain: str, group: Sequence[ToCommit], *, held: HeldStreams | None = None) -> list[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing.

        Args:
            domain: Whose commands, each once.
            group: Those of one stream in the order in which they were decided on, each at the version after the one
                before it.
            held: In this transaction, which it commits, instead of one of its own.

        Raises:
            StorageUnavailableError: Whether it was committed is unknown; it may be repeated as it is.
            WouldWaitError: Somebody makes the same stream, or holds alone what it would append; nothing was written.
            MainstayError: Something in it is refused; nothing was written.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held. It can be used again."""
        ...
