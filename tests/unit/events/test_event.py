"""Classes of events, and their envelope."""

import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field, ValidationError

from mainstay.errors import ConfigurationError, InvalidInputError, InvalidPayloadError
from mainstay.events.definition import ENVELOPE
from mainstay.events.event import DomainEvent

ID = UUID("00000000-0000-4000-8000-000000000001")
LETTERS = "abcdefab-cdef-4abc-8def-abcdefabcdef"


class Weighed(DomainEvent):
    grams: Decimal
    note: str | None = None


class Renamed(DomainEvent, event_type="parcel.renamed", event_version=3, aggregate_type="Parcel"):
    name: str


class Relabeled(DomainEvent):
    event_type: str = "parcel.relabeled"
    event_version: int = 2
    aggregate_type: str = "Parcel"


def test_a_type_is_the_classs_name_unless_it_is_given() -> None:
    assert Weighed(grams=1).event_type == "Weighed"
    assert (Weighed(grams=1).event_version, Weighed(grams=1).aggregate_type) == (1, "")


@pytest.mark.parametrize(
    ("event", "expected"),
    [(Renamed(name="a"), ("parcel.renamed", 3, "Parcel")), (Relabeled(), ("parcel.relabeled", 2, "Parcel"))],
)
def test_a_name_is_given_as_class_argument_or_as_attribute(event: DomainEvent, expected: tuple[str, int, str]) -> None:
    assert (event.event_type, event.event_version, event.aggregate_type) == expected


def test_a_class_derived_from_another_has_a_type_of_its_own() -> None:
    class RenamedTwice(Renamed):
        again: str

    event = RenamedTwice(name="a", again="b")

    assert (event.event_type, event.event_version, event.aggregate_type) == ("RenamedTwice", 3, "Parcel")


def test_an_event_without_a_stream_says_so() -> None:
    event = Weighed(grams=1)

    assert event.aggregate_id is None
    assert event.aggregate_version == 0


def test_every_event_has_an_id_of_its_own_and_a_time_with_a_zone() -> None:
    events = [Weighed(grams=1) for _ in range(100)]

    assert len({event.event_id for event in events}) == 100
    assert {event.occurred_at.tzinfo for event in events} == {UTC}


def test_an_event_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Weighed(grams=1).grams = Decimal(2)  # type: ignore[misc]  # that is what is refused


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Weighed(grams=1, occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001  # that is what is refused


def test_an_id_that_is_written_as_a_uuid_is_one() -> None:
    event = Weighed(grams=1, aggregate_id=str(ID), tenant_id=str(ID))

    assert (event.aggregate_id, event.tenant_id) == (ID, ID)
    assert Weighed(grams=1, aggregate_id="parcel-1").aggregate_id == "parcel-1"
    assert Weighed(grams=1, aggregate_id=LETTERS.upper()).aggregate_id == LETTERS.upper()


@pytest.mark.parametrize("bad", ["", " ", "a\nb", "x" * 201, 7])
def test_what_is_no_id_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError):
        Weighed(grams=1, aggregate_id=bad)


def test_a_class_that_narrows_an_id_to_text_keeps_text() -> None:
    class TextWeighed(Weighed):
        aggregate_id: str = ""

    assert TextWeighed(grams=1, aggregate_id=str(ID)).aggregate_id == str(ID)


# --- what a class may not be ------------------------------------------------------------------------------------------

Nested: Any = type("Nested", (BaseModel,), {})


def shape(**members: Any) -> type[DomainEvent]:
    """A class with these members, whose annotations are under ``of``."""
    annotations = members.pop("of", {})
    return type("Odd", (DomainEvent,), {"__annotations__": annotations, "__module__": __name__, **members})


