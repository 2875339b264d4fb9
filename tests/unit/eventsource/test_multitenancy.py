"""The names of `eventsource.multitenancy` mean scopes of tenants."""

import contextvars

import pytest
from pydantic import ValidationError

from eventsource import AggregateRepository, DeclarativeAggregate, InMemoryEventStore, StreamId, handles
from eventsource.multitenancy import (
    TenantContextNotSetError,
    TenantDomainEvent,
    TenantMismatchError,
    clear_tenant_context,
    get_current_tenant,
    get_required_tenant,
    set_current_tenant,
    tenant_scope,
    tenant_scope_sync,
)


class Rented(TenantDomainEvent, event_type="multitenancy.Rented"):
    aggregate_type: str = "Flat"
    rooms: int


class Flat(DeclarativeAggregate[int]):
    aggregate_type = "Flat"

    def rent(self, rooms):
        self.create_event(Rented, rooms=rooms)

    @handles(Rented)
    def _rented(self, event):
        self._state = event.rooms


def test_an_event_of_a_tenant_takes_it_from_the_scope_or_is_given_it() -> None:
    with pytest.raises(TenantContextNotSetError):
        Rented.with_tenant_context(rooms=2)
    with pytest.raises(ValidationError):
        Rented(rooms=2)
    with tenant_scope_sync("ann"):
        assert Rented.with_tenant_context(rooms=2).tenant_id == "ann"
        assert Rented.with_tenant_context(rooms=2, tenant_id="ben").tenant_id == "ben"


def test_a_tenant_is_set_until_it_is_cleared() -> None:
    def setting():
        set_current_tenant("ann")
        found = get_required_tenant()
        clear_tenant_context()
        return found, get_current_tenant()

    assert contextvars.copy_context().run(setting) == ("ann", None)
    assert get_current_tenant() is None


async def test_the_predecessor_let_one_tenant_write_and_read_anothers_stream() -> None:
    store = InMemoryEventStore()
    repo = AggregateRepository(store, Flat, "Flat")
    async with tenant_scope("ann"):
        flat = repo.create_new("1")
        flat.rent(3)
        await repo.save(flat)
        assert (await repo.load("1")).tenant_id == "ann"
    async with tenant_scope("ben"):
        assert not await repo.exists("1")
        with pytest.raises(TenantMismatchError):
            await store.append(StreamId("Flat", "1", "ann"), [Rented.with_tenant_context(rooms=9)])
        with pytest.raises(TenantMismatchError):
            [each async for each in store.read_stream(StreamId("Flat", "1", "ann"))]
