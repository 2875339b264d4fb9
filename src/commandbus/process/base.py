"""How one kind of process goes."""

from mainstay.app import BaseProcessManager

__all__ = ["BaseProcessManager"]
