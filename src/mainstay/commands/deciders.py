"""Deciding on many commands together: what this room asks of those who know events.

A decider has no effects, so what it decides can be thrown away and decided again, and many decisions can be committed
together. `mainstay.commands.grouping` says how that goes; one suite, `mainstay.testing.contracts.grouping`, holds every
store to what is written here.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from mainstay.commands.ledger import StreamName
from mainstay.commands.store import Outcome


class Fate(StrEnum):
    """What became of one command of a group."""

    APPLIED = "APPLIED"
    """All of it is committed: events, next commands, reply, audit, completion."""
    REPEATED = "REPEATED"
    """This lease had finished the command before: the answer to a group that is repeated after an unknown COMMIT."""
    STALE = "STALE"
    """Another lease holds the command; nothing of it was written."""
    LOCKED = "LOCKED"
    """Somebody else holds its stream; nothing of it was written."""
    MOVED = "MOVED"
    """Somebody else has appended to its stream; nothing of it was written."""
    BEHIND = "BEHIND"
    """It was decided on after a command of which nothing was written; so nothing of it was."""
    CLOSED = "CLOSED"
    """Its stream takes no more events; nothing of it was written."""

    @property
    def is_written(self) -> bool:
        """Whether it is finished."""
        return self in {Fate.APPLIED, Fate.REPEATED}


class Consequence(Protocol):
    """What follows from one command, in one stream."""

    @property
    def stream(self) -> StreamName:
        """In which."""
        ...

    @property
    def version_read(self) -> int:
        """Of the stream, when it was decided on."""
        ...

    @property
    def events(self) -> int:
        """How many."""
        ...

    @property
    def sends(self) -> Sequence[Any]:
        """What is no event: commands to send, in order."""
        ...


class Decider(Protocol):
    """One decider, with its state in memory: that of its stream, and of what was decided on since."""

    def decide(self, command: Any) -> Consequence:
        """Decide on a command; the next one is decided on with what follows from it.

        Raises:
            BaseException: What the decider raises. After a refusal (`BusinessRuleException`) it can go on as if it had
                not been asked; after anything else nobody knows its state, and it is to be forgotten.
        """
        ...

    def unchanged(self) -> Consequence:
        """That nothing follows, in the state as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Decided:
    """A command that was decided on: what is to be written, if its stream is still what it was.

    Args:
        outcome: COMPLETE, with what it sends; without a result it gets the version of the stream, and the position of
            its last event. Or what a refusal or an error comes to.
        consequence: The events, and the version that they follow.
    """

    outcome: Outcome
    consequence: Consequence


class Held(Protocol):
    """Streams in a transaction to which nobody else can append."""

    @property
    def streams(self) -> Collection[Hashable]:
        """Which."""
        ...


class Deciders(Protocol):
    """Loads many deciders at once, and commits what they have decided."""

    def check(self, kind: type) -> None:
        """Refuse what cannot be loaded.

        Raises:
            ConfigurationError: It cannot.
        """
        ...

    def stream_of(self, kind: type, aggregate_id: UUID | str) -> Hashable:
        """What names the stream of an aggregate, in the scope that this is called in.

        Raises:
            PermanentCommandError: Nothing can have this id.
        """
        ...

    async def load(
        self, wanted: Mapping[Hashable, type], *, fresh: bool = False, held: Held | None = None
    ) -> Mapping[Hashable, Decider | Exception]:
        """The deciders of streams, new ones for streams without events; of one that cannot be loaded the reason.

        One that was loaded before, and that nobody has forgotten since, may be the same.

        Args:
            wanted: Streams, and the classes of their deciders.
            fresh: With what others have appended since; else that may be missing. Never of one that has decided on what
                is not committed yet.
            held: In this transaction.

        Raises:
            StorageUnavailableError: The database cannot be reached.
        """
        ...

    def holding(self, streams: Sequence[Hashable]) -> AbstractAsyncContextManager[Held]:
        """A transaction that holds streams, as far as nobody else does; if others hold all, it waits for one.

        It is committed at the end of the block, unless that raises.

        Raises:
            WouldWaitError: Others hold all of them for too long.
            StorageUnavailableError: Whether it was committed is unknown.
        """
        ...

    async def commit(self, domain: str, group: Sequence[Decided], *, held: Held | None = None) -> Sequence[Fate]:
        """Write what can still be written of a group, in one transaction; of the rest nothing.

        Of one stream those stand in the order in which they were decided on. What is not written of a stream is not
        overtaken by what was decided on after it.

        Args:
            domain: Whose commands.
            group: All of it, each command once.
            held: In this transaction, instead of one of its own.

        Raises:
            StorageUnavailableError: Whether it was committed is unknown; it is to be repeated as it is.
            MainstayError: Something in it is refused; nothing was written.
        """
        ...

    def forget(self, deciders: Iterable[Decider]) -> None:
        """Load their streams anew when they are asked for next: what these have in memory does not come true."""
        ...

    async def close(self) -> None:
        """Finish what is done after a commit, and let go of what is held. It can be used again."""
        ...
