"""Which class a type belongs to."""

from mainstay import EventRegistry
from mainstay.errors import DuplicateEventTypeError
from mainstay.errors import UnknownEventTypeError as EventTypeNotFoundError
from mainstay.events.defaults import (
    default_registry,
    get_event_class,
    get_event_class_or_none,
    is_event_registered,
    list_registered_events,
    register_event,
)

__all__ = [
    "DuplicateEventTypeError",
    "EventRegistry",
    "EventTypeNotFoundError",
    "default_registry",
    "get_event_class",
    "get_event_class_or_none",
    "is_event_registered",
    "list_registered_events",
    "register_event",
]
