"""Rows of one read model, as those who write and ask see them: models in, models out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic
from uuid import UUID

from mainstay.clock import Clock, SystemClock
from mainstay.errors import InvalidInputError, ReadModelConflictError, TenantMismatchError, shown
from mainstay.projections.read_model import Model, ReadModelTable, Row
from mainstay.projections.read_model_query import (
    Condition,
    Filter,
    Operator,
    ReadModelPage,
    ReadModelQuery,
    Selection,
    condition_of,
    cursor_of,
    selection_of,
)
from mainstay.projections.read_model_store import ReadModelRows

Id = UUID | str
MOST_ROWS = 10_000
"""Rows of one call."""

_EVERYTHING = ReadModelQuery()


class ReadModelRepository(Generic[Model]):
    """Reads and writes the rows of a model.

    What was laid aside (`soft_delete`) is seen by `get_deleted` and `find_deleted`, or by a query that asks for it.

    Args:
        table: Whose rows.
        rows: Where they are: a store, or the rows of a batch.
        conn: The transaction; None if every call is one of its own.
        tenant_id: The only tenant whose rows are seen and written; None for all.
        clock: Where `ReadModel.updated_at` comes from.
    """

    def __init__(
        self,
        table: ReadModelTable,
        rows: ReadModelRows,
        *,
        conn: Any = None,
        tenant_id: Id | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.table = table
        self._rows = rows
        self._conn = conn
        self._tenant = table.tenant(tenant_id)
        self._clock = clock or SystemClock()

    def for_tenant(self, tenant_id: Id) -> "ReadModelRepository[Model]":
        """The same for one tenant's rows.

        Raises:
            InvalidInputError: The model has no tenants, or this is another one's.
        """
        wanted = self.table.tenant(tenant_id)
        if self._tenant not in (None, wanted):
            raise InvalidInputError(f"tenant {shown(tenant_id)} cannot be seen from here")
        return type(self)(self.table, self._rows, conn=self._conn, tenant_id=tenant_id, clock=self._clock)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(self, id: Id) -> Model | None:  # noqa: A002 - what it is
        """A row; None if there is none, or it was laid aside.

        Raises:
            InvalidInputError: The id is none.
            ReadModelCorruptError: The row does not fit the model.
        """
        return self._model(await self._row(id), deleted=False)

    async def get_many(self, ids: Iterable[Id]) -> list[Model]:
        """Those rows that there are, in the order of the ids; one round trip.

        Raises:
            InvalidInputError: An id is none, or there are more than 10,000.
        """
        found = await self._many(ids)
        return [each for row in found.values() if (each := self._model(row, deleted=False)) is not None]

    async def get_deleted(self, id: Id) -> Model | None:  # noqa: A002 - what it is
        """A row that was laid aside; None if there is none."""
        return self._model(await self._row(id), deleted=True)

    async def exists(self, id: Id) -> bool:  # noqa: A002 - what it is
        """Whether there is such a row that was not laid aside."""
        row = await self._row(id)
        return row is not None and row["deleted_at"] is None

    async def find(self, query: ReadModelQuery | None = None) -> list[Model]:
        """The rows of a query; all of them, by id, if None.

        Raises:
            InvalidInputError: No such field, or a value of another type.
            InvalidCursorError: ``after`` is not from this query.
        """
        return await self._found(self._selection(query))

    async def find_page(self, query: ReadModelQuery) -> ReadModelPage[Model]:
        """The rows of a query, up to its limit, and a cursor for those after them.

        Raises:
            InvalidInputError: As `find`; or the query has no limit.
            InvalidCursorError: ``after`` is not from this query.
        """
        selection = self._selection(query)
        limit = selection.limit
        if limit is None:
            raise InvalidInputError("a page needs a limit: ReadModelQuery(limit=50)")
        more = Selection(selection.conditions, selection.order, selection.beyond, limit + 1, selection.offset)
        rows = await self._rows.find(self.table, more, conn=self._conn)
        cursor = cursor_of(self.table, selection, rows[limit - 1]) if len(rows) > limit else None
        return ReadModelPage([self.table.read(row) for row in rows[:limit]], cursor)

    async def find_deleted(self, query: ReadModelQuery | None = None) -> list[Model]:
        """The same of what was laid aside."""
        return await self._found(self._selection(query, deleted=True))

    async def count(self, query: ReadModelQuery | None = None) -> int:
        """How many rows a query has; its order and its limits do not matter."""
        return await self._rows.count(self.table, self._selection(query), conn=self._conn)

    # -- writing -------------------------------------------------------------------------------------------------------

    async def save(self, model: Model) -> Model:
        """Write a row, whether it is there or not; the model gets the row's version and times, and is given back.

        Raises:
            InvalidInputError: A value that a database could not give back; nothing was written.
            TenantMismatchError: The row is another tenant's.
        """
        await self.save_many([model])
        return model

    async def save_many(self, models: Iterable[Model]) -> None:
        """Write rows in one statement.

        Raises:
            InvalidInputError: As `save`; or an id is there twice, or there are more than 10,000.
            TenantMismatchError: A row is another tenant's.
        """
        given = list(models)
        rows = [self._written(model) for model in given]
        if len({row["id"] for row in rows}) < len(rows):
            raise InvalidInputError("save_many was given two rows of one id: save the last one of each")
        if len(rows) > MOST_ROWS:
            raise InvalidInputError(f"{len(rows):,} rows are too many for one call; the limit is {MOST_ROWS:,}")
        done = await self._rows.put(self.table, rows, conn=self._conn)
        for model, row in zip(given, rows, strict=True):
            self._tell(model, row | done[row["id"]])

    async def save_with_version_check(self, model: Model) -> Model:
        """Write a row if it still has the version that the model has; with version 0, if it is not there.

        Raises:
            ReadModelConflictError: It is not so: somebody else has saved it. Nothing was written.
            InvalidInputError: As `save`.
            TenantMismatchError: The row is another tenant's.
        """
        expected = model.version if isinstance(model, self.table.model) else 0
        row = self._written(model)
        known = None
        if expected or self.table.has_tenant:
            known = (await self._rows.fetch(self.table, [row["id"]], conn=self._conn)).get(row["id"])
        if self.table.has_tenant and known is not None and known["tenant_id"] != row["tenant_id"]:
            raise TenantMismatchError(self.table.name, row["id"])
        if expected:
            row = row | {"version": expected + 1, "created_at": (known or row)["created_at"]}
            done = await self._rows.update(self.table, [row], [expected], conn=self._conn)
        else:
            row = row | {"version": 1}
            done = await self._rows.insert(self.table, [row], conn=self._conn)
        if not done:
            there = (await self._rows.fetch(self.table, [row["id"]], conn=self._conn)).get(row["id"])
            raise ReadModelConflictError(self.table.name, row["id"], expected, there["version"] if there else 0)
        self._tell(model, row)
        return model

    async def delete(self, id: Id) -> bool:  # noqa: A002 - what it is
        """Delete a row for good; says whether there was one."""
        return bool(await self._rows.remove(self.table, [self.table.key(id)], where=self._mine(), conn=self._conn))

    async def soft_delete(self, id: Id) -> bool:  # noqa: A002 - what it is
        """Lay a row aside; says whether there was one."""
        return await self._mark(id, deleted=True)

    async def restore(self, id: Id) -> bool:  # noqa: A002 - what it is
        """Take a row back that was laid aside; says whether there was one."""
        return await self._mark(id, deleted=False)

    async def truncate(self) -> int:
        """Delete all rows for good; gives how many there were."""
        return await self._rows.truncate(self.table, where=self._mine(), conn=self._conn)

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def _row(self, id: Id) -> Row | None:  # noqa: A002 - what it is
        key = self.table.key(id)
        return self._visible((await self._rows.fetch(self.table, [key], conn=self._conn)).get(key))

    async def _many(self, ids: Iterable[Id]) -> Mapping[Any, Row | None]:
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise InvalidInputError(f"ids are a list, not {shown(ids)}")
        keys = list(dict.fromkeys(self.table.key(each) for each in ids))
        if len(keys) > MOST_ROWS:
            raise InvalidInputError(f"{len(keys):,} rows are too many for one call; the limit is {MOST_ROWS:,}")
        found = await self._rows.fetch(self.table, keys, conn=self._conn)
        return {key: self._visible(found.get(key)) for key in keys}

    def _visible(self, row: Row | None) -> Row | None:
        hidden = row is not None and self._tenant is not None and row["tenant_id"] != self._tenant
        return None if hidden else row

    def _model(self, row: Row | None, *, deleted: bool) -> Model | None:
        if row is None or (row["deleted_at"] is not None) is not deleted:
            return None
        model: Model = self.table.read(row)
        return model

    async def _found(self, selection: Selection) -> list[Model]:
        return [self.table.read(row) for row in await self._rows.find(self.table, selection, conn=self._conn)]

    def _selection(self, query: ReadModelQuery | None, *, deleted: bool = False) -> Selection:
        return selection_of(self.table, query or _EVERYTHING, tenant=self._tenant, deleted=deleted)

    def _mine(self) -> Sequence[Condition]:
        if self._tenant is None:
            return ()
        return (Condition(self.table.columns["tenant_id"], Operator.EQ, self._tenant),)

    async def _mark(self, id: Id, *, deleted: bool) -> bool:  # noqa: A002 - what it is
        now = self._now()
        which = Filter.is_null("deleted_at") if deleted else Filter.is_not_null("deleted_at")
        return await self._rows.mark(
            self.table,
            self.table.key(id),
            now if deleted else None,
            now,
            where=(*self._mine(), condition_of(self.table, which)),
            conn=self._conn,
        )

    def _written(self, model: Model) -> Row:
        row = self.table.row(model) | {"updated_at": self._now()}
        if self._tenant is not None:
            if row["tenant_id"] not in (None, self._tenant):
                raise TenantMismatchError(self.table.name, row["id"])
            row["tenant_id"] = self._tenant
        return row

    def _tell(self, model: Model, row: Row) -> None:
        """Let a model know what was written of it."""
        for name in ("version", "created_at", "updated_at", *(("tenant_id",) if self.table.has_tenant else ())):
            value = self.table.columns[name].field_value(row[name])
            if getattr(model, name) != value:
                setattr(model, name, value)

    def _now(self) -> datetime:
        return self._clock.now().astimezone(UTC)
