"""PGMQ's queues, and waking up early."""

from mainstay.storage.postgres.notifications import Listener
from mainstay.storage.postgres.pgmq import PgmqClient, PgmqMessage, PgmqMetrics, PgmqQueue

__all__ = ["Listener", "PgmqClient", "PgmqMessage", "PgmqMetrics", "PgmqQueue"]
