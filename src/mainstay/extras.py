"""Which optional parts this installation has: for programs that choose by it.

Looked up when this module is imported, which mainstay itself never does: there, a missing part is an error when it is
used, with what to install.
"""

from importlib.util import find_spec

POSTGRESQL_AVAILABLE = True
"""Its driver is no option."""

SQLITE_AVAILABLE = find_spec("aiosqlite") is not None
"""``mainstay[sqlite]``"""

OTEL_AVAILABLE = True
"""Its interface is no option; whether an SDK records is the application's choice."""

REDIS_AVAILABLE = find_spec("redis") is not None
"""``mainstay[redis]``"""

RABBITMQ_AVAILABLE = find_spec("aio_pika") is not None
"""``mainstay[rabbitmq]``"""

KAFKA_AVAILABLE = find_spec("confluent_kafka") is not None
"""``mainstay[kafka]``"""

CONSOLE_AVAILABLE = find_spec("starlette") is not None and find_spec("jinja2") is not None
"""``mainstay[console]``"""
