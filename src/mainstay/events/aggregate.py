"""Aggregates: objects whose state is what their events say.

A method that decides raises events; raising one applies it at once, so the next decision sees it. Nothing is stored
until a repository saves. The version is the number of events applied, stored or not.
"""

import typing
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar, cast, overload
from uuid import UUID

from pydantic import ValidationError

from mainstay.errors import ConfigurationError, EventVersionError, InvalidInputError, shown
from mainstay.events.event import DomainEvent, with_envelope
from mainstay.events.stream import StreamId
from mainstay.tenancy import current_tenant

TState = TypeVar("TState")
EventT = TypeVar("EventT", bound=DomainEvent)


_KEPT = frozenset({"_last_event_id", "_stream", "_uncommitted", "_version"})
"""Attributes of every aggregate, besides ``_state``, that no method may hide."""


class AggregateRoot(Generic[TState]):
    """Base of aggregates: override `_apply`.

    Args:
        aggregate_id: Which one.
        tenant_id: Whose; in a tenant's scope that tenant's unless given.

    Attributes:
        aggregate_type: Category of its stream; the class's name unless given.
        schema_version: Of the state; raise it when old snapshots of it are wrong though they fit.
        validate_versions: Whether an event must be the next one; without, any is taken.

    Raises:
        InvalidInputError: Not an id.
    """

    aggregate_type: str = ""
    schema_version: int = 1
    validate_versions: bool = True
    __type_given__: ClassVar[bool] = False
    __state_type__: ClassVar[Any] = None
    """What stands between the brackets of its base."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Name the class's streams: a name that was not given is not inherited, or two classes would share streams."""
        super().__init_subclass__(**options)
        if hidden := _KEPT & vars(cls).keys():
            raise ConfigurationError(f"{cls.__name__}.{min(hidden)} is what its base keeps: give it another name")
        if "aggregate_type" in vars(cls):
            cls.__type_given__ = True
        elif not cls.__type_given__:
            cls.aggregate_type = cls.__name__
        cls.__state_type__ = _state_type(cls)

    def __init__(self, aggregate_id: UUID | str, *, tenant_id: UUID | str | None = None) -> None:
        tenant = current_tenant() if tenant_id is None else tenant_id
        self._stream = StreamId(self.aggregate_type or type(self).__name__, aggregate_id, tenant)
        self._state = cast("TState", None)
        self._version = 0
        self._uncommitted: list[DomainEvent] = []
        self._last_event_id: UUID | None = None

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def aggregate_id(self) -> UUID | str:
        """Which one."""
        return self._stream.id

    @property
    def tenant_id(self) -> UUID | str | None:
        """Whose."""
        return self._stream.tenant_id

    @property
    def stream(self) -> StreamId:
        """Where its events are."""
        return self._stream

    @property
    def version(self) -> int:
        """The number of its events, stored or not."""
        return self._version

    @property
    def committed_version(self) -> int:
        """The number of its events that are stored."""
        return self._version - len(self._uncommitted)

    @property
    def state(self) -> TState:
        """What its events have made of it; the initial state before the first."""
        return self._get_initial_state() if self._state is None else self._state

    @property
    def state_or_none(self) -> TState | None:
        """What its events have made of it; None before the first."""
        return self._state if self._version else None

    @property
    def is_created(self) -> bool:
        """Whether anything has happened to it."""
        return self._version > 0

    def get_next_version(self) -> int:
        """The version that the next event will have."""
        return self._version + 1

    # -- events --------------------------------------------------------------------------------------------------------

    def create_event(self, kind: type[EventT], /, **fields: Any) -> EventT:
        """As `raise_event` with a class: the event is applied, and kept to be saved."""
        return self.raise_event(kind, **fields)

    def _made(self, kind: type[EventT], fields: dict[str, Any]) -> EventT:
        """An event of this aggregate, at its next version; it is not applied."""
        envelope: dict[str, Any] = {
            "aggregate_id": self._stream.id,
            "aggregate_type": self._stream.category,
            "aggregate_version": self._version + 1,
        }
        if self._stream.tenant_id is not None:
            envelope["tenant_id"] = self._stream.tenant_id
        for name in kind.__text_ids__:
            if envelope.get(name) is not None:
                envelope[name] = str(envelope[name])
        return kind(**envelope | fields)

    @overload
    def raise_event(self, event: EventT, /) -> EventT: ...
    @overload
    def raise_event(self, event: type[EventT], /, **fields: Any) -> EventT: ...
    def raise_event(self, event: Any, /, **fields: Any) -> Any:
        """Let something have happened: apply an event, and keep it to be saved.

        Args:
            event: An event, which is given this aggregate's id, type, tenant and next version where it has none; or its
                class, and the fields follow.
            fields: Of the event.

        Returns:
            The event as it will be saved.

        Raises:
            InvalidInputError: Not an event, or one of another aggregate.
            EventVersionError: It says that it is not the next one.
            UnhandledEventError: The aggregate has nothing that handles it.
            pydantic.ValidationError: The fields do not fit.
        """
        if isinstance(event, type):
            event = self._made(event, fields)
        elif fields:
            raise InvalidInputError("raise_event takes fields with a class, not with an event")
        else:
            event = _addressed(event, self._stream, self._version + 1)
        self.apply_event(event)
        return event

    def apply_event(self, event: DomainEvent, is_new: bool = True) -> None:  # noqa: FBT001, FBT002 - users pass it by position
        """Change the state by an event; if it changes nothing because it was refused, nothing is kept.

        Args:
            event: Of this aggregate; a new one without a version is given what it does not say, as by `raise_event`.
            is_new: Whether it is to be saved; else it is history.

        Raises:
            InvalidInputError: It is new, and of another aggregate.
            EventVersionError: It is not the next one.
            UnhandledEventError: The aggregate has nothing that handles it.
        """
        if is_new and not event.aggregate_version:
            event = _addressed(event, self._stream, self._version + 1)
        if is_new and self.validate_versions and event.aggregate_version != self._version + 1:
            raise EventVersionError(
                f"{self._stream} has version {self._version}, so its next event has version {self._version + 1}, and "
                f"not {event.aggregate_version}"
            )
        if self._state is None:
            self._state = self._get_initial_state()
        self._apply(event)
        self._version = event.aggregate_version or self._version + 1
        self._last_event_id = event.event_id
        if is_new:
            self._uncommitted.append(event)

    def load_from_history(self, events: Iterable[DomainEvent]) -> None:
        """Apply stored events, in order."""
        for event in events:
            self.apply_event(event, is_new=False)

    @property
    def uncommitted_events(self) -> list[DomainEvent]:
        """The events that are not stored yet; a copy."""
        return list(self._uncommitted)

    @property
    def has_uncommitted_events(self) -> bool:
        """Whether there is anything to save."""
        return bool(self._uncommitted)

    def mark_events_as_committed(self, count: int | None = None) -> None:
        """Say that events are stored.

        Args:
            count: The first so many; None: all.
        """
        del self._uncommitted[:count]

    def clear_uncommitted_events(self) -> list[DomainEvent]:
        """As `mark_events_as_committed`; gives them."""
        events = self.uncommitted_events
        self.mark_events_as_committed()
        return events

    # -- to be overridden ----------------------------------------------------------------------------------------------

    def _apply(self, event: DomainEvent) -> None:
        """Change ``self._state`` by an event, and nothing else; called for history, too, so without effects."""
        raise NotImplementedError(f"{type(self).__name__} must override _apply, to take {type(event).__name__}")

    def _get_initial_state(self) -> TState:
        """The state before the first event; unless overridden, the state's class without arguments.

        None, if the class cannot be made so: then the first event's handler must set ``self._state``.
        """
        made = self.__state_type__
        if made is None:
            return cast("TState", None)
        try:
            return cast("TState", made())
        except (TypeError, ValidationError):
            return cast("TState", None)

    # -- for repositories ----------------------------------------------------------------------------------------------

    def restore_state(self, state: TState | None, version: int, last_event_id: UUID | None) -> None:
        """Be what a snapshot, or the end of a stream, says; only for an aggregate that has nothing to save.

        Args:
            state: None for the initial one.
            version: The number of events.
            last_event_id: Of the last of them.

        Raises:
            ConfigurationError: It has.
        """
        if self._uncommitted:
            raise ConfigurationError(f"{self._stream} has events that are not saved")
        self._state, self._version, self._last_event_id = cast("TState", state), version, last_event_id

    @property
    def last_event_id(self) -> UUID | None:
        """Of the event that it was changed by last."""
        return self._last_event_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._stream}, version {self._version}, {len(self._uncommitted)} unsaved)"


