"""Payloads are written by a serializer of the payload's fields alone where that writes what the class's own would."""

import functools
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializeAsAny,
    computed_field,
    field_serializer,
    model_serializer,
    model_validator,
)

from mainstay import DomainEvent, EventRegistry, InvalidInputError, InvalidPayloadError, StreamId
from mainstay.events.codec import EventCodec
from mainstay.events.definition import ENVELOPE
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.writing import writer
from mainstay.serialization import model_to_json
from mainstay.storage.postgres.event_rows import append_parameters

LIMIT = 10_000
T = TypeVar("T")


class Size(Enum):
    SMALL = "small"


class Part(BaseModel):
    name: str
    price: Decimal


class SaysItselfInOtherWords(BaseModel):
    name: str

    @field_serializer("name")
    def _louder(self, name: str) -> str:
        return name.upper()


class Plain(DomainEvent, event_type="writing.Plain"):
    text: str
    price: Decimal
    at: datetime
    size: Size
    part: Part
    parts: list[Part]
    by_id: dict[UUID, Part]
    nothing: int | None = None
    tags_of_it: frozenset[str] = frozenset()


class Aliased(DomainEvent, event_type="writing.Aliased"):
    inner: int = Field(serialization_alias="outer", validation_alias=AliasChoices("outer", "inner"))


class WrittenByHand(DomainEvent, event_type="writing.WrittenByHand"):
    price: Annotated[Decimal, PlainSerializer(lambda price: f"{price} EUR")]


class Checked(DomainEvent, event_type="writing.Checked"):
    low: int
    high: int
    _seen: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Checked":
        assert self.low <= self.high
        return self

    @functools.cached_property
    def middle(self) -> float:
        return (self.low + self.high) / 2


class Configured(DomainEvent, event_type="writing.Configured"):
    model_config = ConfigDict(ser_json_timedelta="float", ser_json_bytes="base64", use_enum_values=True)
    taken: timedelta
    size: Size


class OfAny(DomainEvent, Generic[T], event_type="writing.OfAny"):
    what: T


class Whatever(DomainEvent, event_type="writing.Whatever"):
    part: SerializeAsAny[Part]
    anything: Any


class Speaking(DomainEvent, event_type="writing.Speaking"):
    name: str

    @field_serializer("name")
    def _louder(self, name: str) -> str:
        return name.upper()


class HoldsOneThatSpeaks(DomainEvent, event_type="writing.HoldsOneThatSpeaks"):
    held: SaysItselfInOtherWords


class Wrapped(DomainEvent, event_type="writing.Wrapped"):
    name: str

    @model_serializer(mode="wrap")
    def _with_more(self, write: Any) -> dict[str, Any]:
        return {**write(self), "more": 1}


class Counting(DomainEvent, event_type="writing.Counting"):
    low: int

    @computed_field  # type: ignore[prop-decorator]  # pydantic says to write it so
    @property
    def twice(self) -> int:
        return 2 * self.low


class Open(DomainEvent, event_type="writing.Open"):
    model_config = ConfigDict(extra="allow")
    known: int


class Hiding(DomainEvent, event_type="writing.Hiding"):
    known: int
    unsaid: int = Field(default=0, exclude=True)


class HidingAtTimes(DomainEvent, event_type="writing.HidingAtTimes"):
    known: int = Field(exclude_if=lambda known: known == 0)


class Tree(DomainEvent, event_type="writing.Tree"):
    branches: list["Branch"]


class Branch(BaseModel):
    branches: list["Branch"] = []


class OfAnotherShape(DomainEvent, event_type="writing.OfAnotherShape"):
    @model_serializer
    def _no_object(self) -> list[int]:
        return [1]


