"""Events as documents, and back.

Nothing is skipped in silence: an event that cannot be read is named by its position, its stream and its place there.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count, repeat
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from mainstay.errors import (
    CorruptEventError,
    DuplicateEventTypeError,
    EventVersionError,
    InvalidInputError,
    UnknownEventTypeError,
    shown,
)
from mainstay.events.checks import check_event
from mainstay.events.definition import LONGEST_NAME
from mainstay.events.event import DomainEvent, EventTombstone
from mainstay.events.log import NewEvent, RecordedEvent
from mainstay.events.registry import EventRegistry
from mainstay.events.reviving import Reviver, reviver
from mainstay.events.stream import StreamId
from mainstay.events.upcasting import RawEvent
from mainstay.events.writing import Writer, writer, written
from mainstay.message import actor_id_var, causation_id_var, checked_name, correlation_id_var
from mainstay.serialization import checked_object
from mainstay.serialization import to_json as checked_json

UnknownPolicy = Literal["error", "skip"]
_MOST_TOLD = 5


def several(events: Iterable[DomainEvent]) -> tuple[DomainEvent, ...]:
    """What is given as events: a single event would be taken for its fields.

    Raises:
        InvalidInputError: Not a list or something else that gives one event after another.
    """
    if isinstance(events, DomainEvent | str | bytes | dict) or not isinstance(events, Iterable):
        raise InvalidInputError(f"events are given as a list, one alone, too: [event], not {shown(events)}")
    return tuple(events)


class EventCodec:
    """Writes and reads the events of one store.

    Args:
        registry: Which class a type belongs to, and how old payloads become new ones.
        unknown: What to do with an event whose type has no class: raise, or leave it out.
        payload_limit: Bytes of JSON that one event may have.
    """

    def __init__(self, registry: EventRegistry, unknown: UnknownPolicy, payload_limit: int) -> None:
        self.registry = registry
        self.unknown = unknown
        self._limit = payload_limit
        self._revivers: dict[tuple[str, int], Reviver] = {}
        self._as_of = -1

    # -- writing -------------------------------------------------------------------------------------------------------

    def written(
        self, events: Iterable[DomainEvent], stream: StreamId, first: int | None = None
    ) -> tuple[NewEvent, ...]:
        """Events of one stream as the log takes them.

        Args:
            events: In order.
            stream: Where they are to stand.
            first: The version of the first one, if it is known.

        Raises:
            InvalidInputError: Not an event, it says that it belongs elsewhere, or as `check_event`.
            InvalidPayloadError: It cannot be written as JSON.
            UnknownEventTypeError: Its class is not registered.
            DuplicateEventTypeError: Another class has its type.
        """
        correlation_id, causation_id, actor_id = _current_correlation(), causation_id_var.get(), actor_id_var.get()
        new: list[NewEvent] = []
        versions = repeat(0) if first is None else count(first)
        for version, (event, form, payload) in zip(versions, written(events, self._form, self._limit), strict=False):
            own = vars(event)
            if not _is_said_to_be_there(own, form, stream, version):
                _refuse_elsewhere(event, stream, version)
            made = NewEvent(
                own["event_id"],
                form.event_type,
                payload,
                own["occurred_at"],
                form.event_version,
                own["correlation_id"] or correlation_id,
                own["causation_id"] or causation_id,
                actor_id if own["actor_id"] is None else own["actor_id"],
            )
            if own["metadata"]:
                made.metadata = self._metadata(own["metadata"])
            if form.has_tags:
                made.tags = tuple(dict.fromkeys(event.tags()))
            if own["actor_id"] is not None or not _is_plain(made):
                check_event(made)
            new.append(made)
        return tuple(new)

    def _form(self, event: DomainEvent) -> Writer:
        if not isinstance(event, DomainEvent):
            raise InvalidInputError(f"a store appends events, instances of DomainEvent, not {shown(event)}")
        self.registry.require(type(event))
        return writer(type(event))

    def _metadata(self, metadata: Any) -> bytes:
        return checked_json(checked_object(metadata, what="metadata"), what="metadata", limit=self._limit)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, recorded: RecordedEvent) -> list[DomainEvent]:
        """What is there instead of a stored event: one event as a rule; upcasters may make it several, or none.

        Raises:
            CorruptEventError: It cannot be read.
            UnknownEventTypeError: Its type has no class, and none is skipped.
        """
        new, registry = recorded.event, self.registry
        now = registry.changes + registry.upcasters.changes + DomainEvent.__defined__
        if now != self._as_of:
            self._revivers.clear()
            self._as_of = now
        revive = self._revivers.get((new.event_type, new.event_version))
        if revive is not None and not recorded.tombstoned:
            try:
                return [revive(new.payload, recorded, from_json(new.metadata) if new.metadata else {})]
            except Exception:  # noqa: BLE001, S110 - a validator of the class may raise anything; it is told below
                pass
        return self._read(recorded)

    def _read(self, recorded: RecordedEvent) -> list[DomainEvent]:
        """The same of any event: the long way, which tells what is wrong with one."""
        new = recorded.event
        if recorded.tombstoned:
            return [_tombstone(recorded)]
        try:
            metadata = from_json(new.metadata) if new.metadata else {}
            if self.registry.upcasters.touches(new.event_type, new.event_version):
                raw = RawEvent(new.event_type, _object(new.payload), new.event_version)
                return [
                    revive(to_json(part.data), recorded, metadata)
                    for part in self.registry.upcasters.lift(raw)
                    if (revive := self._reviver(part.event_type, part.version, recorded.position)) is not None
                ]
            revive = self._reviver(new.event_type, new.event_version, recorded.position)
            if revive is None:
                return []
            self._revivers[new.event_type, new.event_version] = revive
            return [revive(new.payload, recorded, metadata)]
        except (UnknownEventTypeError, DuplicateEventTypeError):
            raise
        except EventVersionError as error:
            raise _corrupt(recorded, str(error)) from error
        except ValidationError as error:
            raise _corrupt(recorded, _told(error)) from error
        except Exception as error:  # a validator of the class may raise anything
            raise _corrupt(recorded, f"{type(error).__name__}: {error}") from error

    def _reviver(self, event_type: str, version: int, position: int) -> Reviver | None:
        """What reads such payloads; None for what is skipped."""
        kind = self.registry.get_or_none(event_type)
        if kind is None:
            if self.unknown == "skip":
                return None
            raise UnknownEventTypeError(event_type, position)
        if version != kind.__event_version__:
            raise EventVersionError(_wrong_version(kind, version))
        return reviver(kind)


def _wrong_version(kind: type[DomainEvent], version: int) -> str:
    known = kind.__event_version__
    if version > known:
        return (
            f"it has version {version}, and this code knows {kind.__event_type__} up to {known}: newer code can read it"
        )
    return f"it has version {version}, {kind.__event_type__} has {known}, and no upcaster takes it from {version} on"


def _is_said_to_be_there(own: dict[str, Any], form: Writer, stream: StreamId, version: int) -> bool:
    """Whether an event says nothing of its place that is not so; False is no answer, see `_refuse_elsewhere`.

    Args:
        own: What it says.
        form: Of its class.
        stream: Where it is to stand.
        version: Its number there, or 0.
    """
    return (
        (own["aggregate_id"] is None or own["aggregate_id"] is stream.id)
        and own["aggregate_type"] in ("", stream.category)
        and (own["tenant_id"] is None or own["tenant_id"] == stream.tenant_id)
        and own["aggregate_version"] in (0, version)
        and own["event_type"] == form.event_type
        and own["event_version"] == form.event_version
    )


def _is_plain(event: NewEvent) -> bool:
    """Whether there is nothing to check of an event whose payload, metadata and actor are sound; False is no answer."""
    return (
        type(event.event_id) is UUID
        and type(event.occurred_at) is datetime
        and event.occurred_at.tzinfo is UTC
        and (event.correlation_id is None or type(event.correlation_id) is UUID)
        and (event.causation_id is None or type(event.causation_id) is UUID)
        and not event.tags
    )


def _refuse_elsewhere(event: DomainEvent, stream: StreamId, version: int) -> None:
    """See that an event does not say that it belongs to another stream, or is of another type."""
    kind = type(event)
    own_id = None if event.aggregate_id is None else checked_name(event.aggregate_id, "an id", LONGEST_NAME)
    own_tenant = None if event.tenant_id is None else checked_name(event.tenant_id, "an id", LONGEST_NAME)
    says = (
        ("event_type", event.event_type, kind.__event_type__),
        ("event_version", event.event_version, kind.__event_version__),
        ("aggregate_id", own_id, stream.id),
        ("aggregate_type", event.aggregate_type or None, stream.category),
        ("tenant_id", own_tenant, stream.tenant_id),
        ("aggregate_version", event.aggregate_version or None, version or event.aggregate_version),
    )
    for name, own, wanted in says:
        if own is not None and own != wanted:
            raise InvalidInputError(
                f"{kind.__name__} {event.event_id} says {name} {shown(own)}, and is to be appended to {stream} with "
                f"{shown(wanted)}. Nothing was written"
            )


def _current_correlation() -> UUID | None:
    current = correlation_id_var.get()
    if current is None:
        return None
    try:
        return UUID(current)
    except ValueError:
        return None


def _tombstone(recorded: RecordedEvent) -> EventTombstone:
    event: EventTombstone = reviver(EventTombstone)(b"{}", recorded, {})
    vars(event).update(event_type=recorded.event.event_type, event_version=recorded.event.event_version)
    return event


def _object(payload: bytes) -> dict[str, object]:
    value = from_json(payload)
    if not isinstance(value, dict):
        raise TypeError(f"its payload is no JSON object but {shown(value)}")
    return value


def _corrupt(recorded: RecordedEvent, reason: str) -> CorruptEventError:
    event_type = recorded.event.event_type
    return CorruptEventError(recorded.position, recorded.stream, recorded.version, event_type, reason)


def _told(error: ValidationError) -> str:
    """What pydantic found, without the values, which may be anybody's."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'payload'}: {each['msg']}" for each in found[:_MOST_TOLD])
    return told + (f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else "")
