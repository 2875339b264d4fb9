"""What is asked of a repository."""

from mainstay.commands.repository import CommandRepository

__all__ = ["CommandRepository"]
