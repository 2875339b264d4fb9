"""What a class of events must be like: checked when it is defined, because later it is too late."""

import typing
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import AwareDatetime, BaseModel

from mainstay.errors import ConfigurationError, shown
from mainstay.events.stream import LARGEST_VERSION
from mainstay.serialization import refuse_one_way_fields

LONGEST_NAME = 200
"""Characters of an event's type or of an id."""

_TYPES: dict[str, frozenset[Any]] = {
    "event_id": frozenset({UUID}),
    "event_type": frozenset({str}),
    "event_version": frozenset({int}),
    "aggregate_id": frozenset({UUID, str}),
    "aggregate_type": frozenset({str}),
    "aggregate_version": frozenset({int}),
    "occurred_at": frozenset({datetime, AwareDatetime}),
    "tenant_id": frozenset({UUID, str, NoneType}),
    "actor_id": frozenset({str, NoneType}),
    "correlation_id": frozenset({UUID, NoneType}),
    "causation_id": frozenset({UUID, NoneType}),
    "metadata": frozenset({dict}),
}
_IDS = ("aggregate_id", "tenant_id")

ENVELOPE = frozenset(_TYPES)
"""Fields of the envelope."""


class Settled(NamedTuple):
    """What reading and writing need of a class; `DomainEvent` says what each is."""

    event_type: str
    event_version: int
    text_ids: tuple[str, ...]
    uuid_ids: tuple[str, ...]
    asked: tuple[str, ...]


def settled(cls: type[BaseModel]) -> Settled:
    """Check a class that was just defined.

    Raises:
        ConfigurationError: Something of it cannot be; the message says what to do.
    """
    fields = cls.model_fields
    refuse_hidden_methods(cls, fields)
    atoms = {name: set(_atoms(fields[name].annotation)) for name in _TYPES}
    for name, types in _TYPES.items():
        if not atoms[name] <= types or fields[name].validation_alias or fields[name].serialization_alias:
            raise ConfigurationError(
                f"{cls.__name__}.{name} is part of every event's envelope and means something else there: give the "
                "field another name"
            )
    for name in fields.keys() - ENVELOPE:
        if taken := {fields[name].alias, fields[name].serialization_alias} & ENVELOPE:
            raise ConfigurationError(
                f"{cls.__name__}.{name} is called {taken.pop()!r} in JSON, which is part of every event's envelope: "
                "give it another alias"
            )
    refuse_one_way_fields(cls)
    return Settled(
        _checked_name(cls, fields["event_type"].default),
        _checked_version(cls, fields["event_version"].default),
        tuple(name for name in _IDS if atoms[name] <= {str, NoneType}),
        tuple(name for name in _IDS if atoms[name] <= {UUID, NoneType}),
        tuple(name for name in _TYPES if fields[name].is_required()),
    )


def refuse_hidden_methods(cls: type[BaseModel], names: Iterable[str]) -> None:
    """See that no field takes the name of a method.

    Raises:
        ConfigurationError: One does.
    """
    for name in names:
        found = next((vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)), None)
        if callable(found) or isinstance(found, classmethod | staticmethod):
            raise ConfigurationError(
                f"{cls.__name__}.{name} would hide the method of that name: give the field another name, and "
                f'Field(alias="{name}") if that is what it is called in JSON'
            )


def _checked_name(cls: type[BaseModel], name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"{cls.__name__}: event_type is a text of 1 to {LONGEST_NAME} printable characters, not {shown(name)}"
        )
    return name


def _checked_version(cls: type[BaseModel], version: Any) -> int:
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= LARGEST_VERSION:
        raise ConfigurationError(f"{cls.__name__}: event_version is a whole number from 1, not {shown(version)}")
    return version


def _atoms(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is a union of."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, UnionType}:
        for part in typing.get_args(annotation):
            yield from _atoms(part)
    elif origin is typing.Literal:
        yield from (type(value) for value in typing.get_args(annotation))
    elif origin is typing.Annotated:
        yield from _atoms(typing.get_args(annotation)[0])
    else:
        yield origin or annotation
