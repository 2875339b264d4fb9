"""A console that is served, over a bus with one of everything and a worker that goes on working."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from mainstay import Worker
from mainstay.operations.console import console
from mainstay.operations.operator import Operator
from tests.support.console import tokens
from tests.support.console_world import DOMAIN, ConsoleWorld, Words, handlers, settle
from tests.support.servers import open_pool


@dataclass(frozen=True, slots=True)
class LiveConsole:
    """Where it is, what there is, and who can be asked beside it."""

    url: str
    world: ConsoleWorld
    operator: Operator


@asynccontextmanager
async def served(dsn: str, words: Words) -> AsyncIterator[LiveConsole]:
    """A console on a free port, beside a worker."""
    async with open_pool(dsn, max_size=8) as pool:
        world = await settle(pool, words)
        operator, worker = Operator(pool, registry=handlers(words)), Worker(pool, DOMAIN, handlers(words))
        app = console(operator, auth=tokens(), personal=["mail"])
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


class _Server(uvicorn.Server):
    """Leaves signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield
