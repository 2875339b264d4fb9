"""Where aggregates are kept."""

from mainstay.doorways import AggregateRepository, EventPublisher
from mainstay.events.repository import AggregateT as TAggregate

__all__ = [
    "AggregateRepository",
    "EventPublisher",
    "TAggregate",
]
