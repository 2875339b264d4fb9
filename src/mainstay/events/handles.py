"""`handles`: which method takes which event."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from mainstay.errors import ConfigurationError, shown
from mainstay.events.event import DomainEvent

_MARK = "__mainstay_handles__"

F = TypeVar("F", bound=Callable[..., Any])


def handles(*events: type[DomainEvent]) -> Callable[[F], F]:
    """Mark a method as the one that takes events of these classes, and of classes derived from them.

    Args:
        events: One class or several.

    Raises:
        ConfigurationError: None, or not event classes.
    """
    for kind in events:
        if not isinstance(kind, type) or not issubclass(kind, DomainEvent):
            raise ConfigurationError(f"@handles takes classes derived from DomainEvent, not {shown(kind)}")
    if not events:
        raise ConfigurationError("@handles needs a class: @handles(OrderPlaced)")

    def mark(method: F) -> F:
        if not callable(method):
            raise ConfigurationError(f"@handles goes on a method, not on {shown(method)}")
        setattr(method, _MARK, (*getattr(method, _MARK, ()), *events))
        return method

    return mark


def handlers_of(cls: type, *, takes: int, awaitable: bool = False) -> dict[type[DomainEvent], str]:
    """The methods of a class that `handles` marks, by event class; a method of a base that was overridden is not one.

    Args:
        cls: Just defined.
        takes: Arguments that a method is called with, after ``self``.
        awaitable: Whether methods may be coroutine functions.

    Raises:
        ConfigurationError: Two methods for one event class, or a method that cannot be called so.
    """
    found: dict[type[DomainEvent], str] = {}
    marks: dict[str, tuple[type[DomainEvent], ...]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if events := getattr(member, _MARK, ()):
                marks[name] = events
                _refuse_uncallable(cls, name, takes, awaitable=awaitable)
    for name, events in marks.items():
        for kind in events:
            if found.setdefault(kind, name) != name:
                raise ConfigurationError(f"{cls.__name__}: both {found[kind]} and {name} handle {kind.__name__}")
    return found


def handler_for(handlers: dict[type[DomainEvent], str], kind: type[DomainEvent]) -> str | None:
    """The method for an event class: its own, or that of the nearest base."""
    return next((handlers[base] for base in kind.__mro__ if base in handlers), None)


def _refuse_uncallable(cls: type, name: str, takes: int, *, awaitable: bool) -> None:
    method = inspect.getattr_static(cls, name)
    function = getattr(method, "__func__", method)
    function = function.func if isinstance(function, functools.partial) else function
    if inspect.iscoroutinefunction(function) and not awaitable:
        raise ConfigurationError(f"{cls.__name__}.{name} is called, not awaited: write def, not async def")
    given = takes if isinstance(method, staticmethod) else takes + 1
    try:
        inspect.signature(function).bind(*[None] * given)
    except TypeError as error:
        wanted = "(self, event)" if takes == 1 else f"self and {takes} arguments"
        raise ConfigurationError(f"{cls.__name__}.{name} must take {wanted}: {error}") from error
