"""Processes that events move, in memory, and what is refused of them."""

from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from mainstay import (
    ConfigurationError,
    EventProcess,
    EventProcesses,
    InMemoryEventStore,
    InvalidInputError,
    MemoryCommandStore,
    MemoryProjectionStore,
    SubscriptionConfig,
    SubscriptionManager,
    handles,
    on_event,
)
from mainstay.clock import FrozenClock
from tests.scenarios.event_processes import EventProcessScenarios, Fulfil, Ordered, PaidFor


class TestInMemory(EventProcessScenarios):
    clock: FrozenClock

    @pytest.fixture
    async def checkpoints(self):
        self.clock = FrozenClock()
        return MemoryProjectionStore(commands=MemoryCommandStore(self.clock))

    @pytest.fixture
    def event_store(self, checkpoints):
        return InMemoryEventStore()

    async def make_due(self, checkpoints) -> None:
        self.clock.advance(3601)


class Empty(BaseModel):
    pass


def test_an_id_follows_from_kind_tenant_and_key() -> None:
    fulfil, key = Fulfil(), uuid4()

    assert fulfil.process_id_of(key) == fulfil.process_id_of(str(key)) == Fulfil().process_id_of(key)
    assert len({fulfil.process_id_of(key), fulfil.process_id_of(key, "acme"), fulfil.process_id_of("1")}) == 3
    assert fulfil.process_id_of(1) == fulfil.process_id_of("1")
    for bad in (None, True, 1.5, "", "\n", "x" * 501):
        with pytest.raises(InvalidInputError, match="the key of a Fulfil"):
            fulfil.process_id_of(bad)  # type: ignore[arg-type]  # what a mistake looks like


def test_a_process_says_to_whom_an_event_belongs() -> None:
    with pytest.raises(ConfigurationError, match="Ordered has no field 'order_id'"):
        on_event(Ordered, by="order_id")
    with pytest.raises(ConfigurationError, match="a function of the event"):
        on_event(Ordered, by=5)  # type: ignore[arg-type]  # what a mistake looks like
    with pytest.raises(ConfigurationError, match="@on_event, not @handles"):

        class Plain(EventProcess[Empty]):
            @handles(Ordered)
            def ordered(self, state: Any, event: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="both"):

        class Twice(EventProcess[Empty]):
            @on_event(Ordered)
            def one(self, state: Any, event: Any) -> None: ...

            @on_event(Ordered)
            def two(self, state: Any, event: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="must take"):

        class Alone(EventProcess[Empty]):
            @on_event(Ordered)
            def ordered(self, event: Any) -> None: ...


def test_a_method_that_is_overridden_is_told_as_before() -> None:
    class Other(Fulfil):
        process_type = "Other"

        async def paid_for(self, state, event):
            return None

    assert Other.__handlers__[PaidFor] == "paid_for"
    assert EventProcesses(Fulfil(), Other()).name == "processes"


def test_a_state_that_cannot_be_empty_says_what_to_do() -> None:
    class Needy(BaseModel):
        article: str

    class Begun(EventProcess[Needy]):
        process_type, domain, state_class = "Begun", "begun", Needy

    with pytest.raises(ConfigurationError, match=r"override state_for\(self, event\)"):
        Begun().state_for(Ordered())


async def test_what_makes_no_sense_is_refused() -> None:
    class Deaf(EventProcess[Empty]):
        process_type, domain, state_class = "Deaf", "deaf", Empty

    for given, match in (
        ((), "needs a process"),
        ((Fulfil,), "made from its class"),
        ((Deaf(),), "is told of nothing"),
        ((Fulfil(), Fulfil()), "two processes"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            EventProcesses(*given)  # type: ignore[arg-type]  # what a mistake looks like
    store = InMemoryEventStore()
    manager = SubscriptionManager(store, MemoryProjectionStore(commands=MemoryCommandStore()))
    with pytest.raises(ConfigurationError, match="in one order"):
        await manager.subscribe(EventProcesses(Fulfil()), SubscriptionConfig(shards=2))
    with pytest.raises(ConfigurationError, match="MemoryProjectionStore"):
        await SubscriptionManager(store).subscribe(EventProcesses(Fulfil()))
