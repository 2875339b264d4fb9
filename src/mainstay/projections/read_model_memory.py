"""The plainest reading of `ReadModelStore`: dictionaries of rows, for unit tests and for reading."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mainstay.errors import (
    ConfigurationError,
    ReadModelTableNotFoundError,
    SchemaOutdatedError,
    StorageUnavailableError,
    TenantMismatchError,
    shown,
)
from mainstay.projections.columns import REQUIRED
from mainstay.projections.memory_transaction import MemoryTransaction
from mainstay.projections.read_model import ReadModelTable, Row
from mainstay.projections.read_model_query import Condition, Operator, Selection
from mainstay.projections.read_model_store import TableChange


@dataclass(eq=False, slots=True)
class Table:
    """Rows by id.

    Attributes:
        columns: Their names.
        rows: What is committed.
    """

    columns: set[str]
    rows: dict[Any, Row] = field(default_factory=dict)


class Changes:
    """What a transaction has done: rows by table, and which name stands for which table."""

    def __init__(self, store: "MemoryReadModelStore") -> None:
        self._store = store
        self._names: dict[str, Table] | None = None
        self._names_before: dict[str, Table] = {}
        self._rows: dict[Table, dict[Any, Row | None]] = {}
        self._before: dict[Table, dict[Any, Row | None]] = {}

    @property
    def names(self) -> Mapping[str, Table]:
        """Which name stands for which table."""
        return self._store.tables if self._names is None else self._names

    def become(self, names: dict[str, Table]) -> None:
        """Let names stand for other tables."""
        if self._names is None:
            self._names_before = dict(self._store.tables)
        self._names = names

    def named(self, name: str) -> Table:
        """A table by its name.

        Raises:
            ReadModelTableNotFoundError: There is none.
        """
        found = self.names.get(name)
        if found is None:
            raise ReadModelTableNotFoundError(name)
        return found

    def table(self, table: ReadModelTable) -> Table:
        """A table of a model; see `named`."""
        return self.named(table.name)

    def get(self, table: Table, key: Any) -> Row | None:
        """A row, as it is in here."""
        changed = self._rows.get(table, {})
        return changed[key] if key in changed else table.rows.get(key)

    def set(self, table: Table, key: Any, row: Row | None) -> None:
        """Write a row, or delete it (None)."""
        self._before.setdefault(table, {}).setdefault(key, table.rows.get(key))
        self._rows.setdefault(table, {})[key] = row

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows, as they are in here."""
        changed = self._rows.get(table, {})
        yield from (row for key, row in table.rows.items() if key not in changed)
        yield from (row for row in changed.values() if row is not None)

    def check(self) -> None:
        """See `mainstay.projections.memory_transaction.Staged`."""
        for table, before in self._before.items():
            if any(table.rows.get(key) is not row for key, row in before.items()):
                raise StorageUnavailableError("rows were changed by somebody else meanwhile, and nothing was written")

    def apply(self) -> None:
        """See `mainstay.projections.memory_transaction.Staged`."""
        for table, changed in self._rows.items():
            for key, row in changed.items():
                if row is None:
                    table.rows.pop(key, None)
                else:
                    table.rows[key] = row
        names, before = self._names or {}, self._names_before
        for name in names.keys() | before.keys():
            if names.get(name) is before.get(name):
                continue
            if name in names:
                self._store.tables[name] = names[name]
            else:
                self._store.tables.pop(name, None)


