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
    PermanentCommandError,
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
            await self._bus.close()
            await self._pool.close()

    async def send(self, number: int) -> None:
        await self._bus.send(domain=DOMAIN, command_type=COMMAND_TYPE, command_id=uuid.uuid4(), data={"number": number})

    async def request(self, number: int) -> None:
        reply = await self._bus.request(DOMAIN, COMMAND_TYPE, None, {"number": number}, timeout=60)
        assert reply.unwrap() == number  # noqa: S101  # a measurement of something else is none

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        await self._bus.send_batch([_command(number, delay=delay) for number in numbers])

    async def send_keyed(self, numbers: range, keys: int) -> None:
        await self._bus.send_batch([_command(number, key=f"{number % keys} of {keys}") for number in numbers])

    async def work(self, work: Work) -> None:
        registry = HandlerRegistry()

        async def noop(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])

        async def transactional(command: Command, context: HandlerContext) -> None:
            work.mark(command.data["number"])
            await context.conn.execute("insert into effect (number) values (%s)", (command.data["number"],))

        def sync(command: Command, _context: HandlerContext) -> None:
            work.mark_in_thread(command.data["number"])

        async def reply(command: Command, _context: HandlerContext) -> Any:
            work.mark(command.data["number"])
            return command.data["number"]

        async def refuse(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])
            raise PermanentCommandError("REFUSED", "on purpose")

        handlers: dict[str, Any] = {
            "noop": noop,
            "transactional": transactional,
            "sync": sync,
            "reply": reply,
            "refuse": refuse,
        }
        registry.register(DOMAIN, COMMAND_TYPE, handlers[work.handler], transactional=work.handler == "transactional")
        worker = Worker(pool=self._pool, domain=DOMAIN, registry=registry)
        await worker.run(concurrency=work.concurrency, poll_interval=1.0)


def _command(number: int, **options: Any) -> SendRequest:
    return SendRequest(DOMAIN, COMMAND_TYPE, uuid.uuid4(), {"number": number}, **options)


if __name__ == "__main__":
    main(Mainstay)
