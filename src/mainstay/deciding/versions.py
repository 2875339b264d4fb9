"""Deciders as they were at a version, many in a row: a stream is not read from its beginning each time.

What is kept is a copy of the state, and the decider that is tried gets another: one whose ``evolve`` changes a state in
place harms nobody but itself. A state that cannot be copied is not kept.
"""

from collections import OrderedDict
from copy import deepcopy
from typing import Any, NamedTuple
from uuid import UUID

from mainstay.events.decider import DeciderAggregate
from mainstay.events.store import EventStore
from mainstay.events.stream import StreamId

MOST_KEPT = 1_000
"""States that are kept in memory."""


class _Kept(NamedTuple):
    state: Any
    version: int
    last_event_id: UUID | None


class PastDeciders:
    """Loads deciders as they were at a version.

    Args:
        store: Where their events are.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[type, StreamId], _Kept] = OrderedDict()

    async def load(self, decider: DeciderAggregate[Any, Any], version: int, conn: Any) -> None:
        """Make a new decider what it was at a version; its own version says whether there is one.

        Raises:
            StreamTombstonedError: Its stream is.
            CorruptEventError: An event cannot be read.
        """
        name, after = (type(decider), decider.stream), 0
        kept = self._kept.get(name)
        if kept is not None and kept.version <= version:
            decider.restore_state(deepcopy(kept.state), kept.version, kept.last_event_id)
            after = kept.version
        found = await self._store.load_stream(decider.stream, after_version=after, up_to_version=version, conn=conn)
        if found.last is None:
            return
        decider.load_from_history(found.events)
        last = found.last.version, found.last.event.event_id
        decider.restore_state(decider.state_or_none, *last)
        self._keep(name, decider.state_or_none, *last)

    def _keep(self, name: tuple[type, StreamId], state: Any, version: int, last_event_id: UUID) -> None:
        try:
            self._kept[name] = _Kept(deepcopy(state), version, last_event_id)
        except Exception:  # noqa: BLE001 - a state may be anything; then it is read from the beginning
            self._kept.pop(name, None)
            return
        self._kept.move_to_end(name)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
