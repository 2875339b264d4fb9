"""Tenants on every engine: in a scope, nothing of another's is written, read, or even counted."""

import asyncio
import threading

import pytest
from pydantic import BaseModel

from mainstay import (
    AggregateNotFoundError,
    AggregateRepository,
    Append,
    AppendConditionError,
    ConfigurationError,
    DatabaseProjection,
    DeclarativeAggregate,
    DeclarativeProjection,
    DomainEvent,
    EventRegistry,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidInputError,
    PostgreSQLEventStore,
    SnapshotPolicy,
    SQLiteEventStore,
    StreamId,
    SubscriptionConfig,
    SubscriptionManager,
    SyncEventStoreAdapter,
    TenantScopeError,
    all_tenants,
    current_tenant,
    handles,
    tenant_scope,
)

PATIENCE = 90.0


class Paid(DomainEvent, aggregate_type="TestTenantPurse", event_type="TestTenantPaid"):
    amount: int = 1

    def tags(self):
        return ["paid"]


EVENTS = EventRegistry([Paid])
FIRST = ExpectedVersion.no_stream()


class Sum(BaseModel):
    total: int = 0


class Purse(DeclarativeAggregate[Sum]):
    aggregate_type = "TestTenantPurse"

    def pay(self, amount):
        self.raise_event(Paid, amount=amount)

    @handles(Paid)
    def _paid(self, event):
        self._state = Sum(total=self._state.total + event.amount)


def purse(name="1", tenant=None):
    return StreamId("TestTenantPurse", name, tenant)


def paid(*amounts, **said):
    return [Paid(amount=each, **said) for each in amounts]


async def amounts(envelopes):
    return [each.event.amount async for each in envelopes]


