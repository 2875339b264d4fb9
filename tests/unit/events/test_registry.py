"""Which class an event type belongs to."""

import gc
from typing import Any

import pytest

from mainstay.errors import ConfigurationError, DuplicateEventTypeError, UnknownEventTypeError
from mainstay.events.event import DomainEvent
from mainstay.events.registry import EventRegistry


class Painted(DomainEvent):
    color: str


class Washed(DomainEvent, event_type="car.washed"):
    pass


def same_type(module: str, name: str = "Towed") -> type[DomainEvent]:
    """A class of the type ``Towed``, as if it stood in this module."""
    return type(name, (DomainEvent,), {"__module__": module, "__qualname__": name}, event_type="Towed")


@pytest.fixture(autouse=True)
def no_classes_of_other_tests() -> None:
    gc.collect()


def test_every_class_is_found_also_one_defined_later() -> None:
    registry = EventRegistry()
    assert registry.get("Painted") is Painted
    assert registry.get("car.washed") is Washed

    class DefinedLater(DomainEvent):
        pass

    assert registry.get("DefinedLater") is DefinedLater
    assert {"Painted", "car.washed", "DefinedLater"} <= set(registry.list_types())


def test_a_registry_that_was_given_classes_knows_no_others() -> None:
    registry = EventRegistry([Painted])

    assert registry.list_types() == ["Painted"]
    assert registry.list_classes() == [Painted]
    assert len(registry) == 1
    assert "Painted" in registry
    assert not registry.contains("car.washed")
    assert registry.get_or_none("car.washed") is None
    with pytest.raises(UnknownEventTypeError, match=r"car\.washed"):
        registry.get("car.washed")


def test_register_decorates() -> None:
    registry = EventRegistry([])

    assert registry.register(Washed) is Washed
    assert registry.list_classes() == [Washed]


@pytest.mark.parametrize("bad", [DomainEvent, int, "Painted", None])
def test_what_is_no_event_class_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="derived from DomainEvent"):
        EventRegistry([]).register(bad)


def test_two_classes_of_one_type_are_refused_and_both_are_named() -> None:
    registry = EventRegistry([same_type("garage")])

    with pytest.raises(DuplicateEventTypeError, match=r"'Towed' belongs to garage\.Towed already, so police\.Towed"):
        registry.register(same_type("police"))


def test_two_classes_of_one_type_are_refused_when_the_type_is_asked_for() -> None:
    first, second = same_type("garage"), same_type("police")
    registry = EventRegistry()

    with pytest.raises(DuplicateEventTypeError) as caught:
        registry.get("Towed")
    assert (caught.value.first, caught.value.second) == ("garage.Towed", "police.Towed")
    with pytest.raises(DuplicateEventTypeError):
        registry.require(first)
    assert "Towed" in registry
    assert registry.get("Painted") is Painted
    registry.register(second)
    assert registry.get("Towed") is second


def test_a_class_that_is_defined_again_replaces_the_old_one() -> None:
    registry = EventRegistry()
    old = same_type("garage")
    assert registry.get("Towed") is old

    new = same_type("garage")

    assert registry.get("Towed") is new
    with pytest.raises(DuplicateEventTypeError):
        registry.require(old)


def test_a_class_made_in_a_function_stands_behind_one_that_can_be_imported() -> None:
    module = same_type("garage")
    local = same_type("police", "test.<locals>.Towed")
    registry = EventRegistry()

    assert registry.get("Towed") is module
    with pytest.raises(DuplicateEventTypeError, match="<locals>"):
        registry.require(local)


def test_of_two_classes_made_in_functions_the_later_one_is_meant() -> None:
    first = same_type("garage", "test_a.<locals>.Towed")
    second = same_type("garage", "test_b.<locals>.Towed")

    assert EventRegistry().get("Towed") is second
    assert first is not second


def test_a_class_that_was_refused_is_not_found() -> None:
    with pytest.raises(ConfigurationError):

        class Refused(DomainEvent):
            metadata: int  # type: ignore[assignment]  # that is what is refused

    assert "Refused" not in EventRegistry()


@pytest.mark.parametrize("classes", [None, [Painted, Washed]])
def test_what_is_unregistered_is_unknown_until_it_is_registered_again(classes: list[type[DomainEvent]] | None) -> None:
    registry = EventRegistry(classes)

    assert registry.unregister("Painted")
    assert not registry.unregister("Painted")
    assert registry.get_or_none("Painted") is None
    assert registry.get("car.washed") is Washed
    registry.register(Painted)
    assert registry.get("Painted") is Painted


@pytest.mark.parametrize("classes", [None, [Painted, Washed]])
def test_clear_forgets_all(classes: list[type[DomainEvent]] | None) -> None:
    registry = EventRegistry(classes)
    registry.rename("car.painted", Painted)

    registry.clear()

    assert registry.list_types() == []
    assert registry.stored_types([Painted]) == {"Painted"}
