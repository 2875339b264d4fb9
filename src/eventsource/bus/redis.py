"""A bus of events on Redis Streams."""

from mainstay.event_bus import RedisEventBus, RedisEventBusConfig
from mainstay.extras import REDIS_AVAILABLE

__all__ = [
    "REDIS_AVAILABLE",
    "RedisEventBus",
    "RedisEventBusConfig",
]
