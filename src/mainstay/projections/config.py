"""How a subscription goes about its work."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from mainstay.errors import ConfigurationError, shown
from mainstay.events.log import FeedFilter
from mainstay.projections.checks import checked_shards
from mainstay.retry import READING_POLICY, RetryPolicy, as_seconds, checked_policy
from mainstay.tenancy import checked_tenant, scope_of

_LARGEST_BATCH = 10_000
_SHORTEST_LEASE = 1.0
_SHORTEST_POLL = 0.01


@dataclass(frozen=True)
class SubscriptionConfig:
    """Settings of one subscription.

    Args:
        batch_size: Events that are handled in one transaction, and read at once: what bounds the memory used.
        shards: Into how many parts the streams are dealt out; each goes on by itself, in order, in whichever process.
            Stays as it is while the subscription is known.
        start: Where a new subscription begins: ``"beginning"``, ``"now"``, or after a position.
        retry_policy: How often an event is tried, and how long to wait in between.
        lease: Time (or seconds) after which the shards of a process that died go to another; at least 1 s.
        poll: Time (or seconds) between looks at the feed while nothing wakes it.
        tenant_id: Only this tenant's events are handled, in its scope; None for those of all, outside any scope.

    Raises:
        ConfigurationError: A value out of range.
        InvalidInputError: Not a tenant's id.
    """

    batch_size: int = 100
    shards: int = 1
    start: Literal["beginning", "now"] | int = "beginning"
    retry_policy: RetryPolicy = field(default=READING_POLICY)
    lease: timedelta | float = 30.0
    poll: timedelta | float = 1.0
    tenant_id: UUID | str | None = None

    def __post_init__(self) -> None:
        """Check every value once, here."""
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST_BATCH:
            message = f"batch_size must be 1 to {_LARGEST_BATCH:,}, not {shown(size)}"
            raise ConfigurationError(message)
        checked_shards(self.shards)
        start = self.start
        if start not in ("beginning", "now") and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
            message = f"start must be 'beginning', 'now' or a position, not {shown(start)}"
            raise ConfigurationError(message)
        if checked_policy(self.retry_policy) is None:
            raise ConfigurationError("retry_policy must be a RetryPolicy, not None")
        object.__setattr__(self, "lease", _at_least(_SHORTEST_LEASE, "lease", self.lease))
        object.__setattr__(self, "poll", _at_least(_SHORTEST_POLL, "poll", self.poll))
        object.__setattr__(self, "tenant_id", checked_tenant(self.tenant_id))

    def limited(self, wanted: FeedFilter) -> FeedFilter:
        """What a projection wants, of this subscription's tenant only.

        Raises:
            ConfigurationError: It wants another tenant's.
        """
        if self.tenant_id is None:
            return wanted
        own = checked_tenant(wanted.tenant_id)
        if own not in (None, self.tenant_id):
            message = f"the projection wants events of tenant {shown(own)}, its subscription of {shown(self.tenant_id)}"
            raise ConfigurationError(message)
        return replace(wanted, tenant_id=self.tenant_id)

    def scope(self) -> AbstractContextManager[Any]:
        """What events are handled in: never the scope of whoever started the subscription."""
        return scope_of(self.tenant_id)

    @property
    def lease_seconds(self) -> float:
        """The lease in seconds."""
        return as_seconds(self.lease)

    @property
    def poll_seconds(self) -> float:
        """The time between looks in seconds."""
        return as_seconds(self.poll)


def _at_least(least: float, name: str, duration: timedelta | float) -> float:
    seconds = as_seconds(duration)
    if seconds < least:
        message = f"{name} must be at least {least:g} s, not {shown(duration)}"
        raise ConfigurationError(message)
    return seconds
