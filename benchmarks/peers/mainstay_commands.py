"""mainstay: commands with their full audit trail, run in the interpreter that runs the benchmarks."""

import uuid
from typing import Any

from protocol import COMMAND_TYPE, DOMAIN, Peer, Work, main
from psycopg_pool import AsyncConnectionPool

from mainstay import (
    Command,
    CommandBus,
    HandlerContext,
    HandlerRegistry,
    SendRequest,
    Worker,
    setup_database,
)

WORKER_POOL = 20  # connections at most, as for the peers


class Mainstay(Peer):
    distributions = ("pgmq", "psycopg")

    async def install(self) -> str:
        await self.open(1)
        await setup_database(self._pool)
        return f"default settings, full audit, AsyncConnectionPool of {WORKER_POOL}"

    async def open(self, connections: int) -> None:
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            self.dsn, min_size=connections, max_size=max(connections, WORKER_POOL), open=False
        )
        await self._pool.open(wait=True)
        self._bus = CommandBus(self._pool)

    async def close(self) -> None:
        if hasattr(self, "_pool"):
            await self._pool.close()

    async def send(self, number: int) -> None:
        await self._bus.send(domain=DOMAIN, command_type=COMMAND_TYPE, command_id=uuid.uuid4(), data={"number": number})

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        await self._bus.send_batch(
            [
                SendRequest(
                    domain=DOMAIN,
                    command_type=COMMAND_TYPE,
                    command_id=uuid.uuid4(),
                    data={"number": number},
                    delay=delay,
                )
                for number in numbers
            ]
        )

    async def work(self, work: Work) -> None:
        registry = HandlerRegistry()

        async def noop(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])

        async def transactional(command: Command, context: HandlerContext) -> None:
            work.mark(command.data["number"])
            await context.conn.execute("insert into effect (number) values (%s)", (command.data["number"],))

        def sync(command: Command, _context: HandlerContext) -> None:
            work.mark_in_thread(command.data["number"])

        handlers: dict[str, Any] = {"noop": noop, "transactional": transactional, "sync": sync}
        registry.register(DOMAIN, COMMAND_TYPE, handlers[work.handler], transactional=work.handler == "transactional")
        worker = Worker(pool=self._pool, domain=DOMAIN, registry=registry)
        await worker.run(concurrency=work.concurrency, poll_interval=1.0)


if __name__ == "__main__":
    main(Mainstay)
