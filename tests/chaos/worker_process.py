"""A worker in a process of its own, to be killed, stopped and cut off: ``python -m tests.chaos.worker_process PLAN``.

Every handler answers who it was and which attempt it made, so that a result can be held against the audit trail.
It ends at SIGTERM, gently, and at the end of its standard input, at once: it never outlives who started it.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from psycopg_pool import AsyncConnectionPool

from mainstay import (
    Command,
    HandlerContext,
    HandlerRegistry,
    PermanentCommandError,
    RetryPolicy,
    TransientCommandError,
    Worker,
)

ORPHANED = 3
DIED = 9
INSERT = "insert into chaos_effect (command_id, worker, attempt) values (%s, %s, %s)"
_DOOMS = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopAsyncIteration)


@dataclass(frozen=True)
class Plan:
    """How a process works."""

    dsn: str
    domain: str
    lease: float = 2.0
    concurrency: int = 8
    pool_size: int = 12
    pool_timeout: float = 10.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Doom(BaseException):
    """What no `except Exception` catches."""


async def takes(seconds: float) -> None:
    """Be busy without blocking the event loop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), seconds)


async def takes_stubbornly(seconds: float) -> None:
    """As `takes`, whoever cancels it."""
    task = asyncio.create_task(takes(seconds))
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})


def handlers(domain: str, name: str, pool: Any) -> HandlerRegistry:  # noqa: C901 - a list of behaviours
    """All behaviours that scenarios ask for by command type."""
    registry = HandlerRegistry()

    def signed(context: HandlerContext) -> dict[str, Any]:
        return {"worker": name, "attempt": context.attempt}

    @registry.decorator(domain, "Plain")
    async def plain(command: Command, context: HandlerContext) -> Any:
        await takes(command.data["takes"])
        return signed(context)

    @registry.decorator(domain, "Effect", transactional=True)
    async def effect(command: Command, context: HandlerContext) -> Any:
        await context.conn.execute(INSERT, [command.command_id, name, context.attempt])
        await takes(command.data["takes"])
        return signed(context)

    @registry.decorator(domain, "Stubborn")
    async def stubborn(command: Command, context: HandlerContext) -> Any:
        await takes_stubbornly(command.data["takes"])
        return signed(context)

    @registry.decorator(domain, "StubbornEffect", transactional=True)
    async def stubborn_effect(command: Command, context: HandlerContext) -> Any:
        await context.conn.execute(INSERT, [command.command_id, name, context.attempt])
        await takes_stubbornly(command.data["takes"])
        return signed(context)

    @registry.decorator(domain, "Hog")
    async def hog(command: Command, context: HandlerContext) -> Any:
        async with pool.connection():
            await takes(command.data["takes"])
        return signed(context)

    @registry.decorator(domain, "Doom")
    async def doom(command: Command, context: HandlerContext) -> Any:
        if context.attempt <= command.data["times"]:
            raise (Doom, *_DOOMS)[command.data["kind"] % (len(_DOOMS) + 1)]
        return signed(context)

    @registry.decorator(domain, "DoomedEffect", transactional=True)
    async def doomed_effect(command: Command, context: HandlerContext) -> Any:
        await context.conn.execute(INSERT, [command.command_id, name, context.attempt])
        return await doom(command, context)

    @registry.decorator(domain, "Supplied", transactional=True)
    async def supplied(command: Command, context: HandlerContext) -> Any:
        await context.conn.execute(INSERT, [command.command_id, name, context.attempt])
        if await (await context.conn.execute("select from chaos_outage limit 1")).fetchone() is not None:
            raise TransientCommandError("DOWN", "the supplier does not answer")
        return signed(context)

    @registry.decorator(domain, "Hang", timeout=0.5)
    async def hang(command: Command, context: HandlerContext) -> Any:
        if context.attempt == 1:
            await asyncio.Event().wait()
        return signed(context)

    @registry.decorator(domain, "Strict")
    async def strict(command: Command, context: HandlerContext) -> Any:
        if not isinstance(command.data["amount"], int):
            raise PermanentCommandError("NO_AMOUNT", "the amount is not a number")
        return signed(context)

    @registry.decorator(domain, "Unspeakable")
    async def unspeakable(command: Command, context: HandlerContext) -> Any:
        return object()

    @registry.decorator(domain, "Die")
    async def die(command: Command, context: HandlerContext) -> Any:
        os._exit(DIED)

    return registry


class Clock:
    """This process's wall clock, which may jump."""

    def __init__(self) -> None:
        self._real = time.time
        self._off = 0.0
        time.time = self.now

    def now(self) -> float:
        return self._real() + self._off

    def jump(self, seconds: float) -> None:
        self._off += seconds


async def work(plan: Plan) -> None:
    clock = Clock()
    name = f"chaos-{os.getpid()}"
    options = {"application_name": "chaos-worker"}
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        plan.dsn, min_size=2, max_size=plan.pool_size, timeout=plan.pool_timeout, kwargs=options, open=False
    )
    async with pool:
        worker = Worker(
            pool,
            plan.domain,
            handlers(plan.domain, name, pool),
            visibility_timeout=plan.lease,
            retry_policy=RetryPolicy(backoff_schedule=[0.05], jitter=0.5),
            name=name,
        )
        running = asyncio.create_task(worker.run(plan.concurrency, poll_interval=0.2))
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, clock.jump, 86_400.0)
        loop.add_signal_handler(signal.SIGUSR2, clock.jump, -86_400.0)
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            await worker.stop(timeout=5)
        told.cancel()
        await running


def end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(work(Plan(**json.loads(sys.argv[1]))))
