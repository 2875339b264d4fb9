"""Payloads as JSON: written by orjson, refused with a reason where PostgreSQL's ``jsonb`` could not give them back.

What is accepted: what JSON has, and UUID, datetime, date, time, enums, dataclasses, Decimal (as text), sets and tuples
(as arrays) and pydantic models. What is refused, with the place: NaN and infinities (orjson would write ``null``), NUL
characters (``jsonb`` cannot hold them), integers beyond 64 bits, keys that are not text, bytes and unknown objects.
"""

import inspect
import json
import math
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from pydantic import AliasChoices, AliasPath, BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import SchemaSerializer
from pydantic_core import to_json as pydantic_json

from mainstay.errors import ConfigurationError, InvalidPayloadError, shown

DEFAULT_PAYLOAD_LIMIT = 1_048_576
"""Bytes of JSON that one payload may have."""

_NUL = b"\\u0000"
_NULL = b"null"
_UNWRITABLE = (TypeError, ValueError, RecursionError)
"""What is raised by whoever writes JSON."""


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, BaseModel):
        return _dumped(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=_written)
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)


def _written(value: Any) -> bytes:
    return orjson.dumps(value, default=_default)


def to_json(value: Any, *, what: str = "data", limit: int = DEFAULT_PAYLOAD_LIMIT) -> bytes:
    """A value as JSON that PostgreSQL gives back unchanged.

    Args:
        value: What to write.
        what: How errors call it.
        limit: Bytes allowed.

    Raises:
        InvalidPayloadError: It cannot be written; the message says where and why.
    """
    try:
        document = _written(value)
    except _UNWRITABLE as error:
        raise _unwritable(*_place_of_trouble(value, what, error, _written)) from error
    _refuse_too_long(document, what, limit)
    if has_trouble(document):
        _refuse_what_jsonb_cannot_hold(value, what)
    return document


def object_to_json(value: Any, *, what: str = "data", limit: int = DEFAULT_PAYLOAD_LIMIT) -> bytes:
    """As `to_json`, of what is a JSON object: a dict, a model, or None for an empty one.

    Raises:
        InvalidPayloadError: It is none, or cannot be written; the message says where and why.
    """
    document = to_json(_object(value, what), what=what, limit=limit)
    _refuse_lost_numbers(value, document, what)
    return document


def same_json(one: Any, other: Any) -> bool:
    """Whether two values stand for the same JSON: true is not 1, as it is in Python."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(part, other[name]) for name, part in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def model_to_json(
    model: BaseModel,
    *,
    exclude: frozenset[str] = frozenset(),
    what: str = "data",
    limit: int = DEFAULT_PAYLOAD_LIMIT,
) -> bytes:
    """A model as JSON from which it can be read back: as `to_json`, but written by pydantic, which knows its fields.

    Args:
        model: What to write.
        exclude: Fields to leave out.
        what: How errors call it.
        limit: Bytes allowed.

    Raises:
        InvalidPayloadError: It cannot be written; the message says where and why.
    """
    document = written_by(model.__pydantic_serializer__, model, what=what, exclude=exclude)
    check_written(document, model, exclude=exclude, what=what, limit=limit)
    return document


def written_by(serializer: SchemaSerializer, value: Any, *, what: str, exclude: frozenset[str] = frozenset()) -> bytes:
    """What a serializer of pydantic's writes, so that it can be read back; nobody has looked yet whether it is stored.

    Raises:
        InvalidPayloadError: It cannot be written.
    """
    try:
        return serializer.to_json(
            value,
            exclude=exclude or None,  # type: ignore[arg-type]  # pydantic takes a frozenset where it says set
            by_alias=True,
            round_trip=True,
            warnings="error",
        )
    except _UNWRITABLE as error:
        raise _unwritable(*_field_of_trouble(serializer, value, what, exclude, error)) from error


def check_written(document: bytes, model: BaseModel, *, exclude: Container[str], what: str, limit: int) -> None:
    """See that PostgreSQL gives back what pydantic has written; arguments as `model_to_json`.

    Raises:
        InvalidPayloadError: It does not; the message says where and why.
    """
    _refuse_too_long(document, what, limit)
    if has_trouble(document):
        _refuse_fields(model, exclude, what)


def has_trouble(document: bytes) -> bool:
    """Whether a document has a sign of what ``jsonb`` cannot hold: then what it was written of is to be looked at."""
    return _NUL in document or _NULL in document


def from_json(document: bytes | str) -> Any:
    """The value of a JSON document.

    Raises:
        InvalidPayloadError: Not JSON.
    """
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError as error:
        message = f"not valid JSON: {error}"
        raise InvalidPayloadError(message) from error


class JSONEncoder(json.JSONEncoder):
    """For ``json.dumps(value, cls=JSONEncoder)``: writes what `to_json` writes, where the standard library is asked.

    Attributes of a dataclass are written as an object, times as ISO 8601.
    """

    def default(self, o: Any) -> Any:
        """What stands for a value that JSON does not have.

        Raises:
            TypeError: It has no form in JSON.
        """
        if isinstance(o, UUID):
            return str(o)
        if isinstance(o, datetime | date | time):
            return o.isoformat()
        if isinstance(o, Enum):
            return o.value
        if is_dataclass(o) and not isinstance(o, type):
            return {field.name: getattr(o, field.name) for field in fields(o)}
        return _default(o)


def json_dumps(value: Any, *, limit: int = DEFAULT_PAYLOAD_LIMIT) -> str:
    """As `to_json`, as text.

    Raises:
        InvalidPayloadError: It cannot be written; the message says where and why.
    """
    return to_json(value, limit=limit).decode()


def json_loads(document: bytes | str) -> Any:
    """As `from_json`.

    Raises:
        InvalidPayloadError: Not JSON.
    """
    return from_json(document)


def storable(text: str) -> str:
    """A text with what PostgreSQL cannot hold (NUL, lone surrogates) written out: errors of handlers say anything."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def checked_object(value: Any, *, what: str = "data") -> dict[str, Any]:
    """The value itself, if it is a JSON object; an empty one for None, and what a model is written as.

    Raises:
        InvalidPayloadError: Anything else, or a model that cannot be written; the message says where and why.
    """
    found = _object(value, what)
    if isinstance(value, BaseModel):
        _refuse_lost_numbers(value, to_json(found, what=what, limit=sys.maxsize), what)
    return found


