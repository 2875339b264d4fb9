"""Tables of projections: which ones a rebuild writes to, and what it asks of the database about them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

BESIDE = "__rebuild"
KEPT = "__old"


def beside(table: str) -> str:
    """The table that a rebuild writes to instead of this one: ``app.total`` gives ``app.total__rebuild``."""
    return _suffixed(table, BESIDE)


def kept(table: str) -> str:
    """The name under which an old table is kept after a swap, if it is: ``app.total__old``."""
    return _suffixed(table, KEPT)


def _suffixed(table: str, suffix: str) -> str:
    return f'{table[:-1]}{suffix}"' if table.endswith('"') else f"{table}{suffix}"


@dataclass(frozen=True, slots=True)
class TableComparison:
    """What differs between a table that serves and the rebuilt one, both having seen the same events.

    Attributes:
        table: Its name.
        serving: Rows of the one that serves.
        rebuilt: Rows of the rebuilt one.
        gone: How many rows the rebuilt one has not, or not so.
        come: How many it has instead, or besides.
        gone_rows: Some of them.
        come_rows: Some of them.
    """

    table: str
    serving: int
    rebuilt: int
    gone: int
    come: int
    gone_rows: Sequence[Mapping[str, Any]] = ()
    come_rows: Sequence[Mapping[str, Any]] = ()

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not self.gone and not self.come


class Tables(Protocol):
    """What a database can do to the tables of projections, in one transaction.

    Names are written as in SQL: ``total``, ``app.total``, ``"Total"``. Every method may raise `StorageError`.
    """

    @property
    def conn(self) -> Any:
        """The transaction, for statements of one's own."""
        ...

    async def create_like(self, table: str, new: str) -> None:
        """Make an empty table of the form of another: columns, defaults, constraints but foreign keys, indexes.

        Raises:
            StorageError: There is no such table; it has what a copy would lack (triggers, row-level security); or views
                or foreign keys hang on it, which would not follow in a swap.
        """
        ...

    async def compare(self, table: str, new: str, *, sample: int, left_out: Sequence[str] = ()) -> TableComparison:
        """What differs in the columns that both tables have.

        Args:
            table: The one that serves.
            new: The rebuilt one.
            sample: So many rows of each kind are named.
            left_out: Columns that are not looked at; what the database numbers by itself is not either.
        """
        ...

    async def swap(self, tables: Sequence[tuple[str, str]], *, keep: bool) -> None:
        """Let new tables have the names of old ones, and the rights that were granted on them.

        Args:
            tables: Old and new.
            keep: The old ones are renamed (see `kept`); otherwise they are dropped.

        Raises:
            StorageUnavailableError: Somebody uses them for long; to be tried again.
            StorageError: Something hangs on them that would not follow, or a name to keep one under is taken.
        """
        ...

    async def drop(self, tables: Sequence[str]) -> None:
        """Drop tables, as far as they are there."""
        ...

    def watching(self, tables: Sequence[str]) -> AbstractAsyncContextManager[list[str]]:
        """A block; the list that it is given holds, when it has ended well, which of these tables were written to."""
        ...
