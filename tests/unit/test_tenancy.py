"""Scopes of tenants: who is in which, and for how long."""

import asyncio
from uuid import UUID

import pytest

from mainstay import InvalidInputError, SubscriptionConfig, TenantMissingError
from mainstay.errors import ConfigurationError
from mainstay.events.log import FeedFilter
from mainstay.tenancy import all_tenants, current_tenant, require_tenant, tenant_scope

ID = UUID("00000000-0000-4000-8000-00000000000a")


def test_a_scope_lasts_as_long_as_its_block() -> None:
    assert current_tenant() is None
    with tenant_scope("ann"):
        assert current_tenant() == require_tenant() == "ann"
        with tenant_scope("ben"):
            assert current_tenant() == "ben"
        with all_tenants():
            assert current_tenant() is None
        assert current_tenant() == "ann"
    assert current_tenant() is None


def test_a_scope_ends_also_if_its_block_fails() -> None:
    with pytest.raises(LookupError), tenant_scope("ann"):
        raise LookupError
    assert current_tenant() is None


def test_a_scope_can_be_entered_again_and_inside_itself() -> None:
    scope = tenant_scope("ann")
    with scope, all_tenants(), scope:
        assert current_tenant() == "ann"
    assert current_tenant() is None


async def test_a_scope_belongs_to_its_task_and_those_begun_inside() -> None:
    async def asked():
        return current_tenant()

    async def inside(tenant):
        async with tenant_scope(tenant):
            return await asyncio.create_task(asked()), await asyncio.to_thread(current_tenant)

    assert await asyncio.gather(*(inside(each) for each in "abc")) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert current_tenant() is None


def test_a_uuid_is_the_same_tenant_in_either_form() -> None:
    with tenant_scope(str(ID)):
        assert current_tenant() == ID


@pytest.mark.parametrize("tenant", [None, "", " ", "a\n", 5, b"a", "x" * 201])
def test_what_is_no_tenant_is_refused(tenant) -> None:
    with pytest.raises(InvalidInputError):
        tenant_scope(tenant)


def test_who_needs_a_tenant_and_has_none_is_told() -> None:
    with pytest.raises(TenantMissingError, match="tenant_scope"):
        require_tenant()


def test_a_subscription_is_limited_to_its_tenant() -> None:
    config = SubscriptionConfig(tenant_id=str(ID))

    assert config.limited(FeedFilter(types=["a"])) == FeedFilter(types=["a"], tenant_id=ID)
    assert config.limited(FeedFilter(tenant_id=str(ID))).tenant_id == ID
    with pytest.raises(ConfigurationError, match="wants events of tenant 'ann'"):
        config.limited(FeedFilter(tenant_id="ann"))
    with pytest.raises(InvalidInputError):
        SubscriptionConfig(tenant_id="")
