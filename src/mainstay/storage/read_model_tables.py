"""Tables of read models on any SQL database: made, brought up to date, dropped.

An index is known by its name, which is made of the model's table name and of its columns, and goes with its table when
that is renamed. So a new generation's table may find its name taken by the one in use, and adds a number.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from weakref import WeakKeyDictionary

from mainstay.errors import SchemaOutdatedError
from mainstay.projections.columns import REQUIRED
from mainstay.projections.read_model import ReadModelTable
from mainstay.projections.read_model_memory import missing_column
from mainstay.projections.read_model_store import TableChange
from mainstay.storage.query_files import QueryFile
from mainstay.storage.read_model_statements import Flavor, Statements, quoted

Ask = Callable[..., Awaitable[list[tuple[Any, ...]]]]
"""Runs a statement: its text, and its parameters by name."""

_PREFIX_BYTES = 36


class ReadModelTables(ABC):
    """What a store does with tables, whichever database it is on.

    Args:
        flavor: Of the database.
        sql: Its questions and statements.
    """

    def __init__(self, flavor: Flavor, sql: QueryFile) -> None:
        self.flavor = flavor
        self._sql: Mapping[str, str] = sql
        self._statements: WeakKeyDictionary[ReadModelTable, Statements] = WeakKeyDictionary()

    @abstractmethod
    def session(self, conn: Any) -> AbstractAsyncContextManager[Ask]:
        """Ways to run statements in the caller's transaction, or in one of our own."""

    def statements(self, table: ReadModelTable) -> Statements:
        """The statements of a table, made once."""
        found = self._statements.get(table)
        if found is None:
            found = self._statements[table] = Statements(self.flavor, table)
        return found

    def schema_sql(self, table: ReadModelTable) -> str:
        """The statements that make a table and its indexes."""
        mine = self.statements(table)
        indexes = [self._create_index(table, columns, _index_name(table, columns)) for columns in table.indexes]
        text = "".join(f"{statement};\n" for statement in [mine.create_table(), *indexes])
        return text.replace(self.flavor.percent, "%")

    async def create(self, table: ReadModelTable, *, conn: Any = None) -> TableChange:
        """Make a table if it is missing, and add what it lacks; four statements if it lacks nothing."""
        async with self.session(conn) as ask:
            await self._lock(ask, table)
            there = await ask(self._sql["columns"], table=table.name)
            if there:
                missing = self._missing(table, there)
                required = next((name for name in missing if table.columns[name].default is REQUIRED), None)
                if required is None:
                    for name in missing:
                        await ask(self._add_column(table, name))
                    return TableChange(columns=tuple(missing), indexes=await self._index(ask, table))
                ((has_rows,),) = await ask(self._filled("has_rows", table=table.name))
                if has_rows:
                    raise SchemaOutdatedError(missing_column(table, required))
                await ask(self._filled("drop_table", table=table.name))
            await ask(self.statements(table).create_table())
            return TableChange(created=True, indexes=await self._index(ask, table))

    async def exists(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """Whether there is such a table; one statement."""
        async with self.session(conn) as ask:
            return await self._is_there(ask, table)

    async def drop(self, table: ReadModelTable, *, conn: Any = None) -> bool:
        """Delete a table with its rows."""
        async with self.session(conn) as ask:
            await self._lock(ask, table)
            there = await self._is_there(ask, table)
            if there:
                await ask(self._filled("drop_table", table=table.name))
            return there

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def _lock(self, ask: Ask, table: ReadModelTable) -> None:
        if "lock_table" in self._sql:
            await ask(self._sql["lock_table"], table=table.base)

    async def _is_there(self, ask: Ask, table: ReadModelTable) -> bool:
        ((found,),) = await ask(self._sql["exists"], table=table.name)
        return bool(found)

    def _missing(self, table: ReadModelTable, there: Sequence[tuple[Any, ...]]) -> list[str]:
        """Columns that a table lacks.

        Raises:
            SchemaOutdatedError: One of those that it has does not fit.
        """
        known = {name: (type_, not_null, has_default) for name, type_, not_null, has_default in there}
        for name, (type_, not_null, has_default) in known.items():
            column = table.columns.get(name)
            if column is None:
                if not_null and not has_default:
                    raise self._unfit(table, name, "must have a value, and the model does not know it")
            elif type_ != self.flavor.type_names[column.kind]:
                raise self._unfit(table, name, f"is {type_}, and should be {self.flavor.type_names[column.kind]}")
            elif bool(not_null) == column.nullable:
                what = (
                    "must have a value, and the model allows None" if not_null else "may be null, and the model forbids"
                )
                raise self._unfit(table, name, what)
        return [name for name in table.columns if name not in known]

    @staticmethod
    def _unfit(table: ReadModelTable, name: str, what: str) -> SchemaOutdatedError:
        message = (
            f"column {name!r} of table {table.name!r} {what}: rebuild the projection, or change the table yourself"
        )
        return SchemaOutdatedError(message)

    def _add_column(self, table: ReadModelTable, name: str) -> str:
        column = table.columns[name]
        definition = self.statements(table).column_sql(name)
        if column.default is not None:
            definition += f" default {self.flavor.literal(column.kind, column.default)}"
        return self._filled("add_column", table=table.name).replace("{column}", definition)

    async def _index(self, ask: Ask, table: ReadModelTable) -> int:
        """Make the indexes that a table lacks."""
        if not table.indexes:
            return 0
        there, made = [row[0] for row in await ask(self._sql["indexes"], table=table.name)], 0
        for columns in table.indexes:
            name = _index_name(table, columns)
            if any(each == name or each.startswith(name + "_") for each in there):
                continue
            taken = {row[0] for row in await ask(self._sql["taken"], prefix=name)}
            number, free = 1, name
            while free in taken:
                number += 1
                free = f"{name}_{number}"
            await ask(self._create_index(table, columns, free))
            made += 1
        return made

    def _create_index(self, table: ReadModelTable, columns: Sequence[str], name: str) -> str:
        parts = ", ".join(self.flavor.indexed(table.columns[each]) for each in columns)
        return self._filled("create_index", table=table.name, index=name).replace("{columns}", parts)

    def _filled(self, query: str, **names: str) -> str:
        """A statement about tables, with their names in it."""
        text = self._sql[query]
        for place, name in names.items():
            text = text.replace("{" + place + "}", quoted(name).replace("%", self.flavor.percent))
        return text


def _index_name(table: ReadModelTable, columns: Sequence[str]) -> str:
    digest = hashlib.blake2b("\0".join((table.base, *columns)).encode(), digest_size=5).hexdigest()
    short = table.base.encode()[:_PREFIX_BYTES].decode(errors="ignore")
    return f"{short}_ix_{digest}"