PART = Part(name="a", price=Decimal("1.10"))
NOW = datetime.now(UTC)
ALONE = [
    Plain(text='"q\\', price=Decimal("1E+2"), at=NOW, size=Size.SMALL, part=PART, parts=[PART], by_id={uuid4(): PART}),
    Aliased(inner=1),
    WrittenByHand(price=Decimal("1.50")),
    Checked(low=1, high=2),
    Configured(taken=timedelta(seconds=1.5), size=Size.SMALL),
    OfAny[int](what=1),
    Whatever(part=PART, anything={"a": [PART, NOW]}),
    HoldsOneThatSpeaks(held=SaysItselfInOtherWords(name="a")),
    Tree(branches=[Branch(branches=[Branch()])]),
]
WHOLE = [
    Speaking(name="a"),
    Wrapped(name="a"),
    Counting(low=2),
    Open(known=1, unknown={"a": NOW}),
    Hiding(known=1, unsaid=2),
    HidingAtTimes(known=0),
    HidingAtTimes(known=1),
]


def _name(event: DomainEvent) -> str:
    return type(event).__name__


@pytest.mark.parametrize("event", [*ALONE, *WHOLE], ids=_name)
def test_what_is_written_is_what_the_class_writes(event) -> None:
    if isinstance(event, Checked):
        assert event.middle == 1.5  # kept among its values

    written = writer(type(event)).write(event, LIMIT)

    assert orjson.loads(written) == orjson.loads(model_to_json(event, exclude=ENVELOPE))


@pytest.mark.parametrize("event", ALONE, ids=_name)
def test_fields_of_most_classes_are_written_alone(event) -> None:
    assert writer(type(event)).fields is not None


@pytest.mark.parametrize("event", WHOLE, ids=_name)
def test_classes_with_more_to_do_are_written_whole(event) -> None:
    assert writer(type(event)).fields is None


class OnceOnly(DomainEvent, event_type="writing.OnceOnly"):
    items: Iterable[int]
    note: str | None = None
    anything: Any = None


class PartOnceOnly(BaseModel):
    items: Iterable[int]


class HoldsOnceOnly(DomainEvent, event_type="writing.HoldsOnceOnly"):
    part: PartOnceOnly | None


class HoldsTheSameTwice(DomainEvent, event_type="writing.HoldsTheSameTwice"):
    part: PartOnceOnly | None
    parts: list[PartOnceOnly]


def test_what_can_be_read_once_only_is_written_once() -> None:
    assert orjson.loads(writer(OnceOnly).write(OnceOnly(items=[1, 2]), LIMIT))["items"] == [1, 2]


@pytest.mark.parametrize("last", [object(), "\0"], ids=["unknown", "NUL"])
def test_what_can_be_read_once_only_and_is_refused_is_not_written_without_it(last) -> None:
    event = OnceOnly(items=[1], note="a", anything=iter([1, last]))

    with pytest.raises(InvalidPayloadError):
        writer(OnceOnly).write(event, LIMIT)


def test_what_no_json_has_is_refused_though_the_class_writes_it() -> None:
    class Measured(DomainEvent, event_type="writing.Measured"):
        model_config = ConfigDict(ser_json_inf_nan="constants")
        size: float

    assert orjson.loads(writer(Measured).write(Measured(size=1), LIMIT)) == {"size": 1}
    for size in (math.nan, math.inf, -math.inf):
        with pytest.raises(InvalidPayloadError):
            writer(Measured).write(Measured(size=size), LIMIT)


def test_a_class_that_was_rebuilt_is_written_as_it_is_now() -> None:
    class Rebuilt(DomainEvent, event_type="writing.Rebuilt"):
        known: int
        secret: str

    event = Rebuilt(known=1, secret="s")
    assert orjson.loads(writer(Rebuilt).write(event, LIMIT)) == {"known": 1, "secret": "s"}

    Rebuilt.model_fields["secret"].exclude = True
    Rebuilt.model_rebuild(force=True)

    assert orjson.loads(writer(Rebuilt).write(Rebuilt(known=1, secret="s"), LIMIT)) == {"known": 1}


