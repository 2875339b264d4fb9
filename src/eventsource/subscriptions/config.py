"""How a subscription goes about its work."""

from mainstay.doorways import SubscriptionConfig

__all__ = [
    "SubscriptionConfig",
]
