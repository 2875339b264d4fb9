"""What a rebuild asks of a projection, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from mainstay.errors import InvalidOperationError
from mainstay.projections.checks import rebuild_name
from mainstay.projections.projection import Projection
from mainstay.projections.store import ProjectionStore
from mainstay.projections.tables import TableComparison, Tables


@runtime_checkable
class Rebuildable(Protocol):
    """What a rebuild asks of a projection; `DatabaseProjection` is one if it names its tables."""

    name: str
    rebuilding: bool

    @property
    def tables(self) -> Sequence[str]:
        """The tables that serve, which a rebuild must not write to."""
        ...

    def beside(self, store: ProjectionStore) -> Self:
        """A copy that writes to tables of its own, and has ``rebuilding`` set."""
        ...

    async def create_tables(self, tables: Tables) -> None:
        """Make the copy's tables, with what is there before the first event."""
        ...

    async def compare_tables(self, tables: Tables, sample: int) -> list[TableComparison]:
        """Compare the copy's tables with those that serve; both have seen the same events."""
        ...

    async def swap_tables(self, tables: Tables, *, keep: bool) -> None:
        """Let the copy's tables serve, and keep the old ones under other names, or drop them."""
        ...

    async def drop_tables(self, tables: Tables) -> None:
        """Drop the copy's tables, as far as they are there."""
        ...


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of a rebuild.

    Attributes:
        subscription: Whose.
        swapped: Whether the new tables serve; if not, what was found was not accepted, and the rebuild waits.
        position: Up to which every event is in the new tables.
        tables: What differed between old and new, both having seen the same events.
        settled: Dead letters of the old one that the rebuild has made up for; without the side effects of their events.
    """

    subscription: str
    swapped: bool
    position: int
    tables: Sequence[TableComparison]
    settled: int = 0

    @property
    def is_same(self) -> bool:
        """Whether old and new tables held the same."""
        return all(each.is_same for each in self.tables)


def beside(projection: Projection, store: ProjectionStore) -> Rebuildable:
    """A copy of a projection that builds beside it.

    Raises:
        InvalidOperationError: It has no hooks for that.
        ConfigurationError: It names no tables.
    """
    if not isinstance(projection, Rebuildable):
        message = (
            f"{type(projection).__name__} cannot be rebuilt beside itself, as it says nothing of tables: derive it "
            "from DatabaseProjection and name them, or give it the methods of Rebuildable"
        )
        raise InvalidOperationError(message)
    made = projection.beside(store)
    made.name = rebuild_name(projection.name)
    return made
