"""A console that is served, over a bus with one of everything and a worker that goes on working."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from mainstay import PostgreSQLEventStore, SubscriptionManager, Worker
from mainstay.operations.console import console
from mainstay.operations.operator import Operator
from tests.support.console import tokens
from tests.support.console_world import DOMAIN, ConsoleWorld, Words, handlers, settle
from tests.support.projected_accounts import QUICK, Apart, balances
from tests.support.servers import open_pool


@dataclass(frozen=True, slots=True)
class LiveConsole:
    """Where it is, what there is, and who can be asked beside it."""

    url: str
    world: ConsoleWorld
    operator: Operator


@asynccontextmanager
async def served(dsn: str, words: Words, *, has_code: bool = False) -> AsyncIterator[LiveConsole]:
    """A console on a free port, beside a worker; if told so, with the code of projections, one of which has tables."""
    async with open_pool(dsn, max_size=12) as pool:
        world = await settle(pool, words)
        projections = await _projections(pool) if has_code else None
        operator, worker = Operator(pool, registry=handlers(words)), Worker(pool, DOMAIN, handlers(words))
        app = console(operator, auth=tokens(), personal=["mail"], projections=projections)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        running = [
            asyncio.create_task(worker.run(concurrency=2, poll_interval=0.05)),
            asyncio.create_task(server.serve(sockets=[listening])),
        ]
        try:
            yield LiveConsole(f"http://127.0.0.1:{listening.getsockname()[1]}", world, operator)
        finally:
            app.close()
            server.should_exit = True
            await worker.stop()
            await asyncio.gather(*running)
            listening.close()
            await operator.bus.close()


async def _projections(pool: Any) -> SubscriptionManager:
    """One that has dead letters, and one that has come to the end."""
    async with await balances(pool) as manager:
        await manager.wait_until((await PostgreSQLEventStore(pool).horizon()).position)
    made = await balances(pool)
    await made.subscribe(Apart(), QUICK)
    return made


class _Server(uvicorn.Server):
    """Leaves signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield
