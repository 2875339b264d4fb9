"""A process of the delivery's storm: a relay, or consumers of two groups.

``python -m tests.chaos.delivery_process '{"part": "relay", "dsn": ..., "place": ...}'``. It says when it is ready, and
runs until it is killed. Of the consumers, ``plain`` writes a row for each message that it is given, ``inbox`` does so
behind an inbox.
"""

import asyncio
import json
import logging
import sys
from typing import Any

from mainstay.delivery.consumer import Consumer, ConsumerConfig
from mainstay.delivery.message import Message
from mainstay.events.store import EventStore
from mainstay.inbox import PostgresInbox
from mainstay.projections.config import SubscriptionConfig
from mainstay.projections.subscription import SubscriptionManager
from mainstay.relay import Relay
from mainstay.storage.postgres.database import open_pool
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.projections import PostgresProjectionStore
from tests.support.brokers import open_bus, opened

NAME = "relay"
SHARDS = 2
CONFIG = SubscriptionConfig(batch_size=250, shards=SHARDS, lease=1.0, poll=0.05)
GROUPS = ("plain", "inbox")
TAKEN = "insert into taken (taker, event_id, stream, version) values (%s, %s, %s, %s)"


async def relay(dsn: str, place: dict[str, Any]) -> None:
    bus = await opened(open_bus(place))
    async with open_pool(dsn, min_size=1, max_size=6) as pool:
        manager = SubscriptionManager(EventStore(PostgresEventLog(pool)), PostgresProjectionStore(pool))
        await manager.subscribe(Relay(bus, name=NAME), CONFIG)
        async with manager:
            print("ready", flush=True)
            await manager.ended()


async def consume(dsn: str, place: dict[str, Any]) -> None:
    bus = await opened(open_bus(place))
    async with open_pool(dsn, min_size=4, max_size=8) as pool:
        inbox = PostgresInbox(pool, "inbox")

        async def write(message: Message, conn: Any, taker: str = "inbox") -> None:
            await conn.execute(TAKEN, [taker, message.id, message.stream, message.version])

        async def plain(message: Message) -> None:
            async with pool.connection() as conn:
                await write(message, conn, "plain")

        config = ConsumerConfig(batch_size=50)
        consumers = [Consumer(bus, "plain", plain, config), Consumer(bus, "inbox", inbox.handling(write), config)]
        for consumer in consumers:
            await consumer.start()
        print("ready", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    asked = json.loads(sys.argv[1])
    part = asked.pop("part")
    logging.disable(logging.CRITICAL)  # brokers are away on purpose
    asyncio.run({"relay": relay, "consume": consume}[part](**asked))


if __name__ == "__main__":
    main()
