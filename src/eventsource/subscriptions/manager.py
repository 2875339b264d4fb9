"""All subscriptions of a process."""

from mainstay.doorways import SubscriptionManager
from mainstay.projections.subscription import Lag, Subscription

__all__ = [
    "Lag",
    "Subscription",
    "SubscriptionManager",
]
