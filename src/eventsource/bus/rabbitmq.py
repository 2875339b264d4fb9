"""A bus of events on RabbitMQ."""

from mainstay.event_bus import RabbitMQEventBus, RabbitMQEventBusConfig
from mainstay.extras import RABBITMQ_AVAILABLE

__all__ = [
    "RABBITMQ_AVAILABLE",
    "RabbitMQEventBus",
    "RabbitMQEventBusConfig",
]
