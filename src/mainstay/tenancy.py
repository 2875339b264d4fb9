"""In whose name code runs: the tenant of a scope, which stores of events enforce.

What it promises. Inside ``tenant_scope("acme")`` a store appends to acme's streams and reads acme's events, and nothing
else: a stream that is named without a tenant is acme's, what reads the feed is given acme's events only, and whoever
names another tenant gets a `TenantScopeError`. Outside a scope nothing is changed or refused.

How. The tenant is a context variable, so a scope belongs to the task or thread that entered it: tasks that are started
inside have it, threads that a pool had before do not (``asyncio.to_thread`` and `mainstay.sync` hand it on). What reads
is asked at the call: an iterator that was made inside a scope stays within it, wherever it is used up.

Streams carry their tenant in their name, in every index and every lock. So two tenants that write the first event of
the same id at the same time write two streams, and do not even wait for each other.

What it does not promise. It guards against a forgotten filter and a wrong id, not against code that leaves its scope on
purpose; nor does it bind who goes past the store: SQL of your own, or the log behind the store (`EventStore.log`),
which operators' tools and subscriptions use, because they serve all tenants.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self
from uuid import UUID

from mainstay.errors import InvalidInputError, TenantMissingError
from mainstay.message import checked_name

_LIMIT = 200

_tenant: ContextVar[UUID | str | None] = ContextVar("mainstay_tenant", default=None)


def checked_tenant(value: UUID | str | None) -> UUID | str | None:
    """A tenant's id in its one form; None stays None.

    Raises:
        InvalidInputError: Neither a UUID nor a text of 1 to 200 printable characters.
    """
    return None if value is None else checked_name(value, "a tenant's id", _LIMIT)


def current_tenant() -> UUID | str | None:
    """The tenant of the scope that this code runs in; None outside any."""
    return _tenant.get()


def require_tenant() -> UUID | str:
    """The tenant of the scope that this code runs in.

    Raises:
        TenantMissingError: It runs in none.
    """
    tenant = _tenant.get()
    if tenant is None:
        raise TenantMissingError
    return tenant


class _Scope:
    """A block with a tenant of its own, or with none; what is around it applies again at its end."""

    def __init__(self, tenant_id: UUID | str | None) -> None:
        self._tenant_id = tenant_id
        self._tokens: list[Token[UUID | str | None]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_tenant.set(self._tenant_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _tenant.reset(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def tenant_scope(tenant_id: UUID | str) -> _Scope:
    """A block whose code runs in the name of a tenant; a ``with`` block or an ``async with`` block.

    Args:
        tenant_id: A UUID, or a text of 1 to 200 printable characters. A scope inside another replaces it.

    Raises:
        InvalidInputError: No such id; None least of all, which would lift every limit.
    """
    tenant = checked_tenant(tenant_id)
    if tenant is None:
        raise InvalidInputError("a scope needs a tenant; for work that concerns all, write all_tenants()")
    return _Scope(tenant)


def all_tenants() -> _Scope:
    """A block outside any scope, inside one: for work that concerns all tenants. ``with`` and ``async with``."""
    return _Scope(None)
