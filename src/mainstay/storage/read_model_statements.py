"""What read models ask of any SQL database, written with SQLAlchemy Core and compiled for one.

Nothing is run here, and no connection of SQLAlchemy's is made: a statement is a text with named parameters, for the
driver's own connection, in whatever transaction that is. A statement is compiled once for each table, a query once for
each of its shapes (which fields, which operators): values are no part of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Integer,
    MetaData,
    Table,
    and_,
    bindparam,
    delete,
    false,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.schema import CreateColumn, CreateTable
from sqlalchemy.sql import ClauseElement, quoted_name
from sqlalchemy.types import TypeEngine

from mainstay.projections.columns import Column as ModelColumn
from mainstay.projections.columns import Kind
from mainstay.projections.read_model import ReadModelTable
from mainstay.projections.read_model_query import Condition, Operator, Ordering, Selection

ONE: ColumnElement[int] = literal_column("1")
"""A save more."""
MOST_SHAPES = 512
"""Compiled queries that are kept for one table."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A compiled statement.

    Attributes:
        sql: Its text, with parameters as the driver takes them.
        order: Names of the parameters as they stand in the text, for drivers that take them so; else empty.
        added: Parameters that SQLAlchemy added, with their values.
    """

    sql: str
    order: tuple[str, ...]
    added: Mapping[str, Any]

    def positional(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The parameters in the order of the text."""
        return tuple(values[name] if name in values else self.added[name] for name in self.order)


class Flavor(ABC):
    """What differs from one SQL database to the next.

    Attributes:
        dialect: SQLAlchemy's.
        types: Of columns.
        table_options: Of every table.
        nulls_are_largest: Unless a statement says otherwise.
        percent: How a percent sign is written in a statement.
    """

    dialect: Dialect
    types: Mapping[Kind, TypeEngine[Any]]
    table_options: Mapping[str, Any] = {}
    nulls_are_largest: bool
    percent = "%"

    def bound(self, name: str, kind: Kind) -> ColumnElement[Any]:
        """A parameter that is compared with a column."""
        del kind
        return bindparam(name)

    def compared(self, column: ColumnElement[Any], kind: Kind) -> ColumnElement[Any]:
        """A column as it is compared and ordered by."""
        del kind
        return column

    def selected(self, column: ColumnElement[Any], kind: Kind) -> ColumnElement[Any]:
        """A column as it is read."""
        del kind
        return column

    @abstractmethod
    def among(self, column: ColumnElement[Any], name: str, kind: Kind, count: int) -> ColumnElement[Any]:
        """That a column is one of several values.

        Args:
            column: See `compared`.
            name: Of the parameter, or the beginning of those of several.
            kind: Of the column.
            count: How many values there are.
        """

    @abstractmethod
    def values(self, kind: Kind, value: Any) -> Any:
        """A plain value as the driver takes it, to be compared or stored."""

    @abstractmethod
    def listed(self, name: str, kind: Kind, values: Sequence[Any]) -> dict[str, Any]:
        """The parameters of `among`."""

    def comparable(self, kind: Kind, value: Any) -> Any:
        """A plain value as the driver takes it, to be compared."""
        return self.values(kind, value)

    def plain(self, kind: Kind, value: Any) -> Any:
        """A plain value from what the driver gives."""
        del kind
        return value

    @property
    @abstractmethod
    def type_names(self) -> Mapping[Kind, str]:
        """Types of columns, as the database calls them."""

    @abstractmethod
    def literal(self, kind: Kind, value: Any) -> str:
        """A plain value as SQL."""

    def indexed(self, column: ModelColumn) -> str:
        """A column as an index names it."""
        return quoted(column.name)

    def shape_of(self, count: int) -> int:
        """What a compiled query depends on of how many values an ``in`` has."""
        return count


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def sql_table(flavor: Flavor, table: ReadModelTable) -> Table:
    """A table as SQLAlchemy knows it."""
    columns = [
        Column(
            quoted_name(column.name, quote=True),
            flavor.types[column.kind],
            key=column.name,
            primary_key=column is table.id,
            nullable=column.nullable,
            autoincrement=False,
        )
        for column in table.columns.values()
    ]
    return Table(quoted_name(table.name, quote=True), MetaData(), *columns, **flavor.table_options)


