"""The rows of a batch: read once, changed here, written together before the checkpoint moves.

What it promises. Handlers see what those before them have saved. What reaches the database at the end of the batch is
what one save after another would have left, versions included, in at most three statements for each table. Nothing is
written if the batch fails; the next attempt begins with an empty map.

Nothing of another writer's is overwritten. Every row is written over the version that was read, and a row that was not
there must still not be: if it is not so, somebody else was quicker, the batch is undone and done again with what is
there now. That is an outage to the subscription (`StorageUnavailableError`), and counts as no attempt of an event.

How it reads ahead. Most read models are keyed by what events are about. When a handler asks for a row whose id is that
of a stream in the batch, the rows of all of them are read; and likewise for the ids of events.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mainstay.errors import InvalidInputError, StorageUnavailableError, TenantMismatchError
from mainstay.projections.read_model import ReadModelTable, Row
from mainstay.projections.read_model_memory import holds
from mainstay.projections.read_model_query import Condition, Selection
from mainstay.projections.read_model_store import ReadModelRows


@dataclass(slots=True)
class _Entry:
    """A row: the version that it has in the database (0: there is none), and what it is to be (None: gone)."""

    base: int
    row: Row | None
    changed: bool = False


@dataclass(slots=True)
class _Known:
    entries: dict[Any, _Entry] = field(default_factory=dict)
    ahead: list[set[Any]] = field(default_factory=list)


class BatchRows:
    """`ReadModelRows` of one transaction; its methods take no other ``conn``.

    Args:
        rows: Where they are.
        conn: The transaction.
        ahead: Ids that handlers are likely to ask for, in groups that are asked for together.
    """

    def __init__(self, rows: ReadModelRows, conn: Any, ahead: Sequence[Iterable[Any]] = ()) -> None:
        self.conn = conn
        self._rows = rows
        self._ahead = [list(group) for group in ahead]
        self._tables: dict[ReadModelTable, _Known] = {}

    async def flush(self) -> None:
        """Write what has changed; three statements for each table at most.

        Raises:
            StorageUnavailableError: Rows were changed by somebody else meanwhile: nothing of this may be committed.
        """
        for table, known in self._tables.items():
            changed = {key: entry for key, entry in known.entries.items() if entry.changed}
            inserted = [entry.row for entry in changed.values() if not entry.base and entry.row is not None]
            updated = [entry for entry in changed.values() if entry.base and entry.row is not None]
            removed = {key: entry.base for key, entry in changed.items() if entry.base and entry.row is None}
            wanted = len(inserted) + len(updated) + len(removed)
            done = await self._rows.insert(table, inserted, conn=self.conn) if inserted else 0
            if updated:
                rows, versions = [entry.row for entry in updated if entry.row], [entry.base for entry in updated]
                done += await self._rows.update(table, rows, versions, conn=self.conn)
            if removed:
                done += await self._rows.remove(table, list(removed), versions=list(removed.values()), conn=self.conn)
            if done != wanted:
                message = f"{wanted - done} rows of {table.name} were changed by somebody else meanwhile: begin again"
                raise StorageUnavailableError(message)
            for entry in changed.values():
                entry.base, entry.changed = (0 if entry.row is None else entry.row["version"]), False

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def fetch(self, table: ReadModelTable, ids: Sequence[Any], *, conn: Any = None) -> dict[Any, Row]:
        """See `ReadModelRows`; no round trip for what is known."""
        entries = await self._entries(table, ids, conn)
        return {key: dict(row) for key in ids if (row := entries[key].row) is not None}

    async def put(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> dict[Any, Row]:
        """See `ReadModelRows`; nothing is written yet."""
        entries = await self._entries(table, [row["id"] for row in rows], conn)
        for row in rows:
            known = entries[row["id"]].row
            if table.has_tenant and known is not None and known["tenant_id"] != row["tenant_id"]:
                raise TenantMismatchError(table.name, row["id"])
        done: dict[Any, Row] = {}
        for row in rows:
            entry = entries[row["id"]]
            ours = {"version": 1, "created_at": row["created_at"]}
            if entry.row is not None:
                ours = {"version": entry.row["version"] + 1, "created_at": entry.row["created_at"]}
            entry.row, entry.changed = row | ours, True
            done[row["id"]] = ours
        return done

    async def insert(self, table: ReadModelTable, rows: Sequence[Row], *, conn: Any = None) -> int:
        """See `ReadModelRows`; nothing is written yet."""
        entries = await self._entries(table, [row["id"] for row in rows], conn)
        missing = [row for row in rows if entries[row["id"]].row is None]
        for row in missing:
            entry = entries[row["id"]]
            entry.row, entry.changed = dict(row), True
        return len(missing)

    async def update(
        self, table: ReadModelTable, rows: Sequence[Row], versions: Sequence[int], *, conn: Any = None
    ) -> int:
        """See `ReadModelRows`; nothing is written yet."""
        entries, count = await self._entries(table, [row["id"] for row in rows], conn), 0
        for row, version in zip(rows, versions, strict=True):
            entry = entries[row["id"]]
            if entry.row is not None and entry.row["version"] == version:
                entry.row, entry.changed = dict(row), True
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
        """See `ReadModelRows`; nothing is written yet."""
        entries, count = await self._entries(table, ids, conn), 0
        for place, key in enumerate(ids):
            entry = entries[key]
            row = entry.row
            if row is not None and (versions is None or row["version"] == versions[place]) and holds(row, where):
                entry.row, entry.changed = None, True
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
        """See `ReadModelRows`; nothing is written yet."""
        entry = (await self._entries(table, [id], conn))[id]
        if entry.row is None or not holds(entry.row, where):
            return False
        entry.row = entry.row | {"deleted_at": deleted_at, "updated_at": now, "version": entry.row["version"] + 1}
        entry.changed = True
        return True

    async def find(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> list[Row]:
        """See `ReadModelRows`; what has changed is written first, and what is found is known."""
        known = await self._written(table, conn)
        found = await self._rows.find(table, selection, conn=self.conn)
        for row in found:
            known.entries[row["id"]] = _Entry(row["version"], dict(row))
        return found

    async def count(self, table: ReadModelTable, selection: Selection, *, conn: Any = None) -> int:
        """See `ReadModelRows`; what has changed is written first."""
        await self._written(table, conn)
        return await self._rows.count(table, selection, conn=self.conn)

    async def truncate(self, table: ReadModelTable, *, where: Sequence[Condition] = (), conn: Any = None) -> int:
        """See `ReadModelRows`; what has changed is written first, and nothing is known any more."""
        known = await self._written(table, conn)
        known.entries.clear()
        return await self._rows.truncate(table, where=where, conn=self.conn)

    # -- what is known -------------------------------------------------------------------------------------------------

    async def _written(self, table: ReadModelTable, conn: Any) -> _Known:
        known = self._known(table, conn)
        await self.flush()
        return known

    async def _entries(self, table: ReadModelTable, ids: Sequence[Any], conn: Any) -> dict[Any, _Entry]:
        """What is known of some rows, read with others that are likely to be asked for."""
        known = self._known(table, conn)
        missing = {key for key in ids if key not in known.entries}
        if missing:
            for group in known.ahead:
                if not missing.isdisjoint(group):
                    missing |= group
            missing -= known.entries.keys()
            found = await self._rows.fetch(table, list(missing), conn=self.conn)
            for key in missing:
                row = found.get(key)
                known.entries[key] = _Entry(row["version"] if row else 0, row)
        return known.entries

    def _known(self, table: ReadModelTable, conn: Any) -> _Known:
        if conn is not None and conn is not self.conn:
            raise InvalidInputError("a batch has one transaction: read models take no other conn in it")
        known = self._tables.get(table)
        if known is None:
            known = self._tables[table] = _Known(ahead=[_keys(table, group) for group in self._ahead])
        return known


def _keys(table: ReadModelTable, ids: Iterable[Any]) -> set[Any]:
    """Those ids that a row of the table can have."""
    found = set()
    for each in ids:
        try:
            found.add(table.key(each))
        except InvalidInputError:
            continue
    return found
