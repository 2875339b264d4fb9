"""Aggregates with a method for each event."""

from typing import Any, ClassVar, Literal

from mainstay.errors import ConfigurationError, UnhandledEventError, shown
from mainstay.events.aggregate import AggregateRoot, TState
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handler_for, handlers_of


class DeclarativeAggregate(AggregateRoot[TState]):
    """An aggregate whose methods say with `handles` which events they take.

    A method changes ``self._state``, and nothing else: it is called again whenever the aggregate is loaded.

    Attributes:
        unregistered_event_handling: What to do with an event that no method takes: ``"error"``, or ``"ignore"`` it.

    Raises:
        ConfigurationError: Two methods take one event, or a method cannot be called with an event. Raised when the
            class is defined.
    """

    unregistered_event_handling: Literal["error", "ignore"] = "error"
    __handlers__: ClassVar[dict[type[DomainEvent], str]] = {}
    __methods__: ClassVar[dict[type[DomainEvent], str | None]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Find the methods, and check them."""
        super().__init_subclass__(**options)
        if cls.unregistered_event_handling not in {"error", "ignore"}:
            policy = shown(cls.unregistered_event_handling)
            raise ConfigurationError(
                f"{cls.__name__}: unregistered_event_handling is 'error' or 'ignore', not {policy}"
            )
        cls.__handlers__ = handlers_of(cls, takes=1)
        cls.__methods__ = dict(cls.__handlers__)

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
