"""What moves processes on."""

from mainstay.app import ProcessReplyRouter

__all__ = ["ProcessReplyRouter"]
