"""When to try again."""

from mainstay import DEFAULT_RETRY_POLICY, RetryPolicy

__all__ = [
    "DEFAULT_RETRY_POLICY",
    "RetryPolicy",
]
