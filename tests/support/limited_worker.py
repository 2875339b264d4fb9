"""Workers in processes of their own whose handlers write down when they run.

``python -m tests.support.limited_worker DSN FILE COUNT`` forks so many workers, writes down when one is dead, and ends
with the last; they end with its standard input. Every line goes to the file in one write, so that what a killed process
wrote is whole. Times are those of the machine's monotonic clock, which all processes share, taken in the first and the
last line of a handler.
"""

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from mainstay import Command, HandlerContext, HandlerRegistry, RetryPolicy, TransientCommandError, Worker

DOMAIN = "orders"
LEASE = 15.0
"""Seconds; longer than a machine stalls, or a command runs twice at once."""
HICCUP = 7
"""Of so many commands one fails in its first attempt."""


async def takes(seconds: float) -> None:
    """Be busy without blocking the event loop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


def registry(log: int, outage: Path) -> HandlerRegistry:
    made = HandlerRegistry()

    def note(what: str, command: Command, context: HandlerContext, at: int) -> None:
        run = f"{command.command_id}/{context.attempt}/{os.getpid()}"
        os.write(log, f"{what} {run} {command.command_type} {command.data['customer']} {at}\n".encode())

    async def run(command: Command, context: HandlerContext) -> None:
        note("start", command, context, time.monotonic_ns())
        try:
            await takes(command.data["takes"])
            if command.data["n"] % HICCUP == 0 and context.attempt == 1:
                raise TransientCommandError("HICCUP", "once")
        finally:
            note("end", command, context, time.monotonic_ns())

    def is_down() -> bool:
        return outage.exists()

    async def call(command: Command, context: HandlerContext) -> None:
        note("start", command, context, time.monotonic_ns())
        try:
            await takes(command.data["takes"])
            if is_down():
                raise TransientCommandError("DOWN", f"order {command.data['n']}: the supplier does not answer")
        finally:
            note("end", command, context, time.monotonic_ns())

    made.register(DOMAIN, "Supplied", call)
    for command_type in ("Few", "PerCustomer", "Rated", "Free"):
        made.register(DOMAIN, command_type, run)
    return made


def outage_of(path: str) -> Path:
    """The file that stands beside the log while commands of the type Supplied fail."""
    return Path(f"{path}.outage")


def opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def work(dsn: str, path: str) -> None:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=2, max_size=6, open=False)
    async with pool:
        policy = RetryPolicy(max_attempts=20, backoff_schedule=[0.05])
        worker = Worker(
            pool, DOMAIN, registry(opened(path), outage_of(path)), visibility_timeout=LEASE, retry_policy=policy
        )
        running = asyncio.create_task(worker.run(concurrency=8, poll_interval=0.5))
        await asyncio.to_thread(sys.stdin.read)  # until whoever started this process lets it go
        await worker.stop(10)
        await running


def main(dsn: str, path: str, count: int) -> None:
    children = set()
    for _ in range(count):
        child = os.fork()
        if child == 0:
            asyncio.run(work(dsn, path))
            return
        children.add(child)
    log = opened(path)
    while children:
        child, _ = os.waitpid(-1, 0)
        os.write(log, f"dead {child} - - {time.monotonic_ns()}\n".encode())
        children.discard(child)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
