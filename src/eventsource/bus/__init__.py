"""Buses of events."""

from eventsource.bus.interface import EventBus, EventHandlerFunc
from eventsource.bus.memory import InMemoryEventBus
from eventsource.bus.redis import REDIS_AVAILABLE, RedisEventBus, RedisEventBusConfig

__all__ = [
    "REDIS_AVAILABLE",
    "EventBus",
    "EventHandlerFunc",
    "InMemoryEventBus",
    "RedisEventBus",
    "RedisEventBusConfig",
]
