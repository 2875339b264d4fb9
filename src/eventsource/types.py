"""What ids of events are."""

from mainstay.events.aggregate import TState
from mainstay.events.ids import AggregateId, CausationId, CorrelationId, EventId, TenantId

__all__ = [
    "AggregateId",
    "CausationId",
    "CorrelationId",
    "EventId",
    "TState",
    "TenantId",
]