class TenancyContract:
    """What holds on every engine."""

    joins = True
    """Whether a projection can append in the transaction of its checkpoint."""

    @pytest.fixture
    async def both(self, store):
        """Two tenants with a stream of the same name, and one stream of nobody's."""
        with tenant_scope("ann"):
            await store.append(purse(), paid(1, 2), expected=FIRST)
        async with tenant_scope("ben"):
            await store.append(purse(), paid(30), expected=FIRST)
        await store.append(purse(), paid(400))
        return store

    # -- writing -------------------------------------------------------------------------------------------------------

    async def test_what_is_appended_in_a_scope_is_the_tenants(self, both) -> None:
        found = [each async for each in both.read_all()]

        assert [str(each.stream) for each in found] == [str(purse(tenant=name)) for name in ("ann", "ann", "ben", None)]
        assert [each.event.tenant_id for each in found] == ["ann", "ann", "ben", None]

    async def test_an_append_to_a_stream_of_another_is_refused(self, both) -> None:
        theirs = purse(tenant="ben")
        with tenant_scope("ann"):
            for refused in (
                both.append(theirs, paid(9)),
                both.append(purse("2"), paid(9, tenant_id="ben")),
                both.append_all([Append(purse(), paid(9)), Append(theirs, paid(9))]),
                both.append_all([Append(theirs, [], FIRST)]),
                both.append_if(paid(9), fail_if=both.query(Paid), after=100, stream=theirs),
                both.append_if(paid(9, aggregate_id="3", tenant_id="ben"), fail_if=both.query(Paid), after=100),
                both.import_events([(theirs, *paid(9))]),
                both.import_events([(purse(), *paid(9, tenant_id="ben"))]),
                both.tombstone(theirs, reason="a test", actor="ann"),
                both.archive(theirs),
            ):
                with pytest.raises(TenantScopeError, match="of tenant 'ben', and this runs in the scope of 'ann'"):
                    await refused

        assert await amounts(both.read_all()) == [1, 2, 30, 400]

    async def test_two_tenants_that_write_the_first_event_at_once_do_not_meet(self, store) -> None:
        async def first(tenant):
            with tenant_scope(tenant):
                return await store.append(purse(), paid(1), expected=FIRST)

        done = await asyncio.gather(*(first(f"tenant {number}") for number in range(6)))

        assert {each.version for each in done} == {1}
        assert len({each.stream for each in done}) == 6

    async def test_of_two_first_appends_of_one_tenant_one_is_told(self, store) -> None:
        async def first():
            with tenant_scope("ann"):
                return await store.append(purse(), paid(1), expected=FIRST)

        done = await asyncio.gather(*(first() for _ in range(6)), return_exceptions=True)

        assert sorted(type(each).__name__ for each in done) == ["Appended"] + ["OptimisticLockError"] * 5

    async def test_a_condition_looks_at_the_tenants_events_only(self, both) -> None:
        async def pay(tenant, after):
            with tenant_scope(tenant):
                return await both.append_if(paid(5), fail_if=both.query(tags=["paid"]), after=after, stream=purse())

        position = (await both.horizon()).position
        await pay("ann", position)
        await pay("ben", position)
        with pytest.raises(AppendConditionError):
            await pay("ann", position)

    async def test_imported_events_are_the_tenants(self, store) -> None:
        with tenant_scope("ann"):
            assert await store.import_events((purse(), each) for each in paid(1, 2)) == 2

        assert await store.stream_version(purse(tenant="ann")) == 2

    # -- reading -------------------------------------------------------------------------------------------------------

    async def test_what_is_read_in_a_scope_is_the_tenants(self, both) -> None:
        with tenant_scope("ann"):
            assert await amounts(both.read_all()) == [1, 2]
            assert await amounts(both.read_category("TestTenantPurse")) == [1, 2]
            assert await amounts(both.read_stream(purse())) == [1, 2]
            assert [each.amount for each in (await both.load_stream(purse())).events] == [1, 2]
            assert [each.event.amount for each in (await both.read_page()).events] == [1, 2]
            assert await both.stream_version(purse()) == 2
            assert [each.stream async for each in both.streams()] == [purse(tenant="ann")]
            assert (await both.stream_state(purse())).stream == purse(tenant="ann")
            assert [len(await both.event_at(position)) for position in (1, 2, 3, 4)] == [1, 1, 0, 0]

    async def test_what_is_anothers_is_not_read(self, both) -> None:
        wanted = both.filter(tenant_id="ben")
        with tenant_scope("ann"):
            for refused in (
                lambda: both.read_all(tenant_id="ben"),
                lambda: both.read_category("TestTenantPurse", tenant_id="ben"),
                lambda: both.read_stream(purse(tenant="ben")),
                lambda: both.streams(tenant_id="ben"),
            ):
                with pytest.raises(TenantScopeError):
                    refused()
            for refused in (
                both.read_page(wanted=wanted),
                both.load_stream(purse(tenant="ben")),
                both.stream_version(purse(tenant="ben")),
                both.stream_state(purse(tenant="ben")),
            ):
                with pytest.raises(TenantScopeError):
                    await refused

    async def test_what_was_asked_in_a_scope_stays_within_it(self, both) -> None:
        with tenant_scope("ann"):
            reading = both.read_all(page=1), both.read_stream(purse(), page=1), both.streams(page=1)

        assert await amounts(reading[0]) == [1, 2]
        with tenant_scope("ben"):
            assert await amounts(reading[1]) == [1, 2]
        assert [each.stream.tenant_id async for each in reading[2]] == ["ann"]

    async def test_outside_a_scope_everything_is_as_ever(self, both) -> None:
        assert await amounts(both.read_all(tenant_id="ben")) == [30]
        assert await amounts(both.read_stream(purse())) == [400]
        assert (await both.append(purse(tenant="ben"), paid(31))).version == 2
        with tenant_scope("ann"), all_tenants():
            assert await amounts(both.read_all()) == [1, 2, 30, 400, 31]

    # -- aggregates ----------------------------------------------------------------------------------------------------

    async def test_repositories_load_and_save_what_is_the_tenants(self, both) -> None:
        repo = AggregateRepository(both, Purse, snapshots=SnapshotPolicy.every(1))
        with tenant_scope("ann"):
            await repo.execute("1", lambda each: each.pay(4))
            mine = await repo.load("1")
            assert (mine.state.total, mine.tenant_id, await repo.get_version("1")) == (7, "ann", 3)
            new = Purse("2")
            new.pay(8)
            await repo.save(new)
        with tenant_scope("ben"):
            assert (await repo.load("1")).state.total == 30
            assert not await repo.exists("2")
            with pytest.raises(AggregateNotFoundError):
                await repo.load("2")
            mine.pay(1)
            with pytest.raises(TenantScopeError):
                await repo.save(mine)
            with pytest.raises(TenantScopeError):
                await AggregateRepository(both, Purse, tenant_id="ann").load("1")

        assert (await both.snapshots.load(purse("2", "ann"))) is not None
        assert (await both.snapshots.load(purse("2"))) is None

    async def test_an_aggregate_that_was_made_outside_is_not_made_the_tenants_by_saving(self, store) -> None:
        outside = Purse("1")
        outside.pay(1)
        with tenant_scope("ann"), pytest.raises(InvalidInputError, match="does not belong"):
            await AggregateRepository(store, Purse).save(outside)

    # -- subscriptions -------------------------------------------------------------------------------------------------

    async def test_a_subscription_of_a_tenant_is_given_its_events_in_its_scope(self, both) -> None:
        joins = self.joins

        class Echo(DatabaseProjection):
            name = "echo"

            @handles(Paid)
            async def paid(self, event, conn):
                handled.append(event.amount)
                if event.amount < 100:
                    await both.append(
                        purse(f"echo {event.amount}"), paid(event.amount * 100), conn=conn if joins else None
                    )

        handled: list[int] = []
        manager = SubscriptionManager(both)
        await manager.subscribe(Echo(), SubscriptionConfig(poll=0.05, tenant_id="ann", start=1))
        with tenant_scope("ben"):  # of whoever starts it: it does not count
            await manager.start()
        try:
            await manager.wait_until(5, timeout=PATIENCE)
        finally:
            await manager.stop()

        assert handled == [2, 200]
        assert await both.stream_version(purse("echo 2", "ann")) == 1

    async def test_a_subscription_without_a_tenant_handles_everything_outside_any_scope(self, both) -> None:
        class Count(DeclarativeProjection):
            name = "count"

            @handles(Paid)
            async def paid(self, event):
                handled.append((event.amount, len([each async for each in both.read_all()])))

        handled: list[tuple[int, int]] = []
        manager = SubscriptionManager(both)
        await manager.subscribe(Count(), SubscriptionConfig(poll=0.05))
        with tenant_scope("ann"):
            async with manager:
                await manager.wait_until(4, timeout=PATIENCE)

        assert handled == [(1, 4), (2, 4), (30, 4), (400, 4)]

    # -- threads -------------------------------------------------------------------------------------------------------

    def test_code_that_blocks_is_in_the_scope_of_its_thread(self, source) -> None:
        with SyncEventStoreAdapter(source) as blocking:
            with tenant_scope("ann"):
                blocking.append(purse(), paid(1))
                reading = blocking.read_all()
                with pytest.raises(TenantScopeError):
                    blocking.append(purse(tenant="ben"), paid(2))

            def other():
                with tenant_scope("ben"):
                    blocking.append(purse(), paid(30))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join(PATIENCE)

            assert [each.event.amount for each in blocking.read_all()] == [1, 30]
            assert [each.event.amount for each in reading] == [1]


