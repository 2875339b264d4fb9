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
from mainstay.events.checks import check_number
from mainstay.projections.columns import REQUIRED
from mainstay.projections.memory_transaction import MemoryTransaction
from mainstay.projections.read_model import ReadModelTable, Row
from mainstay.projections.read_model_query import Condition, Operator, Selection
from mainstay.projections.read_model_store import Comparison, Difference, TableChange

MOST_SAMPLES = 1_000
"""Differences that are shown."""
UNCOMPARED = frozenset({"created_at", "updated_at", "version"})
"""Columns that say when a row was written and how often, not what it says."""


@dataclass(eq=False, slots=True)
class _Table:
    columns: set[str]
    rows: dict[Any, Row] = field(default_factory=dict)


class _Changes:
    """What a transaction has done: rows by table, and which name stands for which table."""

    def __init__(self, store: "MemoryReadModelStore") -> None:
        self._store = store
        self._names: dict[str, _Table] | None = None
        self._rows: dict[_Table, dict[Any, Row | None]] = {}
        self._before: dict[_Table, dict[Any, Row | None]] = {}

    @property
    def names(self) -> dict[str, _Table]:
        return self._store.tables if self._names is None else self._names

    def rename(self, change: Callable[[dict[str, _Table]], None]) -> None:
        self._names = dict(self.names)
        change(self._names)

    def table(self, table: ReadModelTable) -> _Table:
        found = self.names.get(table.name)
        if found is None:
            raise ReadModelTableNotFoundError(table.name)
        return found

    def get(self, table: _Table, key: Any) -> Row | None:
        changed = self._rows.get(table, {})
        return changed[key] if key in changed else table.rows.get(key)

    def set(self, table: _Table, key: Any, row: Row | None) -> None:
        self._before.setdefault(table, {}).setdefault(key, table.rows.get(key))
        self._rows.setdefault(table, {})[key] = row

    def rows(self, table: _Table) -> Iterator[Row]:
        changed = self._rows.get(table, {})
        yield from (row for key, row in table.rows.items() if key not in changed)
        yield from (row for row in changed.values() if row is not None)

    def check(self) -> None:
        for table, before in self._before.items():
            if any(table.rows.get(key) is not row for key, row in before.items()):
                raise StorageUnavailableError("rows were changed by somebody else meanwhile, and nothing was written")

    def apply(self) -> None:
        for table, changed in self._rows.items():
            for key, row in changed.items():
                if row is None:
                    table.rows.pop(key, None)
                else:
                    table.rows[key] = row
        if self._names is not None:
            self._store.tables = self._names


class MemoryReadModelStore:
    """Read models of one process; `mainstay.projections.read_model_store.ReadModelStore` says what it does."""

    def __init__(self) -> None:
        """No tables."""
        self.tables: dict[str, _Table] = {}

    def transaction(self) -> AbstractAsyncContextManager[MemoryTransaction]:
        """A transaction; what it changes is seen outside when it ends."""
        return _transaction()

    @contextmanager
    def _changes(self, conn: Any) -> Iterator[_Changes]:
        if conn is not None and not isinstance(conn, MemoryTransaction):
            raise ConfigurationError(f"conn must be a transaction in memory, not {shown(conn)}")
        mine = MemoryTransaction() if conn is None else conn
        yield mine.staged(self, lambda: _Changes(self))
        if conn is None:
            mine.commit()

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def fetch(self, table: ReadModelTable, ids: Sequence[Any], *, conn: Any = None) -> dict[Any, Row]:
        """See `ReadModelRows`."""
        with self._changes(conn) as changes:
            there = changes.table(table)
            return {key: dict(row) for key in ids if (row := changes.get(there, key)) is not None}

    async def put(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> dict[Any, Row]:
        """See `ReadModelRows`."""
        with self._changes(conn) as changes:
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
        with self._changes(conn) as changes:
            there = changes.table(table)
            missing = [row for row in rows if changes.get(there, row["id"]) is None]
            for row in missing:
                changes.set(there, row["id"], dict(row))
            return len(missing)

    async def update(
        self, table: ReadModelTable, rows: Sequence[Row], versions: Sequence[int], *, conn: Any = None
    ) -> int:
        """See `ReadModelRows`."""
        with self._changes(conn) as changes:
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
        with self._changes(conn) as changes:
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
        with self._changes(conn) as changes:
            there = changes.table(table)
            row = changes.get(there, id)
            if row is None or not holds(row, where):
                return False
            marked = {"deleted_at": deleted_at, "updated_at": now, "version": row["version"] + 1}
            changes.set(there, id, row | marked)
            return True

    async def find(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> list[Row]:
        """See `ReadModelRows`."""
        with self._changes(conn) as changes:
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
        with self._changes(conn) as changes:
            return sum(holds(row, selection.conditions) for row in changes.rows(changes.table(table)))

    async def truncate(self, table: ReadModelTable, *, where: Sequence[Condition] = (), conn: Any = None) -> int:
        """See `ReadModelRows`."""
        with self._changes(conn) as changes:
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
        with self._changes(conn) as changes:
            there = changes.names.get(table.name)
            if there is None:
                changes.rename(lambda names: names.update({table.name: _Table(set(table.columns))}))
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
        with self._changes(conn) as changes:
            return table.name in changes.names

    async def drop(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """See `ReadModelStore`."""
        with self._changes(conn) as changes:
            if table.name not in changes.names:
                return False
            changes.rename(lambda names: names.__delitem__(table.name))
            return True

    async def compare(
        self, first: ReadModelTable, second: ReadModelTable, *, sample: int = 20, conn: Any = None
    ) -> Comparison:
        """See `ReadModelStore`."""
        check_number(sample, "a sample", 0, MOST_SAMPLES)
        with self._changes(conn) as changes:
            one, two = ({row["id"]: row for row in changes.rows(changes.table(each))} for each in (first, second))
            both = changes.table(first).columns & changes.table(second).columns
        compared = [name for name in compared_columns(first) if name in both]
        changed = [key for key in one.keys() & two.keys() if any(one[key][c] != two[key][c] for c in compared)]
        only_one, only_two = one.keys() - two.keys(), two.keys() - one.keys()
        keys = sorted([*changed, *only_one, *only_two])[:sample]
        shown_keys = [difference(key, one.get(key), two.get(key), compared) for key in keys]
        return Comparison(len(one), len(two), len(only_one), len(only_two), len(changed), shown_keys)

    async def swap(
        self, current: ReadModelTable, new: ReadModelTable, old: ReadModelTable, *, conn: Any = None
    ) -> None:
        """See `ReadModelStore`."""

        def renamed(names: dict[str, _Table]) -> None:
            names.pop(old.name, None)
            if current.name in names:
                names[old.name] = names.pop(current.name)
            names[current.name] = names.pop(new.name)

        with self._changes(conn) as changes:
            changes.table(new)
            changes.rename(renamed)


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


def compared_columns(table: ReadModelTable) -> tuple[str, ...]:
    """What two tables of a model are compared by."""
    return tuple(name for name in table.columns if name not in UNCOMPARED)


def difference(key: Any, first: Row | None, second: Row | None, compared: Iterable[str]) -> Difference:
    """How a row differs."""
    both = first is not None and second is not None
    columns = tuple(name for name in compared if both and first[name] != second[name]) if first and second else ()
    return Difference(key, columns, first, second)


def missing_column(table: ReadModelTable, name: str) -> str:
    """What to do about a column that rows have no value for."""
    return (
        f"table {table.name!r} has rows but no column {name!r}, which has neither a default nor may be None: rebuild "
        f"the projection, or give {table.model.__name__}.{name} a default"
    )
