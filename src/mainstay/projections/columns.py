"""What a field of a read model becomes in a table: one column of one of ten kinds, the same on every engine.

Rows hold *plain* values, one Python type for each kind (see `Kind`), so that a row read from PostgreSQL, SQLite or
memory is the same row. `Column.plain` makes them from what a model holds, and refuses what one of the engines could not
give back; `Column.field_value` is the way back.
"""

import math
import typing
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, FutureDate, FutureDatetime, PastDate, PastDatetime, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType, is_typeddict

from mainstay.errors import ConfigurationError, InvalidInputError, InvalidPayloadError, shown
from mainstay.events.checks import check_time
from mainstay.message import checked_name
from mainstay.serialization import from_json, to_json

LONGEST_NAME_BYTES = 48
"""Bytes of a table's name; PostgreSQL cuts at 63, and a generation or an index adds to it."""
LONGEST_COLUMN_BYTES = 63
MOST_DIGITS = 1_000
"""Digits of a Decimal before and after the point."""
VALUE_LIMIT = 16_777_216
"""Bytes of one text or JSON document."""
LONGEST_ID = 200
"""Characters of a row's id, and of a tenant's."""

_INT64 = 2**63


class Kind(StrEnum):
    """Kinds of columns, each with the type of its plain values."""

    TEXT = "text"
    """`str`; ordered by code point."""
    NAME = "name"
    """`str`, the text of a UUID or a name: a field of ``UUID | str``."""
    INTEGER = "integer"
    """`int` of 64 bits."""
    FLOAT = "float"
    """`float`, finite."""
    BOOLEAN = "boolean"
    """`bool`."""
    DECIMAL = "decimal"
    """`Decimal`, exact."""
    TIMESTAMP = "timestamp"
    """`datetime` in UTC, with microseconds."""
    DATE = "date"
    """`date`."""
    UUID = "uuid"
    """`UUID`."""
    JSON = "json"
    """`str`, a JSON document; compared with nothing."""


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""A column without a default."""

_CLASSES: tuple[tuple[type, Kind], ...] = (
    (bool, Kind.BOOLEAN),
    (int, Kind.INTEGER),
    (float, Kind.FLOAT),
    (Decimal, Kind.DECIMAL),
    (datetime, Kind.TIMESTAMP),
    (date, Kind.DATE),
    (UUID, Kind.UUID),
    (str, Kind.TEXT),
)
_ALIASES: dict[Any, Kind] = {
    AwareDatetime: Kind.TIMESTAMP,
    PastDatetime: Kind.TIMESTAMP,
    FutureDatetime: Kind.TIMESTAMP,
    PastDate: Kind.DATE,
    FutureDate: Kind.DATE,
}
_CONTAINERS = (dict, list, tuple, set, frozenset, abc.Mapping, abc.Sequence, abc.Set)


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """A column.

    Attributes:
        name: Of the field.
        kind: Of its values.
        nullable: Whether None is one of them.
        default: The plain value that rows get that are there when the column is added; `REQUIRED` if there is none.
        enum: The enumeration that the values belong to.
        adapter: Writes and reads JSON documents.
    """

    name: str
    kind: Kind
    nullable: bool
    default: Any = REQUIRED
    enum: type[Enum] | None = None
    adapter: "TypeAdapter[Any] | None" = None

    @property
    def ordered(self) -> bool:
        """Whether its values can be compared."""
        return self.kind is not Kind.JSON

    def plain(self, value: Any) -> Any:
        """A field's value as rows hold it.

        Raises:
            InvalidInputError: Another type, or what a database cannot give back: NUL characters, NaN, whole numbers
                beyond 64 bits, a time without a zone.
        """
        if value is None:
            if not self.nullable:
                raise InvalidInputError(f"{self.name} must not be None")
            return None
        if self.adapter is not None:
            return _document(self.adapter, value, self.name)
        if self.enum is not None:
            value = self._member(value)
        return _PLAIN[self.kind](value, self.name)

    def field_value(self, value: Any) -> Any:
        """What a model's field is made of.

        Raises:
            ValueError: A document that the field's type does not take.
        """
        if value is None:
            return None
        if self.adapter is not None:
            return self.adapter.validate_json(value)
        return checked_name(value, self.name, LONGEST_ID) if self.kind is Kind.NAME else value

    def _member(self, value: Any) -> Any:
        assert self.enum is not None  # noqa: S101 - the caller looked
        try:
            return self.enum(value).value
        except ValueError as error:
            raise InvalidInputError(f"{self.name} must be a {self.enum.__name__}, not {shown(value)}") from error


def column_of(model: str, name: str, field: FieldInfo) -> Column:
    """The column of a field.

    Args:
        model: The class's name, for errors.
        name: Of the field.
        field: As pydantic knows it.

    Raises:
        ConfigurationError: A type that no column can hold, or a name too long for one.
    """
    if not name.isprintable() or len(name.encode()) > LONGEST_COLUMN_BYTES:
        message = f"{model}: a column's name is 1 to {LONGEST_COLUMN_BYTES} bytes of printable text, not {shown(name)}"
        raise ConfigurationError(message)
    found, nullable = _without_none(field.annotation)
    kind, enum = _kind(found)
    if kind is None:
        message = (
            f"{model}.{name}: a read model cannot hold {shown(field.annotation)}. Use str, int, float, bool, Decimal, "
            "datetime, date, UUID, an Enum, or a nested model, list or dict, which become JSON; or None beside one"
        )
        raise ConfigurationError(message)
    adapter = None
    if kind is Kind.JSON:
        annotation: Any = field.annotation
        for each in field.metadata:
            annotation = Annotated[annotation, each]
        try:
            adapter = TypeAdapter(annotation)
        except PydanticUserError as error:
            message = f"{model}.{name}: pydantic cannot write {shown(annotation)} as JSON: {error}"
            raise ConfigurationError(message) from error
    column = Column(name, kind, nullable, REQUIRED, enum, adapter)
    return Column(name, kind, nullable, _default(model, column, field), enum, adapter)


def _default(model: str, column: Column, field: FieldInfo) -> Any:
    if field.default_factory is not None:
        factory: Any = field.default_factory
        if factory not in (list, dict, set, tuple, str, int, float, bool):
            return None if column.nullable else REQUIRED  # not the same for every row
        value = factory()
    elif field.is_required():
        return None if column.nullable else REQUIRED
    else:
        value = field.default
    try:
        return column.plain(value)
    except InvalidInputError as error:
        raise ConfigurationError(f"{model}.{column.name} has a default that it cannot hold: {error}") from error


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """A type without what may stand around it, and whether None is allowed beside it."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, TypeAliasType) or type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            break
    if annotation is Any:
        return Any, True
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    parts = set(get_args(annotation))
    rest = parts - {NoneType}
    if rest == {UUID, str}:
        return UUID | str, NoneType in parts
    if len(rest) == 1:
        inner, nullable = _without_none(rest.pop())
        return inner, nullable or NoneType in parts
    return annotation, NoneType in parts


