"""What handlers and groups alike need of aggregates: their repositories, and ids that are refused as the command's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mainstay.errors import InvalidInputError, PermanentCommandError
from mainstay.events.repository import AggregateRepository
from mainstay.events.snapshot import SnapshotPolicy
from mainstay.events.store import EventStore


class Repositories:
    """One for each class of aggregates.

    Args:
        store: Where their events are.
        snapshots: When to leave a snapshot; never, unless given.
    """

    def __init__(self, store: EventStore, snapshots: SnapshotPolicy | None) -> None:
        self._store = store
        self._snapshots = snapshots
        self._made: dict[type, AggregateRepository[Any]] = {}

    def of(self, kind: type) -> AggregateRepository[Any]:
        """That of a class.

        Raises:
            ConfigurationError: The class is no aggregate, or its snapshots cannot be kept.
        """
        found = self._made.get(kind)
        if found is None:
            found = self._made[kind] = AggregateRepository[Any](self._store, kind, snapshots=self._snapshots)
        return found


@contextmanager
def naming_an_aggregate() -> Iterator[None]:
    """What is refused in the block is the id that the command gives: no retry makes it one.

    Raises:
        PermanentCommandError: It was.
    """
    try:
        yield
    except InvalidInputError as error:
        raise PermanentCommandError("NO_AGGREGATE_ID", str(error)) from error