def _object(value: Any, what: str) -> dict[str, Any]:
    """As `checked_object`; of a model, nobody has looked yet whether numbers were lost."""
    if value is None:
        return {}
    if isinstance(value, BaseModel):
        try:
            return _dumped(value)
        except _UNWRITABLE as error:
            found = _field_of_trouble(value.__pydantic_serializer__, value, what, (), error)
            raise _unwritable(*found) from error
    if not isinstance(value, dict):
        message = f"{what} must be a JSON object (a dict), not {type(value).__name__}"
        raise InvalidPayloadError(message)
    return value


def _dumped(model: BaseModel) -> dict[str, Any]:
    """A model as an object from which it can be read back; refuses one whose values do not fit its fields."""
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
    if _has_sets(type(model)):
        in_order: dict[str, Any] = _in_order(model, dumped)
        return in_order
    return dumped


@lru_cache(maxsize=1_000)
def _has_sets(kind: type[BaseModel]) -> bool:
    """Whether instances may hold sets, which pydantic writes in the order of hashes: another one in each process."""
    return any(f"'type': '{name}'" in repr(kind.__pydantic_core_schema__) for name in ("set", "frozenset", "any"))


def _in_order(value: Any, dumped: Any) -> Any:
    """What pydantic has made of a value, with its sets sorted as those of `to_json` are."""
    if isinstance(value, RootModel):
        return _in_order(value.root, dumped)
    if isinstance(dumped, list) and isinstance(value, set | frozenset | list | tuple) and len(value) == len(dumped):
        parts = list(map(_in_order, value, dumped))
        return sorted(parts, key=_written) if isinstance(value, set | frozenset) else parts
    if not isinstance(dumped, dict):
        return dumped
    if isinstance(value, BaseModel) or is_dataclass(value):
        names = _written_names(type(value))
        return {key: _in_order(getattr(value, str(names.get(key, key)), None), part) for key, part in dumped.items()}
    if isinstance(value, Mapping) and len(value) == len(dumped):
        return dict(zip(dumped, map(_in_order, value.values(), dumped.values()), strict=True))
    return dumped


def _written_names(kind: type[Any]) -> dict[str, str]:
    """By which attributes the fields of a model or a dataclass are known, by the names under which they are written."""
    if issubclass(kind, BaseModel):
        known: dict[str, FieldInfo] = kind.model_fields
    else:
        known = getattr(kind, "__pydantic_fields__", {})
    return {field.serialization_alias or name: name for name, field in known.items()}


