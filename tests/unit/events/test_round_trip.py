"""What is appended is what is read: exactly, or it is refused."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from mainstay.errors import InvalidPayloadError
from mainstay.events.event import DomainEvent
from mainstay.events.registry import EventRegistry
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId

STREAM = StreamId("Sample", "one")


class Unit(Enum):
    GRAM = "g"
    METER = "m"


class Measure(BaseModel):
    value: Decimal
    unit: Unit


@dataclass
class Point:
    x: int
    y: float


class Sampled(DomainEvent):
    text: str
    whole: int
    number: float
    exact: Decimal
    at: datetime
    day: date
    clock: time
    length: timedelta
    id: UUID
    unit: Unit
    measure: Measure
    measures: list[Measure]
    by_name: dict[str, Measure]
    by_number: dict[int, str]
    names: set[str]
    frozen: frozenset[int]
    pair: tuple[int, str]
    many: tuple[UUID, ...]
    point: Point
    raw: bytes
    either: int | str | None
    free: Any
    called: str = Field(alias="calledOtherwise")


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))) | st.just(UTC)
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES | st.none())  # noqa: DTZ001  # naive, too
AWARE = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES)  # noqa: DTZ001  # bounds are naive
EXACT = st.decimals(allow_nan=False, allow_infinity=False)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers() | st.integers(-(10**60), 10**60)
MEASURES = st.builds(Measure, value=EXACT, unit=st.sampled_from(Unit))
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
SAMPLES = st.builds(
    Sampled,
    text=TEXT,
    whole=WHOLE,
    number=FLOATS,
    exact=EXACT,
    at=TIMES,
    day=st.dates(),
    clock=st.times(),
    length=st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
    id=st.uuids(),
    unit=st.sampled_from(Unit),
    measure=MEASURES,
    measures=st.lists(MEASURES, max_size=3),
    by_name=st.dictionaries(TEXT, MEASURES, max_size=3),
    by_number=st.dictionaries(WHOLE, TEXT, max_size=3),
    names=st.sets(TEXT, max_size=3),
    frozen=st.frozensets(WHOLE, max_size=3),
    pair=st.tuples(WHOLE, TEXT),
    many=st.lists(st.uuids(), max_size=3).map(tuple),
    point=st.builds(Point, WHOLE, FLOATS),
    raw=TEXT.map(str.encode),
    either=WHOLE | TEXT | st.none(),
    free=JSON,
    calledOtherwise=TEXT,
    occurred_at=AWARE,
    actor_id=st.none() | st.just("me"),
    correlation_id=st.none() | st.uuids(),
    causation_id=st.none() | st.uuids(),
    metadata=st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT, max_size=3),
)


async def read_back(event: DomainEvent) -> DomainEvent:
    store = InMemoryEventStore(registry=EventRegistry([type(event)]))
    await store.append(STREAM, [event])
    (envelope,) = [envelope async for envelope in store.read_stream(STREAM)]
    return envelope.event


@settings(deadline=None, max_examples=100)
@given(SAMPLES)
async def test_what_is_read_is_what_was_appended(event: Sampled) -> None:
    placed = event.model_copy(
        update={"aggregate_id": STREAM.id, "aggregate_type": STREAM.category, "aggregate_version": 1}
    )

    assert await read_back(event) == placed


@settings(deadline=None, max_examples=50)
@given(SAMPLES)
def test_a_dict_becomes_the_event_again(event: Sampled) -> None:
    assert Sampled.from_dict(event.to_dict()) == event


# --- what cannot be read back -----------------------------------------------------------------------------------------


class Loose(DomainEvent):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any = None
    inner: Measure | None = None
    numbers: list[float] = []  # noqa: RUF012  # pydantic copies it


class Plain(DomainEvent):
    text: str = ""


class Selfish:
    pass


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (lambda: Loose(value=float("nan")), r"Loose\.value is nan: JSON has no such number"),
        (lambda: Loose(numbers=[1.0, float("inf")]), r"Loose\.numbers\[1\] is inf"),
        (lambda: Loose(value={"a": [1, -float("inf")]}), r"Loose\.value\.a\[1\] is -inf"),
        (lambda: Loose(value="a\x00b"), r"Loose\.value holds a NUL"),
        (lambda: Loose(value={"a\x00": 1}), r"a key of Loose\.value holds a NUL"),
        (lambda: Loose(value="\ud800"), r"Loose\.value cannot be written as JSON"),
        (lambda: Loose(value={"a": ["b", "\ud800"]}), r"Loose\.value\.a\[1\] cannot be written as JSON"),
        (lambda: Loose(value=b"\xff"), r"Loose\.value cannot be written as JSON"),
        (lambda: Loose(value=Selfish()), r"Loose\.value cannot be written as JSON: .*Selfish"),
        (lambda: Loose(value={"span": timedelta(1), "a": Selfish()}), r"Loose\.value\.a cannot be written as JSON"),
        (lambda: Loose(value=deep(2_000)), "cannot be written as JSON"),
        (lambda: Loose(value="x" * 1_048_576), r"has 1,048,\d+ bytes as JSON; the limit is 1,048,576"),
        (lambda: Loose(metadata={"a": float("nan")}), r"metadata\.a is nan"),
        (lambda: Loose(metadata={"a": Selfish()}), "metadata.a cannot be written as JSON"),
        (lambda: Loose.model_construct(**wrong(inner="no measure")), r"Loose\.inner cannot be written as JSON"),
        (lambda: Plain(text="\ud800"), r"Plain\.text cannot be written as JSON"),
    ],
)
async def test_what_json_cannot_hold_is_refused(event: Callable[[], DomainEvent], reason: str) -> None:
    store = InMemoryEventStore(registry=EventRegistry([Loose, Plain]))

    for before in ([Loose()], [Plain() for _ in range(9)]):
        with pytest.raises(InvalidPayloadError, match=reason):
            await store.append(STREAM, [*before, event()])

    assert await store.stream_version(STREAM) == 0


def wrong(**fields: Any) -> dict[str, Any]:
    """What an event has, with fields that nobody checked."""
    return {**dict(Loose()), **fields}


async def test_a_null_that_means_none_is_kept() -> None:
    event = await read_back(Loose(value={"a": None, "b": [None]}))

    assert isinstance(event, Loose)
    assert event.value == {"a": None, "b": [None]}


async def test_what_a_class_allows_besides_its_fields_is_kept() -> None:
    class Open(DomainEvent):
        model_config = ConfigDict(extra="allow")
        own: int = 1

    event = await read_back(Open.model_validate({"more": "than that"}))

    assert event.model_extra == {"more": "than that"}
    assert event.model_fields_set == {"own", "more"}
    assert event == event.model_copy()
    assert event != event.model_copy(update={"own": 2})


async def test_private_attributes_are_there_when_an_event_is_read() -> None:
    class Private(DomainEvent):
        _seen: list[int] = PrivateAttr(default_factory=list)

    event = await read_back(Private())

    assert isinstance(event, Private)
    assert event._seen == []


async def test_a_strict_class_reads_what_it_wrote() -> None:
    class Strict(DomainEvent):
        model_config = ConfigDict(strict=True)
        id: UUID
        pair: tuple[int, ...]
        names: set[str]
        at: datetime
        exact: Decimal

    event = Strict(id=uuid4(), pair=(1, 2), names={"a"}, at=datetime.now(UTC), exact=Decimal("1.10"))

    assert dict(await read_back(event)).items() >= {"id": event.id, "pair": (1, 2), "exact": Decimal("1.10")}.items()


async def test_validators_of_a_class_run_when_it_is_read() -> None:
    class Checked(DomainEvent):
        low: int
        high: int

        @field_validator("low")
        @classmethod
        def doubled(cls, low: int) -> int:
            return low * 2

        @model_validator(mode="after")
        def ordered(self) -> "Checked":
            assert self.low <= self.high
            return self

    event = await read_back(Checked(low=1, high=10))

    assert isinstance(event, Checked)
    assert event.low == 4


async def test_an_event_made_while_another_is_read_has_an_id_of_its_own() -> None:
    class Inner(DomainEvent):
        pass

    class Outer(DomainEvent):
        made: Any = None

        @model_validator(mode="wrap")
        @classmethod
        def both(cls, data: Any, handler: Any) -> Any:
            outer = handler(data)
            outer.__dict__["made"] = [Inner(), Inner()]
            return outer

    store = InMemoryEventStore(registry=EventRegistry([Outer]))
    await store.append(STREAM, [Outer()])
    (read,) = [envelope.event async for envelope in store.read_all()]

    assert len({read.event_id, *(inner.event_id for inner in read.made)}) == 3
