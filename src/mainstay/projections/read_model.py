"""Read models: pydantic models that are rows of a table, made of events by a `ReadModelProjection`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mainstay.errors import ConfigurationError, InvalidInputError, ReadModelCorruptError, shown
from mainstay.message import checked_text
from mainstay.projections.columns import LONGEST_ID, LONGEST_NAME_BYTES, Column, Kind, column_of

Row = dict[str, Any]
"""A row: plain values by the names of their columns."""

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_IDS = (Kind.UUID, Kind.NAME, Kind.TEXT)
_GENERATION = re.compile(r"(__[a-z0-9]{1,8})?\Z")


def _now() -> datetime:
    return datetime.now(UTC)


class ReadModel(BaseModel):
    """A row of a table that is made of events, to be asked.

    ::

        class OrderTotal(ReadModel):
            __indexes__ = ("customer", ("status", "total"))

            customer: str
            total: Decimal = Decimal(0)
            status: Status = Status.OPEN

    A field may be a ``str``, ``int``, ``float``, ``bool``, ``Decimal``, ``datetime`` (aware), ``date``, ``UUID`` or
    ``Enum``, or one of them or None; nested models, lists and dicts become JSON. Its table is named by `table_name`.
    A model with a field ``tenant_id`` is read and written for one tenant at a time.

    Attributes:
        id: Which row: a UUID, or a text of 1 to 200 printable characters. Unique over all tenants.
        created_at: When it was first saved, or what the first save said.
        updated_at: When it was last saved.
        version: How often it was saved, from 1; a save that checks takes 0 for "there is none yet".
        deleted_at: When it was laid aside by `soft_delete`.

    Raises:
        ConfigurationError: A field of another type, or a name that no table can have. Raised when the class is defined.
    """

    model_config = ConfigDict(populate_by_name=True)

    __table_name__: ClassVar[str | None] = None
    """The table's name, instead of the class's in the plural."""
    __indexes__: ClassVar[Sequence[str | Sequence[str]]] = ()
    """What the table has indexes on: fields, or several of them."""

    id: UUID | str
    created_at: AwareDatetime = Field(default_factory=_now)
    updated_at: AwareDatetime = Field(default_factory=_now)
    version: int = Field(default=1, ge=0)
    deleted_at: AwareDatetime | None = None

    @classmethod
    def table_name(cls) -> str:
        """The table's name: ``__table_name__``, or the class's in snake case and the plural (``order_totals``)."""
        return cls.__table_name__ or _plural(_WORDS.sub("_", cls.__name__).lower())

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """See at once that it can be a table."""
        super().__pydantic_init_subclass__(**options)
        if cls.__pydantic_complete__ and not cls.__pydantic_generic_metadata__["parameters"]:
            table_of(cls)


Model = TypeVar("Model", bound=ReadModel)


@dataclass(frozen=True, eq=False)
class ReadModelTable:
    """A table for the rows of a model; made by `table_of`.

    Attributes:
        model: The class.
        base: The table's name.
        generation: What is added to the name while another table of the model is in use: ``"__new"``, for instance.
        columns: By name, in the order of the fields.
        indexes: Columns of each.
    """

    model: type[ReadModel]
    base: str
    generation: str
    columns: Mapping[str, Column]
    indexes: Sequence[tuple[str, ...]]
    id: Column = field(init=False)
    has_tenant: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look up what is asked often."""
        object.__setattr__(self, "id", self.columns["id"])
        object.__setattr__(self, "has_tenant", "tenant_id" in self.columns)

    @property
    def name(self) -> str:
        """The table's name, with its generation."""
        return self.base + self.generation

    def column(self, name: Any) -> Column:
        """A column by its name.

        Raises:
            InvalidInputError: There is none.
        """
        found = self.columns.get(name) if isinstance(name, str) else None
        if found is None:
            raise InvalidInputError(
                f"{self.model.__name__} has no field {shown(name)}; it has {', '.join(self.columns)}"
            )
        return found

    def key(self, value: Any) -> Any:
        """An id as rows hold it.

        Raises:
            InvalidInputError: It is none.
        """
        return _key(self.id, value)

    def tenant(self, value: Any) -> Any:
        """A tenant's id as rows hold it; None for none.

        Raises:
            InvalidInputError: It is none, or the model has no tenants.
        """
        if value is None:
            return None
        if not self.has_tenant:
            raise InvalidInputError(f"{self.model.__name__} has no field tenant_id, so it has no tenants")
        return _key(self.columns["tenant_id"], value)

    def row(self, model: ReadModel) -> Row:
        """A model as a row.

        Raises:
            InvalidInputError: Another class's, or a value that a database could not give back.
        """
        if not isinstance(model, self.model):
            raise InvalidInputError(f"a {self.model.__name__} is needed, not {shown(model)}")
        try:
            row = {name: column.plain(getattr(model, name)) for name, column in self.columns.items()}
            row["id"] = self.key(row["id"])
            if self.has_tenant:
                row["tenant_id"] = self.tenant(row["tenant_id"])
        except InvalidInputError as error:
            error.args = (f"{self.model.__name__}.{error}",)
            raise
        return row

    def read(self, row: Row) -> Any:
        """A row as a model.

        Raises:
            ReadModelCorruptError: The row does not fit the model.
        """
        try:
            values = {name: column.field_value(row[name]) for name, column in self.columns.items()}
            return self.model.model_validate(values, strict=False)
        except (ValidationError, ValueError) as error:
            raise ReadModelCorruptError(self.name, row["id"], str(error)) from error


