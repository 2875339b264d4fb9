"""Payloads of events, from their classes.

pydantic writes an instance whole, and leaves out what it is told to each time. Of a class that has no more to do than
to write its fields, only those of the payload are written, by a serializer made for them; half the time. It writes what
the class's own would, and refuses what that refuses: then the class's own says why.

What a class wants is found out once, when the first of its events is written.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema

from mainstay.events.definition import ENVELOPE
from mainstay.events.event import DomainEvent
from mainstay.serialization import has_trouble, model_to_json

_Kind: TypeAlias = type[DomainEvent]
_ENVELOPES = ("function-before", "function-after", "function-wrap")
"""Validators around a model."""


class Writer(NamedTuple):
    """How events of a class are written.

    Attributes:
        event_type: Of the class.
        event_version: Of the class.
        has_tags: Whether the class says any.
        write: Gives an event's payload as JSON, of so many bytes at most; raises `InvalidPayloadError`.
        is_object: Whether that is always an object.
    """

    event_type: str
    event_version: int
    has_tags: bool
    write: Callable[[DomainEvent, int], bytes]
    is_object: bool


def writer(kind: _Kind) -> Writer:
    """What writes events of a class."""
    try:
        found: Writer = vars(kind)["__writer__"]
    except KeyError:
        found = kind.__writer__ = _made(kind)
    return found


def _made(kind: _Kind) -> Writer:
    event_type = kind.__event_type__
    fields_only = _field_serializer(kind)
    to_json = None if fields_only is None else fields_only.to_json

    def write(event: DomainEvent, limit: int) -> bytes:
        if to_json is not None:
            try:
                document = to_json(vars(event), by_alias=True, round_trip=True, warnings="error")
            except (PydanticSerializationError, ValueError, TypeError, RecursionError):
                pass  # it is told below
            else:
                if len(document) <= limit and not has_trouble(document):
                    return document
        return model_to_json(event, exclude=ENVELOPE, what=event_type, limit=limit)

    has_tags = kind.tags is not DomainEvent.tags
    return Writer(event_type, kind.__event_version__, has_tags, write, to_json is not None)


def _field_serializer(kind: _Kind) -> SchemaSerializer | None:
    """What writes the payload's fields alone; None for a class that has more to do than that."""
    model: Any = kind.__pydantic_core_schema__
    shared = []
    if isinstance(model, dict) and model["type"] == "definitions":
        shared, model = model["definitions"], model["schema"]
    while isinstance(model, dict) and model["type"] in _ENVELOPES and "serialization" not in model:
        model = model["schema"]
    if not isinstance(model, dict) or model["type"] != "model" or model["schema"]["type"] != "model-fields":
        return None
    inner = model["schema"]
    if any("serialization" in each for each in (model, inner)) or model.get("root_model"):
        return None
    if inner.get("computed_fields") or (model.get("config") or {}).get("extra_fields_behavior") == "allow":
        return None
    fields = {name: field for name, field in inner["fields"].items() if name not in ENVELOPE}
    if any(_is_own_doing(field) for field in fields.values()):
        return None
    written = {
        name: core_schema.typed_dict_field(field["schema"], serialization_alias=field.get("serialization_alias"))
        for name, field in fields.items()
    }
    alone: Any = core_schema.typed_dict_schema(written)
    return SchemaSerializer(core_schema.definitions_schema(alone, shared) if shared else alone, model.get("config"))


def _is_own_doing(schema: Any) -> bool:
    """Whether a field, or a part of it, is left out at times, or written by a method of the class."""
    if isinstance(schema, dict):
        if schema.get("type") in ("model", "dataclass"):
            return False  # whatever it does, it does by itself
        if schema.get("is_field_serializer") or schema.get("serialization_exclude") is not None:
            return True
        return "serialization_exclude_if" in schema or any(_is_own_doing(part) for part in schema.values())
    if isinstance(schema, list | tuple):
        return any(_is_own_doing(part) for part in schema)
    return False