class TestMemory(TenancyContract):
    joins = False

    @pytest.fixture
    def store(self):
        return InMemoryEventStore(registry=EVENTS)

    @pytest.fixture
    def source(self):
        return InMemoryEventStore(registry=EVENTS)


class TestSQLite(TenancyContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with SQLiteEventStore(tmp_path / "events.sqlite", registry=EVENTS) as opened:
            yield opened

    @pytest.fixture
    def source(self, tmp_path):
        return SQLiteEventStore(tmp_path / "events.sqlite", registry=EVENTS)

    async def test_what_is_rebuilt_of_a_tenant_is_the_tenants_only(self, both) -> None:
        scopes: list[object] = []

        class Ledger(DatabaseProjection):
            name = "ledger"
            tables = ("entry",)

            @handles(Paid)
            async def paid(self, event, conn):
                scopes.append(current_tenant())
                await conn.execute(f"insert into {self.table('entry')} (amount) values (?)", (event.amount,))

        async with both.transaction() as tx:
            await tx.connection.execute("create table entry (number integer primary key, amount integer)")
        manager = SubscriptionManager(both)
        await manager.subscribe(Ledger(), SubscriptionConfig(poll=0.05, tenant_id="ann"))
        async with manager:
            await manager.wait_until(4, timeout=PATIENCE)
            rebuilt = await manager.rebuild("ledger", actor="ann")
            with pytest.raises(ConfigurationError, match="limited to tenant ann"):
                await manager.rebuild("ledger", actor="ann", config=SubscriptionConfig(tenant_id="ben"))

        async with both.transaction() as tx:
            found = await tx.connection.execute_fetchall("select amount from entry order by 1")
        assert (rebuilt.swapped, list(found), set(scopes)) == (True, [(1,), (2,)], {"ann"})


class TestPostgreSQL(TenancyContract):
    @pytest.fixture
    def store(self, pool, postgres_server):
        return PostgreSQLEventStore(pool, registry=EVENTS)

    @pytest.fixture
    def source(self, dsn, postgres_server):
        return dsn
