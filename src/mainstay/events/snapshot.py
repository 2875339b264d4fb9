"""Snapshots: an aggregate's state at a version, so that loading need not begin at its first event.

A snapshot is a cache and never trusted. It names the event that it was taken after; loading reads that event again, and
if it is not there, or is another one (a restored database, a relocated stream), the snapshot is ignored. It names the
schema of the state: what the class says (`AggregateRoot.schema_version`) and what the state looks like (a digest of its
JSON Schema); a snapshot of another schema is ignored, too. It is taken only of what was committed: of the state as it
was when the events were handed over, and kept after they were written. Losing one costs time, never data.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self
from uuid import UUID

from mainstay.errors import ConfigurationError, shown
from mainstay.events.stream import StreamId


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an aggregate after one of its events.

    Attributes:
        stream: Whose.
        version: Of that event in the stream.
        event_id: Of that event.
        schema: Of the state; see `mainstay.events.snapshot`.
        state: JSON.
    """

    stream: StreamId
    version: int
    event_id: UUID
    schema: str
    state: bytes


class SnapshotStore(Protocol):
    """Keeps the latest snapshot of each stream."""

    async def load(self, stream: StreamId, *, conn: Any = None) -> Snapshot | None:
        """The snapshot of a stream, if there is one."""
        ...

    async def save(self, snapshot: Snapshot, *, conn: Any = None) -> None:
        """Keep a snapshot instead of the older one; one that is there and newer stays."""
        ...

    async def delete(self, stream: StreamId, *, conn: Any = None) -> None:
        """Forget the snapshot of a stream, if there is one."""
        ...


class MemorySnapshotStore:
    """Snapshots in memory; transactions are taken no notice of, which a cache can bear."""

    def __init__(self) -> None:
        self._snapshots: dict[StreamId, Snapshot] = {}

    async def load(self, stream: StreamId, *, conn: Any = None) -> Snapshot | None:
        """The snapshot of a stream, if there is one."""
        del conn
        return self._snapshots.get(stream)

    async def save(self, snapshot: Snapshot, *, conn: Any = None) -> None:
        """Keep a snapshot instead of the older one; one that is there and newer stays."""
        del conn
        there = self._snapshots.get(snapshot.stream)
        if there is None or there.version <= snapshot.version or there.schema != snapshot.schema:
            self._snapshots[snapshot.stream] = snapshot

    async def delete(self, stream: StreamId, *, conn: Any = None) -> None:
        """Forget the snapshot of a stream, if there is one."""
        del conn
        self._snapshots.pop(stream, None)


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When snapshots are taken; made by `every` and `never`.

    Attributes:
        events: A snapshot is due when a stream's version passes a multiple of this; None: never.
    """

    events: int | None = None

    @classmethod
    def every(cls, events: int) -> Self:
        """A snapshot each time that a stream has grown by so many events.

        Raises:
            ConfigurationError: Not a whole number of at least 1.
        """
        if isinstance(events, bool) or not isinstance(events, int) or events < 1:
            raise ConfigurationError(f"SnapshotPolicy.every takes a number of events, at least 1, not {shown(events)}")
        return cls(events)

    @classmethod
    def never(cls) -> Self:
        """No snapshots."""
        return cls(None)

    @classmethod
    def checked(cls, policy: Any) -> Self:
        """A policy that a caller gave; None is `never`.

        Raises:
            ConfigurationError: Something else.
        """
        if policy is None:
            return cls.never()
        if not isinstance(policy, cls):
            raise ConfigurationError(
                f"snapshots takes a policy, such as SnapshotPolicy.every(100), not {shown(policy)}"
            )
        return policy

    def is_due(self, before: int, after: int) -> bool:
        """Whether a save that took a stream from one version to another is to leave a snapshot."""
        return self.events is not None and before // self.events < after // self.events