def _with(event: DomainEvent, **values: Any) -> DomainEvent:
    return event.model_copy(update=values)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (_with(ALONE[3], low="x"), "low"),
        (_with(ALONE[0], text="a\x00b"), "writing.Plain.text holds a NUL character"),
        (_with(ALONE[0], text="a" * LIMIT), "the limit is 10,000"),
        (_with(ALONE[6], anything=math.nan), "writing.Whatever.anything is nan"),
        (_with(ALONE[6], anything=object()), "Unable to serialize unknown type"),
    ],
    ids=["another type", "NUL", "too long", "not a number", "unknown"],
)
def test_what_the_class_refuses_is_refused_in_its_words(event, says) -> None:
    with pytest.raises(InvalidPayloadError, match=says) as found:
        writer(type(event)).write(event, LIMIT)

    with pytest.raises(InvalidPayloadError) as expected:
        model_to_json(event, exclude=ENVELOPE, what=event.event_type, limit=LIMIT)
    assert str(found.value) == str(expected.value)


class Line(DomainEvent, event_type="writing.Line"):
    text: str
    number: float | None = None
    names: dict[str, list[str]] = Field(default_factory=dict)
    sizes: tuple[Size, ...] = ()


def _written(events: list[DomainEvent], limit: int = LIMIT) -> list[bytes]:
    codec = EventCodec(EventRegistry(), "error", limit)
    return [each.payload for each in codec.written(events, StreamId("Check", "1"))]


class TestTogether:
    """Events of one class that are appended together are written as an array, and taken apart again."""

    @pytest.mark.parametrize("event", [*ALONE, *WHOLE], ids=_name)
    def test_what_is_written_is_what_each_is_written_as(self, event) -> None:
        assert _written([event] * 5) == [writer(type(event)).write(event, LIMIT)] * 5

    @given(st.lists(st.builds(Line, text=st.text(st.characters(codec="utf-8", exclude_characters="\0"))), min_size=1))
    def test_any_texts_are_written_as_each_is(self, lines) -> None:
        assert _written(lines) == [writer(Line).write(line, LIMIT) for line in lines]

    def test_each_run_of_one_class_is_written_in_its_place(self) -> None:
        lines = [Line(text=str(number), number=number or None, sizes=[Size.SMALL]) for number in range(5)]
        mixed = [*lines, ALONE[3], *lines[:2], WHOLE[0], WHOLE[0], *lines]

        assert _written(mixed) == [writer(type(each)).write(each, LIMIT) for each in mixed]

    def test_only_what_can_be_read_again_is_written_so(self) -> None:
        once_only = (OnceOnly, HoldsOnceOnly, Whatever, HoldsTheSameTwice, Speaking, WrittenByHand, HoldsOneThatSpeaks)

        assert [each for each in (Line, Plain, Aliased, Checked, Tree, OfAny[int]) if not writer(each).array] == []
        assert [each for each in once_only if writer(each).array] == []

    def test_what_begins_as_an_event_does_is_told_from_one(self) -> None:
        begin = writer(Line).begin.decode()
        mark, _ = orjson.loads(begin[:-1] + "}").popitem()
        lines = [Line(text=begin, names={"a": [begin, "},"]}) for _ in range(5)]
        assert _written(lines) == [writer(Line).write(line, LIMIT) for line in lines]

        class Nested(DomainEvent, event_type="writing.Nested"):
            inner: list[dict[str, str]]

        events = [Nested(inner=[{mark: "writing.Nested", "a": "b"}] * 2) for _ in range(5)]
        assert _written(events) == [writer(Nested).write(event, LIMIT) for event in events]

    def test_fields_may_be_in_another_order(self) -> None:
        values = vars(Line(text="a"))
        lines = [Line(text="b") for _ in range(4)]
        lines.insert(2, Line.model_construct(**dict(reversed(values.items()))))

        assert [orjson.loads(each)["text"] for each in _written(lines)] == ["b", "b", "a", "b", "b"]

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"text": 1}, "Expected `str`"),
            ({"text": "a\x00b"}, "writing.Line.text holds a NUL character"),
            ({"text": "a" * LIMIT}, "the limit is 10,000"),
            ({"number": math.nan}, "writing.Line.number is nan"),
            ({"names": {"a": ["\x00"]}}, "NUL"),
            ({"text": iter(["a"])}, "Expected `str`"),
        ],
        ids=["another type", "NUL", "too long", "not a number", "NUL below", "iterator"],
    )
    def test_one_that_is_refused_is_refused_in_its_words(self, values, says) -> None:
        with pytest.raises(InvalidPayloadError, match=says):
            _written([*(Line(text="NaN null \\u0000") for _ in range(5)), _with(Line(text="a"), **values)])

    def test_together_they_may_be_longer_than_one_may_be(self) -> None:
        lines = [Line(text="a" * 100) for _ in range(5)]

        assert _written(lines, 200) == [writer(Line).write(line, 200) for line in lines]


