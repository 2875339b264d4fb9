"""What rows of a read model are asked for: filters, order, pages.

None is a value like any other here, on every engine: it equals itself, differs from every other, and is the smallest.
Only ``gt``, ``gte``, ``lt`` and ``lte`` never take it.

Pages go on after a row, not after a number of rows: a cursor holds the values that the last row had in the order asked
for, and its id. Rows that are written meanwhile neither shift the next page nor appear twice, unless they themselves
move in the order. A cursor is only good for the query that it came from.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, Literal, Self, TypeVar
from uuid import UUID

import orjson

from mainstay.errors import InvalidCursorError, InvalidInputError, shown
from mainstay.events.checks import check_number
from mainstay.projections.columns import Column, Kind
from mainstay.projections.read_model import ReadModelTable, Row

T = TypeVar("T")

MOST_FILTERS = 100
MOST_VALUES = 10_000
"""Values of one ``in``."""
LARGEST_LIMIT = 2_147_483_646

_CURSOR_LIMIT = 100_000
_DIGEST = 8


class Operator(StrEnum):
    """How a field is compared."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NOT_IN = "not_in"


_ORDERING = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
_LISTING = (Operator.IN, Operator.NOT_IN)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one field.

    Args:
        field: Its name.
        operator: ``"eq"``, ``"ne"``, ``"gt"``, ``"gte"``, ``"lt"``, ``"lte"``, ``"in"``, ``"not_in"``.
        value: What to compare with; for ``in`` and ``not_in`` several.
    """

    field: str
    operator: str = "eq"
    value: Any = None

    @classmethod
    def eq(cls, field: str, value: Any) -> Self:
        """The field is this."""
        return cls(field, Operator.EQ, value)

    @classmethod
    def ne(cls, field: str, value: Any) -> Self:
        """The field is anything but this; None is, too."""
        return cls(field, Operator.NE, value)

    @classmethod
    def gt(cls, field: str, value: Any) -> Self:
        """The field is greater."""
        return cls(field, Operator.GT, value)

    @classmethod
    def gte(cls, field: str, value: Any) -> Self:
        """The field is greater, or this."""
        return cls(field, Operator.GTE, value)

    @classmethod
    def lt(cls, field: str, value: Any) -> Self:
        """The field is less."""
        return cls(field, Operator.LT, value)

    @classmethod
    def lte(cls, field: str, value: Any) -> Self:
        """The field is less, or this."""
        return cls(field, Operator.LTE, value)

    @classmethod
    def in_(cls, field: str, values: Iterable[Any]) -> Self:
        """The field is one of these."""
        return cls(field, Operator.IN, values)

    @classmethod
    def not_in(cls, field: str, values: Iterable[Any]) -> Self:
        """The field is none of these."""
        return cls(field, Operator.NOT_IN, values)

    @classmethod
    def is_null(cls, field: str) -> Self:
        """The field is None."""
        return cls(field, Operator.EQ, None)

    @classmethod
    def is_not_null(cls, field: str) -> Self:
        """The field is not None."""
        return cls(field, Operator.NE, None)

    @staticmethod
    def any_of(*filters: "Filter") -> "AnyOf":
        """At least one of these holds."""
        return AnyOf(filters)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one filter holds.

    Args:
        filters: One at least.
    """

    filters: Sequence[Filter]


@dataclass(frozen=True)
class ReadModelQuery:
    """Which rows, in which order.

    Args:
        filters: All of which hold.
        order_by: A field, or several; with ``-`` before it, the largest first. Rows equal in all are ordered by id.
        order_direction: ``"desc"`` turns all of them round.
        limit: Rows at most; all if None.
        offset: Rows to pass by. For pages, `after` is right where rows are written meanwhile, and quicker.
        after: The cursor of the page before, from `ReadModelPage.cursor`.
        include_deleted: Also what was laid aside by ``soft_delete``.
        tenant_id: Only this tenant's.
    """

    filters: Sequence[Filter | AnyOf] = ()
    order_by: str | Sequence[str] | None = None
    order_direction: Literal["asc", "desc"] = "asc"
    limit: int | None = None
    offset: int = 0
    after: str | None = None
    include_deleted: bool = False
    tenant_id: UUID | str | None = None


