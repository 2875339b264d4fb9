"""What a tenant's scope means for streams, filters and events; see `mainstay.tenancy`. Outside a scope, nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from mainstay import tenancy
from mainstay.errors import TenantScopeError
from mainstay.events.checks import check_stream
from mainstay.events.event import DomainEvent
from mainstay.events.log import FeedFilter
from mainstay.events.stream import StreamId
from mainstay.tenancy import checked_tenant, current_tenant


def scoped(stream: StreamId) -> StreamId:
    """The stream itself; in a scope, one that is named without a tenant is the scope's.

    Raises:
        InvalidInputError: It is no stream's name.
        TenantScopeError: It is another tenant's.
    """
    check_stream(stream)
    tenant = current_tenant()
    if tenant is None or stream.tenant_id == tenant:
        return stream
    if stream.tenant_id is not None:
        raise TenantScopeError(tenant, stream.tenant_id, f"stream {stream}")
    return replace(stream, tenant_id=tenant)


def scoped_tenant(tenant_id: UUID | str | None) -> UUID | str | None:
    """The tenant asked for; in a scope, the scope's if none is.

    Raises:
        TenantScopeError: It is another.
    """
    return tenancy.scoped_tenant(tenant_id, "what was to be read")


def scoped_filter(wanted: FeedFilter) -> FeedFilter:
    """The filter; in a scope, of the scope's tenant.

    Raises:
        TenantScopeError: It is another tenant's.
    """
    tenant = scoped_tenant(wanted.tenant_id)
    return wanted if tenant == wanted.tenant_id else replace(wanted, tenant_id=tenant)


def refuse_others(events: Iterable[Any]) -> None:
    """See that no event says, in a scope, that it is another tenant's.

    Raises:
        TenantScopeError: One does.
    """
    tenant = current_tenant()
    if tenant is None:
        return
    for event in events:
        if isinstance(event, DomainEvent) and event.tenant_id is not None:
            other = checked_tenant(event.tenant_id)
            if other != tenant:
                raise TenantScopeError(tenant, other, f"{type(event).__name__} {event.event_id}")
