"""In whose name code runs: the tenant of a scope, which stores of events enforce, and the actor, whom they note.

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

Commands carry both: what is sent inside a scope is the scope's tenant's, and is handled in that scope, by whatever
worker; see `mainstay.commands.carried`. The actor limits nothing: it is put on commands and events that name none.

Nor does the operator of ``operator_scope``: what is changed inside for all, a schedule, a limit, a rule, is written to
the operators' trail in this name. It is not handed on: a command that an operator sends is handled in nobody's.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar
from uuid import UUID

from mainstay.errors import InvalidInputError, TenantMissingError, TenantScopeError, shown
from mainstay.message import actor_id_var, checked_name, checked_text

T = TypeVar("T")

_LIMIT = 200


class OperatorNamed(NamedTuple):
    """Who decides, and why."""

    name: str
    reason: str | None


_tenant: ContextVar[UUID | str | None] = ContextVar("mainstay_tenant", default=None)
_operator: ContextVar[OperatorNamed | None] = ContextVar("mainstay_operator", default=None)


def checked_tenant(value: UUID | str | None) -> UUID | str | None:
    """A tenant's id in its one form; None stays None.

    Raises:
        InvalidInputError: Neither a UUID nor a text of 1 to 200 printable characters.
    """
    return None if value is None else checked_name(value, "a tenant's id", _LIMIT)


def checked_actor(value: str | None) -> str | None:
    """An actor's id itself; None stays None.

    Raises:
        InvalidInputError: Not a text of 1 to 200 printable characters.
    """
    return None if value is None else checked_text(value, "an actor's id", _LIMIT)


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


def scoped_tenant(tenant_id: UUID | str | None, what: str) -> UUID | str | None:
    """The tenant asked for; in a scope, the scope's if none is.

    Args:
        tenant_id: Which; None: whoever's turn it is.
        what: What is asked for, for the error.

    Raises:
        InvalidInputError: No tenant can be called so.
        TenantScopeError: It is another than the scope's.
    """
    tenant, asked = _tenant.get(), checked_tenant(tenant_id)
    if tenant is None or asked is None:
        return asked if tenant is None else tenant
    if asked != tenant:
        raise TenantScopeError(tenant, asked, what)
    return tenant


def current_actor() -> str | None:
    """Who wants what this code does; None if nobody said."""
    return actor_id_var.get()


def current_operator() -> OperatorNamed | None:
    """The operator who decides what this code does; None if nobody said."""
    return _operator.get()


class _Scope(Generic[T]):
    """A block with a tenant or actor of its own, or with none; what is around it applies again at its end."""

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable = variable
        self._value = value
        self._tokens: list[Token[T]] = []

    def __enter__(self) -> Self:
        self._tokens.append(self._variable.set(self._value))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._variable.reset(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def tenant_scope(tenant_id: UUID | str) -> _Scope[UUID | str | None]:
    """A block whose code runs in the name of a tenant; a ``with`` block or an ``async with`` block.

    Args:
        tenant_id: A UUID, or a text of 1 to 200 printable characters. A scope inside another replaces it.

    Raises:
        InvalidInputError: No such id; None least of all, which would lift every limit.
    """
    tenant = checked_tenant(tenant_id)
    if tenant is None:
        raise InvalidInputError("a scope needs a tenant; for work that concerns all, write all_tenants()")
    return _Scope(_tenant, tenant)


def all_tenants() -> _Scope[UUID | str | None]:
    """A block outside any scope, inside one: for work that concerns all tenants. ``with`` and ``async with``."""
    return _Scope(_tenant, None)


def scope_of(tenant_id: UUID | str | None) -> _Scope[UUID | str | None]:
    """The scope of a tenant, as `tenant_scope`; for None outside any, as `all_tenants`, whatever is around it."""
    return _Scope(_tenant, checked_tenant(tenant_id))


def actor_scope(actor_id: str) -> _Scope[str | None]:
    """A block whose code does what somebody wants: its commands and events say who, unless they say so themselves.

    Args:
        actor_id: A text of 1 to 200 printable characters: a user, a service. A scope inside another replaces it.

    Raises:
        InvalidInputError: No such text.
    """
    return _Scope(actor_id_var, checked_text(actor_id, "an actor's id", _LIMIT))


def operator_scope(operator: str, reason: str | None = None) -> _Scope[OperatorNamed | None]:
    """A block in which an operator decides: what it changes stands in the operators' trail in this name.

    Args:
        operator: A text of 1 to 200 printable characters. A scope inside another replaces it.
        reason: Why.

    Raises:
        InvalidInputError: No such text.
    """
    if reason is not None and (not isinstance(reason, str) or "\0" in reason):
        message = f"a reason must be a text without a zero character, not {shown(reason)}"
        raise InvalidInputError(message)
    return _Scope(_operator, OperatorNamed(checked_text(operator, "an operator's name", _LIMIT), reason))
