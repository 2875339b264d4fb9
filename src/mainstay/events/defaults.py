"""A registry for programs that want one for all their modules.

Nothing in mainstay imports it: stores are given a registry, or find every class by themselves.
"""

from collections.abc import Callable
from typing import overload

from mainstay.errors import ConfigurationError
from mainstay.events.event import DomainEvent, set_event_type
from mainstay.events.registry import EventRegistry, KindT

default_registry = EventRegistry()
"""Knows every class derived from `DomainEvent`, as any registry does that was given none."""


@overload
def register_event(kind: KindT, /) -> KindT: ...
@overload
def register_event(
    *, event_type: str | None = None, registry: EventRegistry | None = None
) -> Callable[[KindT], KindT]: ...
def register_event(
    kind: KindT | None = None, /, *, event_type: str | None = None, registry: EventRegistry | None = None
) -> KindT | Callable[[KindT], KindT]:
    """Register the decorated class. A class is known by being defined; registered, it goes before another of its type.

    Args:
        kind: The class, where the decorator has no parentheses.
        event_type: Its type, if the class does not say another: then it is what its events are stored as.
        registry: Where; the default one unless given.

    Raises:
        ConfigurationError: Not an event class, or it says another type.
        DuplicateEventTypeError: Another class was registered for its type.
    """
    where = default_registry if registry is None else registry

    def register(kind: KindT) -> KindT:
        if event_type is not None and issubclass(kind, DomainEvent) and kind.__event_type__ != event_type:
            _name(kind, event_type)
        return where.register(kind)

    return register if kind is None else register(kind)


def get_event_class(event_type: str) -> type[DomainEvent]:
    """The class of a type, of the default registry.

    Raises:
        UnknownEventTypeError: There is none.
        DuplicateEventTypeError: There are two.
    """
    return default_registry.get(event_type)


def get_event_class_or_none(event_type: str) -> type[DomainEvent] | None:
    """The class of a type, of the default registry; None if there is none.

    Raises:
        DuplicateEventTypeError: There are two.
    """
    return default_registry.get_or_none(event_type)


def is_event_registered(event_type: str) -> bool:
    """Whether a type has a class in the default registry."""
    return default_registry.contains(event_type)


def list_registered_events() -> list[str]:
    """All types of the default registry, sorted."""
    return default_registry.list_types()


def _name(kind: type[DomainEvent], event_type: str) -> None:
    """Give a class its type after it was defined."""
    if kind.__event_type__ != kind.__name__:
        raise ConfigurationError(
            f"{kind.__name__} says event_type {kind.__event_type__!r}, and @register_event {event_type!r}: say it once"
        )
    set_event_type(kind, event_type)
