"""Those who want events, and know nothing of positions, transactions or checkpoints.

Anything with ``handle(event)`` can be subscribed. With ``subscribed_to()`` it is given the classes that it names, and
what is derived from them; without, it is given all. What it does happens at least once, as `DeclarativeProjection`
does: for exactly once, write through the ``conn`` of a `DatabaseProjection`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from mainstay.errors import ConfigurationError, shown
from mainstay.events.event import DomainEvent, EventEnvelope
from mainstay.events.log import EVERYTHING, FeedFilter
from mainstay.events.reading import EventReader
from mainstay.projections.declarative import handled
from mainstay.projections.projection import Projection


@runtime_checkable
class EventHandler(Protocol):
    """Takes events."""

    async def handle(self, event: DomainEvent) -> None:
        """Take one in."""
        ...


@runtime_checkable
class SyncEventHandler(Protocol):
    """Takes events, without waiting for anything."""

    def handle(self, event: DomainEvent) -> None:
        """Take one in; called in the event loop, so it must not block."""
        ...


@runtime_checkable
class FlexibleEventHandler(Protocol):
    """Takes events, in either way."""

    def handle(self, event: DomainEvent) -> Awaitable[None] | None:
        """Take one in."""
        ...


@runtime_checkable
class FlexibleEventSubscriber(Protocol):
    """Takes events of some classes, in either way."""

    def subscribed_to(self) -> Sequence[type[DomainEvent]]:
        """Which classes."""
        ...

    def handle(self, event: DomainEvent) -> Awaitable[None] | None:
        """Take one in."""
        ...


class EventSubscriber(ABC):
    """Base of those who take events of some classes."""

    @abstractmethod
    def subscribed_to(self) -> Sequence[type[DomainEvent]]:
        """Which classes; what is derived from them is given, too."""

    @abstractmethod
    async def handle(self, event: DomainEvent) -> None:
        """Take one in."""


class AsyncEventHandler(ABC):
    """Base of those who take events, and may pass some by."""

    def can_handle(self, event: DomainEvent) -> bool:
        """Whether it takes this one; all, unless overridden."""
        del event
        return True

    @abstractmethod
    async def handle(self, event: DomainEvent) -> None:
        """Take one in."""


class EventProjection(ABC):
    """Base of those who take all events, and can begin again."""

    @abstractmethod
    async def handle(self, event: DomainEvent) -> None:
        """Take one in."""

    @abstractmethod
    async def reset(self) -> None:
        """Forget what was made of events; for whoever hands them over once more."""


class SyncEventProjection(ABC):
    """As `EventProjection`, without waiting for anything."""

    @abstractmethod
    def handle(self, event: DomainEvent) -> None:
        """Take one in; called in the event loop, so it must not block."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was made of events."""


class Subscriber(Projection):
    """A subscriber as the projection that a subscription asks for.

    Args:
        inner: Who wants the events.
        name: Of the subscription; that of its class unless given.
    """

    def __init__(self, inner: Any, name: str | None = None) -> None:
        self.inner = inner
        self.name = name or type(inner).__name__
        self.on_error = getattr(inner, "on_error", "stop")

    def wanted(self, source: EventReader) -> FeedFilter:
        """The events of the classes that it names; all, if it names none.

        Raises:
            ConfigurationError: It names an empty list, or something else than classes of events.
            UnknownEventTypeError: The store's registry does not know one.
        """
        kinds = self._kinds()
        return (
            EVERYTHING
            if kinds is None
            else source.filter(types=handled(type(self.inner), dict.fromkeys(kinds, "handle"), source))
        )

    async def handle(self, envelope: EventEnvelope, conn: Any) -> None:
        """Hand the event over; what is left of a tombstoned stream goes only to those who take everything."""
        del conn
        event, kinds = envelope.event, self._kinds()
        if kinds is not None and not isinstance(event, tuple(kinds)):
            return
        if isinstance(self.inner, AsyncEventHandler) and not self.inner.can_handle(event):
            return
        outcome = self.inner.handle(event)
        if inspect.isawaitable(outcome):
            await outcome

    def _kinds(self) -> list[type[DomainEvent]] | None:
        if not isinstance(self.inner, FlexibleEventSubscriber):
            return None
        kinds = list(self.inner.subscribed_to())
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, DomainEvent) for kind in kinds):
            message = f"{self.name}: subscribed_to() must name classes of events, not {shown(kinds)}"
            raise ConfigurationError(message)
        return kinds


Subscribing: TypeAlias = (
    Projection | FlexibleEventHandler | FlexibleEventSubscriber | EventSubscriber | AsyncEventHandler
)
"""Who can be subscribed."""


def as_projection(subscriber: Any, name: str | None = None) -> Projection:
    """What a subscription asks for: a projection as it is, anything else that takes events as a `Subscriber`.

    Args:
        subscriber: Who wants events.
        name: Of the subscription.

    Raises:
        ConfigurationError: It does not take events.
    """
    if isinstance(subscriber, Projection):
        if name is not None:
            subscriber.name = name
        return subscriber
    if isinstance(subscriber, type) or not isinstance(subscriber, FlexibleEventHandler):
        message = f"subscribe() takes a Projection, or something with handle(event), not {shown(subscriber)}"
        if isinstance(subscriber, type):
            message += f": make one, {subscriber.__name__}()"
        raise ConfigurationError(message)
    return Subscriber(subscriber, name)
