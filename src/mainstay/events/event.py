"""Events as pydantic models, and the envelope around them.

A class derived from `DomainEvent` says what happened and with which data; its name is the event's type. The *envelope*
is what every event has: ids, the stream it belongs to, when, who, why. Envelope fields are attributes like the others,
but they are stored once, in columns, and never in the payload.
"""

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, Self, cast
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import from_json, to_json
from typing_extensions import TypeVar

from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.events.definition import LONGEST_NAME, refuse_hidden_methods, settled
from mainstay.events.stream import LARGEST_VERSION, StreamId
from mainstay.message import checked_name, drawn_id
from mainstay.serialization import model_to_json


class Reading(threading.local):
    """The id of the event that this thread reads, so that none is drawn for it."""

    event_id: UUID | None = None


reading = Reading()
"""Set while an event is read by a class's whole validator."""


def _drawn_id() -> UUID:
    found = reading.event_id
    if found is None:
        return drawn_id()
    reading.event_id = None
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def _checked_id(value: Any) -> UUID | str | None:
    return None if value is None else checked_name(value, "an id", LONGEST_NAME)


_Id = Annotated[UUID | str, PlainValidator(_checked_id), WithJsonSchema({"type": "string"})]


class DomainEvent(BaseModel):
    """Base of events. They are frozen; a class is registered by being defined.

    ::

        class OrderPlaced(DomainEvent, aggregate_type="Order"):
            total: Decimal

    Class arguments (or class attributes of the same names):
        event_type: What the event is called where it is stored; the class's name unless given.
        event_version: Of the payload's form, from 1. Raise it with a change that old payloads do not fit, and tell the
            registry with `EventRegistry.upcast` how they become new ones.
        aggregate_type: Category of the streams that it belongs to.

    Attributes:
        event_id: Drawn; what makes an append repeatable.
        event_type: As above.
        event_version: As above.
        aggregate_id: Which stream of its category; None until it is appended or raised, unless given.
        aggregate_type: Category of its stream; empty until it is appended or raised, unless given.
        aggregate_version: Its number in the stream, from 1; 0 until it is appended or raised, unless given.
        occurred_at: When it happened, with a time zone; now, unless given.
        tenant_id: Whose stream.
        actor_id: Who did it.
        correlation_id: What it belongs to; of the command that is being handled, unless given.
        causation_id: The command or event that led to it.
        metadata: What the application adds; a JSON object.

    Raises:
        ConfigurationError: Not a name, not a version, a field that means something else in the envelope, or one that
            cannot be read back as it is written. Raised when the class is defined.
    """

    model_config = ConfigDict(frozen=True)

    __defined__: ClassVar[int] = 0
    """How many classes there are so far; registries look again when it has grown."""
    __event_type__: ClassVar[str] = ""
    __event_version__: ClassVar[int] = 1
    __text_ids__: ClassVar[tuple[str, ...]] = ()
    """Ids that this class keeps as text where others have UUIDs."""
    __uuid_ids__: ClassVar[tuple[str, ...]] = ()
    """Ids that this class allows to be UUIDs only."""
    __reviver__: ClassVar[Any]
    """What reads events of this class; see `mainstay.events.reviving`."""
    __writer__: ClassVar[Any]
    """What writes them; see `mainstay.events.writing`."""
    __asked__: ClassVar[tuple[str, ...]] = ()
    """Fields of the envelope that this class made mandatory."""

    event_id: UUID = Field(default_factory=_drawn_id)
    event_type: str = ""
    event_version: int = 1
    aggregate_id: _Id = cast("UUID | str", None)
    aggregate_type: str = ""
    aggregate_version: int = Field(default=0, ge=0, le=LARGEST_VERSION)
    occurred_at: AwareDatetime = Field(default_factory=_now)
    tenant_id: _Id | None = None
    actor_id: str | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def __init_subclass__(
        cls,
        *,
        event_type: str | None = None,
        event_version: int | None = None,
        aggregate_type: str | None = None,
        **options: Any,
    ) -> None:
        """Let class arguments be the defaults of their fields; pydantic collects those after this."""
        super().__init_subclass__(**options)
        own = vars(cls)
        refuse_hidden_methods(cls, own.get("__annotations__", {}))
        if event_type is not None or "event_type" not in own:
            type.__setattr__(cls, "event_type", cls.__name__ if event_type is None else event_type)
        if event_version is not None:
            type.__setattr__(cls, "event_version", event_version)
        if aggregate_type is not None:
            type.__setattr__(cls, "aggregate_type", aggregate_type)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Check the class, and keep what reading and writing need of it."""
        super().__pydantic_init_subclass__()
        kept = settled(cls)
        cls.__event_type__, cls.__event_version__ = kept.event_type, kept.event_version
        cls.__text_ids__, cls.__uuid_ids__, cls.__asked__ = kept.text_ids, kept.uuid_ids, kept.asked
        DomainEvent.__defined__ += 1

    def tags(self) -> Iterable[str]:
        """What `Query` may ask for, besides types; override it: ``return (f"course:{self.course_id}",)``."""
        return ()

    def with_causation(self, cause: "DomainEvent | UUID") -> Self:
        """The same, caused by another event (whose correlation it takes over), or by what has this id."""
        if isinstance(cause, UUID):
            return self._with(causation_id=cause)
        correlation_id = cause.correlation_id or self.correlation_id or cause.event_id
        return self._with(causation_id=cause.event_id, correlation_id=correlation_id)

    def with_metadata(self, **metadata: Any) -> Self:
        """The same, with more metadata."""
        return self._with(metadata={**self.metadata, **metadata})

    def with_aggregate_version(self, version: int) -> Self:
        """The same, at another place in its stream.

        Raises:
            InvalidInputError: Not a version.
        """
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= LARGEST_VERSION:
            raise InvalidInputError(f"an event's place is a number from 1 to {LARGEST_VERSION:,}, not {shown(version)}")
        return self._with(aggregate_version=version)

    def is_caused_by(self, cause: "DomainEvent | UUID") -> bool:
        """Whether this event, or what has this id, led to it."""
        return self.causation_id == (cause if isinstance(cause, UUID) else cause.event_id)

    def is_correlated_with(self, other: "DomainEvent | UUID") -> bool:
        """Whether both belong to the same correlation."""
        wanted = other if isinstance(other, UUID) else other.correlation_id
        return wanted is not None and self.correlation_id == wanted

    def to_dict(self) -> dict[str, Any]:
        """Everything, envelope and payload, as JSON values.

        Raises:
            InvalidPayloadError: JSON cannot hold it.
        """
        found: dict[str, Any] = from_json(model_to_json(self, what=self.event_type))
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """What `to_dict` gave, as an event again.

        Raises:
            InvalidInputError: It is of another type.
            pydantic.ValidationError: It does not fit.
        """
        if (named := data.get("event_type", cls.__event_type__)) != cls.__event_type__:
            raise InvalidInputError(f"this is {shown(named)}, not {cls.__event_type__}")
        return cls.model_validate_json(to_json(data))

    def _with(self, **changes: Any) -> Self:
        """A copy with another envelope; shares what it holds, as nobody changes it."""
        return with_envelope(self, changes)


EventT = TypeVar("EventT", bound=DomainEvent)

_slots: Any = vars(BaseModel)
_set_values = _slots["__dict__"].__set__
_set_fields_set = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__


def put_together(
    kind: type[EventT], values: dict[str, Any], fields_set: set[str], extra: dict[str, Any] | None
) -> EventT:
    """An event of values that are valid, as pydantic puts it together; of a class without private attributes."""
    event = kind.__new__(kind)
    _set_values(event, values)
    _set_fields_set(event, fields_set)
    _set_extra(event, extra)
    _set_private(event, None)
    return event


def with_envelope(event: EventT, changes: dict[str, Any]) -> EventT:
    """A copy with other fields of the envelope; ``model_copy`` gives the same, in three times the time."""
    if event.__pydantic_private__ is not None or event.__pydantic_extra__ is not None:
        return event.model_copy(update=changes)
    return put_together(type(event), vars(event) | changes, event.__pydantic_fields_set__ | changes.keys(), None)


def set_event_type(kind: type[DomainEvent], event_type: str) -> None:
    """Let events of a class that was just defined be stored under another name than the class's.

    Raises:
        ConfigurationError: Not a name.
    """
    field = kind.model_fields["event_type"]
    before, field.default = field.default, event_type
    try:
        kind.__event_type__ = settled(kind).event_type
    except ConfigurationError:
        field.default = before
        raise
    kind.model_rebuild(force=True)
    DomainEvent.__defined__ += 1


EventT_co = TypeVar("EventT_co", bound=DomainEvent, default=DomainEvent, covariant=True)


class EventTombstone(DomainEvent, event_type="$tombstone"):
    """What is left of an event whose stream was tombstoned: its envelope, without payload, metadata and tags.

    The feed gives it in the event's place, so that read models can forget. ``event_type`` is what the event's was.
    """


class EventEnvelope(NamedTuple, Generic[EventT_co]):
    """An event as it was read.

    Attributes:
        event: What happened.
        position: In the feed.
        stream: Whose it is.
        version: In the stream.
        recorded_at: When it was appended, by the log's clock.
    """

    event: EventT_co
    position: int
    stream: StreamId
    version: int
    recorded_at: datetime

    @property
    def global_position(self) -> int:
        """The position."""
        return self.position

    @property
    def stream_position(self) -> int:
        """The version."""
        return self.version

    @property
    def stored_at(self) -> datetime:
        """When it was appended."""
        return self.recorded_at

    @property
    def stream_id(self) -> str:
        """The stream as `EventReader.read_stream` takes it as a text: ``"id:category"``."""
        return f"{self.stream.id}:{self.stream.category}"

    @property
    def event_id(self) -> UUID:
        """The event's."""
        return self.event.event_id

    @property
    def event_type(self) -> str:
        """The event's."""
        return self.event.event_type

    @property
    def aggregate_id(self) -> UUID | str:
        """The stream's id."""
        return self.stream.id

    @property
    def aggregate_type(self) -> str:
        """The stream's category."""
        return self.stream.category
