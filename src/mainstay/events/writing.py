"""Payloads of events, from their classes.

pydantic writes an instance whole, and leaves out what it is told to each time. Of a class that has no more to do than
to write its fields, only those of the payload are written, by a serializer made for them; half the time. It writes what
the class's own would, refuses what that refuses, and an event is written once only: its fields may be iterators.

Events of one class that are appended together are written together, if nothing in them can be read once only: to call
the serializer costs more than a small event. An array is written and taken apart where each of its parts begins. That
place is known by a name that nobody else can know, drawn when the process starts, and the parts are counted.

What a class wants is found out once, when the first of its events is written, and again after it was rebuilt.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

from pydantic_core import SchemaSerializer, core_schema, to_json

from mainstay.errors import InvalidPayloadError
from mainstay.events.checks import check_document
from mainstay.events.definition import ENVELOPE
from mainstay.events.event import DomainEvent
from mainstay.serialization import check_written, has_trouble, written_by

_Kind: TypeAlias = type[DomainEvent]


class _Payload(NamedTuple):
    """The payload of a class: its fields, the schemas that they refer to, and the class's settings."""

    fields: dict[str, Any]
    shared: list[Any]
    config: Any

    def serializer(self, schema: Any) -> SchemaSerializer:
        """Of what is made of these fields."""
        whole = core_schema.definitions_schema(schema, self.shared) if self.shared else schema
        return SchemaSerializer(whole, self.config)


_ENVELOPES = ("function-before", "function-after", "function-wrap")
"""Validators around a model."""
_NUL, _NAN, _INFINITY = b"\\u0000", b"NaN", b"Infinity"
"""Signs of what a class may write, and no database holds."""
_TIMES = ("date", "datetime", "time", "timedelta")
_SCALARS = ("bool", "decimal", "definition-ref", "enum", "float", "int", "literal", "none", "str", "uuid", *_TIMES)
"""What is written without being used up; definitions are looked at by themselves."""
_CONTAINERS = (*_ENVELOPES, "default", "dict", "frozenset", "list", "nullable", "set", "tuple")
"""What holds no more than its parts."""
_PARTS = ("schema", "items_schema", "keys_schema", "values_schema")
_MARK = uuid4().hex
"""A name that no field has."""
_TOGETHER = 4
"""Events that are written together, at least."""


class Writer(NamedTuple):
    """How events of a class are written.

    Attributes:
        event_type: Of the class.
        event_version: Of the class.
        has_tags: Whether the class says any.
        fields: Writes the payload's fields alone; None for a class that has more to do than that.
        whole: What writes the class, as it was when this was made.
        array: Writes the payloads of several events as an array; None if they have to be written one by one.
        begin: With which each of them begins there.
    """

    event_type: str
    event_version: int
    has_tags: bool
    fields: SchemaSerializer | None
    whole: Any
    array: SchemaSerializer | None
    begin: bytes

    def write(self, event: DomainEvent, limit: int) -> bytes:
        """The payload of an event of the class, as JSON.

        Args:
            event: Which.
            limit: Bytes that it may have.

        Raises:
            InvalidPayloadError: It cannot be written, or is not what every database can hold.
        """
        if self.fields is None:
            document = written_by(self.whole, event, what=self.event_type, exclude=ENVELOPE)
        else:
            document = written_by(self.fields, vars(event), what=self.event_type)
        self._check(document, event, limit)
        return document

    def write_all(self, events: Sequence[DomainEvent], limit: int) -> list[bytes] | None:
        """The payloads of several events of the class; None if they have to be written one by one.

        Raises:
            InvalidPayloadError: One is not what every database can hold.
        """
        if self.array is None:
            return None
        try:
            document = written_by(self.array, list(map(vars, events)), what=self.event_type)
        except InvalidPayloadError:
            return None  # who cannot be written says so better by itself
        first = b"[" + self.begin
        parts = document[len(first) : -2].split(b"}," + self.begin)
        if len(parts) != len(events) or not document.startswith(first):
            return None  # fields in another order than the class's, as pydantic's model_construct may leave them
        documents = [b"{%b}" % part for part in parts]
        if has_trouble(document) or _is_odd(document) or max(map(len, documents)) > limit:
            for event, each in zip(events, documents, strict=True):
                self._check(each, event, limit)
        return documents

    def _check(self, document: bytes, event: DomainEvent, limit: int) -> None:
        check_written(document, event, exclude=ENVELOPE, what=self.event_type, limit=limit)
        if self.fields is None or _is_odd(document):
            check_document(document, "an event's payload")


