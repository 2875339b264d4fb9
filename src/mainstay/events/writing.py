"""Payloads of events, from their classes.

pydantic writes an instance whole, and leaves out what it is told to each time. Of a class that has no more to do than
to write its fields, only those of the payload are written, by a serializer made for them; half the time. It writes what
the class's own would, refuses what that refuses, and an event is written once only: its fields may be iterators.

What a class wants is found out once, when the first of its events is written, and again after it was rebuilt.
"""

from typing import Any, NamedTuple, TypeAlias

from pydantic_core import SchemaSerializer, core_schema

from mainstay.events.checks import check_document
from mainstay.events.definition import ENVELOPE
from mainstay.events.event import DomainEvent
from mainstay.serialization import model_to_json

_Kind: TypeAlias = type[DomainEvent]
_ENVELOPES = ("function-before", "function-after", "function-wrap")
"""Validators around a model."""
_NUL, _NAN, _INFINITY = b"\\u0000", b"NaN", b"Infinity"
"""Signs of what a class may write, and no database holds."""


class Writer(NamedTuple):
    """How events of a class are written.

    Attributes:
        event_type: Of the class.
        event_version: Of the class.
        has_tags: Whether the class says any.
        fields: Writes the payload's fields alone; None for a class that has more to do than that.
        whole: What writes the class, as it was when this was made.
    """

    event_type: str
    event_version: int
    has_tags: bool
    fields: SchemaSerializer | None
    whole: Any

    def write(self, event: DomainEvent, limit: int) -> bytes:
        """The payload of an event of the class, as JSON.

        Args:
            event: Which.
            limit: Bytes that it may have.

        Raises:
            InvalidPayloadError: It cannot be written, or is not what every database can hold.
        """
        document = model_to_json(event, exclude=ENVELOPE, what=self.event_type, limit=limit, fields=self.fields)
        if self.fields is None or _NUL in document or _NAN in document or _INFINITY in document:
            check_document(document, "an event's payload")
        return document


def writer(kind: _Kind) -> Writer:
    """What writes events of a class."""
    found: Writer | None = vars(kind).get("__writer__")
    if found is None or found.whole is not kind.__pydantic_serializer__:
        found = kind.__writer__ = Writer(
            kind.__event_type__,
            kind.__event_version__,
            kind.tags is not DomainEvent.tags,
            _field_serializer(kind),
            kind.__pydantic_serializer__,
        )
    return found


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