def refuse_one_way_fields(model: type[BaseModel]) -> None:
    """See that every field of a model is read under the name under which it is written.

    Raises:
        ConfigurationError: One is not.
    """
    by_name = bool(model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name"))
    for name, field in model.model_fields.items():
        written = field.serialization_alias or name
        if written not in _read(name, field, by_name=by_name):
            message = (
                f"{model.__name__}.{name} is written as {written!r} and not read by that name: give it one alias for "
                "both, or AliasChoices that include it"
            )
            raise ConfigurationError(message)


def checked_upcaster(function: object) -> None:
    """See that something can be an upcaster: a plain function.

    Raises:
        ConfigurationError: It cannot.
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"an upcaster is a plain function that takes a dict, not {shown(function)}")


def _read(name: str, field: FieldInfo, *, by_name: bool) -> set[str]:
    """Under which names a field is found."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [name if alias is None else alias]
    plain = {each for each in choices if isinstance(each, str)}
    paths = {str(each.path[0]) for each in choices if isinstance(each, AliasPath) and len(each.path) == 1}
    return plain | paths | ({name} if by_name else set())


def _refuse_too_long(document: bytes, what: str, limit: int) -> None:
    if len(document) > limit:
        message = (
            f"{what} has {len(document):,} bytes as JSON; the limit is {limit:,}. "
            "Store it elsewhere and send a reference"
        )
        raise InvalidPayloadError(message)


def _refuse_lost_numbers(value: Any, document: bytes, what: str) -> None:
    """See that no NaN of a model has become null, which pydantic writes where it knows of no number."""
    if _NULL in document and isinstance(value, BaseModel):
        _refuse_fields(value, (), what)


def _refuse_fields(model: BaseModel, exclude: Container[str], what: str) -> None:
    for name, value in model:
        if name not in exclude and value is not None:
            _refuse_what_jsonb_cannot_hold(value, f"{what}.{name}")


def _refuse_what_jsonb_cannot_hold(value: Any, path: str) -> None:
    """Walk the value; only called when the document has a sign of trouble."""
    if isinstance(value, float) and not math.isfinite(value):
        message = f"{path} is {value}: JSON has no such number"
        raise InvalidPayloadError(message)
    if isinstance(value, str) and "\x00" in value:
        message = f"{path} holds a NUL character (\\u0000), which PostgreSQL's jsonb cannot store"
        raise InvalidPayloadError(message)
    for part, place in _parts(value, path):
        _refuse_what_jsonb_cannot_hold(part, place)


def _unwritable(place: str, error: Exception) -> InvalidPayloadError:
    return InvalidPayloadError(f"{place} cannot be written as JSON: {error}")


def _field_of_trouble(
    serializer: SchemaSerializer, value: Any, what: str, exclude: Container[str], error: Exception
) -> tuple[str, Exception]:
    """Where the first part of a model, or of its fields, stands that pydantic cannot write, and why."""

    def trouble_of(*names: str) -> Exception | None:
        try:
            serializer.to_json(value, include=set(names), by_alias=True, round_trip=True, warnings="error")
        except _UNWRITABLE as its:
            return its
        return None

    more = getattr(value, "__pydantic_extra__", None) or {}
    held = value if isinstance(value, dict) else getattr(value, "__dict__", {}) | more
    if trouble_of() is not None:  # what the class does by itself
        return what, error
    for name, part in held.items():
        its = None if name in exclude else trouble_of(name)
        if its is not None:
            return _place_of_trouble(part, f"{what}.{name}", its, pydantic_json)
    return what, error


def _place_of_trouble(value: Any, path: str, error: Exception, write: Callable[[Any], bytes]) -> tuple[str, Exception]:
    """Where the first part stands that cannot be written by itself, and why."""
    if isinstance(value, type) or "recursion" in str(error).lower():  # which has no end
        return path, error
    try:
        parts = list(_parts(value, path))
    except _UNWRITABLE:  # a model that does not let itself be taken apart
        return path, error
    for part, place in parts:
        try:
            write(part)
        except _UNWRITABLE as its:
            return _place_of_trouble(part, place, its, write)
    return path, error


def _parts(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    """What a value consists of, each with its place."""
    if isinstance(value, Enum):
        yield value.value, path
    elif isinstance(value, BaseModel):
        yield value.model_dump(), path
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield key, f"a key of {path}"
            yield part, f"{path}.{key}"
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(value):
            yield part, f"{path}[{index}]"
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield getattr(value, name), f"{path}.{name}"