def _kind(annotation: Any) -> tuple[Kind | None, type[Enum] | None]:
    origin = get_origin(annotation)
    if annotation == UUID | str or annotation is Any:
        return (Kind.JSON if annotation is Any else Kind.NAME), None
    if origin is Literal:
        return _common(get_args(annotation)), None
    if origin is not None:
        return (Kind.JSON if isinstance(origin, type) and issubclass(origin, _CONTAINERS) else None), None
    if not isinstance(annotation, type) or annotation in _ALIASES:
        return _ALIASES.get(annotation), None
    if issubclass(annotation, Enum):
        return _common([member.value for member in annotation]), annotation
    for known, kind in _CLASSES:
        if issubclass(annotation, known):
            return kind, None
    is_document = issubclass(annotation, (*_CONTAINERS, BaseModel)) or is_typeddict(annotation)
    is_document = (is_document or is_dataclass(annotation)) and not issubclass(annotation, bytes | bytearray)
    return (Kind.JSON if is_document else None), None


def _common(values: "abc.Iterable[Any]") -> Kind | None:
    """The kind of some values of one type: texts, or whole numbers."""
    types = {type(value) for value in values}
    if types and all(issubclass(each, str) for each in types):
        return Kind.TEXT
    return Kind.INTEGER if types and all(issubclass(each, int) and each is not bool for each in types) else None


# --- plain values -----------------------------------------------------------------------------------------------------


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a str", value)
    if "\x00" in value:
        raise InvalidInputError(f"{name} holds a NUL character, which PostgreSQL cannot store: {shown(value)}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} holds half a character, which no database can store: {error}") from error
    if size > VALUE_LIMIT:
        raise InvalidInputError(f"{name} has {size:,} bytes; the limit is {VALUE_LIMIT:,}: store it elsewhere")
    return str(value)


def _name(value: Any, name: str) -> str:
    return str(checked_name(value, name, LONGEST_ID))


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "an int", value)
    if not -_INT64 <= value < _INT64:
        raise InvalidInputError(f"{name} is beyond 64 bits: {shown(value)}; use a Decimal or a str")
    return int(value)


def _float(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise _wrong(name, "a float", value)
    try:
        number = float(value)
    except OverflowError as error:
        raise InvalidInputError(f"{name} is too large for a float: {shown(value)}") from error
    if not math.isfinite(number):
        raise InvalidInputError(f"{name} is {number}, which has no place in an order: use None")
    return number


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "a bool", value)
    return value


def _decimal(value: Any, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise _wrong(name, "a Decimal", value)
    number = Decimal(value)
    if not number.is_finite():
        raise InvalidInputError(f"{name} is {number}, which has no place in an order: use None")
    exponent = int(number.as_tuple().exponent)
    if number.adjusted() >= MOST_DIGITS or -exponent > MOST_DIGITS:
        raise InvalidInputError(f"{name} has more than {MOST_DIGITS:,} digits before or after the point")
    return number


def _timestamp(value: Any, name: str) -> datetime:
    check_time(value, name)
    moment: datetime = value.astimezone(UTC)
    return moment


def _date(value: Any, name: str) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise _wrong(name, "a date", value)
    return value


def _uuid(value: Any, name: str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError) as error:
        raise _wrong(name, "a UUID", value) from error


def _document(adapter: TypeAdapter[Any], value: Any, name: str) -> str:
    try:
        document = adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayloadError(f"{name} cannot be written as JSON: {error}") from error
    if len(document) > VALUE_LIMIT:
        message = f"{name} has {len(document):,} bytes as JSON; the limit is {VALUE_LIMIT:,}: store it elsewhere"
        raise InvalidPayloadError(message)
    if b"null" in document or b"\\u0000" in document:
        to_json(adapter.dump_python(value, by_alias=True, round_trip=True), what=name, limit=VALUE_LIMIT * 2)
    from_json(document)
    return document.decode()


def _wrong(name: str, wanted: str, value: Any) -> InvalidInputError:
    return InvalidInputError(f"{name} must be {wanted}, not {shown(value)}")


_PLAIN: dict[Kind, Callable[[Any, str], Any]] = {
    Kind.TEXT: _text,
    Kind.NAME: _name,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.BOOLEAN: _boolean,
    Kind.DECIMAL: _decimal,
    Kind.TIMESTAMP: _timestamp,
    Kind.DATE: _date,
    Kind.UUID: _uuid,
}