class TestOneThatNobodyCanKeep:
    """An event's envelope is looked at when it is written, so a log need not look again."""

    def written(self, **values: Any) -> tuple[NewEvent, ...]:
        codec = EventCodec(EventRegistry(), "error", LIMIT)
        return codec.written([_with(Checked(low=1, high=2), **values)], StreamId("Check", "1"), 1)

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"event_id": "a"}, "an event's id is a UUID"),
            ({"occurred_at": datetime(2026, 1, 1)}, "with a time zone"),  # noqa: DTZ001 - that is the point
            ({"occurred_at": "today"}, "with a time zone"),
            ({"correlation_id": "a"}, "correlation_id is a UUID"),
            ({"causation_id": 1}, "causation_id is a UUID"),
            ({"actor_id": "a\nb"}, "actor_id"),
            ({"aggregate_id": "2"}, "says aggregate_id '2'"),
            ({"aggregate_type": "Other"}, "says aggregate_type 'Other'"),
            ({"aggregate_version": 2}, "says aggregate_version 2"),
            ({"tenant_id": "acme"}, "says tenant_id 'acme'"),
            ({"event_type": "other"}, "says event_type 'other'"),
            ({"event_version": 2}, "says event_version 2"),
        ],
        ids=str,
    )
    def test_is_refused(self, values, says) -> None:
        with pytest.raises(InvalidInputError, match=says):
            self.written(**values)

    def test_is_refused_for_its_tags(self) -> None:
        class Tagged(DomainEvent, event_type="writing.Tagged"):
            def tags(self) -> tuple[str, ...]:
                return ("a\nb",)

        codec = EventCodec(EventRegistry(), "error", LIMIT)
        with pytest.raises(InvalidInputError, match="tags"):
            codec.written([Tagged()], StreamId("Check", "1"))

    def test_is_refused_if_its_class_writes_no_object(self) -> None:
        codec = EventCodec(EventRegistry(), "error", LIMIT)
        with pytest.raises(InvalidPayloadError, match="must be a JSON object"):
            codec.written([OfAnotherShape()], StreamId("Check", "1"))

    def test_says_its_own_place_or_none(self) -> None:
        (new,) = self.written(aggregate_id="1", aggregate_type="Check", aggregate_version=1)
        assert new == self.written(event_id=new.event_id, occurred_at=new.occurred_at)[0]


def test_times_with_seconds_in_their_offset_keep_them() -> None:
    times = [
        NOW,
        NOW.astimezone(timezone(timedelta(minutes=53, seconds=28))),
        NOW.astimezone(timezone(timedelta(hours=-3))),
    ]
    events = tuple(NewEvent(uuid4(), "a", b"{}", time) for time in times)

    for some in (events, events[:1]):
        asked = append_parameters([StreamAppend(StreamId("Check", "1"), some)], None)["occurred_at"]
        given = [datetime.fromisoformat(each.strip('"')) for each in asked[1:-1].split(",")]
        assert given == times[: len(some)]
