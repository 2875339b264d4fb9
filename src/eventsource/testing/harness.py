"""Everything in memory."""

from mainstay.testing.harness import InMemoryTestHarness

__all__ = [
    "InMemoryTestHarness",
]
