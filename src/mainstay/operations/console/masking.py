"""What is personal is not shown: fields of payloads that are marked, and names that the console is told.

A field of a typed command, or of an event, is marked with ``Field(json_schema_extra={"x-personal": True})``. The names
of all marked fields of a command's model, those of models within it included, are masked wherever they stand in what
that command shows: payload, result, progress and audit trail. Wherever, because a result often repeats a payload's
field; too much masked is a nuisance, too little is a leak. Messages of errors are text, and shown as they are.

Of an event, the names that its class marks are masked. Where nobody here knows its class, and in what is made of events
of several classes (states, rows of tables), those that any class marks.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import DuplicateEventTypeError
from mainstay.events.aggregate import AggregateRoot
from mainstay.events.event import DomainEvent
from mainstay.events.registry import EventRegistry

MASK: Final = "•••"
_MARK: Final = "x-personal"


class Masking:
    """Knows which names are personal in which command, and in which event.

    Args:
        registry: The handlers, whose models mark fields.
        names: Masked in every command and every event.
        events: The classes of events, which mark fields; all that this process has, unless given.
    """

    def __init__(
        self, registry: HandlerRegistry | None = None, names: Iterable[str] = (), events: EventRegistry | None = None
    ) -> None:
        self._everywhere = frozenset(names)
        self._marked = {
            (domain, command_type): self._everywhere.union(_marked(schema))
            for domain, types in (registry.json_schemas() if registry else {}).items()
            for command_type, schema in types.items()
        }
        self._events = EventRegistry() if events is None else events
        self._of_class: dict[type[DomainEvent], frozenset[str]] = {}
        self._of_all: tuple[int, frozenset[str]] = (-1, frozenset())

    def masked(self, value: Any, domain: str, command_type: str) -> Any:
        """A JSON value without what is personal in commands of this type."""
        names = self.names_in(domain, command_type)
        return without(value, names) if names else value

    def masked_details(self, details: Any, domain: str, command_type: str) -> Any:
        """What an audit trail says, without what is personal in commands of this type, in edits neither."""
        names = self.names_in(domain, command_type)
        shown = without(details, names)
        if isinstance(shown, dict) and isinstance(diff := shown.get("diff"), list):
            shown["diff"] = without_in_diff(diff, names)
        return shown

    def names_in(self, domain: str, command_type: str) -> frozenset[str]:
        """What is masked in commands of this type."""
        return self._marked.get((domain, command_type), self._everywhere)

    def masked_event(self, value: Any, event_type: str) -> Any:
        """A JSON value without what is personal in events of this type."""
        return without(value, self._names_in(event_type))

    def masked_everywhere(self, value: Any) -> Any:
        """A JSON value without what is personal in any event."""
        return without(value, self.names_in_events)

    def names_in_state(self, kind: type[AggregateRoot[Any]]) -> frozenset[str]:
        """What is masked in states of an aggregate: what its state's class marks, and what any event does."""
        try:
            marked = () if kind.__state_type__ is None else _marked(TypeAdapter(kind.__state_type__).json_schema())
            return self.names_in_events.union(marked)
        except PydanticUserError:  # a class that JSON Schema has no words for marks nothing
            return self.names_in_events

    @property
    def names_in_events(self) -> frozenset[str]:
        """What is masked in what is made of events of several classes."""
        as_of = DomainEvent.__defined__
        if self._of_all[0] != as_of:
            self._of_all = (as_of, self._everywhere.union(*map(self._names_in_class, _all_classes(DomainEvent))))
        return self._of_all[1]

    def _names_in(self, event_type: str) -> frozenset[str]:
        try:
            kind = self._events.get_or_none(event_type)
        except DuplicateEventTypeError:
            kind = None
        return self.names_in_events if kind is None else self._everywhere | self._names_in_class(kind)

    def _names_in_class(self, kind: type[DomainEvent]) -> frozenset[str]:
        """The names that a class marks; those of all its fields, if it cannot say which."""
        if kind not in self._of_class:
            try:
                schemas = [kind.model_json_schema(by_alias=each) for each in (True, False)]
                found = frozenset(name for schema in schemas for name in _marked(schema))
            except PydanticUserError:  # a field of a kind that JSON Schema has no words for
                fields = kind.model_fields.items()
                found = frozenset(each for name, field in fields for each in (name, field.alias or name))
            self._of_class[kind] = found
        return self._of_class[kind]


def _all_classes(base: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _all_classes(kind)


def _marked(schema: Any) -> Iterator[str]:
    """Names of the marked properties of a JSON Schema, at any depth."""
    if isinstance(schema, dict):
        for name, each in (schema.get("properties") or {}).items():
            if isinstance(each, dict) and each.get(_MARK) is True:
                yield name
        for each in schema.values():
            yield from _marked(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _marked(each)


def without(value: Any, names: frozenset[str]) -> Any:
    """A JSON value in which what has one of these names is masked, at any depth; nothing stays nothing."""
    if isinstance(value, dict):
        return {
            name: (None if each is None else MASK) if name in names else without(each, names)
            for name, each in value.items()
        }
    return [without(each, names) for each in value] if isinstance(value, list) else value


def without_in_diff(diff: Iterable[dict[str, Any]], names: frozenset[str]) -> list[dict[str, Any]]:
    """A diff of payloads, as audit trails keep it, without what has one of these names or stands below one."""
    return [_without_in_change(each, names) for each in diff]


def _without_in_change(change: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    steps = [step.replace("~1", "/").replace("~0", "~") for step in str(change.get("path", "")).split("/")]
    shown = dict(change)
    for side in ("before", "after"):
        if (value := change.get(side)) is not None:
            shown[side] = without(value, names) if names.isdisjoint(steps) else MASK
    return shown
