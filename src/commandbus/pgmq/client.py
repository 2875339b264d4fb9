"""PGMQ's queues."""

from mainstay.storage.postgres.pgmq import PgmqClient, PgmqMessage, PgmqMetrics, PgmqQueue

__all__ = ["PgmqClient", "PgmqMessage", "PgmqMetrics", "PgmqQueue"]
