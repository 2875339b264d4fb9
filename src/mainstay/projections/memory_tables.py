"""`mainstay.projections.tables.Tables` in memory, where read models are the only tables that there are."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mainstay.errors import ConfigurationError, StorageError
from mainstay.projections.read_model_memory import Changes, MemoryReadModelStore
from mainstay.projections.tables import TableComparison, kept


class MemoryTables:
    """Tables of read models, in one transaction.

    Args:
        store: Where they are.
        conn: The transaction.
    """

    def __init__(self, store: MemoryReadModelStore, conn: Any) -> None:
        self.conn = conn
        self._store = store

    async def create_like(self, table: str, new: str) -> None:
        """There is nothing to copy: a read model makes its tables itself."""
        raise ConfigurationError(
            f"{new} cannot be made like {table}: there are no tables in memory but those of read models. A projection "
            "that is rebuilt there overrides create_tables, compare_tables, swap_tables and drop_tables"
        )

    async def compare(self, table: str, new: str, *, sample: int, left_out: Sequence[str] = ()) -> TableComparison:
        """See `mainstay.projections.tables.Tables`."""
        with self._store.changes(self.conn) as changes:
            old_table, new_table = changes.named(_plain(table)), changes.named(_plain(new))
            columns = sorted(old_table.columns & new_table.columns - set(left_out))
            old, made = (
                {row["id"]: {name: row[name] for name in columns} for row in changes.rows(each)}
                for each in (old_table, new_table)
            )
        gone = [row for id_, row in old.items() if made.get(id_) != row]
        come = [row for id_, row in made.items() if old.get(id_) != row]
        return TableComparison(table, len(old), len(made), len(gone), len(come), gone[:sample], come[:sample])

    async def swap(self, tables: Sequence[tuple[str, str]], *, keep: bool) -> None:
        """See `mainstay.projections.tables.Tables`."""
        with self._store.changes(self.conn) as changes:
            for table, new in tables:
                _swap(changes, _plain(table), _plain(new), _plain(kept(table)) if keep else None)

    async def drop(self, tables: Sequence[str]) -> None:
        """See `mainstay.projections.tables.Tables`."""
        with self._store.changes(self.conn) as changes:
            gone = {_plain(table) for table in tables}
            changes.become({name: table for name, table in changes.names.items() if name not in gone})

    @asynccontextmanager
    async def watching(self, tables: Sequence[str]) -> AsyncIterator[list[str]]:
        """Nobody looks: what a rebuild writes in memory goes through its own rows."""
        del tables
        yield []


def _swap(changes: Changes, table: str, new: str, old: str | None) -> None:
    if old in changes.names:
        raise StorageError(f"there is a table {old!r} already, kept by an earlier rebuild: drop it, or keep none")
    names = {name: each for name, each in changes.names.items() if name != new}
    if old is not None and table in names:
        names[old] = names[table]
    changes.become(names | {table: changes.named(new)})


def _plain(table: str) -> str:
    """A name as SQL writes it, without its quotes."""
    return table[1:-1].replace('""', '"') if table.startswith('"') else table
