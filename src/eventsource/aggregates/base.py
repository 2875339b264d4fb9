"""Aggregates."""

from mainstay import AggregateRoot, DeclarativeAggregate
from mainstay.events.aggregate import TState

__all__ = [
    "AggregateRoot",
    "DeclarativeAggregate",
    "TState",
]
