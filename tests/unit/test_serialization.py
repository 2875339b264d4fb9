"""Payloads as JSON that PostgreSQL gives back unchanged."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, field_serializer, model_serializer

from mainstay.errors import InvalidPayloadError
from mainstay.serialization import (
    DEFAULT_PAYLOAD_LIMIT,
    JSONEncoder,
    checked_object,
    from_json,
    json_dumps,
    json_loads,
    model_to_json,
    object_to_json,
    same_json,
    to_json,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@dataclass
class Box:
    inside: Any


class Model(BaseModel):
    inside: Any = None


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Odd(Enum):
    NOT_A_NUMBER = math.nan
    NUL = "a\x00b"


WRAPPINGS: list[Callable[[Any], Any]] = [
    lambda value: [1, value],
    lambda value: (value,),
    lambda value: {"key": value},
    lambda value: {"none": None, "list": [{"deep": value}]},
    Box,
    lambda value: Model(inside=value),
]


# -- what is written ---------------------------------------------------------------------------------------------------


@given(VALUES)
def test_what_json_can_hold_comes_back_as_it_was(value: Any) -> None:
    assert from_json(to_json(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (Decimal("12.30"), "12.30"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Box(Box(1)), {"inside": {"inside": 1}}),
        (Model(inside=[Model()]), {"inside": [{"inside": None}]}),
        ({5}, [5]),
        (frozenset({5}), [5]),
        ((1, 2), [1, 2]),
        ("a backslash and u0000: \\u0000", "a backslash and u0000: \\u0000"),
        ("null", "null"),
    ],
)
def test_the_words_of_everyday_python_have_a_json_form(value: Any, expected: Any) -> None:
    assert from_json(to_json({"value": value})) == {"value": expected}


# -- what is refused ---------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(WRAPPINGS), max_size=6), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_json_has_not_is_refused_wherever_it_hides(wrappings: list[Any], value: Any) -> None:
    for wrap in wrappings:
        value = wrap(value)

    with pytest.raises(InvalidPayloadError, match=r"^data.* is (nan|inf|-inf): JSON has no such number"):
        to_json(value)


@given(
    st.lists(st.sampled_from(WRAPPINGS), max_size=6), TEXT, st.sampled_from([lambda text: text, lambda text: {text: 1}])
)
def test_a_nul_character_is_refused_wherever_it_hides(wrappings: list[Any], around: str, innermost: Any) -> None:
    value = innermost(f"{around}\x00{around}")
    for wrap in wrappings:
        value = wrap(value)

    with pytest.raises(InvalidPayloadError, match="NUL character"):
        to_json(value)


@pytest.mark.parametrize("value", [Odd.NOT_A_NUMBER, Odd.NUL, {1.0, math.nan}, {"a\x00"}])
def test_enums_and_sets_hide_nothing(value: Any) -> None:
    with pytest.raises(InvalidPayloadError, match=r"data\.deep"):
        to_json({"deep": value})


def test_the_error_names_the_place() -> None:
    with pytest.raises(InvalidPayloadError, match=r"^result\.lines\[1\]\.price is nan"):
        to_json({"lines": [{"price": 1.0}, {"price": math.nan}]}, what="result")
    with pytest.raises(InvalidPayloadError, match=r"^a key of data\.lines holds a NUL"):
        to_json({"lines": {"a\x00": 1}})


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**63) - 1,
        b"bytes",
        {1: "a number as key"},
        {None: 1},
        object(),
        Box,
        1j,
        "\ud800",
        {"deep": [{"er": "\udfff"}]},
        MappingProxyType({}),
        lambda: None,
    ],
)
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidPayloadError, match=r"^payload(\.deep\[0\]\.er)? cannot be written as JSON"):
        to_json(value, what="payload")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": {"b": [1, 2**70]}}, r"data\.a\.b\[1\] cannot .*64-bit"),
        ({"a": [{"b": b"bytes"}]}, r"data\.a\[0\]\.b cannot"),
        ({"a": {1: "one"}}, r"data\.a cannot .*[Kk]ey"),
        ({"a": {"\ud800": 1}}, r"a key of data\.a cannot"),
        ({"a": (1, object())}, r"data\.a\[1\] cannot"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(InvalidPayloadError, match=where):
        to_json(value)


@pytest.mark.parametrize("write", [to_json, object_to_json, checked_object, model_to_json])
@pytest.mark.parametrize(
    ("made", "where"),
    [
        (lambda: Loose(anything=object()), r"data\.anything cannot .*object"),
        (lambda: Loose(anything={"a": [1, object()]}), r"data\.anything\.a\[1\] cannot .*object"),
        (lambda: Loose(inner=Inner(value="\ud800")), r"data\.inner\.value cannot .*surrogates"),
        (lambda: Open(known=1, other=[object()]), r"data\.other\[0\] cannot .*object"),
        (lambda: Torn(first=1), r"data\.second cannot .*torn"),
    ],
)
def test_what_cannot_be_written_in_a_model_is_named_with_its_place(write, made: Callable[[], Any], where: str) -> None:
    if write is to_json and "torn" in where:  # such a model is not looked into
        where = "data cannot .*Torn"
    with pytest.raises(InvalidPayloadError, match=where):
        write(made())


def test_a_model_that_writes_itself_is_to_blame_as_a_whole() -> None:
    with pytest.raises(InvalidPayloadError, match=r"^data cannot be written as JSON: .*torn"):
        model_to_json(TornWhole(first=1))


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidPayloadError, match="cannot be written as JSON"):
        to_json(endless)


def test_a_payload_may_reach_the_limit_and_not_exceed_it() -> None:
    assert len(to_json("x" * 8, limit=10)) == 10
    with pytest.raises(InvalidPayloadError, match="has 11 bytes as JSON; the limit is 10"):
        to_json("x" * 9, limit=10)
    with pytest.raises(InvalidPayloadError, match="the limit is 1,048,576"):
        to_json("x" * DEFAULT_PAYLOAD_LIMIT)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [b"", b"{", "nul", b"\xff", b'{"a":NaN}', b"[1,]"])
def test_what_is_no_json_is_refused(document: bytes | str) -> None:
    with pytest.raises(InvalidPayloadError, match="not valid JSON"):
        from_json(document)


def test_text_and_bytes_are_read_alike() -> None:
    assert from_json('{"a":1}') == from_json(b'{"a":1}') == {"a": 1}


def test_an_object_is_a_dict_or_a_model_or_nothing() -> None:
    given_dict = {"a": 1}

    assert checked_object(given_dict) is given_dict
    assert checked_object(None) == {}
    assert checked_object(Model(inside=date(2026, 1, 2))) == {"inside": "2026-01-02"}


@pytest.mark.parametrize("value", [[], "text", 5, (("a", 1),), Box(1)])
def test_anything_else_is_no_object(value: Any) -> None:
    with pytest.raises(InvalidPayloadError, match="custom_data must be a JSON object"):
        checked_object(value, what="custom_data")


def test_the_standard_library_writes_the_same_through_the_encoder() -> None:
    @dataclass
    class Place:
        row: int

    class Color(Enum):
        RED = "red"

    class Seat(BaseModel):
        number: int

    value = {
        "id": UUID(int=1),
        "at": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "on": date(2026, 1, 2),
        "by": time(4, 5),
        "sum": Decimal("1.50"),
        "color": Color.RED,
        "place": Place(3),
        "seat": Seat(number=4),
        "set": {1},
    }

    assert json.loads(json.dumps(value, cls=JSONEncoder)) == json_loads(json_dumps(value))
    with pytest.raises(TypeError, match="has no JSON form"):
        json.dumps(object(), cls=JSONEncoder)
    with pytest.raises(InvalidPayloadError):
        json_dumps(float("nan"))
    with pytest.raises(InvalidPayloadError):
        json_loads("{")


class Inner(BaseModel):
    value: Any


class Open(BaseModel):
    model_config = {"extra": "allow"}
    known: int


class Torn(BaseModel):
    first: int
    second: int = 2

    @field_serializer("second")
    def tear(self, value: int) -> int:
        raise ValueError("torn")


class TornWhole(BaseModel):
    first: int

    @model_serializer
    def tear(self) -> dict[str, Any]:
        raise ValueError("torn")


class Loose(BaseModel):
    anything: Any = None
    plain: dict = {}
    typed: dict[str, Any] = {}
    inner: Inner | None = None
    number: float = 0.0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("place", "made"),
    [
        ("data.anything", lambda n: Loose(anything=n)),
        ("data.anything[0]", lambda n: Loose(anything=[n])),
        ("data.plain.a", lambda n: Loose(plain={"a": n})),
        ("data.typed.a[1]", lambda n: Loose(typed={"a": [1, n]})),
        ("data.inner.value", lambda n: Loose(inner=Inner(value=n))),
        ("data.anything.value", lambda n: Loose(anything=Inner(value=n))),
        ("data.number", lambda n: Loose(number=n)),
    ],
)
def test_no_number_becomes_null_in_a_model(number, place: str, made: Callable[[float], Loose]) -> None:
    with pytest.raises(InvalidPayloadError) as refused:
        object_to_json(made(number))
    assert "no such number" in str(refused.value)
    with pytest.raises(InvalidPayloadError, match="no such number"):
        checked_object(made(number))
    if place != "data.number":  # that is still there when it is written
        assert str(refused.value).startswith(f"{place} is {number}")


class Words(RootModel[set[str]]):
    pass


@dataclass
class Page:
    words: set[str]


class Bag(BaseModel):
    model_config = {"populate_by_name": True}
    words: set[str]
    frozen: frozenset[int] = frozenset()
    nested: dict[str, list[set[str]]] = {}
    loose: Any = None
    other: "Bag | None" = Field(None, alias="next")
    root: Words = Words(set())
    page: Page = Page(set())
    sets: set[frozenset[str]] = set()


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@pytest.mark.parametrize(
    "value",
    [
        {"words": set(WORDS), "deep": [{"more": frozenset(WORDS)}]},
        {"mixed": {1, "1", None, 2.5, ("a", 1)}},
        Bag(words=set(WORDS), frozen=frozenset(range(50)), nested={"a": [set(WORDS), set()]}, loose={"s": set(WORDS)}),
        Bag(words={"x"}, next=Bag(words=set(WORDS), loose=[set(WORDS)])),
        {"model": Bag(words=set(WORDS))},
        Bag(words={"x"}, root=Words(set(WORDS)), page=Page(set(WORDS)), sets={frozenset(WORDS), frozenset("xyz")}),
        Bag(words={"x"}, loose={"page": Page(set(WORDS)), "root": Words(set(WORDS))}),
        {"page": Page(set(WORDS)), "root": Words(set(WORDS)), "sets": {frozenset(WORDS), frozenset("xyz")}},
    ],
)
def test_sets_are_written_in_one_order_in_every_process(value) -> None:
    def sets(part: Any) -> None:
        if isinstance(part, dict):
            for each in part.values():
                sets(each)
        elif isinstance(part, list):
            for each in part:
                sets(each)
            if part and all(isinstance(each, str) for each in part):
                assert part == sorted(part)

    written = object_to_json(value)
    sets(from_json(written))
    assert "words" not in from_json(written) or set(from_json(written)["words"]) <= {*WORDS, "x"}
    if isinstance(value, Bag):
        again = Bag.model_validate_json(written)
        typed = ("words", "frozen", "nested", "root", "page", "sets")
        assert [getattr(again, name) for name in typed] == [getattr(value, name) for name in typed]


def test_half_of_a_character_in_a_set_is_refused() -> None:
    for value in ({"words": {"\ud800"}}, Bag(words={"\ud800"})):
        with pytest.raises(InvalidPayloadError, match="cannot be written as JSON"):
            object_to_json(value)


def test_true_is_not_1_in_json() -> None:
    assert same_json({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})
    assert same_json(1, 1.0)
    for one, other in [(1, True), (0, False), ([1], [True]), ({"a": 0}, {"a": False}), ([1], [1, 2]), ({"a": 1}, {})]:
        assert not same_json(one, other)
        assert not same_json(other, one)