def _state_type(cls: type) -> Any:
    """What stands between the brackets of an aggregate's base; None if nothing does, or a type variable."""
    for each in cls.__mro__:
        for base in vars(each).get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            if isinstance(origin, type) and issubclass(origin, AggregateRoot):
                found = typing.get_args(base)[0]
                return None if isinstance(found, TypeVar | str | typing.ForwardRef) else found
    return None


def _addressed(event: DomainEvent, stream: StreamId, version: int) -> DomainEvent:
    """An event with an aggregate's envelope where it says nothing."""
    if not isinstance(event, DomainEvent):
        raise InvalidInputError(f"an aggregate raises events, instances of DomainEvent, not {shown(event)}")
    changes: dict[str, Any] = {}
    own_id = None if event.aggregate_id is None else StreamId(stream.category, event.aggregate_id).id
    if own_id is None:
        changes["aggregate_id"] = stream.id
    elif own_id != stream.id:
        raise InvalidInputError(f"{type(event).__name__} is of {shown(event.aggregate_id)}, not of {stream}")
    if not event.aggregate_type:
        changes["aggregate_type"] = stream.category
    elif event.aggregate_type != stream.category:
        raise InvalidInputError(f"{type(event).__name__} is of a {event.aggregate_type}, not of {stream}")
    if event.tenant_id is None and stream.tenant_id is not None:
        changes["tenant_id"] = stream.tenant_id
    if not event.aggregate_version:
        changes["aggregate_version"] = version
    for name in type(event).__text_ids__:
        if name in changes:
            changes[name] = str(changes[name])
    return with_envelope(event, changes) if changes else event
