"""Events."""

from mainstay import DomainEvent

__all__ = [
    "DomainEvent",
]
