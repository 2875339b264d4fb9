"""Events as messages, and back.

A message has the event's id, type, payload, stream, version and position. The rest are headers, each there if the event
has it: ``category``, ``aggregate-id``, ``tenant-id``, ``event-version``, ``occurred-at``, ``recorded-at`` (ISO 8601),
``correlation-id``, ``causation-id``, ``actor-id``, ``metadata`` (JSON), ``traceparent`` and ``tracestate`` (of the
append, if its span was recorded), and ``tombstoned`` (``true``: the stream was, its payload is gone).
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from mainstay.delivery.message import Message
from mainstay.errors import InvalidInputError
from mainstay.events.codec import EventCodec, UnknownPolicy
from mainstay.events.event import DomainEvent
from mainstay.events.log import NewEvent, RecordedEvent
from mainstay.events.registry import EventRegistry
from mainstay.events.stream import StreamId
from mainstay.serialization import DEFAULT_PAYLOAD_LIMIT


def as_message(recorded: RecordedEvent) -> Message:
    """A stored event as a message."""
    event, stream = recorded.event, recorded.stream
    said: dict[str, Any] = {
        "category": stream.category,
        "aggregate-id": stream.id,
        "tenant-id": stream.tenant_id,
        "event-version": event.event_version,
        "occurred-at": event.occurred_at.isoformat(),
        "recorded-at": recorded.recorded_at.isoformat(),
        "correlation-id": event.correlation_id,
        "causation-id": event.causation_id,
        "actor-id": event.actor_id,
        "metadata": None if event.metadata is None else event.metadata.decode(),
        "tombstoned": "true" if recorded.tombstoned else None,
    }
    if event.metadata is not None and b"traceparent" in event.metadata:
        found = from_json(event.metadata)
        said |= {name: found.get(name) for name in ("traceparent", "tracestate")}
    headers = {name: str(value) for name, value in said.items() if value is not None}
    return Message(
        event.event_id, str(stream), recorded.version, recorded.position, event.event_type, event.payload, headers
    )


def as_recorded(message: Message) -> RecordedEvent:
    """A message of an event as the event was stored.

    Raises:
        InvalidInputError: It is no event's: it lacks a header, or one is malformed.
    """
    headers = message.headers
    try:
        event = NewEvent(
            message.id,
            message.type,
            message.payload,
            datetime.fromisoformat(headers["occurred-at"]),
            int(headers["event-version"]),
            _id(headers.get("correlation-id")),
            _id(headers.get("causation-id")),
            headers.get("actor-id"),
            headers["metadata"].encode() if "metadata" in headers else None,
        )
        stream = StreamId(headers["category"], headers["aggregate-id"], headers.get("tenant-id"))
        recorded_at = datetime.fromisoformat(headers["recorded-at"])
    except KeyError as error:
        raise InvalidInputError(f"message {message.id} is no event's: it has no header {error}") from error
    except ValueError as error:
        raise InvalidInputError(f"message {message.id} is no event's: {error}") from error
    tombstoned = headers.get("tombstoned") == "true"
    return RecordedEvent(message.position, stream, message.version, recorded_at, event, tombstoned)


def _id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


class EventMessages:
    """Reads events out of messages, as classes of today have them.

    ::

        messages = EventMessages()

        async def bill(message, conn):
            for event in messages.events(message):
                ...

    Args:
        registry: Which class a type belongs to, and how old payloads become new ones; all classes unless given.
        unknown: What to do with an event whose type has no class: raise, or leave it out.
    """

    def __init__(self, registry: EventRegistry | None = None, *, unknown: UnknownPolicy = "error") -> None:
        self._codec = EventCodec(EventRegistry() if registry is None else registry, unknown, DEFAULT_PAYLOAD_LIMIT)

    def events(self, message: Message) -> list[DomainEvent]:
        """What a message says happened: one event as a rule; upcasters may make it several, or none.

        Raises:
            InvalidInputError: It is no event's.
            CorruptEventError: It cannot be read.
            UnknownEventTypeError: Its type has no class, and none is skipped.
        """
        return self._codec.read(as_recorded(message))

    def messages(self, events: list[DomainEvent]) -> list[Message]:
        """Events as messages, for those who publish without a relay; their position is 0.

        Raises:
            InvalidInputError: One does not say which stream it is of.
            InvalidPayloadError: It cannot be written as JSON.
        """
        return [self._message(event) for event in events]

    def _message(self, event: DomainEvent) -> Message:
        if not event.aggregate_type or event.aggregate_id is None:
            raise InvalidInputError(f"{event.event_type} {event.event_id} does not say which stream it is of")
        stream = StreamId(event.aggregate_type, event.aggregate_id, event.tenant_id)
        (written,) = self._codec.written([event], stream)
        return as_message(RecordedEvent(0, stream, event.aggregate_version, event.occurred_at, written))
