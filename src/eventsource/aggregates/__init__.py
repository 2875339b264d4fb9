"""Aggregates, and where they are kept."""

from eventsource.aggregates.base import AggregateRoot, DeclarativeAggregate
from eventsource.aggregates.repository import AggregateRepository, EventPublisher, TAggregate
from mainstay import DeciderAggregate
from mainstay.events.aggregate import TState

__all__ = [
    "AggregateRepository",
    "AggregateRoot",
    "DeciderAggregate",
    "DeclarativeAggregate",
    "EventPublisher",
    "TAggregate",
    "TState",
]
