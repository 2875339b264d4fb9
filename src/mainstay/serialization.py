"""Payloads as JSON: written by orjson, refused with a reason where PostgreSQL's ``jsonb`` could not give them back.

What is accepted: what JSON has, and UUID, datetime, date, time, enums, dataclasses, Decimal (as text), sets and tuples
(as arrays) and pydantic models. What is refused, with the place: NaN and infinities (orjson would write ``null``), NUL
characters (``jsonb`` cannot hold them), integers beyond 64 bits, keys that are not text, bytes and unknown objects.
"""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson
from pydantic import BaseModel

from mainstay.errors import InvalidPayloadError

DEFAULT_PAYLOAD_LIMIT = 1_048_576
"""Bytes of JSON that one payload may have."""

_NUL = b"\\u0000"
_NULL = b"null"


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, BaseModel):
        return _dumped(value)
    if isinstance(value, set | frozenset):
        return list(value)
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)


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
        document = orjson.dumps(value, default=_default)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} cannot be written as JSON: {error}"
        raise InvalidPayloadError(message) from error
    if len(document) > limit:
        message = (
            f"{what} has {len(document):,} bytes as JSON; the limit is {limit:,}. "
            "Store it elsewhere and send a reference"
        )
        raise InvalidPayloadError(message)
    if _NUL in document or _NULL in document:
        _refuse_what_jsonb_cannot_hold(value, what)
    return document


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


def checked_object(value: Any, *, what: str = "data") -> dict[str, Any]:
    """The value itself, if it is a JSON object; an empty one for None.

    Raises:
        InvalidPayloadError: Anything else.
    """
    if value is None:
        return {}
    if isinstance(value, BaseModel):
        try:
            return _dumped(value)
        except ValueError as error:
            message = f"{what} cannot be written as JSON: {error}"
            raise InvalidPayloadError(message) from error
    if not isinstance(value, dict):
        message = f"{what} must be a JSON object (a dict), not {type(value).__name__}"
        raise InvalidPayloadError(message)
    return value


def _dumped(model: BaseModel) -> dict[str, Any]:
    """A model as an object from which it can be read back; refuses one whose values do not fit its fields."""
    return model.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")


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
