"""Which method takes which event."""

from mainstay import handles
from mainstay.errors import ConfigurationError as HandlerSignatureError

__all__ = [
    "HandlerSignatureError",
    "handles",
]