class MemoryReadModelStore:
    """Read models of one process; `mainstay.projections.read_model_store.ReadModelStore` says what it does."""

    def __init__(self) -> None:
        """No tables."""
        self.tables: dict[str, Table] = {}

    def transaction(self) -> AbstractAsyncContextManager[MemoryTransaction]:
        """A transaction; what it changes is seen outside when it ends."""
        return _transaction()

    @contextmanager
    def changes(self, conn: Any) -> Iterator[Changes]:
        """What a transaction has done; without one, of its own, which is applied at the end."""
        if conn is not None and not isinstance(conn, MemoryTransaction):
            raise ConfigurationError(f"conn must be a transaction in memory, not {shown(conn)}")
        mine = MemoryTransaction() if conn is None else conn
        yield mine.staged(self, lambda: Changes(self))
        if conn is None:
            mine.commit()

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def fetch(self, table: ReadModelTable, ids: Sequence[Any], *, conn: Any = None) -> dict[Any, Row]:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there = changes.table(table)
            return {key: dict(row) for key in ids if (row := changes.get(there, key)) is not None}

    async def put(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> dict[Any, Row]:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there = changes.table(table)
            for row in rows:
                known = changes.get(there, row["id"])
                if table.has_tenant and known is not None and known["tenant_id"] != row["tenant_id"]:
                    raise TenantMismatchError(table.name, row["id"])
            done = {}
            for row in rows:
                known = changes.get(there, row["id"])
                ours = {"version": 1} if known is None else _renewed(known)
                changes.set(there, row["id"], row | ours)
                done[row["id"]] = {"version": ours["version"], "created_at": (row | ours)["created_at"]}
            return done

    async def insert(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> int:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there = changes.table(table)
            missing = [row for row in rows if changes.get(there, row["id"]) is None]
            for row in missing:
                changes.set(there, row["id"], dict(row))
            return len(missing)

    async def update(
        self, table: ReadModelTable, rows: Sequence[Row], versions: Sequence[int], *, conn: Any = None
    ) -> int:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there, count = changes.table(table), 0
            for row, version in zip(rows, versions, strict=True):
                known = changes.get(there, row["id"])
                if known is not None and known["version"] == version:
                    changes.set(there, row["id"], dict(row))
                    count += 1
            return count

    async def remove(
        self,
        table: ReadModelTable,
        ids: Sequence[Any],
        *,
        versions: Sequence[int] | None = None,
        where: Sequence[Condition] = (),
        conn: Any = None,
    ) -> int:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there, count = changes.table(table), 0
            for place, key in enumerate(ids):
                row = changes.get(there, key)
                if row is not None and (versions is None or row["version"] == versions[place]) and holds(row, where):
                    changes.set(there, key, None)
                    count += 1
            return count

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
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there = changes.table(table)
            row = changes.get(there, id)
            if row is None or not holds(row, where):
                return False
            marked = {"deleted_at": deleted_at, "updated_at": now, "version": row["version"] + 1}
            changes.set(there, id, row | marked)
            return True

    async def find(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> list[Row]:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            found = [row for row in changes.rows(changes.table(table)) if holds(row, selection.conditions)]
        for each in reversed(selection.order):
            name = each.column.name
            found.sort(key=lambda row: _rank(row[name]), reverse=each.descending)
        if selection.beyond is not None:
            found = [row for row in found if _is_beyond(row, selection)]
        end = None if selection.limit is None else selection.offset + selection.limit
        return [dict(row) for row in found[selection.offset : end]]

    async def count(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> int:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            return sum(holds(row, selection.conditions) for row in changes.rows(changes.table(table)))

    async def truncate(self, table: ReadModelTable, *, where: Sequence[Condition] = (), conn: Any = None) -> int:
        """See `ReadModelRows`."""
        with self.changes(conn) as changes:
            there = changes.table(table)
            gone = [row["id"] for row in changes.rows(there) if holds(row, where)]
            for key in gone:
                changes.set(there, key, None)
            return len(gone)

    # -- tables --------------------------------------------------------------------------------------------------------

    def schema_sql(self, table: ReadModelTable) -> str:
        """Nothing: there is no SQL in memory."""
        del table
        return ""

    async def create(self, table: ReadModelTable, *, conn: Any = None) -> TableChange:
        """See `ReadModelStore`."""
        with self.changes(conn) as changes:
            there = changes.names.get(table.name)
            if there is None:
                changes.become({**changes.names, table.name: Table(set(table.columns))})
                return TableChange(created=True, indexes=len(table.indexes))
            added = tuple(name for name in table.columns if name not in there.columns)
            rows = list(changes.rows(there))
            for name in added:
                if rows and table.columns[name].default is REQUIRED:
                    raise SchemaOutdatedError(missing_column(table, name))
            defaults = {name: table.columns[name].default for name in added}
            for row in rows if added else ():
                changes.set(there, row["id"], row | defaults)
            there.columns.update(added)
            return TableChange(columns=added)

    async def exists(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """See `ReadModelStore`."""
        with self.changes(conn) as changes:
            return table.name in changes.names

    async def drop(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """See `ReadModelStore`."""
        with self.changes(conn) as changes:
            if table.name not in changes.names:
                return False
            changes.become({name: each for name, each in changes.names.items() if name != table.name})
            return True


@asynccontextmanager
async def _transaction() -> AsyncIterator[MemoryTransaction]:
    mine = MemoryTransaction()
    yield mine
    mine.commit()


def holds(row: Row, conditions: Iterable[Condition | tuple[Condition, ...]]) -> bool:
    """Whether all conditions hold for a row."""
    return all(
        any(_holds(row, one) for one in each) if isinstance(each, tuple) else _holds(row, each) for each in conditions
    )


_COMPARISONS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: lambda value, wanted: bool(value == wanted),
    Operator.NE: lambda value, wanted: bool(value != wanted),
    Operator.IN: lambda value, wanted: value in wanted,
    Operator.NOT_IN: lambda value, wanted: value not in wanted,
    Operator.GT: lambda value, wanted: value is not None and value > wanted,
    Operator.GTE: lambda value, wanted: value is not None and value >= wanted,
    Operator.LT: lambda value, wanted: value is not None and value < wanted,
    Operator.LTE: lambda value, wanted: value is not None and value <= wanted,
}


def _holds(row: Row, condition: Condition) -> bool:
    return _COMPARISONS[condition.operator](row[condition.column.name], condition.value)


def _rank(value: Any) -> tuple[bool, Any]:
    """None is the smallest."""
    return (value is not None, value)


def _is_beyond(row: Row, selection: Selection) -> bool:
    for each, value in zip(selection.order, selection.beyond or (), strict=True):
        mine, theirs = _rank(row[each.column.name]), _rank(value)
        if mine != theirs:
            return (mine < theirs) if each.descending else (mine > theirs)
    return False


def _renewed(known: Row) -> Row:
    return {"version": known["version"] + 1, "created_at": known["created_at"]}


def missing_column(table: ReadModelTable, name: str) -> str:
    """What to do about a column that rows have no value for."""
    return (
        f"table {table.name!r} has rows but no column {name!r}, which has neither a default nor may be None: rebuild "
        f"the projection, or give {table.model.__name__}.{name} a default"
    )
