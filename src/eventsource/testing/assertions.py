"""What is to be true of events."""

from mainstay.testing.assertions import EventAssertions

__all__ = [
    "EventAssertions",
]
