"""A worker process of the test of order: notes commands in its handler's transaction, fails and dawdles at times."""

import asyncio
import random
import sys
from typing import Any

from psycopg_pool import AsyncConnectionPool

from mainstay import Command, HandlerContext, HandlerRegistry, TransientCommandError, Worker

DOMAIN = "order"
LEASE = 2.0
FAIL = 0.02
DAWDLE = 0.01


async def work(dsn: str) -> None:
    """Until killed."""
    registry = HandlerRegistry()
    draw = random.Random()

    @registry.handler(DOMAIN, "Note", transactional=True)
    async def note(command: Command, ctx: HandlerContext) -> None:
        await ctx.conn.execute(
            "insert into noted (key, n, attempt) values (%s, %s, %s)", (command.key, command.data["n"], ctx.attempt)
        )
        if draw.random() < DAWDLE:
            await ctx.conn.execute("select pg_sleep(%s)", (draw.random() / 10,))
        if draw.random() < FAIL:
            raise TransientCommandError("BUSY", "on purpose", retry_after=draw.random() / 20)

    options: dict[str, Any] = {"min_size": 1, "max_size": 8, "open": False}
    async with AsyncConnectionPool(dsn, **options) as pool:
        await Worker(pool, DOMAIN, registry, visibility_timeout=LEASE).run(concurrency=4, poll_interval=0.2)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