@dataclass(frozen=True, slots=True)
class ReadModelPage(Generic[T]):
    """Rows of a query, and how to get those after them.

    Attributes:
        items: The rows.
        cursor: For `ReadModelQuery.after`; None if there were no more.
    """

    items: list[T]
    cursor: str | None


# --- as stores take it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter that was checked.

    Attributes:
        column: What is compared.
        operator: How.
        value: A plain value, or a tuple of several.
    """

    column: Column
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class Ordering:
    """One of the columns that rows are ordered by."""

    column: Column
    descending: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """A query that was checked.

    Attributes:
        conditions: All of which hold; of each tuple, one at least.
        order: Ends with the id, so no two rows are equal in it.
        beyond: Only rows behind these values in the order; None for all.
        limit: Rows at most; None for all.
        offset: Rows to pass by.
    """

    conditions: tuple[Condition | tuple[Condition, ...], ...]
    order: tuple[Ordering, ...]
    beyond: tuple[Any, ...] | None = None
    limit: int | None = None
    offset: int = 0


def selection_of(
    table: ReadModelTable, query: ReadModelQuery, *, tenant: Any = None, deleted: bool | None = False
) -> Selection:
    """A query as stores take it.

    Args:
        table: Whose rows.
        query: What is asked.
        tenant: Whose rows, if the one who asks may see no others.
        deleted: Rows that are laid aside (True), those that are not (False), or both (None).

    Raises:
        InvalidInputError: No such field, a value of another type, or a number out of range.
        InvalidCursorError: `ReadModelQuery.after` is not a cursor of this query.
    """
    if not isinstance(query, ReadModelQuery):
        raise InvalidInputError(f"a ReadModelQuery is needed, not {shown(query)}")
    if isinstance(query.filters, str) or not isinstance(query.filters, Sequence) or len(query.filters) > MOST_FILTERS:
        raise InvalidInputError(f"filters are a list of {MOST_FILTERS} Filters at most, not {shown(query.filters)}")
    conditions = [_conditions(table, each) for each in query.filters]
    wanted = table.tenant(query.tenant_id)
    if tenant is not None and wanted not in (None, tenant):
        raise InvalidInputError(f"tenant {shown(query.tenant_id)} cannot be seen from here")
    if (only := wanted if tenant is None else tenant) is not None:
        conditions.append(Condition(table.columns["tenant_id"], Operator.EQ, only))
    if deleted is not None and not query.include_deleted:
        conditions.append(Condition(table.columns["deleted_at"], Operator.NE if deleted else Operator.EQ, None))
    order = _order(table, query)
    if query.limit is not None:
        check_number(query.limit, "a limit", 1, LARGEST_LIMIT)
    check_number(query.offset, "an offset", 0, LARGEST_LIMIT)
    found = Selection(tuple(conditions), order, None, query.limit, query.offset)
    if query.after is None:
        return found
    return Selection(found.conditions, order, _beyond(table, found, query.after), query.limit, query.offset)


def condition_of(table: ReadModelTable, given: Filter) -> Condition:
    """A filter as stores take it.

    Raises:
        InvalidInputError: No such field, or a value of another type.
    """
    if not isinstance(given, Filter):
        raise InvalidInputError(f"a Filter is needed, not {shown(given)}")
    column = table.column(given.field)
    try:
        operator = Operator(given.operator)
    except ValueError:
        message = f"a filter's operator is one of {', '.join(Operator)}, not {shown(given.operator)}"
        raise InvalidInputError(message) from None
    if operator in _LISTING:
        return Condition(column, operator, _several(column, given.value))
    if given.value is None:
        if operator in _ORDERING:
            raise InvalidInputError(f"nothing is greater or less than None: compare {given.field} with a value")
        return Condition(column, operator, None)
    return Condition(column, operator, _compared(column).plain(given.value))


def _conditions(table: ReadModelTable, given: Filter | AnyOf) -> Condition | tuple[Condition, ...]:
    if not isinstance(given, AnyOf):
        return condition_of(table, given)
    filters = given.filters
    if not isinstance(filters, Sequence) or not 1 <= len(filters) <= MOST_FILTERS:
        raise InvalidInputError(f"any_of takes 1 to {MOST_FILTERS} Filters, not {shown(filters)}")
    return tuple(condition_of(table, each) for each in filters)


def _compared(column: Column) -> Column:
    if not column.ordered:
        raise InvalidInputError(f"{column.name} is a JSON document: it can be asked for None only")
    return column


def _several(column: Column, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{column.name} is to be one of several values, not {shown(values)}")
    found = tuple(values)
    if len(found) > MOST_VALUES:
        raise InvalidInputError(f"{len(found):,} values for {column.name} are too many; the limit is {MOST_VALUES:,}")
    if any(value is None for value in found):
        raise InvalidInputError(f"None is not one of several values: ask with any_of whether {column.name} is None")
    return tuple(_compared(column).plain(value) for value in found)


def _order(table: ReadModelTable, query: ReadModelQuery) -> tuple[Ordering, ...]:
    names = query.order_by or ()
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, Sequence) or len(names) > MOST_FILTERS:
        raise InvalidInputError(f"order_by is a field or a few of them, not {shown(names)}")
    if query.order_direction not in ("asc", "desc"):
        raise InvalidInputError(f"order_direction is 'asc' or 'desc', not {shown(query.order_direction)}")
    order: list[Ordering] = []
    for name in names:
        descending = isinstance(name, str) and name.startswith("-") and name not in table.columns
        column = table.column(name[1:] if descending else name)
        if not column.ordered:
            raise InvalidInputError(f"{column.name} is a JSON document, which has no order")
        if all(each.column is not column for each in order):
            order.append(Ordering(column, descending != (query.order_direction == "desc")))
    if all(each.column is not table.id for each in order):
        order.append(Ordering(table.id, order[-1].descending if order else query.order_direction == "desc"))
    return tuple(order)


# --- cursors ----------------------------------------------------------------------------------------------------------


def cursor_of(table: ReadModelTable, selection: Selection, row: Row) -> str:
    """What a query goes on with after a row.

    Args:
        table: Whose row.
        selection: The query.
        row: The last of its page.
    """
    values = [row[each.column.name] for each in selection.order]
    body = orjson.dumps(values, default=str)
    return base64.urlsafe_b64encode(_digest(table, selection, body) + body).decode().rstrip("=")


def _beyond(table: ReadModelTable, selection: Selection, cursor: Any) -> tuple[Any, ...]:
    if not isinstance(cursor, str) or len(cursor) > _CURSOR_LIMIT:
        raise InvalidCursorError(cursor)
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = orjson.loads(raw[_DIGEST:])
    except ValueError as error:
        raise InvalidCursorError(cursor) from error
    if raw[:_DIGEST] != _digest(table, selection, raw[_DIGEST:]) or len(values) != len(selection.order):
        raise InvalidCursorError(cursor)
    try:
        return tuple(_revived(each.column, value) for each, value in zip(selection.order, values, strict=True))
    except (InvalidInputError, ValueError, TypeError, ArithmeticError) as error:
        raise InvalidCursorError(cursor) from error


def _digest(table: ReadModelTable, selection: Selection, body: bytes) -> bytes:
    """Of the query and the values: finds what was cut, mixed up or meant for another query; it is no signature."""
    parts = [table.base, repr([(each.column.name, each.descending) for each in selection.order])]
    for each in selection.conditions:
        some = each if isinstance(each, tuple) else (each,)
        parts.append(repr([(one.column.name, str(one.operator), one.value) for one in some]))
    return hashlib.blake2b(body, digest_size=_DIGEST, key=hashlib.blake2b(repr(parts).encode()).digest()).digest()


def _revived(column: Column, value: Any) -> Any:
    """A plain value from a cursor."""
    if value is None:
        return None
    match column.kind:
        case Kind.TIMESTAMP:
            return column.plain(datetime.fromisoformat(value))
        case Kind.DATE:
            return datetime.fromisoformat(value).date()
        case Kind.DECIMAL:
            return column.plain(Decimal(value))
        case Kind.UUID:
            return UUID(value)
        case _:
            return column.plain(value)
