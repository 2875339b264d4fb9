"""Which method takes which event."""

from mainstay import handles

__all__ = [
    "handles",
]
