"""Settings."""

from mainstay import Config, RetryPolicy, SnapshotPolicy
from mainstay.doorways import SubscriptionConfig

__all__ = [
    "Config",
    "RetryPolicy",
    "SnapshotPolicy",
    "SubscriptionConfig",
]
