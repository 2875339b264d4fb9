"""Given, when, then: tests of aggregates and deciders that speak of events only.

::

    def test_an_order_is_placed_once() -> None:
        given(Order, OrderPlaced(total=3)).when(lambda order: order.place(5)).then_refused(BusinessRuleException)

Events are compared by their class and their own fields. What is in the envelope (ids, times, versions) is not looked
at, so nobody has to write it down. Commands that a decider decides on beside its events are compared as they are.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel

from mainstay.events.aggregate import AggregateRoot
from mainstay.events.decider import DeciderAggregate
from mainstay.events.definition import ENVELOPE
from mainstay.events.event import DomainEvent

AggregateT = TypeVar("AggregateT", bound=AggregateRoot[Any])


class Outcome(Generic[AggregateT]):
    """What came of a command; each ``then`` may be followed by another.

    Attributes:
        aggregate: As it is now.
        events: That were raised.
        error: That was raised instead.
        sent: What a decider wants sent.
    """

    def __init__(
        self, aggregate: AggregateT, events: list[DomainEvent], error: Exception | None, sent: Sequence[Any] = ()
    ) -> None:
        self.aggregate = aggregate
        self.events = events
        self.error = error
        self.sent = list(sent)

    def then(self, *expected: DomainEvent | type[DomainEvent]) -> "Outcome[AggregateT]":
        """Exactly these events were raised, in this order; a class stands for any event of it.

        Raises:
            AssertionError: Others were, or the command failed.
        """
        self._not_failed()
        if not fit(self.events, expected):
            raise AssertionError(f"expected\n{listed(expected)}\nbut these events were raised:\n{listed(self.events)}")
        return self

    def then_sent(self, *expected: Any) -> "Outcome[AggregateT]":
        """A decider wants exactly these commands sent, in this order.

        Raises:
            AssertionError: It wants others, or the command failed.
        """
        self._not_failed()
        if self.sent != list(expected):
            wanted, got = ("\n".join(f"  {each!r}" for each in which) or "  nothing" for which in (expected, self.sent))
            raise AssertionError(f"expected to be sent\n{wanted}\nbut it was\n{got}")
        return self

    def then_nothing(self) -> "Outcome[AggregateT]":
        """No event was raised, nothing is to be sent, and nothing failed."""
        return self.then().then_sent()

    def then_state(self, expected: Any) -> "Outcome[AggregateT]":
        """The state is this one; or a function of it is true.

        Raises:
            AssertionError: It is not, or the command failed.
        """
        self._not_failed()
        state = self.aggregate.state
        if not (expected(state) if callable(expected) else state == expected):
            raise AssertionError(
                f"the state is {state!r}, and was to be {getattr(expected, '__name__', repr(expected))}"
            )
        return self

    def then_refused(self, error: type[Exception], match: str = "") -> "Outcome[AggregateT]":
        """The command failed, and raised no event.

        Args:
            error: With an error of this class.
            match: Whose text holds this regular expression.

        Raises:
            AssertionError: It did not, or with another error.
        """
        if self.error is None:
            raise AssertionError(f"expected {error.__name__}, but these events were raised:\n{listed(self.events)}")
        if not isinstance(self.error, error) or not re.search(match, str(self.error)):
            raise AssertionError(f"expected {error.__name__} {match!r}, but got {self.error!r}") from self.error
        if self.events:
            raise AssertionError(f"refused, but these events were raised before:\n{listed(self.events)}")
        return self

    def _not_failed(self) -> None:
        if self.error is not None:
            raise AssertionError(f"the command failed: {self.error!r}") from self.error


class Given(Generic[AggregateT]):
    """An aggregate with a history; made by `given`."""

    def __init__(self, aggregate: AggregateT) -> None:
        self.aggregate = aggregate

    def when(self, command: Any) -> Outcome[AggregateT]:
        """Carry a command out.

        Args:
            command: For a `DeciderAggregate` what ``decide`` takes; for others a function of the aggregate.

        Raises:
            AssertionError: ``decide`` changes the state that it is given. It is tried on a copy before; a state that
                has no copy which is equal to it is not checked.
        """
        error: Exception | None = None
        sent: Sequence[Any] = ()
        decide: Callable[[Any], Any]
        if isinstance(self.aggregate, DeciderAggregate):
            _check_that_state_is_left(self.aggregate, command)
        try:
            if isinstance(self.aggregate, DeciderAggregate):
                sent = self.aggregate.decide_on(command).others
            else:
                decide = command
                decide(self.aggregate)
        except Exception as raised:  # noqa: BLE001 - a command may raise anything; `Outcome` tells what
            error = raised
        return Outcome(self.aggregate, self.aggregate.clear_uncommitted_events(), error, sent)


def _check_that_state_is_left(decider: DeciderAggregate[Any, Any], command: Any) -> None:
    """Workers keep states: one that ``decide`` had changed would be decided on again, and be in no log."""
    state = decider.state
    try:
        copied = deepcopy(state)
        if copied != state:
            return
    except Exception:  # noqa: BLE001 - a state may be anything
        return
    with suppress(Exception):  # what it raises is told by the decision itself
        found = decider.decide(copied, command)
        if not isinstance(found, BaseModel):
            list(found or ())
    if copied != state:
        raise AssertionError(
            f"{type(decider).__name__}.decide changed the state that it was given, from {state!r} to {copied!r}: a "
            "worker would decide on later commands in that state; leave it as it is, and let evolve give the next one"
        )


def given(
    kind: type[AggregateT],
    *events: DomainEvent,
    aggregate_id: UUID | str | None = None,
    tenant_id: UUID | str | None = None,
) -> Given[AggregateT]:
    """An aggregate to which these things have happened.

    Args:
        kind: Its class.
        events: Its history, in order; they need no envelope.
        aggregate_id: Drawn unless given.
        tenant_id: Whose.
    """
    own = uuid4() if aggregate_id is None else aggregate_id
    aggregate = kind(own) if tenant_id is None else kind(own, tenant_id=tenant_id)
    for event in events:
        aggregate.raise_event(event)
    aggregate.mark_events_as_committed()
    return Given(aggregate)


def fit(events: Sequence[DomainEvent], expected: Sequence[DomainEvent | type[DomainEvent]]) -> bool:
    """Whether events are these, in this order, their envelopes aside; a class stands for any event of it."""
    return len(expected) == len(events) and all(map(_fits, events, expected))


def _fits(event: DomainEvent, expected: DomainEvent | type[DomainEvent]) -> bool:
    if isinstance(expected, type):
        return isinstance(event, expected)
    return type(event) is type(expected) and _own(event) == _own(expected)


def _own(event: DomainEvent) -> dict[str, Any]:
    return {name: value for name, value in event if name not in ENVELOPE}


def listed(events: Iterable[DomainEvent | type[DomainEvent]]) -> str:
    """Events, a line each, as failures show them."""
    lines = [
        f"  {event.__name__}"
        if isinstance(event, type)
        else f"  {type(event).__name__}({', '.join(f'{name}={value!r}' for name, value in _own(event).items())})"
        for event in events
    ]
    return "\n".join(lines) or "  nothing"