class Statements:
    """The statements of one table.

    Args:
        flavor: Of the database.
        table: Whose rows.
    """

    def __init__(self, flavor: Flavor, table: ReadModelTable) -> None:
        self.table = table
        self.sql = sql_table(flavor, table)
        self._flavor = flavor
        self._compiled: dict[Any, Statement] = {}

    # -- compiling -----------------------------------------------------------------------------------------------------

    def once(self, key: Any, make: Callable[[], ClauseElement]) -> Statement:
        """A statement, compiled the first time.

        Args:
            key: What it is the only one of.
            make: Builds it.
        """
        found = self._compiled.get(key)
        if found is None:
            if len(self._compiled) >= MOST_SHAPES:
                self._compiled.clear()
            compiled = make().compile(dialect=self._flavor.dialect)
            order = tuple(getattr(compiled, "positiontup", None) or ())
            found = self._compiled[key] = Statement(str(compiled), order, dict(compiled.params or {}))
        return found

    def create_table(self) -> str:
        """The statement that makes the table."""
        return self._plain(CreateTable(self.sql))

    def column_sql(self, name: str) -> str:
        """A column as ``create table`` and ``add column`` take it, with its default if it has one."""
        return self._plain(CreateColumn(self.sql.c[name]))

    def _plain(self, element: ClauseElement) -> str:
        return str(element.compile(dialect=self._flavor.dialect)).strip()

    # -- asking --------------------------------------------------------------------------------------------------------

    @property
    def selected(self) -> list[ColumnElement[Any]]:
        """All columns, as they are read."""
        return [self._flavor.selected(self.sql.c[name], column.kind) for name, column in self.table.columns.items()]

    def by_ids(self, count: int) -> Statement:
        """The rows of some ids."""
        kind, column = self.table.id.kind, self.sql.c.id
        shape = self._flavor.shape_of(count)
        return self.once(
            ("by_ids", shape), lambda: select(*self.selected).where(self._flavor.among(column, "ids", kind, count))
        )

    def ids(self, ids: Sequence[Any]) -> dict[str, Any]:
        """The parameters of `by_ids`."""
        return self._flavor.listed("ids", self.table.id.kind, ids)

    def find(self, selection: Selection) -> tuple[Statement, dict[str, Any]]:
        """A query, and its parameters."""
        asked = self._asked(selection.conditions)
        for place, (each, value) in enumerate(zip(selection.order, selection.beyond or (), strict=False)):
            if value is not None:
                asked[f"b{place}"] = self._flavor.comparable(each.column.kind, value)
        if selection.limit is not None:
            asked["limit"] = selection.limit
        if selection.offset:
            asked["offset"] = selection.offset
        beyond = None if selection.beyond is None else tuple(value is None for value in selection.beyond)
        order = tuple((each.column.name, each.descending) for each in selection.order)
        paged = (selection.limit is None, bool(selection.offset))
        key = ("find", self._shape(selection.conditions), order, beyond, paged)
        return self.once(key, lambda: self._find(selection)), asked

    def count(self, conditions: Sequence[Condition | tuple[Condition, ...]]) -> tuple[Statement, dict[str, Any]]:
        """How many rows there are."""
        make = lambda: select(func.count()).select_from(self.sql).where(*self.holding(conditions))  # noqa: E731 - used once
        return self.once(("count", self._shape(conditions)), make), self._asked(conditions)

    def truncate(self, where: Sequence[Condition]) -> tuple[Statement, dict[str, Any]]:
        """Delete all rows for which something holds."""
        make = lambda: delete(self.sql).where(*self.holding(where))  # noqa: E731 - used once
        return self.once(("truncate", self._shape(where)), make), self._asked(where)

    def remove(self, count: int, where: Sequence[Condition]) -> tuple[Statement, dict[str, Any]]:
        """Delete the rows of some ids for which something holds; the ids are parameters of `ids`."""
        shape = self._flavor.shape_of(count)
        make = lambda: delete(self.sql).where(  # noqa: E731 - used once
            self._flavor.among(self.sql.c.id, "ids", self.table.id.kind, count), *self.holding(where)
        )
        return self.once(("remove", shape, self._shape(where)), make), self._asked(where)

    def mark(self, id_: Any, deleted_at: Any, now: Any, where: Sequence[Condition]) -> tuple[Statement, dict[str, Any]]:
        """Lay a row aside, or take it back."""
        flavor, moment = self._flavor, Kind.TIMESTAMP
        asked = self._asked(where) | {
            "row": flavor.values(self.table.id.kind, id_),
            "deleted_at": flavor.values(moment, deleted_at),
            "now": flavor.values(moment, now),
        }

        def make() -> ClauseElement:
            return (
                update(self.sql)
                .where(self.sql.c.id == flavor.bound("row", self.table.id.kind), *self.holding(where))
                .values(
                    {
                        self.sql.c.deleted_at: flavor.bound("deleted_at", moment),
                        self.sql.c.updated_at: flavor.bound("now", moment),
                        self.sql.c.version: self.sql.c.version + ONE,
                    }
                )
            )

        return self.once(("mark", self._shape(where)), make), asked

    def _find(self, selection: Selection) -> ClauseElement:
        query = select(*self.selected).where(*self.holding(selection.conditions))
        if selection.beyond is not None:
            query = query.where(*self._beyond(selection.order, selection.beyond))
        query = query.order_by(*(self._ordered(each) for each in selection.order))
        if selection.limit is not None:
            query = query.limit(bindparam("limit", type_=Integer))
        if selection.offset:
            query = query.offset(bindparam("offset", type_=Integer))
        return query

    # -- conditions ----------------------------------------------------------------------------------------------------

    def holding(self, conditions: Iterable[Condition | tuple[Condition, ...]]) -> list[ColumnElement[bool]]:
        """Conditions, with parameters named ``p0``, ``p1`` and so on in the order in which they stand."""
        place, found = 0, []
        for each in conditions:
            clauses = []
            for one in each if isinstance(each, tuple) else (each,):
                clauses.append(self._holds(one, f"p{place}"))
                place += 1
            found.append(or_(*clauses))
        return found

    def _holds(self, condition: Condition, name: str) -> ColumnElement[bool]:
        column, kind = self.sql.c[condition.column.name], condition.column.kind
        if condition.value is None:
            return column.is_(None) if condition.operator is Operator.EQ else column.is_not(None)
        left = self._flavor.compared(column, kind)
        if condition.operator in (Operator.IN, Operator.NOT_IN):
            among = self._flavor.among(left, name, kind, len(condition.value))
            return among if condition.operator is Operator.IN else or_(column.is_(None), ~among)
        right = self._flavor.bound(name, kind)
        match condition.operator:
            case Operator.EQ:
                return left == right
            case Operator.NE:
                return left.is_distinct_from(right) if condition.column.nullable else left != right
            case Operator.GT:
                return left > right
            case Operator.GTE:
                return left >= right
            case Operator.LT:
                return left < right
            case _:
                return left <= right

    def _asked(self, conditions: Iterable[Condition | tuple[Condition, ...]]) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        place = 0
        for each in conditions:
            for one in each if isinstance(each, tuple) else (each,):
                if isinstance(one.value, tuple):
                    asked |= self._flavor.listed(f"p{place}", one.column.kind, one.value)
                elif one.value is not None:
                    asked[f"p{place}"] = self._flavor.comparable(one.column.kind, one.value)
                place += 1
        return asked

    def _shape(self, conditions: Iterable[Condition | tuple[Condition, ...]]) -> tuple[Any, ...]:
        return tuple(
            tuple(self._one_shape(one) for one in each) if isinstance(each, tuple) else self._one_shape(each)
            for each in conditions
        )

    def _one_shape(self, one: Condition) -> tuple[Any, ...]:
        values = self._flavor.shape_of(len(one.value)) if isinstance(one.value, tuple) else one.value is None
        return one.column.name, one.operator, values

    # -- order ---------------------------------------------------------------------------------------------------------

    def _ordered(self, each: Ordering) -> ColumnElement[Any]:
        column = self._flavor.compared(self.sql.c[each.column.name], each.column.kind)
        ordered = column.desc() if each.descending else column.asc()
        if not each.column.nullable or not self._flavor.nulls_are_largest:
            return ordered
        return ordered.nulls_last() if each.descending else ordered.nulls_first()

    def _beyond(self, order: Sequence[Ordering], values: Sequence[Any]) -> list[ColumnElement[bool]]:
        """Behind some values in an order; the bound on the first column alone is for an index to begin at."""
        before: list[ColumnElement[bool]] = []
        found: list[ColumnElement[bool]] = []
        bounds: list[ColumnElement[bool]] = []
        for place, (each, value) in enumerate(zip(order, values, strict=True)):
            column, kind = self.sql.c[each.column.name], each.column.kind
            left, right = self._flavor.compared(column, kind), self._flavor.bound(f"b{place}", kind)
            if value is None:
                found.append(and_(*before, false() if each.descending else column.is_not(None)))
                before = [*before, column.is_(None)]
                continue
            behind = left < right if each.descending else left > right
            if each.descending and each.column.nullable:
                behind = or_(behind, column.is_(None))
            elif not before:
                bounds.append(left <= right if each.descending else left >= right)
            found.append(and_(*before, behind))
            before = [*before, left == right]
        return [*bounds, or_(*found)]
