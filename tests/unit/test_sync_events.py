"""The blocking faces of events have all that the asynchronous rooms have, and refuse what they cannot stand on."""

import inspect

import pytest
from pydantic import BaseModel

from mainstay import (
    AggregateRepository,
    ConfigurationError,
    DeclarativeAggregate,
    EventStore,
    InMemoryEventStore,
    InvalidInputError,
    MemoryCommandStore,
    StreamId,
    SubscriptionManager,
    SyncAggregateRepository,
    SyncEventStoreAdapter,
    SyncMainstay,
    SyncSubscriptionManager,
)


class Counter(DeclarativeAggregate[BaseModel]):
    aggregate_type = "TestSyncCounter"


#: What a program that is an event loop does: signals reach it, and probes ask it there.
#: For workers, which decide in groups and in few round trips: in an event loop.
OF_STORES = {
    "append_along", "appended_along", "hold", "hold_and_load", "load_streams", "loaded", "loaded_along", "read_along",
    "written",
}  # fmt: skip
OF_REPOSITORIES = {
    "caught_up",
    "due_snapshot",
    "keep",
    "load_all",
    "loaded_along",
    "read_along",
    "save_along",
    "saved_along",
}
IN_A_LOOP = {"cancel", "ended", "probe", "run_until_shutdown"}


def calls(kind):
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: member for name, member in found if not name.startswith("_")}


@pytest.mark.parametrize(
    ("blocking", "room", "left_out"),
    [
        (SyncEventStoreAdapter, EventStore, {"enveloped", "watching"} | OF_STORES),
        (SyncAggregateRepository, AggregateRepository, OF_REPOSITORIES),
        (SyncSubscriptionManager, SubscriptionManager, IN_A_LOOP),
    ],
)
def test_nothing_that_a_room_can_do_is_missing(blocking, room, left_out) -> None:
    there = calls(blocking)
    different = {
        name
        for name, member in calls(room).items()
        if name not in there
        or list(inspect.signature(there[name]).parameters) != list(inspect.signature(member).parameters)
    }

    assert different == left_out
    assert not [name for name, member in there.items() if inspect.iscoroutinefunction(member)]


@pytest.mark.parametrize("source", [None, 5, object(), MemoryCommandStore()])
def test_what_keeps_no_events_is_refused(source) -> None:
    with pytest.raises(ConfigurationError, match="an event store"):
        SyncEventStoreAdapter(source)
    for kind in (lambda given: SyncAggregateRepository(given, Counter), SyncSubscriptionManager):
        with pytest.raises(ConfigurationError, match="SyncEventStoreAdapter"):
            kind(source)
    with (
        SyncMainstay(MemoryCommandStore()) as app,
        SyncEventStoreAdapter(app) as store,
        pytest.raises(ConfigurationError, match="keeps no events"),
    ):
        store.horizon()


@pytest.mark.parametrize("timeout", [0, -1, True, "5"])
def test_a_timeout_that_is_none_is_refused(timeout) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        SyncEventStoreAdapter(InMemoryEventStore(), timeout)


def test_a_mistake_is_told_where_it_is_made() -> None:
    with SyncEventStoreAdapter(InMemoryEventStore()) as store, pytest.raises(InvalidInputError):
        store.append(StreamId("TestSyncCounter", "a"), ["no event"])
