"""All subscriptions of a process."""

from mainstay.doorways import SubscriptionManager
from mainstay.projections.questions import Lag
from mainstay.projections.subscription import Subscription

__all__ = [
    "Lag",
    "Subscription",
    "SubscriptionManager",
]
