"""Rebuilding beside what serves: which events, in which way, and when it is swapped."""

from copy import copy
from dataclasses import replace

import pytest

from mainstay.errors import RebuildError, SubscriptionNotFoundError
from mainstay.events.event import DomainEvent
from mainstay.events.handles import handles
from mainstay.events.store import InMemoryEventStore
from mainstay.events.stream import StreamId
from mainstay.message import causation_id_var, correlation_id_var
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.declarative import DeclarativeProjection
from mainstay.projections.memory import MemoryProjectionStore
from mainstay.projections.shard import shard_of
from mainstay.projections.subscription import SubscriptionManager
from mainstay.projections.tables import TableComparison, beside, kept
from mainstay.retry import RetryPolicy
from mainstay.tenancy import current_actor
from tests.support.waiting import eventually

QUICK = SubscriptionConfig(poll=0.05, retry_policy=RetryPolicy(max_attempts=2, backoff_schedule=(0.01,)))


class Counted(DomainEvent, event_type="RebuildCounted"):
    amount: int


class Counts(DeclarativeProjection):
    """What it makes is a list; which one is in use is its own affair, as a rebuild in memory must have it."""

    name = "counts"
    tables = ("counts",)

    def __init__(self):
        self.data = {"serving": [], "told": []}
        self.where = "serving"

    @handles(Counted)
    def counted(self, event):
        if event.amount < 0:
            raise ValueError("less than nothing")
        self.data[self.where].append(event.amount)
        if not self.rebuilding:
            self.data["told"].append(event.amount)

    def beside(self, store):
        made = copy(self)
        made.where, made.rebuilding = "beside", True
        return made

    async def create_tables(self, tables):
        self.data["beside"] = []

    async def compare_tables(self, tables, sample):
        old, new = self.data["serving"], self.data["beside"]
        gone, come = [row for row in old if row not in new], [row for row in new if row not in old]
        return [TableComparison("counts", len(old), len(new), len(gone), len(come), gone[:sample], come[:sample])]

    async def swap_tables(self, tables, *, keep):
        self.data["serving"] = self.data.pop("beside")

    async def drop_tables(self, tables):
        self.data.pop("beside", None)


@pytest.fixture
def store():
    return InMemoryEventStore()


@pytest.fixture
async def manager(store):
    made = SubscriptionManager(store, MemoryProjectionStore())
    await made.subscribe(Counts(), QUICK)
    return made


def data_of(manager):
    return manager.subscriptions["counts"].projection.data


async def count(store, *amounts, stream="a") -> int:
    done = await store.append(StreamId("RebuildCounter", stream), [Counted(amount=amount) for amount in amounts])
    return done.position


async def test_what_serves_is_replaced_and_told_nothing_twice(store, manager) -> None:
    async with manager:
        await manager.wait_until(await count(store, 1, 2, 3))
        data_of(manager)["serving"][1] = 7
        done = await manager.rebuild("counts", actor="ann")
        await manager.wait_until(await count(store, 4))

    (table,) = done.tables
    assert (done.swapped, done.is_same, done.position) == (True, False, 3)
    assert (table.gone_rows, table.come_rows) == ([7], [2])
    assert data_of(manager) == {"serving": [1, 2, 3, 4], "told": [1, 2, 3, 4]}


async def test_it_never_overtakes_what_serves(store, manager) -> None:
    """Otherwise events would be handled first without their side effects, and never with them."""
    async with manager:
        await manager.wait_until(await count(store, 1, 2))
    await count(store, 3)

    done = await manager.rebuild("counts", actor="ann")

    assert (done.position, data_of(manager)["told"]) == (2, [1, 2])
    async with manager:
        await manager.wait_until(3)
    assert data_of(manager) == {"serving": [1, 2, 3], "told": [1, 2, 3]}