def _key(column: Column, value: Any) -> Any:
    if column.kind is Kind.TEXT:
        return checked_text(str(value) if isinstance(value, UUID) else value, column.name, LONGEST_ID)
    return column.plain(value)


def table_of(model: type[ReadModel], generation: str = "") -> ReadModelTable:
    """The table of a model: the same object every time.

    Args:
        model: The class.
        generation: ``"__"`` and 1 to 8 of a-z and 0-9, for a table beside the one in use; empty for that.

    Raises:
        ConfigurationError: It cannot be a table.
    """
    if not isinstance(generation, str) or not _GENERATION.match(generation):
        raise ConfigurationError(f"a generation is '__' and 1 to 8 of a-z and 0-9, not {shown(generation)}")
    if not isinstance(model, type) or not issubclass(model, ReadModel) or model is ReadModel:
        raise ConfigurationError(f"a class derived from ReadModel is needed, not {shown(model)}")
    return _table_of(model, generation)


@cache
def _table_of(model: type[ReadModel], generation: str) -> ReadModelTable:
    name = model.__name__
    if not model.__pydantic_complete__:
        model.model_rebuild()
    if model.model_config.get("extra") == "allow":
        raise ConfigurationError(f"{name} allows extra fields, which have no columns: put them into a dict")
    columns = {each: column_of(name, each, field) for each, field in model.model_fields.items()}
    _check_ours(name, columns)
    by_case: dict[str, str] = {}
    for each in columns:
        if (other := by_case.setdefault(each.lower(), each)) != each:
            raise ConfigurationError(f"{name}.{other} and {name}.{each} are one column in SQLite: rename one")
    return ReadModelTable(model, _checked_name(name, model.table_name()), generation, columns, _indexes(model, columns))


def _check_ours(name: str, columns: Mapping[str, Column]) -> None:
    ours = {"created_at": Kind.TIMESTAMP, "updated_at": Kind.TIMESTAMP, "version": Kind.INTEGER}
    for each, kind in ours.items():
        if columns[each].kind is not kind or columns[each].nullable:
            raise ConfigurationError(f"{name}.{each} must keep its type: call your own field otherwise")
    if columns["deleted_at"].kind is not Kind.TIMESTAMP or not columns["deleted_at"].nullable:
        raise ConfigurationError(f"{name}.deleted_at must keep its type: call your own field otherwise")
    if columns["id"].kind not in _IDS or columns["id"].nullable or columns["id"].enum is not None:
        raise ConfigurationError(f"{name}.id must be a UUID, a str, or UUID | str")
    tenant = columns.get("tenant_id")
    if tenant is not None and (tenant.kind not in _IDS or tenant.enum is not None):
        raise ConfigurationError(f"{name}.tenant_id must be a UUID, a str, or UUID | str, or None")


def _indexes(model: type[ReadModel], columns: Mapping[str, Column]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    given: Any = model.__indexes__
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigurationError(f"{model.__name__}.__indexes__ is a tuple of fields, or of tuples of fields")
    for each in given:
        names = tuple(each) if isinstance(each, list | tuple) else (each,)
        for name in names:
            if name not in columns or not columns[name].ordered:
                raise ConfigurationError(
                    f"{model.__name__}.__indexes__ names {shown(name)}, which is no field to index"
                )
        if names and names not in found:
            found.append(names)
    return found


def _checked_name(model: str, name: Any) -> str:
    if (
        not isinstance(name, str)
        or not name.strip()
        or not name.isprintable()
        or len(name.encode()) > LONGEST_NAME_BYTES
        or name.lower().startswith("sqlite_")
    ):
        message = (
            f"{model}: a table's name is 1 to {LONGEST_NAME_BYTES} bytes of printable characters that do not begin "
            f"with sqlite_, not {shown(name)}: give it a __table_name__"
        )
        raise ConfigurationError(message)
    return name


def _plural(word: str) -> str:
    if re.search(r"[^aeiou]y\Z", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)\Z", word) else "s")
