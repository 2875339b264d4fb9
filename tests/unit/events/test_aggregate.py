"""Aggregates: roots, declarative ones and deciders."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from mainstay.errors import (
    AggregateNotCreatedError,
    BusinessRuleException,
    ConfigurationError,
    EventVersionError,
    InvalidInputError,
    UnhandledEventError,
)
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.decider import DeciderAggregate
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles

ID = UUID("00000000-0000-4000-8000-000000000001")


class Poured(DomainEvent):
    liters: int


class PouredTwice(Poured):
    pass


class Drained(DomainEvent):
    pass


class Content(BaseModel):
    liters: int = 0


class Tank(DeclarativeAggregate[Content]):
    def pour(self, liters: int) -> Poured:
        return self.raise_event(Poured, liters=liters)

    @handles(Poured)
    def _poured(self, event: Poured) -> None:
        self._state = Content(liters=self._state.liters + event.liters)


class Pool(AggregateRoot[Content]):
    aggregate_type = "SwimmingPool"

    def _apply(self, event: DomainEvent) -> None:
        if isinstance(event, Poured):
            self._state = Content(liters=self._state.liters + event.liters)


# --- any aggregate ----------------------------------------------------------------------------------------------------


def test_a_new_aggregate_has_its_initial_state_and_nothing_to_save() -> None:
    tank = Tank(ID)

    assert (tank.aggregate_id, tank.version, tank.state, tank.has_uncommitted_events) == (ID, 0, Content(), False)
    assert (tank.aggregate_type, Pool(ID).aggregate_type) == ("Tank", "SwimmingPool")
    assert tank.get_next_version() == 1


def test_an_id_that_is_written_as_a_uuid_is_one() -> None:
    assert Tank(str(ID)).aggregate_id == ID
    assert Tank("north").aggregate_id == "north"
    with pytest.raises(InvalidInputError):
        Tank("")


@pytest.mark.parametrize("kind", [Tank, Pool])
def test_what_is_raised_is_applied_at_once_and_kept_to_be_saved(kind: type[Any]) -> None:
    aggregate = kind(ID, tenant_id="acme")

    first = aggregate.raise_event(Poured, liters=3)
    second = aggregate.raise_event(Poured(liters=4))

    assert aggregate.state == Content(liters=7)
    assert (aggregate.version, aggregate.committed_version) == (2, 0)
    assert aggregate.uncommitted_events == [first, second]
    assert [event.aggregate_version for event in (first, second)] == [1, 2]
    assert {(event.aggregate_id, event.aggregate_type, event.tenant_id) for event in (first, second)} == {
        (ID, kind.aggregate_type, "acme")
    }


def test_an_event_that_is_created_has_happened() -> None:
    tank = Tank(ID)

    event = tank.create_event(Poured, liters=1)

    assert (event.aggregate_id, event.aggregate_version, tank.version) == (ID, 1, 1)
    assert tank.uncommitted_events == [event]
    with pytest.raises(EventVersionError):
        tank.apply_event(event)


def test_a_new_event_that_does_not_say_its_place_is_applied_as_the_next() -> None:
    tank = Tank(ID)

    tank.apply_event(Poured(liters=1))
    tank.apply_event(Poured(aggregate_id=ID, liters=2, aggregate_version=tank.get_next_version()))

    assert [(event.aggregate_id, event.aggregate_version) for event in tank.uncommitted_events] == [(ID, 1), (ID, 2)]
    with pytest.raises(InvalidInputError, match="not of Tank"):
        tank.apply_event(Poured(aggregate_id="another", liters=2))


def test_before_its_first_event_an_aggregate_is_not_created() -> None:
    tank = Tank(ID)
    assert (tank.is_created, tank.state_or_none) == (False, None)

    tank.pour(1)

    assert (tank.is_created, tank.state_or_none) == (True, Content(liters=1))


def test_a_class_that_wants_its_id_as_text_gets_text() -> None:
    class TextPoured(Poured):
        aggregate_id: str

    tank = Tank(ID)

    assert tank.raise_event(TextPoured, liters=1).aggregate_id == str(ID)


def test_history_is_applied_and_not_saved_again() -> None:
    first = Tank(ID)
    first.pour(1)
    first.pour(2)
    second = Tank(ID)

    second.load_from_history(first.uncommitted_events)

    assert (second.version, second.state, second.has_uncommitted_events) == (2, Content(liters=3), False)


def test_what_is_committed_is_no_longer_uncommitted() -> None:
    tank = Tank(ID)
    for liters in (1, 2, 3):
        tank.pour(liters)

    tank.mark_events_as_committed(1)
    assert (tank.committed_version, len(tank.uncommitted_events)) == (1, 2)
    assert [event.aggregate_version for event in tank.clear_uncommitted_events()] == [2, 3]
    assert (tank.committed_version, tank.version) == (3, 3)


def test_the_list_of_uncommitted_events_is_a_copy() -> None:
    tank = Tank(ID)
    tank.pour(1)

    tank.uncommitted_events.clear()

    assert tank.has_uncommitted_events


@pytest.mark.parametrize("version", [1, 3])
def test_an_event_that_is_not_the_next_one_is_refused_and_nothing_changes(version: int) -> None:
    tank = Tank(ID)
    tank.pour(1)

    with pytest.raises(EventVersionError, match="its next event has version 2"):
        tank.raise_event(Poured(liters=5, aggregate_version=version))

    assert (tank.version, tank.state) == (1, Content(liters=1))


def test_versions_are_not_checked_by_choice() -> None:
    class Loose(Tank):
        validate_versions = False

    tank = Loose(ID)
    tank.raise_event(Poured(liters=5, aggregate_version=7))

    assert tank.version == 7


@pytest.mark.parametrize("envelope", [{"aggregate_id": uuid4()}, {"aggregate_type": "Pool"}])
def test_an_event_of_another_aggregate_is_refused(envelope: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"not of Tank/{ID}"):
        Tank(ID).raise_event(Poured(liters=1, **envelope))


@pytest.mark.parametrize("bad", [None, "Poured", 7])
def test_what_is_no_event_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="instances of DomainEvent"):
        Tank(ID).raise_event(bad)


def test_fields_go_with_a_class_only() -> None:
    with pytest.raises(InvalidInputError, match="takes fields with a class"):
        Tank(ID).raise_event(Poured(liters=1), liters=2)  # type: ignore[call-overload]  # that is what is refused
    with pytest.raises(ValidationError):
        Tank(ID).raise_event(Poured, gallons=2)


def test_an_aggregate_without_apply_says_what_to_do() -> None:
    class Empty(AggregateRoot[Content]):
        pass

    with pytest.raises(NotImplementedError, match="Empty must override _apply"):
        Empty(ID).raise_event(Drained)


def test_a_name_that_was_not_given_is_not_inherited() -> None:
    class Barrel(Tank):
        pass

    class PaddlingPool(Pool):
        pass

    assert Barrel(ID).aggregate_type == "Barrel"
    assert PaddlingPool(ID).aggregate_type == "SwimmingPool"


@pytest.mark.parametrize("name", ["_version", "_stream", "_uncommitted", "_last_event_id"])
def test_what_an_aggregate_keeps_cannot_be_hidden(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Odd.{name} is what its base keeps"):
        type("Odd", (Tank,), {name: handles(Drained)(lambda _self, _event: None)})


def test_a_state_that_needs_arguments_is_set_by_the_first_event() -> None:
    class Named(BaseModel):
        name: int

    class Cup(DeclarativeAggregate[Named]):
        @handles(Poured)
        def _poured(self, event: Poured) -> None:
            self._state = Named(name=event.liters)

    cup = Cup(ID)
    assert cup.state is None
    cup.raise_event(Poured, liters=3)
    assert cup.state == Named(name=3)


def test_the_initial_state_is_what_a_class_says() -> None:
    class Full(Tank):
        def _get_initial_state(self) -> Content:
            return Content(liters=100)

    tank = Full(ID)
    tank.pour(1)

    assert tank.state == Content(liters=101)


# --- declarative ones -------------------------------------------------------------------------------------------------


def test_an_event_that_no_method_takes_is_an_error_and_changes_nothing() -> None:
    tank = Tank(ID)

    with pytest.raises(UnhandledEventError) as caught:
        tank.raise_event(Drained)

    assert (caught.value.event_type, caught.value.handler) == ("Drained", "Tank")
    assert (tank.version, tank.has_uncommitted_events) == (0, False)


def test_unhandled_events_are_ignored_by_choice() -> None:
    class Deaf(Tank):
        unregistered_event_handling = "ignore"

    tank = Deaf(ID)
    tank.raise_event(Drained)

    assert tank.version == 1


def test_unhandled_events_are_told_by_choice(caplog: pytest.LogCaptureFixture) -> None:
    class Murmuring(Tank):
        unregistered_event_handling = "warn"

    Murmuring(ID).raise_event(Drained)

    assert "Murmuring handles no Drained" in caplog.text


def test_an_aggregate_that_requires_a_first_event_has_no_state_before() -> None:
    class Tapped(Tank):
        requires_creation_event = True

    tank = Tapped(ID)
    with pytest.raises(AggregateNotCreatedError, match=r"Tapped .* has no state before its first event"):
        _ = tank.state
    tank.raise_event(Poured, liters=1)

    assert tank.state == Content(liters=1)


def test_a_method_takes_events_of_derived_classes_too() -> None:
    tank = Tank(ID)
    tank.raise_event(PouredTwice, liters=2)

    assert tank.state == Content(liters=2)


def test_a_method_may_take_several_classes_and_be_overridden() -> None:
    class Leaking(Tank):
        @handles(Poured, Drained)
        def _poured(self, event: DomainEvent) -> None:
            self._state = Content(liters=self._state.liters - 1)

    class LeakingMore(Leaking):
        def _poured(self, event: DomainEvent) -> None:
            self._state = Content(liters=self._state.liters - 2)

    for kind, liters in ((Leaking, -2), (LeakingMore, -4)):
        tank = kind(ID)
        tank.raise_event(Poured, liters=100)
        tank.raise_event(Drained)
        assert tank.state == Content(liters=liters)


def declarative(**members: Any) -> type[Tank]:
    return type("Odd", (Tank,), members)


async def awaited(self: Any, event: Any) -> None: ...


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"_again": handles(Poured)(lambda _self, _event: None)}, "both _poured and _again handle Poured"),
        ({"_none": handles(Drained)(lambda _self: None)}, r"Odd\._none must take \(self, event\)"),
        ({"_many": handles(Drained)(lambda _self, _event, _more: None)}, r"must take \(self, event\)"),
        ({"_awaited": handles(Drained)(awaited)}, "write def, not async def"),
        ({"unregistered_event_handling": "shout"}, "error, warn, ignore, not 'shout'"),
    ],
)
def test_a_class_is_checked_when_it_is_defined(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        declarative(**members)


@pytest.mark.parametrize("bad", [(), (int,), ("Poured",), (Poured(liters=1),)])
def test_handles_takes_event_classes(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="@handles"):
        handles(*bad)


# --- deciders ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    liters: int = 0


@dataclass(frozen=True)
class Pour:
    liters: int


class Vat(DeciderAggregate[Level, Pour]):
    @staticmethod
    def initial_state() -> Level:
        return Level()

    @staticmethod
    def decide(state: Level, command: Pour) -> Iterable[DomainEvent]:
        if state.liters + command.liters > 100:
            raise BusinessRuleException("FULL", "it would flow over")
        for _ in range(command.liters):
            yield Poured(liters=1)

    @staticmethod
    def evolve(state: Level, event: DomainEvent) -> Level:
        if isinstance(event, Poured):
            return replace(state, liters=state.liters + event.liters)
        raise TypeError(f"what is {event.event_type}?")


def test_a_decision_is_applied_and_kept_to_be_saved() -> None:
    vat = Vat("north")

    events = vat.execute(Pour(3))

    assert vat.state == Level(3)
    assert vat.uncommitted_events == events
    assert [(event.aggregate_id, event.aggregate_version) for event in events] == [
        ("north", 1),
        ("north", 2),
        ("north", 3),
    ]


def test_a_refusal_changes_nothing() -> None:
    vat = Vat("north")
    vat.execute(Pour(99))

    with pytest.raises(BusinessRuleException, match="FULL"):
        vat.execute(Pour(2))

    assert (vat.version, vat.state) == (99, Level(99))


def test_a_decision_of_which_an_event_cannot_be_applied_is_not_applied_at_all() -> None:
    class Clumsy(Vat):
        @staticmethod
        def decide(state: Level, command: Pour) -> Iterable[DomainEvent]:
            return [Poured(liters=1), Drained()]

    vat = Clumsy("north")
    with pytest.raises(TypeError, match="what is Drained"):
        vat.execute(Pour(1))

    assert (vat.version, vat.state, vat.uncommitted_events) == (0, Level(), [])


@pytest.mark.parametrize(("decided", "count"), [(None, 0), ([], 0), (Poured(liters=1), 1), ((Poured(liters=1),), 1)])
def test_a_decision_is_no_event_one_or_several(decided: Any, count: int) -> None:
    class Fixed(Vat):
        @staticmethod
        def decide(state: Level, command: Pour) -> Any:
            return decided

    assert len(Fixed("north").execute(Pour(1))) == count


def decider(**members: Any) -> type[Vat]:
    return type("Odd", (Vat,), members)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"decide": lambda _state, _command: []}, r"Odd\.decide must be a @staticmethod"),
        ({"evolve": staticmethod(awaited)}, "not async"),
        ({"evolve": staticmethod(lambda _state: None)}, "called with 2 arguments"),
        ({"initial_state": staticmethod(lambda _one: None)}, "called with 0 arguments"),
    ],
)
def test_a_decider_is_checked_when_it_is_defined(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        decider(**members)


def test_a_decider_without_its_functions_is_refused_unless_it_is_a_base() -> None:
    with pytest.raises(ConfigurationError, match="must define initial_state"):
        type("Empty", (DeciderAggregate,), {})

    command = TypeVar("command")

    class Base(DeciderAggregate[Level, command], Generic[command], abstract=True):
        @staticmethod
        def initial_state() -> Level:
            return Level(5)

    class Made(Base[Pour]):
        decide = Vat.__dict__["decide"]
        evolve = Vat.__dict__["evolve"]

    made = Made("north")
    made.execute(Pour(1))
    assert made.state == Level(6)


def test_states_may_be_frozen_models_or_dataclasses() -> None:
    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)

    class Stone(AggregateRoot[Frozen]):
        pass

    assert Stone("a").state == Frozen()
    assert "Stone(Stone/a, version 0, 0 unsaved)" in repr(Stone("a"))
