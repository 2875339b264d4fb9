"""Deciders: aggregates as three pure functions.

``initial_state()`` is where everything begins, ``decide(state, command)`` gives the events that follow from a command,
or raises `BusinessRuleException` if there are to be none, ``evolve(state, event)`` gives the next state. None of them
has effects, so a decision can be repeated with a fresh state after a conflict, made in a group, or tried without being
stored. The pattern is Chassaing's: https://thinkbeforecoding.com/post/2021/12/17/functional-event-sourcing-decider
"""

import inspect
import typing
from collections.abc import Iterable
from types import UnionType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from mainstay.errors import ConfigurationError, InvalidInputError, shown
from mainstay.events.aggregate import AggregateRoot, TState
from mainstay.events.event import DomainEvent

TCommand = TypeVar("TCommand")


class Consequence(NamedTuple):
    """What follows from a command.

    Attributes:
        events: As they will be saved.
        others: What is no event, in order.
    """

    events: list[DomainEvent]
    others: list[Any]


_FUNCTIONS = {"initial_state": 0, "decide": 2, "evolve": 2}


class DeciderAggregate(AggregateRoot[TState], Generic[TState, TCommand]):
    """An aggregate that is a decider: override the three static methods.

    ::

        class Account(DeciderAggregate[Balance, Deposit | Withdraw]):
            @staticmethod
            def initial_state() -> Balance: ...
            @staticmethod
            def decide(state: Balance, command: Deposit | Withdraw) -> Iterable[DomainEvent]: ...
            @staticmethod
            def evolve(state: Balance, event: DomainEvent) -> Balance: ...

    Events need no ids: they are given the aggregate's.

    Raises:
        ConfigurationError: A method is missing, not static, a coroutine function, or takes something else. Raised when
            the class is defined; ``abstract=True`` leaves it to the subclasses.
    """

    __command_types__: ClassVar[tuple[type, ...]] = ()
    """What stands second between the brackets of its base."""

    def __init_subclass__(cls, *, abstract: bool = False, **options: Any) -> None:
        """Check the three methods."""
        super().__init_subclass__(**options)
        cls.__command_types__ = _command_types(cls)
        if not abstract:
            for name, takes in _FUNCTIONS.items():
                _check(cls, name, takes)

    @staticmethod
    def initial_state() -> TState:
        """The state before the first event."""
        raise NotImplementedError

    @staticmethod
    def decide(state: TState, command: TCommand) -> Iterable[Any] | DomainEvent | None:
        """The events that follow from a command: several, one, or none; and, among them, commands that are to follow.

        What is no event is left to whoever asked for the decision: a worker sends commands with the completion.

        Raises:
            BusinessRuleException: The command is refused.
        """
        raise NotImplementedError

    @staticmethod
    def evolve(state: TState, event: DomainEvent) -> TState:
        """The state after an event."""
        raise NotImplementedError

    def execute(self, command: TCommand) -> list[DomainEvent]:
        """Decide on a command and apply what follows from it, all or nothing.

        Returns:
            The events, as they will be saved.

        Raises:
            BusinessRuleException: The command is refused; nothing was applied.
            InvalidInputError: Something else than events follows from it, which only a worker can send.
        """
        return self._decided(command, only_events=True).events

    def decide_on(self, command: TCommand) -> Consequence:
        """As `execute`, for whoever knows what to do with what is no event.

        Raises:
            BusinessRuleException: The command is refused; nothing was applied.
        """
        return self._decided(command, only_events=False)

    def _decided(self, command: TCommand, *, only_events: bool) -> Consequence:
        decided = self.decide(self.state, command)
        found = [] if decided is None else [decided] if isinstance(decided, BaseModel) else list(decided)
        others = [each for each in found if not isinstance(each, DomainEvent)]
        if others and only_events:
            raise InvalidInputError(
                f"{type(self).__name__} decides on events and on {shown(others[0])}, which only a worker sends: "
                "register it with register_decider, or call decide_on"
            )
        state, version, last, count = self._state, self._version, self._last_event_id, len(self._uncommitted)
        try:
            return Consequence([self.raise_event(each) for each in found if isinstance(each, DomainEvent)], others)
        except BaseException:
            self._state, self._version, self._last_event_id = state, version, last
            del self._uncommitted[count:]
            raise

    def _apply(self, event: DomainEvent) -> None:
        """The next state."""
        self._state = self.evolve(self._state, event)

    def _get_initial_state(self) -> TState:
        """The state before the first event."""
        return self.initial_state()


def _command_types(cls: type) -> tuple[type, ...]:
    """The classes of its commands, one by one; empty if the brackets name none."""
    for each in cls.__mro__:
        for base in vars(each).get("__orig_bases__", ()):
            if typing.get_origin(base) is DeciderAggregate:
                _, said = typing.get_args(base)
                alternatives = (
                    typing.get_args(said) if typing.get_origin(said) in {typing.Union, UnionType} else (said,)
                )
                return tuple(each for each in alternatives if isinstance(each, type))
    return ()


def _check(cls: type, name: str, takes: int) -> None:
    method = inspect.getattr_static(cls, name)
    if method is vars(DeciderAggregate)[name]:
        raise ConfigurationError(f"{cls.__name__} must define {name}; a base for others says abstract=True")
    if not isinstance(method, staticmethod) or inspect.iscoroutinefunction(method.__func__):
        raise ConfigurationError(f"{cls.__name__}.{name} must be a @staticmethod and not async: it is pure")
    try:
        inspect.signature(method.__func__).bind(*[None] * takes)
    except TypeError as error:
        raise ConfigurationError(f"{cls.__name__}.{name} is called with {takes} arguments: {error}") from error
