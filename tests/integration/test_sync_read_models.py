"""Read models for code that blocks: the same calls, in a database."""

from decimal import Decimal
from threading import Thread

import pytest

from mainstay import (
    ConfigurationError,
    Filter,
    InMemoryEventStore,
    ReadModelConflictError,
    ReadModelQuery,
    SQLiteEventStore,
    StreamId,
    SyncEventStoreAdapter,
    SyncReadModelRepository,
    SyncReadModels,
    SyncSubscriptionManager,
)
from mainstay.projections.read_model_repository import ReadModelRepository
from tests.support.spending import Bought, Spending, Spendings, config


@pytest.fixture(params=["postgres", "sqlite"])
def events(request, tmp_path):
    if request.param == "postgres":
        source = request.getfixturevalue("dsn")
    else:
        source = SQLiteEventStore(tmp_path / "events.sqlite")
    with SyncEventStoreAdapter(source) as store:
        yield store


def test_what_projections_make_can_be_asked_for(events) -> None:
    manager = SyncSubscriptionManager(events)
    manager.subscribe(Spendings(), config())
    with manager:
        done = events.append(StreamId("RmCustomer", "ann"), [Bought(price=Decimal(2)), Bought(price=Decimal(3))])
        manager.wait_until(done.position)
    repo = SyncReadModels(events).of(Spending)

    assert repo.get("ann").total == 5
    assert repo.exists("ann")
    assert [each.id for each in repo.find(ReadModelQuery(filters=[Filter.gt("total", 4)]))] == ["ann"]


def test_every_call_is_there_and_does_the_same(events) -> None:
    read_models = SyncReadModels(events)
    assert read_models.create_table(Spending).created
    repo = read_models.of(Spending)
    repo.save_many([Spending(id="a"), Spending(id="b", count=1)])
    stale = repo.get("a")
    assert repo.save(repo.get("a")).version == 2
    with pytest.raises(ReadModelConflictError):
        repo.save_with_version_check(stale)
    page = repo.find_page(ReadModelQuery(order_by="-count", limit=1))
    assert [each.id for each in page.items] == ["b"]
    assert [each.id for each in repo.get_many(["b", "a"])] == ["b", "a"]
    assert (repo.soft_delete("a"), repo.get_deleted("a").id, len(repo.find_deleted()), repo.count()) == (
        True,
        "a",
        1,
        1,
    )
    assert (repo.restore("a"), repo.delete("a"), repo.truncate()) == (True, True, 1)

    calls = {name for name in vars(ReadModelRepository) if not name.startswith("_")}
    assert calls - {"for_tenant"} == {name for name in vars(SyncReadModelRepository) if not name.startswith("_")}


def test_threads_share_it(events) -> None:
    read_models = SyncReadModels(events)
    read_models.create_table(Spending)
    repo = read_models.of(Spending)
    threads = [Thread(target=repo.save, args=[Spending(id=str(number))]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert repo.count() == 8


def test_it_stands_on_an_adapter_of_a_database() -> None:
    with pytest.raises(ConfigurationError, match="expected a SyncEventStoreAdapter"):
        SyncReadModels("postgresql://")
    with (
        SyncEventStoreAdapter(InMemoryEventStore()) as store,
        pytest.raises(ConfigurationError, match=r"in memory take SubscriptionManager\.read_models"),
    ):
        SyncReadModels(store).of(Spending).get("a")
