"""Makers of events."""

from mainstay.testing.factories import OneEventBuilder as EventBuilder

__all__ = [
    "EventBuilder",
]
