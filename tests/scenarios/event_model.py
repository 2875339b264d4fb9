"""The model that the machine of `event_machine` holds a log of events to: lists, and the rules of the protocol."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mainstay.errors import (
    AppendConditionError,
    DuplicateEventError,
    EventError,
    OptimisticLockError,
    StreamArchivedError,
    StreamTombstonedError,
)
from mainstay.events.log import Condition, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.testing.contracts.events.base import ids


@dataclass
class Known:
    """What the model knows of an event."""

    event_id: UUID
    event_type: str
    tags: frozenset[str]
    position: int = 0


@dataclass
class Stream:
    """What the model knows of a stream."""

    events: list[Known] = field(default_factory=list)
    last: list[UUID] = field(default_factory=list)
    """The ids that were appended last."""
    archived: bool = False
    tombstoned: str | None = None
    """The reason."""


@dataclass(eq=False)
class Open:
    """An open transaction: the streams that it has touched, as it sees them."""

    block: Any
    conn: Any
    streams: dict[StreamId, Stream] = field(default_factory=dict)
    held: set[StreamId] = field(default_factory=set)
    """Streams that others may have to wait for: those it has touched or guarded."""
    first: int | None = None
    """Its lowest position."""
    has_asked: bool = False
    """It has appended on a condition, so nobody else may append beside it."""


class Refused(Exception):  # noqa: N818  # an answer of the model
    """The append is to be refused with this."""

    def __init__(self, kind: type[EventError], stream: StreamId | None) -> None:
        super().__init__(kind, stream)
        self.kind, self.stream = kind, stream


class EventModel:
    """What is committed, and what open transactions have done."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: dict[StreamId, Stream] = {}
        self.transactions: list[Open] = []

    def seen(self, mine: Open | None, name: StreamId) -> Stream:
        """A stream as a transaction sees it; not to be changed."""
        return (mine.streams if mine else {}).get(name) or self.committed.get(name) or Stream()

    def touched(self, mine: Open | None, name: StreamId) -> Stream:
        """A stream that is going to be changed."""
        if mine is None:
            return self.committed.setdefault(name, Stream())
        return mine.streams.setdefault(name, deepcopy(self.seen(None, name)))

    def visible(self) -> list[tuple[StreamId, int, Known]]:
        """The feed: what is committed, up to the first position that an open transaction holds."""
        limit = min((each.first for each in self.transactions if each.first), default=None)
        rows = [
            (name, version, event)
            for name, stream in self.committed.items()
            for version, event in enumerate(stream.events, 1)
            if limit is None or event.position < limit
        ]
        return sorted(rows, key=lambda row: row[2].position)

    def judge(
        self, mine: Open | None, appends: list[StreamAppend], condition: Condition | None
    ) -> list[tuple[int, bool]]:
        """The version after each append and whether it is repeated; or what it is refused with."""
        news = {}
        for append in appends:
            if append.events:
                there, wanted_ids = self._there(mine, append), ids(append.events)
                news[append.stream] = (there == wanted_ids, set(there) & set(wanted_ids))
        if news and all(same for same, _ in news.values()):
            return [(self._repeated_version(mine, append), bool(append.events)) for append in appends]
        for append in appends:
            stream = self.seen(mine, append.stream)
            if append.events and stream.tombstoned is not None:
                raise Refused(StreamTombstonedError, append.stream)
            if append.events and stream.archived:
                raise Refused(StreamArchivedError, append.stream)
            if append.events and news[append.stream][1]:
                raise Refused(DuplicateEventError, append.stream)
            wanted, version = append.expected, len(stream.events)
            if wanted.version not in (None, version) or wanted.exists not in (None, version > 0):
                raise Refused(OptimisticLockError, append.stream)
        if condition is not None and self._forbidden(mine, condition):
            raise Refused(AppendConditionError, None)
        return [(len(self.seen(mine, append.stream).events) + len(append.events), False) for append in appends]

    def _there(self, mine: Open | None, append: StreamAppend) -> list[UUID]:
        known = [event.event_id for event in self.seen(mine, append.stream).events]
        if append.expected.version is None:
            return known[-len(append.events) :]
        return known[append.expected.version :][: len(append.events)]

    def _repeated_version(self, mine: Open | None, append: StreamAppend) -> int:
        if append.events and append.expected.version is not None:
            return append.expected.version + len(append.events)
        return len(self.seen(mine, append.stream).events)

    def _forbidden(self, mine: Open | None, condition: Condition) -> bool:
        names = {*self.committed, *(mine.streams if mine else ())}
        return any(
            event.position > condition.after
            and condition.tenant_id in (None, name.tenant_id)
            and fits(condition, event)
            for name in names
            for event in self.seen(mine, name).events
        )


def fits(condition: Condition, event: Known) -> bool:
    items = condition.fail_if.items
    return not items or any(
        (not item.types or event.event_type in item.types) and item.tags <= event.tags for item in items
    )
