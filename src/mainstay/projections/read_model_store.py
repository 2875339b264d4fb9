"""What read models ask of a database: the protocol `ReadModelStore`.

One suite, `mainstay.testing.contracts.read_models`, holds every store to what is written here.

What a store promises
---------------------

*Together.* Whatever is done with the same ``conn`` is done together or not at all; a call without one is a transaction
of its own. In a projection ``conn`` is the transaction in which the checkpoint moves.

*The same everywhere.* The same calls leave the same rows in memory, on SQLite and on PostgreSQL, and the same query
gives them in the same order: texts by code point, None before everything, a Decimal as exact as it was given.

*Nothing of another's.* A write never changes the row of another tenant.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from mainstay.projections.read_model import ReadModelTable, Row
from mainstay.projections.read_model_query import Condition, Selection


class ReadModelRows(Protocol):
    """Rows of tables. Ids are plain values (`ReadModelTable.key`)."""

    async def fetch(self, table: ReadModelTable, ids: Sequence[Any], *, conn: Any = None) -> dict[Any, Row]:
        """The rows that there are of these, by id, also those that are laid aside."""
        ...

    async def put(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> dict[Any, Row]:
        """Write rows, whether they are there or not; no two with the same id.

        A row that is there keeps ``created_at``, and its version is raised by one; a new one has version 1.

        Returns:
            By id, ``version`` and ``created_at`` as they are now.

        Raises:
            TenantMismatchError: A row of that id belongs to another tenant. Nothing was written.
        """
        ...

    async def insert(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> int:
        """Write rows as they are, but none that is there; gives how many were written."""
        ...

    async def update(
        self, table: ReadModelTable, rows: Sequence[Row], versions: Sequence[int], *, conn: Any = None
    ) -> int:
        """Write rows as they are over those that have these versions; gives how many had."""
        ...

    async def remove(
        self,
        table: ReadModelTable,
        ids: Sequence[Any],
        *,
        versions: Sequence[int] | None = None,
        where: Sequence[Condition] = (),
        conn: Any = None,
    ) -> int:
        """Delete rows.

        Args:
            table: Whose.
            ids: Which.
            versions: Only those that have these versions, one for each id.
            where: Only those for which this holds; not together with ``versions``.
            conn: The caller's transaction.

        Returns:
            How many there were.
        """
        ...

    async def mark(
        self,
        table: ReadModelTable,
        id: Any,  # noqa: A002 - what it is
        deleted_at: datetime | None,
        now: datetime,
        *,
        where: Sequence[Condition] = (),
        conn: Any = None,
    ) -> bool:
        """Lay a row aside, or take it back (None); its version is raised by one. Says whether it was there."""
        ...

    async def find(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> list[Row]:
        """The rows of a query, in its order."""
        ...

    async def count(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> int:
        """How many rows a query has; its order, its limit and its offset do not matter."""
        ...

    async def truncate(self, table: ReadModelTable, *, where: Sequence[Condition] = (), conn: Any = None) -> int:
        """Delete all rows for which this holds; gives how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class TableChange:
    """What `ReadModelStore.create` did.

    Attributes:
        created: Whether the table was made.
        columns: That were added to one that was there.
        indexes: How many were made.
    """

    created: bool = False
    columns: tuple[str, ...] = ()
    indexes: int = 0


class ReadModelStore(ReadModelRows, Protocol):
    """The store itself. Every method may raise `StorageError`; none leaves anything half-written."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction, to be passed as ``conn``; committed at the end of the block, rolled back if it raises."""
        ...

    def schema_sql(self, table: ReadModelTable) -> str:
        """The statements that make a table and its indexes; for migrations of your own."""
        ...

    async def create(self, table: ReadModelTable, *, conn: Any = None) -> TableChange:
        """Make a table if it is missing, and add the columns and indexes that it lacks.

        A column with a default has it in the rows that are there; a table without rows can take any column.

        Raises:
            SchemaOutdatedError: Rows are there that have no value for a column, or a column is of another type, or one
                that the model does not know must have a value. Rebuild the projection.
        """
        ...

    async def exists(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """Whether there is such a table."""
        ...

    async def drop(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """Delete a table with its rows; says whether there was one."""
        ...
