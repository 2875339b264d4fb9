"""What handles commands."""

from mainstay import Worker

__all__ = ["Worker"]