@pytest.mark.parametrize(
    ("name", "annotation"),
    [
        ("event_id", str),
        ("event_type", int),
        ("aggregate_id", int),
        ("aggregate_version", str),
        ("occurred_at", str),
        ("tenant_id", int),
        ("actor_id", UUID),
        ("causation_id", str),
        ("metadata", str),
        ("metadata", Nested),
    ],
)
def test_a_field_that_means_something_else_in_the_envelope_is_refused(name: str, annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Odd\.{name} is part of every event's envelope.*another name"):
        shape(of={name: annotation})


def test_an_envelope_field_cannot_be_called_otherwise_in_json() -> None:
    with pytest.raises(ConfigurationError, match="envelope"):
        shape(of={"tenant_id": UUID}, tenant_id=Field(alias="tenant"))


def test_a_field_cannot_take_the_envelopes_name_in_json() -> None:
    with pytest.raises(ConfigurationError, match=r"Odd\.cause is called 'causation_id' in JSON"):
        shape(of={"cause": str}, cause=Field(alias="causation_id"))


@pytest.mark.parametrize("name", ["tags", "to_dict", "with_metadata", "model_dump"])
def test_a_field_that_would_hide_a_method_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f'would hide the method.*alias="{name}"'):
        shape(of={name: str})


def test_a_field_that_is_not_read_as_it_is_written_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not read by that name"):
        shape(of={"grams": int}, grams=Field(serialization_alias="weight"))


@pytest.mark.parametrize("bad", ["", " ", "a\x00b", "x" * 201])
def test_a_bad_type_is_refused(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="event_type"):
        shape(of={"event_type": str}, event_type=bad)


@pytest.mark.parametrize("bad", [0, -1, True, "2", 2**31])
def test_a_bad_version_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="event_version"):
        shape(of={"event_version": int}, event_version=bad)


def test_envelope_fields_may_be_narrowed() -> None:
    class Narrow(DomainEvent):
        kept: ClassVar[int] = 1
        event_type: Literal["narrow"] = "narrow"
        aggregate_id: UUID = ID
        tenant_id: UUID
        actor_id: str
        metadata: dict[str, int] = {}  # noqa: RUF012  # pydantic copies it

    event = Narrow(tenant_id=ID, actor_id="me")

    assert (event.event_type, event.aggregate_id) == ("narrow", ID)


# --- methods ----------------------------------------------------------------------------------------------------------


def test_a_cause_gives_its_id_and_its_correlation() -> None:
    first = Weighed(grams=1, correlation_id=ID)
    second = Weighed(grams=2).with_causation(first)

    assert (second.causation_id, second.correlation_id) == (first.event_id, ID)
    assert second.is_caused_by(first)
    assert second.is_caused_by(first.event_id)
    assert not first.is_caused_by(second)
    assert second.is_correlated_with(first)
    assert second.is_correlated_with(ID)


def test_a_cause_without_correlation_becomes_the_correlation() -> None:
    first = Weighed(grams=1)

    assert Weighed(grams=2).with_causation(first).correlation_id == first.event_id
    assert Weighed(grams=2).with_causation(ID).causation_id == ID


def test_events_without_correlation_are_not_correlated() -> None:
    assert not Weighed(grams=1).is_correlated_with(Weighed(grams=2))


def test_metadata_is_added_to_a_copy() -> None:
    first = Weighed(grams=1, metadata={"a": 1})
    second = first.with_metadata(b=2)

    assert (first.metadata, second.metadata) == ({"a": 1}, {"a": 1, "b": 2})
    assert second.event_id == first.event_id


def test_a_version_is_set_on_a_copy() -> None:
    assert Weighed(grams=1).with_aggregate_version(7).aggregate_version == 7
    for bad in (0, -1, True, 2**31, "1"):
        with pytest.raises(InvalidInputError, match="1 to 2,147,483,647"):
            Weighed(grams=1).with_aggregate_version(bad)  # type: ignore[arg-type]  # that is what is refused


def test_a_dict_holds_everything_and_becomes_the_event_again() -> None:
    event = Renamed(name="a", aggregate_id=ID, tenant_id="acme", correlation_id=uuid4(), metadata={"a": [1]})
    data = event.to_dict()

    assert data.keys() == ENVELOPE | {"name"}
    assert data["aggregate_id"] == str(ID)
    assert Renamed.from_dict(data) == event


def test_a_dict_of_another_type_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'Weighed', not parcel\.renamed"):
        Renamed.from_dict(Weighed(grams=1).to_dict())


def test_what_json_cannot_hold_is_refused_by_to_dict() -> None:
    with pytest.raises(InvalidPayloadError, match=r"Weighed\.note holds a NUL"):
        Weighed(grams=1, note="a\x00b").to_dict()


def test_an_event_survives_pickling() -> None:
    event = Weighed(grams=1, aggregate_id=ID)

    assert pickle.loads(pickle.dumps(event)) == event
