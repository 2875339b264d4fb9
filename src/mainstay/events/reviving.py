"""Events out of what the log has.

The payload is validated from its JSON bytes, once, by the class's own validator; the envelope comes from the log, which
checked it when it was written, and is set without another look. So validators of a class see the fields of that class;
what they find in the envelope when an event is read is not to be relied on. Of a class that has no more to do than to
validate its fields, only those of the payload are validated, and the instance is put together as pydantic does it:
half the time of the whole, which has an envelope to invent.

What a class wants is found out once, when the first of its events is read.
"""

from collections.abc import Callable
from typing import Any, TypeAlias
from uuid import UUID

from pydantic_core import SchemaValidator, to_json

from mainstay.errors import shown
from mainstay.events.definition import ENVELOPE
from mainstay.events.event import DomainEvent, put_together, reading
from mainstay.events.log import RecordedEvent

Reviver: TypeAlias = Callable[[bytes, RecordedEvent, dict[str, Any]], Any]
"""Makes an event of its payload (JSON, in the newest version), where the envelope comes from, and metadata.

Raises `pydantic.ValidationError` if the payload does not fit, and `TypeError` if the envelope is not what the class
wants.
"""


def reviver(kind: type[DomainEvent]) -> Reviver:
    """What reads events of a class."""
    try:
        found: Reviver = vars(kind)["__reviver__"]
    except KeyError:
        found = kind.__reviver__ = _made(kind)
    return found


def _made(kind: type[DomainEvent]) -> Reviver:
    event_type, event_version = kind.__event_type__, kind.__event_version__
    is_choosy = bool(kind.__text_ids__ or kind.__asked__ or kind.__uuid_ids__)
    fields_only = _field_validator(kind)
    validate = None if fields_only is None else fields_only.validate_json

    def revive(payload: bytes, recorded: RecordedEvent, metadata: dict[str, Any]) -> DomainEvent:
        written, stream = recorded.event, recorded.stream
        values: dict[str, Any] = {
            "event_id": written.event_id,
            "event_type": event_type,
            "event_version": event_version,
            "aggregate_id": stream.id,
            "aggregate_type": stream.category,
            "aggregate_version": recorded.version,
            "occurred_at": written.occurred_at,
            "tenant_id": stream.tenant_id,
            "actor_id": written.actor_id,
            "correlation_id": written.correlation_id,
            "causation_id": written.causation_id,
            "metadata": metadata,
        }
        if is_choosy:
            _suit(kind, values)
        if validate is None:
            return _validated_whole(kind, payload, values)
        fields, extra, fields_set = validate(payload)
        values.update(fields)
        return put_together(kind, values, fields_set, extra)

    return revive


def _suit(kind: type[DomainEvent], envelope: dict[str, Any]) -> None:
    """Make an envelope what the class wants.

    Raises:
        TypeError: It cannot be.
    """
    for name in kind.__text_ids__:
        if envelope[name] is not None:
            envelope[name] = str(envelope[name])
    for name in kind.__asked__:
        if envelope[name] is None:
            raise TypeError(f"it has no {name}, and {kind.__name__} must have one")
    for name in kind.__uuid_ids__:
        if not isinstance(envelope[name], UUID | None):
            raise TypeError(f"{name} is {shown(envelope[name])}, and {kind.__name__} wants a UUID")


def _validated_whole(kind: type[DomainEvent], payload: bytes, envelope: dict[str, Any]) -> DomainEvent:
    """An event made by the whole validator of a class that does more than to validate its fields."""
    if kind.__asked__:
        payload = _joined(to_json({name: envelope[name] for name in kind.__asked__}), payload)
    reading.event_id = envelope["event_id"]
    try:
        event: DomainEvent = kind.__pydantic_validator__.validate_json(payload)
    finally:
        reading.event_id = None
    vars(event).update(envelope)
    return event


def _field_validator(kind: type[DomainEvent]) -> SchemaValidator | None:
    """What validates the payload's fields alone; None for a class that has more to do than that."""
    model: Any = kind.__pydantic_core_schema__
    if not isinstance(model, dict) or model["type"] != "model" or model["schema"]["type"] != "model-fields":
        return None
    if any(model.get(key) for key in ("post_init", "custom_init", "root_model", "generic_origin")):
        return None
    fields = {name: field for name, field in model["schema"]["fields"].items() if name not in ENVELOPE}
    return SchemaValidator({**model["schema"], "fields": fields}, model.get("config"))


def _joined(first: bytes, second: bytes) -> bytes:
    """Two JSON objects as one; the first has members."""
    rest = second.strip().removeprefix(b"{").lstrip()
    return first[:-1] + (rest if rest == b"}" else b"," + rest)
