"""Who reads the feed for whom."""

from eventsource.subscriptions.config import SubscriptionConfig
from eventsource.subscriptions.manager import Lag, Subscription, SubscriptionManager

__all__ = [
    "Lag",
    "Subscription",
    "SubscriptionConfig",
    "SubscriptionManager",
]
