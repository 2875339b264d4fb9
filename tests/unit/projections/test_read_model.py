"""Classes of read models: what they become, and what is refused when they are defined."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, computed_field, create_model
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from mainstay.errors import ConfigurationError, InvalidInputError
from mainstay.projections.columns import REQUIRED, Kind, column_of
from mainstay.projections.read_model import ReadModel, table_of

CustomerId = NewType("CustomerId", str)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 1


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Part(BaseModel):
    name: str


class Typed(TypedDict):
    name: str


@dataclass
class Data:
    name: str


@pytest.mark.parametrize(
    ("annotation", "kind", "nullable"),
    [
        (str, Kind.TEXT, False),
        (int, Kind.INTEGER, False),
        (float, Kind.FLOAT, False),
        (bool, Kind.BOOLEAN, False),
        (Decimal, Kind.DECIMAL, False),
        (datetime, Kind.TIMESTAMP, False),
        (AwareDatetime, Kind.TIMESTAMP, False),
        (date, Kind.DATE, False),
        (UUID, Kind.UUID, False),
        (UUID | str, Kind.NAME, False),
        (UUID | str | None, Kind.NAME, True),
        (Colour, Kind.TEXT, False),
        (Size, Kind.INTEGER, False),
        (Optional[Size], Kind.INTEGER, True),  # noqa: UP045 - people write it
        (Literal["a", "b"], Kind.TEXT, False),
        (Literal[1, 2], Kind.INTEGER, False),
        (CustomerId, Kind.TEXT, False),
        (Annotated[int | None, Field(gt=0)], Kind.INTEGER, True),
        (Part, Kind.JSON, False),
        (Typed, Kind.JSON, False),
        (Data, Kind.JSON, False),
        (list[Part] | None, Kind.JSON, True),
        (dict[str, int], Kind.JSON, False),
        (tuple[int, ...], Kind.JSON, False),
        (set[str], Kind.JSON, False),
        (list, Kind.JSON, False),
        (Any, Kind.JSON, True),
    ],
)
def test_every_type_has_its_column(annotation: Any, kind: Kind, nullable: bool) -> None:  # noqa: FBT001 - expected
    column = column_of("M", "x", FieldInfo.from_annotation(annotation))

    assert (column.kind, column.nullable) == (kind, nullable)


@pytest.mark.parametrize(
    "annotation",
    [
        bytes,
        time,
        timedelta,
        complex,
        object,
        int | str,
        Mixed,
        Literal["a", 1],
        SecretStr,
        type,
        type[int],
    ],
)
def test_a_type_that_no_column_holds_is_refused_when_the_class_is_defined(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Odd\.odd: (a read model cannot hold|pydantic cannot write)"):

        class Odd(ReadModel):
            odd: annotation


def test_a_default_is_what_rows_get_that_are_there_before_the_column() -> None:
    class Defaults(ReadModel):
        __table_name__ = "defaults"
        none: int | None
        some: Decimal = Decimal("1.5")
        listed: list[int] = Field(default_factory=list)
        colour: Colour = Colour.RED
        drawn: float = Field(default_factory=lambda: 1.0)
        needed: int

    columns = table_of(Defaults).columns

    assert [columns[name].default for name in ("none", "some", "listed", "colour")] == [
        None,
        Decimal("1.5"),
        "[]",
        "red",
    ]
    assert columns["drawn"].default is columns["needed"].default is REQUIRED


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("OrderTotal", "order_totals"),
        ("HTTPCall", "http_calls"),
        ("Category", "categories"),
        ("Day", "days"),
        ("Address", "addresses"),
        ("Batch", "batches"),
    ],
)
def test_a_table_is_named_after_its_class(name: str, table: str) -> None:
    assert type(name, (ReadModel,), {}).table_name() == table


def test_a_table_may_have_a_name_that_needs_quoting() -> None:
    class Named(ReadModel):
        __table_name__ = 'My "Table"; drop'

    assert table_of(Named).name == 'My "Table"; drop'
    assert table_of(Named, "__new").name == 'My "Table"; drop__new'
    assert table_of(Named) is table_of(Named)


@pytest.mark.parametrize("name", ["  ", "a\x00", "a\nb", "x" * 49, "é" * 25, "sqlite_x", 17])
def test_a_name_that_no_table_can_have_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="give it a __table_name__"):
        type("Bad", (ReadModel,), {"__table_name__": name})


@pytest.mark.parametrize("generation", ["new", "__", "__NEW", "__new; drop", "__waytoolong", None])
def test_a_generation_is_short_and_plain(generation: Any) -> None:
    class Generated(ReadModel):
        pass

    with pytest.raises(ConfigurationError, match="a generation is"):
        table_of(Generated, generation)


@pytest.mark.parametrize("indexes", ["name", ("nobody",), (("name", "parts"),), 17, (17,)])
def test_an_index_names_fields_that_can_be_compared(indexes: Any) -> None:
    with pytest.raises(ConfigurationError, match="__indexes__"):

        class Indexed(ReadModel):
            __indexes__ = indexes
            name: str
            parts: list[int]


def test_fields_of_any_kind_index_together() -> None:
    class Twice(ReadModel):
        __indexes__ = (["name", "count"], "name", ("name",))
        name: str
        count: int

    assert table_of(Twice).indexes == [("name", "count"), ("name",)]


@pytest.mark.parametrize("name", ["a\x00", "a\n", "x" * 64, "é" * 32])
def test_a_name_that_no_column_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a column's name"):
        create_model("BadField", __base__=ReadModel, **{name: (int, 0)})


def test_what_ours_needs_keeps_its_type() -> None:
    for field, annotation in [
        ("id", int),
        ("id", str | None),
        ("version", str),
        ("created_at", str),
        ("deleted_at", datetime),
        ("tenant_id", int),
    ]:
        with pytest.raises(ConfigurationError, match=field):
            type("Changed", (ReadModel,), {"__annotations__": {field: annotation}})


def test_two_fields_that_sqlite_takes_for_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one column in SQLite"):

        class Cased(ReadModel):
            name: str
            Name: str


def test_fields_that_have_no_column_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="extra fields"):

        class Open(ReadModel):
            model_config = ConfigDict(extra="allow")


def test_what_a_model_computes_is_not_stored() -> None:
    class Computed(ReadModel):
        price: int

        @computed_field
        @property
        def double(self) -> int:
            return 2 * self.price

    assert "double" not in table_of(Computed).columns


def test_a_model_whose_parts_are_named_later_is_checked_when_it_is_used() -> None:
    class Early(ReadModel):
        later: "list[Later]"

    class Later(BaseModel):
        name: str

    Early.model_rebuild()

    assert table_of(Early).columns["later"].kind is Kind.JSON


@pytest.mark.parametrize("model", [ReadModel, BaseModel, "Order", None, int])
def test_only_a_class_of_its_own_is_a_table(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="derived from ReadModel"):
        table_of(model)


def test_an_unknown_field_is_named_with_those_that_there_are() -> None:
    class Known(ReadModel):
        name: str

    with pytest.raises(InvalidInputError, match="Known has no field 'nam'; it has id, created_at"):
        table_of(Known).column("nam")
