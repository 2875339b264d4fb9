"""Aggregates with a method for each event."""

from typing import Any, ClassVar, Literal

from mainstay.errors import AggregateNotCreatedError, ConfigurationError, UnhandledEventError, shown
from mainstay.events.aggregate import AggregateRoot, TState
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handler_for, handlers_of
from mainstay.telemetry import get_logger

_log = get_logger(__name__)

_POLICIES = ("error", "warn", "ignore")


class DeclarativeAggregate(AggregateRoot[TState]):
    """An aggregate whose methods say with `handles` which events they take.

    A method changes ``self._state``, and nothing else: it is called again whenever the aggregate is loaded.

    Attributes:
        unregistered_event_handling: What to do with an event that no method takes: ``"error"``, ``"warn"`` (a line in
            the log), or ``"ignore"`` it.
        requires_creation_event: Whether it has no state before its first event, so that asking for it is an error.

    Raises:
        ConfigurationError: Two methods take one event, or a method cannot be called with an event. Raised when the
            class is defined.
    """

    unregistered_event_handling: Literal["error", "warn", "ignore"] = "error"
    requires_creation_event: ClassVar[bool] = False
    __handlers__: ClassVar[dict[type[DomainEvent], str]] = {}
    __methods__: ClassVar[dict[type[DomainEvent], str | None]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Find the methods, and check them."""
        super().__init_subclass__(**options)
        if cls.unregistered_event_handling not in _POLICIES:
            policy = shown(cls.unregistered_event_handling)
            raise ConfigurationError(
                f"{cls.__name__}: unregistered_event_handling is one of {', '.join(_POLICIES)}, not {policy}"
            )
        cls.__handlers__ = handlers_of(cls, takes=1)
        cls.__methods__ = dict(cls.__handlers__)

    @property
    def state(self) -> TState:
        """What its events have made of it; the initial state before the first.

        Raises:
            AggregateNotCreatedError: It is before the first, and the class requires one.
        """
        if self.requires_creation_event and not self.is_created:
            raise AggregateNotCreatedError(self.aggregate_type, self.aggregate_id)
        return super().state

    def _apply(self, event: DomainEvent) -> None:
        """Call the method for this event."""
        kind, methods = type(event), self.__methods__
        try:
            name = methods[kind]
        except KeyError:
            name = methods[kind] = handler_for(self.__handlers__, kind)
        if name is not None:
            getattr(self, name)(event)
        elif self.unregistered_event_handling == "error":
            raise UnhandledEventError(kind.__name__, type(self).__name__)
        elif self.unregistered_event_handling == "warn":
            _log.warning("%s handles no %s: passed by", type(self).__name__, kind.__name__)
