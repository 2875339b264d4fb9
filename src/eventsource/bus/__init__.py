"""Buses of events."""

from eventsource.bus.interface import EventBus, EventHandlerFunc
from eventsource.bus.kafka import KAFKA_AVAILABLE, KafkaEventBus, KafkaEventBusConfig
from eventsource.bus.memory import InMemoryEventBus
from eventsource.bus.rabbitmq import RABBITMQ_AVAILABLE, RabbitMQEventBus, RabbitMQEventBusConfig
from eventsource.bus.redis import REDIS_AVAILABLE, RedisEventBus, RedisEventBusConfig

__all__ = [
    "KAFKA_AVAILABLE",
    "RABBITMQ_AVAILABLE",
    "REDIS_AVAILABLE",
    "EventBus",
    "EventHandlerFunc",
    "InMemoryEventBus",
    "KafkaEventBus",
    "KafkaEventBusConfig",
    "RabbitMQEventBus",
    "RabbitMQEventBusConfig",
    "RedisEventBus",
    "RedisEventBusConfig",
]