async def test_what_is_not_accepted_waits_and_can_be_gone_on_with_or_canceled(store, manager) -> None:
    async with manager:
        await manager.wait_until(await count(store, 1))
        refused = await manager.rebuild("counts", actor="ann", accept=lambda found: not found.is_same)
        assert not refused.swapped
        assert data_of(manager)["beside"] == [1]
        assert (await manager.rebuild("counts", actor="ann")).swapped
        await manager.rebuild("counts", actor="ann", accept=lambda found: not found.is_same)
        assert await manager.cancel_rebuild("counts")
        assert not await manager.cancel_rebuild("counts")

    assert data_of(manager) == {"serving": [1], "told": [1]}


async def test_one_that_never_ran_is_built_from_nothing(store, manager) -> None:
    await count(store, 1, 2)

    done = await manager.rebuild("counts", actor="ann")

    assert (done.swapped, done.position, data_of(manager)["serving"]) == (True, 0, [])


async def test_what_fails_in_a_rebuild_stops_it_and_nothing_else(store, manager) -> None:
    async with manager:
        await manager.wait_until(await count(store, 1, 2))
        await count(store, -1)
        projection = manager.subscriptions["counts"].projection
        projection.on_error = "dead_letter"
        await manager.wait_until(3)
        projection.on_error = "stop"
        with pytest.raises(RebuildError, match=r"RebuildCounted at position 3 .* failed 2 times: ValueError: less"):
            await manager.rebuild("counts", actor="ann")
        await manager.wait_until(await count(store, 5, stream="b"))

    assert data_of(manager)["serving"] == [1, 2, 5]


class Faltering(Counts):
    """Handles no debts until it is rebuilt; notes in whose name, and why, it handles what."""

    name = "counts"
    most_owed = 0

    @handles(Counted)
    def counted(self, event):
        if self.where == "serving" and event.amount < -self.most_owed:
            raise ValueError("less than nothing")
        why = causation_id_var.get() == event.event_id and correlation_id_var.get() == str(event.event_id)
        self.data[self.where].append((event.amount, current_actor(), why))


async def test_a_replay_handles_events_in_their_conversation(store) -> None:
    checkpoints, projection = MemoryProjectionStore(), Faltering()
    projection.on_error = "dead_letter"
    manager = SubscriptionManager(store, checkpoints)
    await manager.subscribe(projection, QUICK)
    done = await store.append(StreamId("RebuildCounter", "a"), [Counted(amount=-1, actor_id="ben")])
    async with manager:
        await manager.wait_until(done.position)
        projection.most_owed = 1
        replayed = await manager.replay("counts", actor="ann")

    assert replayed.handled == 1
    assert projection.data["serving"] == [(-1, "ben", True)]


async def test_the_last_step_handles_events_in_their_conversation(store) -> None:
    """What one shard has seen and another has not, as it stopped, is all handled in the transaction that swaps."""
    manager = SubscriptionManager(store, MemoryProjectionStore())
    await manager.subscribe(Faltering(), replace(QUICK, shards=2))
    by_shard = {shard_of(each, 2): each for each in (StreamId("RebuildCounter", name) for name in "abcdef")}
    for shard, amount in ((0, -1), (1, 2)):
        await store.append(by_shard[shard], [Counted(amount=amount, actor_id="ben")])
    async with manager:
        await eventually(lambda: data_of(manager)["serving"])
        await eventually(lambda: manager.subscriptions["counts"].failures)
        done = await manager.rebuild("counts", actor="ann")

    assert done.swapped
    assert data_of(manager)["serving"] == [(2, "ben", True), (-1, "ben", True)]


async def test_what_is_not_this_managers_is_not_rebuilt(manager) -> None:
    for asked in (manager.rebuild("nothing", actor="ann"), manager.cancel_rebuild("nothing")):
        with pytest.raises(SubscriptionNotFoundError):
            await asked


def test_names_of_tables_beside() -> None:
    assert (beside("total"), beside("app.total"), beside('"Total"')) == (
        "total__rebuild",
        "app.total__rebuild",
        '"Total__rebuild"',
    )
    assert kept("app.total") == "app.total__old"
