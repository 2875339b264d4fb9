"""In whose name code runs."""

from mainstay.doorways import TenantDomainEvent, clear_tenant_context, set_current_tenant
from mainstay.errors import TenantMissingError as TenantContextNotSetError
from mainstay.errors import TenantScopeError as TenantMismatchError
from mainstay.tenancy import current_tenant as get_current_tenant
from mainstay.tenancy import require_tenant as get_required_tenant
from mainstay.tenancy import tenant_scope
from mainstay.tenancy import tenant_scope as tenant_scope_sync

__all__ = [
    "TenantContextNotSetError",
    "TenantDomainEvent",
    "TenantMismatchError",
    "clear_tenant_context",
    "get_current_tenant",
    "get_required_tenant",
    "set_current_tenant",
    "tenant_scope",
    "tenant_scope_sync",
]
