"""Given, when, then."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from mainstay.commands.model import CommandModel
from mainstay.errors import BusinessRuleException, OptimisticLockError, UnhandledEventError
from mainstay.events.decider import DeciderAggregate
from mainstay.events.declarative import DeclarativeAggregate
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.registry import EventRegistry
from mainstay.events.store import InMemoryEventStore
from mainstay.testing.factories import EventBuilder
from mainstay.testing.scenario import Outcome, given


class DoorOpened(DomainEvent):
    by: str


class DoorClosed(DomainEvent):
    pass


class DoorState(BaseModel):
    open: bool = False


class Door(DeclarativeAggregate[DoorState]):
    def open(self, by: str) -> None:
        if self.state.open:
            raise BusinessRuleException("OPEN", "it is open")
        self.raise_event(DoorOpened, by=by)

    def slam(self) -> None:
        self.raise_event(DoorClosed())
        raise BusinessRuleException("LOUD", "too late")

    @handles(DoorOpened, DoorClosed)
    def _moved(self, event: DomainEvent) -> None:
        self._state = DoorState(open=isinstance(event, DoorOpened))


class Gate(DeciderAggregate[DoorState, str]):
    @staticmethod
    def initial_state() -> DoorState:
        return DoorState()

    @staticmethod
    def decide(state: DoorState, command: str) -> Iterable[DomainEvent]:
        return [] if state.open else [DoorOpened(by=command)]

    @staticmethod
    def evolve(state: DoorState, event: DomainEvent) -> DoorState:
        return DoorState(open=isinstance(event, DoorOpened))


class RingBell(CommandModel, domain="bells"):
    by: str


class Guarded(DeciderAggregate[DoorState, str]):
    @staticmethod
    def initial_state() -> DoorState:
        return DoorState()

    @staticmethod
    def decide(state: DoorState, command: str) -> Iterable[DomainEvent | CommandModel]:
        return [RingBell(by=command)] if state.open else [DoorOpened(by=command), RingBell(by=command)]

    @staticmethod
    def evolve(state: DoorState, event: DomainEvent) -> DoorState:
        return DoorState(open=isinstance(event, DoorOpened))


def open_door(door: Door) -> None:
    door.open("ann")


def test_what_holds_is_said_by_events_only() -> None:
    given(Door).when(open_door).then(DoorOpened(by="ann")).then(DoorOpened).then_state(DoorState(open=True))
    given(Door, DoorOpened(by="bob"), DoorClosed()).when(open_door).then_state(lambda state: state.open)
    given(Door, DoorOpened(by="bob")).when(open_door).then_refused(BusinessRuleException, "OPEN")
    given(Gate).when("ann").then(DoorOpened(by="ann"))
    given(Gate, DoorOpened(by="bob")).when("ann").then_nothing()


def test_commands_that_a_decider_wants_sent_are_told_apart_from_its_events() -> None:
    given(Guarded).when("ann").then(DoorOpened(by="ann")).then_sent(RingBell(by="ann"))
    waiting = given(Guarded, DoorOpened(by="bob")).when("ann").then()

    with pytest.raises(AssertionError, match=r"sent\n  RingBell\(by='bob'\)\nbut it was\n  RingBell\(by='ann'\)"):
        waiting.then_sent(RingBell(by="bob"))
    with pytest.raises(AssertionError, match=r"sent\n  nothing\nbut"):
        waiting.then_nothing()
    with pytest.raises(AssertionError, match="the command failed"):
        given(Door, DoorOpened(by="bob")).when(open_door).then_sent()


def test_a_history_has_versions_and_the_aggregates_id() -> None:
    outcome = given(Door, DoorOpened(by="bob"), DoorClosed(), aggregate_id="front", tenant_id="acme").when(open_door)

    assert outcome.aggregate.version == 3
    assert (outcome.events[0].aggregate_id, outcome.events[0].aggregate_version) == ("front", 3)
    assert outcome.events[0].tenant_id == "acme"


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (lambda opened: opened.then(DoorOpened(by="bob")), r"expected\n  DoorOpened\(by='bob'\)\nbut .*\(by='ann'\)"),
        (lambda opened: opened.then(DoorClosed), r"expected\n  DoorClosed\nbut"),
        (lambda opened: opened.then(DoorOpened, DoorOpened), "but these events"),
        (lambda opened: opened.then_nothing(), r"expected\n  nothing\nbut"),
        (lambda opened: opened.then_state(DoorState()), r"the state is DoorState\(open=True\)"),
        (lambda opened: opened.then_state(lambda state: not state.open), "was to be <lambda>"),
        (lambda opened: opened.then_refused(ValueError), "expected ValueError, but these events"),
    ],
)
def test_what_does_not_hold_fails_and_says_what_there_is(check: Callable[[Outcome[Door]], Any], reason: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check(given(Door).when(open_door))
    assert re.search(reason, str(caught.value), re.DOTALL)


@pytest.mark.parametrize(
    "check",
    [
        lambda refused: refused.then(DoorOpened),
        lambda refused: refused.then_nothing(),
        lambda refused: refused.then_state(DoorState(open=True)),
        lambda refused: refused.then_refused(UnhandledEventError),
        lambda refused: refused.then_refused(BusinessRuleException, "CLOSED"),
    ],
)
def test_a_failure_is_not_taken_for_success_nor_for_another_failure(check: Callable[[Outcome[Door]], Any]) -> None:
    with pytest.raises(AssertionError) as caught:
        check(given(Door, DoorOpened(by="bob")).when(open_door))
    assert isinstance(caught.value.__cause__, BusinessRuleException)


def test_a_refusal_after_an_event_is_no_refusal() -> None:
    with pytest.raises(AssertionError, match="raised before"):
        given(Door, DoorOpened(by="bob")).when(lambda door: door.slam()).then_refused(BusinessRuleException)


async def test_a_built_history_is_appended_as_it_is() -> None:
    class TextClosed(DoorClosed):
        aggregate_id: str

    history = EventBuilder("Door", tenant_id="acme").add(DoorOpened, by="ann").add(TextClosed, actor_id="bob")
    store = InMemoryEventStore(registry=EventRegistry([DoorOpened, TextClosed]))

    done = await history.append_to(store)

    first, second = history.build()
    assert done.version == 2
    assert [envelope.event async for envelope in store.read_all()] == [first, second]
    assert (second.causation_id, second.correlation_id, second.actor_id) == (
        first.event_id,
        first.correlation_id,
        "bob",
    )
    assert second.occurred_at > first.occurred_at
    with pytest.raises(OptimisticLockError):
        await EventBuilder("Door", history.stream.id, tenant_id="acme").add(DoorOpened, by="x").append_to(store)


def test_a_decider_that_changes_the_state_that_it_is_given_is_told() -> None:
    class Counting(DeciderAggregate[list[str], str]):
        initial_state = staticmethod(list)
        evolve = staticmethod(lambda state, event: [*state, event.by])

        @staticmethod
        def decide(state: list[str], command: str) -> Iterable[DomainEvent]:
            state.append(command)
            if command == "nobody":
                raise BusinessRuleException("NOBODY", "nobody opens it")
            yield DoorOpened(by=command)

    for command in ("ann", "nobody"):
        with pytest.raises(AssertionError, match=r"Counting\.decide changed the state .* from \['ben'\] to \['ben', "):
            given(Counting, DoorOpened(by="ben")).when(command)
