"""Which class an event type belongs to.

Nothing is global but the tree of subclasses that Python keeps anyway: a registry that was given no classes finds every
class derived from `DomainEvent`, also those defined later. A registry that was given some knows those, and what is
registered with it.

Two classes of one type are refused when the type is asked for, and named. Not refused is what notebooks, reloading
and tests do: a class that is defined again under the same module and name replaces the old one; and a class made inside
a function stands behind one that can be imported, and behind a later one of its kind.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from weakref import WeakSet

from mainstay.errors import ConfigurationError, DuplicateEventTypeError, InvalidInputError, UnknownEventTypeError, shown
from mainstay.events.event import DomainEvent, EventTombstone
from mainstay.events.upcasting import Upcasters, UpcasterT

_Kind = type[DomainEvent]
KindT = TypeVar("KindT", bound=type[DomainEvent])


class EventRegistry:
    """Event types, their classes, and the upcasters of their payloads.

    Args:
        classes: Exactly these, besides what is registered; None: all that there are.

    Raises:
        DuplicateEventTypeError: Two of them have one type.
        ConfigurationError: One is no event class.
    """

    def __init__(self, classes: Iterable[_Kind] | None = None) -> None:
        self.upcasters = Upcasters()
        self.changes = 0
        """Grows with what is registered or forgotten; for those who keep what they found."""
        self._finds = classes is None
        self._given: dict[str, _Kind] = {}
        self._found: dict[str, _Kind] = {}
        self._twice: dict[str, tuple[_Kind, _Kind]] = {}
        self._seen = 0
        self._forgotten: WeakSet[_Kind] = WeakSet()
        self._retired: set[str] = set()
        for kind in classes or ():
            self.register(kind)

    def register(self, kind: KindT) -> KindT:
        """Register a class, before all that were found; gives it back, so it can decorate.

        Raises:
            DuplicateEventTypeError: Another class was registered for its type.
            ConfigurationError: Not an event class.
        """
        if not isinstance(kind, type) or not issubclass(kind, DomainEvent) or kind is DomainEvent:
            raise ConfigurationError(f"expected a class derived from DomainEvent, not {shown(kind)}")
        there = self._given.get(kind.__event_type__)
        if there is not None and _place(there) != _place(kind):
            raise _duplicate(there, kind)
        self.changes += 1
        self._given[kind.__event_type__] = kind
        self._forgotten.discard(kind)
        return kind

    def get(self, event_type: str) -> _Kind:
        """The class of a type.

        Raises:
            UnknownEventTypeError: There is none.
            DuplicateEventTypeError: There are two.
        """
        kind = self.get_or_none(event_type)
        if kind is None:
            raise UnknownEventTypeError(event_type)
        return kind

    def get_or_none(self, event_type: str) -> _Kind | None:
        """The class of a type; None if there is none.

        Raises:
            DuplicateEventTypeError: There are two.
        """
        if (given := self._given.get(event_type)) is not None:
            return given
        if self._finds and self._seen != DomainEvent.__defined__:
            self._look()
        if event_type in self._twice:
            raise _duplicate(*self._twice[event_type])
        return self._found.get(event_type)

    def contains(self, event_type: str) -> bool:
        """Whether a type has a class."""
        return event_type in self.list_types()

    __contains__ = contains

    def __len__(self) -> int:
        return len(self.list_types())

    def list_types(self) -> list[str]:
        """All types, sorted."""
        if self._finds:
            self._look()
        return sorted(self._given.keys() | self._found.keys() | self._twice.keys())

    def list_classes(self) -> list[_Kind]:
        """The classes of all types, in the order of `list_types`.

        Raises:
            DuplicateEventTypeError: A type has two.
        """
        return [self.get(event_type) for event_type in self.list_types()]

    def unregister(self, event_type: str) -> bool:
        """Forget a type and its classes; whether there was one."""
        there = self.contains(event_type)
        self.changes += 1
        self._given.pop(event_type, None)
        self._forgotten.update(kind for kind in _all_kinds() if kind.__event_type__ == event_type)
        self._look()
        return there

    def clear(self) -> None:
        """Forget all types that there are now, and all upcasters."""
        self.changes += 1
        self._given.clear()
        self._retired.clear()
        self._forgotten.update(_all_kinds())
        self._look()
        self.upcasters.clear()

    def require(self, kind: _Kind) -> None:
        """See that what is appended as an instance of this class will be read as one.

        Raises:
            UnknownEventTypeError: It is not registered.
            DuplicateEventTypeError: Another class has its type.
        """
        found = self.get(kind.__event_type__)
        if found is not kind:
            raise _duplicate(found, kind)

    def upcast(
        self, event: _Kind | str, *, from_version: int, into: Iterable[_Kind | str] = ()
    ) -> Callable[[UpcasterT], UpcasterT]:
        """Register the decorated function as an upcaster; what it may return, `mainstay.events.upcasting` says.

        Args:
            event: Whose payloads it takes: a class, or the type of one that is gone.
            from_version: Of which version.
            into: Types of the events that it gives as `RawEvent`, so that a filter finds them. A dict is a payload of
                the same type in the next version, and need not be announced.

        Raises:
            ConfigurationError: Not a plain function.
            EventVersionError: Not a version, or it has an upcaster.
        """
        name = _name(event)

        def register(function: UpcasterT) -> UpcasterT:
            self.upcasters.add(function, name, from_version, [name, *map(_name, into)])
            return function

        return register

    def rename(self, old: str, new: _Kind | str) -> None:
        """Read events of an old type as those of a new one, with the versions that they have.

        Raises:
            ConfigurationError: The old name has another new one, or the new one leads back.
        """
        self.upcasters.rename(old, _name(new))

    def retire(self, event_type: str) -> None:
        """Say that events of a type are still stored, and that nobody is to handle them any more.

        Without that, a subscription that has taken them does not start where nothing knows the type: its class may have
        been renamed. They stay what they are: whoever reads them meets an unknown type.

        Raises:
            InvalidInputError: Not a type.
        """
        self._retired.add(_name(event_type))

    def accounts_for(self, event_type: str) -> bool:
        """Whether it is known what became of a type: it has a class, or another name, or was retired."""
        return (
            event_type in self._retired or self.get_or_none(event_type) is not None or self.upcasters.knows(event_type)
        )

    def stored_types(self, events: Iterable[_Kind | str]) -> frozenset[str]:
        """The types under which events may be stored that are read as one of these.

        Raises:
            InvalidInputError: Not a list, or one of them is neither a class of events nor a type.
        """
        if isinstance(events, str | type) or not isinstance(events, Iterable):
            raise InvalidInputError(f"types are given as a list, one alone, too: [OrderPlaced], not {shown(events)}")
        return self.upcasters.sources(map(_name, events))

    def _look(self) -> None:
        """Find every class that there is."""
        seen = DomainEvent.__defined__
        found: dict[str, _Kind] = {}
        twice: dict[str, tuple[_Kind, _Kind]] = {}
        for kind in _all_kinds() if self._finds else ():
            if kind in self._forgotten:
                continue
            there = found.get(kind.__event_type__)
            if there is not None and _place(there) != _place(kind):
                if _is_local(kind) and not _is_local(there):
                    continue
                if not _is_local(there):
                    twice[kind.__event_type__] = (there, kind)
            found[kind.__event_type__] = kind
        self._found, self._twice, self._seen = found, twice, seen


def _all_kinds(base: _Kind = DomainEvent) -> Iterator[_Kind]:
    """Every class below, in the order of definition among sisters."""
    for kind in base.__subclasses__():
        if kind is EventTombstone:
            continue
        if "__event_type__" in vars(kind):  # it is not while the class is being made, or was refused
            yield kind
        yield from _all_kinds(kind)


def _name(event: _Kind | str) -> str:
    if isinstance(event, str):
        return event
    if not isinstance(event, type) or not issubclass(event, DomainEvent):
        raise InvalidInputError(f"events are named by their classes or their types, not by {shown(event)}")
    return event.__event_type__


def _place(kind: _Kind) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


def _is_local(kind: _Kind) -> bool:
    return "<locals>" in kind.__qualname__


def _duplicate(first: _Kind, second: _Kind) -> DuplicateEventTypeError:
    return DuplicateEventTypeError(second.__event_type__, ".".join(_place(first)), ".".join(_place(second)))
