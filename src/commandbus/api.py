"""The command bus."""

from mainstay import CommandBus

__all__ = ["CommandBus"]