def written(
    events: Iterable[DomainEvent], form: Callable[[DomainEvent], Writer], limit: int
) -> Iterator[tuple[DomainEvent, Writer, bytes]]:
    """Each event, what writes its class, and its payload.

    Args:
        events: In order.
        form: What writes the class of an event.
        limit: Bytes that each may have.

    Raises:
        InvalidPayloadError: As `Writer.write`.
    """
    forms: dict[type, Writer] = {}
    for kind, of_one_class in groupby(events, type):
        run = list(of_one_class)
        its = forms.get(kind) or forms.setdefault(kind, form(run[0]))
        together = its.write_all(run, limit) if len(run) >= _TOGETHER else None
        documents = (its.write(event, limit) for event in run) if together is None else together
        for event, document in zip(run, documents, strict=True):
            yield event, its, document


def _is_odd(document: bytes) -> bool:
    """Whether there is a sign in it of what no database holds."""
    return _NUL in document or _NAN in document or _INFINITY in document


def writer(kind: _Kind) -> Writer:
    """What writes events of a class."""
    found: Writer | None = vars(kind).get("__writer__")
    if found is None or found.whole is not kind.__pydantic_serializer__:
        payload = _payload(kind)
        found = kind.__writer__ = Writer(
            kind.__event_type__,
            kind.__event_version__,
            kind.tags is not DomainEvent.tags,
            None if payload is None else payload.serializer(core_schema.typed_dict_schema(payload.fields)),
            kind.__pydantic_serializer__,
            None if payload is None else _array_serializer(payload),
            to_json({_MARK: kind.__event_type__})[:-1] + b",",
        )
    return found


def _array_serializer(payload: _Payload) -> SchemaSerializer | None:
    """What writes payloads as an array, each behind its type; None if there is nothing in them, or not for long."""
    schemas = [*(field["schema"] for field in payload.fields.values()), *payload.shared]
    if not payload.fields or not all(map(_can_be_read_again, schemas)):
        return None
    mark = core_schema.typed_dict_field(core_schema.any_schema(), serialization_alias=_MARK)
    return payload.serializer(
        core_schema.list_schema(core_schema.typed_dict_schema({"event_type": mark} | payload.fields))
    )


def _can_be_read_again(schema: Any) -> bool:
    """Whether a field holds nothing that is used up by being written."""
    if "serialization" in schema:
        return False
    if schema["type"] == "model":
        fields = schema["schema"].get("fields", {}).values()
        return _is_its_fields(schema) and all(_can_be_read_again(field["schema"]) for field in fields)
    if schema["type"] not in _CONTAINERS:
        return schema["type"] in _SCALARS
    parts = [schema[name] for name in _PARTS if name in schema]
    return all(_can_be_read_again(each) for part in parts for each in (part if isinstance(part, list) else [part]))


def _is_its_fields(model: Any) -> bool:
    """Whether a model is written as its fields are, and nothing else."""
    inner = model["schema"]
    if inner["type"] != "model-fields" or "serialization" in inner or "serialization" in model:
        return False
    is_open = (model.get("config") or {}).get("extra_fields_behavior") == "allow"
    return not (is_open or model.get("root_model") or inner.get("computed_fields"))


def _payload(kind: _Kind) -> _Payload | None:
    """What a class's payload is; None for a class that has more to do than to write its fields."""
    model: Any = kind.__pydantic_core_schema__
    shared = []
    if isinstance(model, dict) and model["type"] == "definitions":
        shared, model = model["definitions"], model["schema"]
    while isinstance(model, dict) and model["type"] in _ENVELOPES and "serialization" not in model:
        model = model["schema"]
    if not isinstance(model, dict) or model["type"] != "model" or not _is_its_fields(model):
        return None
    fields = {name: field for name, field in model["schema"]["fields"].items() if name not in ENVELOPE}
    if any(_is_own_doing(field) for field in fields.values()):
        return None
    written = {
        name: core_schema.typed_dict_field(field["schema"], serialization_alias=field.get("serialization_alias"))
        for name, field in fields.items()
    }
    return _Payload(written, shared, model.get("config"))


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
