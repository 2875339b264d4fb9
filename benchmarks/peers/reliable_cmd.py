"""reliable-cmd (imports as ``commandbus``): commands on PGMQ, with an audit trail.

It reads ``pgmq.read`` by position and takes the fifth column for the message. PGMQ 1.10 put ``last_read_at`` before
``vt``, so against a newer fresh install every command fails to parse and none is ever handled. It is therefore run on
the same PGMQ as mainstay, with that one column moved to the end in its own database: the shape that a PGMQ upgraded in
place from an older release has. Nothing else of PGMQ or of reliable-cmd is changed.
"""

import asyncio
import uuid
from pathlib import Path
from typing import Any

from pgmq.install import get_embedded_install_sql, get_embedded_sql_version
from protocol import COMMAND_TYPE, DOMAIN, Peer, Work, main
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from commandbus import Command, CommandBus, HandlerContext, HandlerRegistry, SendRequest, Worker, get_schema_sql
from commandbus.pgmq.client import PGMQ_NOTIFY_CHANNEL, PgmqClient
from commandbus.sync import SyncWorker

CREATE_EXTENSION = "CREATE EXTENSION IF NOT EXISTS pgmq;"  # its schema asks for it even where PGMQ was installed as SQL
REPLIES = "bench__replies"
WORKER_POOL = 20  # connections; with more, the threads and the server only wait for each other


class ReliableCmd(Peer):
    distributions = ("reliable-cmd", "pgmq", "psycopg")

    _ear: AsyncConnection[Any] | None = None

    async def install(self) -> str:
        async with await AsyncConnection.connect(self.dsn, autocommit=True) as conn:
            await conn.execute(get_embedded_install_sql())
            await conn.execute(Path(__file__).with_suffix(".sql").read_text())
            await conn.execute(get_schema_sql().replace(CREATE_EXTENSION, ""))
            for queue in (f"{DOMAIN}__commands", REPLIES):
                await conn.execute("select pgmq.create(%s)", (queue,))
        return (
            f"PGMQ {get_embedded_sql_version()} with pgmq.read's last_read_at moved to the end; schema of "
            f"get_schema_sql(); Worker (SyncWorker for the sync handler), pool of {WORKER_POOL}"
        )

    async def open(self, connections: int) -> None:
        self._pool = AsyncConnectionPool(
            self.dsn, min_size=connections, max_size=max(connections, WORKER_POOL), open=False
        )
        await self._pool.open(wait=True)
        self._bus = CommandBus(self._pool)

    async def close(self) -> None:
        if self._ear:
            await self._ear.close()
        if hasattr(self, "_pool"):
            await self._pool.close()

    async def send(self, number: int) -> None:
        await self._bus.send(domain=DOMAIN, command_type=COMMAND_TYPE, command_id=uuid.uuid4(), data={"number": number})

    async def request(self, number: int) -> None:
        """As its router of replies does: listen for the reply queue's notifications, read, delete."""
        if not self._ear:
            self._ear = await AsyncConnection.connect(self.dsn, autocommit=True)
            await self._ear.execute(f"listen {PGMQ_NOTIFY_CHANNEL}_{REPLIES}")
        command_id, queue = uuid.uuid4(), PgmqClient(self._pool)
        await self._bus.send(
            domain=DOMAIN, command_type=COMMAND_TYPE, command_id=command_id, data={"number": number}, reply_to=REPLIES
        )
        while True:
            for message in await queue.read(REPLIES, visibility_timeout=30, batch_size=10):
                await queue.delete(REPLIES, message.msg_id)
                if message.message["command_id"] == str(command_id):
                    return
            async for _ in self._ear.notifies(timeout=1.0, stop_after=1):
                pass

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        if delay is not None:
            raise NotImplementedError("reliable-cmd cannot delay a command")
        await self._bus.send_batch(
            [
                SendRequest(domain=DOMAIN, command_type=COMMAND_TYPE, command_id=uuid.uuid4(), data={"number": number})
                for number in numbers
            ]
        )

    async def work(self, work: Work) -> None:
        if work.handler == "sync":
            await self._work_in_threads(work)
            return
        registry = HandlerRegistry()

        async def noop(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])

        async def transactional(command: Command, _context: HandlerContext) -> None:
            work.mark(command.data["number"])
            async with self._pool.connection() as conn:
                await conn.execute("insert into effect (number) values (%s)", (command.data["number"],))

        async def reply(command: Command, _context: HandlerContext) -> Any:
            work.mark(command.data["number"])
            return {"number": command.data["number"]}

        handlers = {"noop": noop, "transactional": transactional, "reply": reply}
        registry.register(DOMAIN, COMMAND_TYPE, handlers[work.handler])
        worker = Worker(self._pool, domain=DOMAIN, registry=registry)
        await worker.run(concurrency=work.concurrency, poll_interval=1.0)

    async def _work_in_threads(self, work: Work) -> None:
        registry = HandlerRegistry()

        def handle(command: Command, _context: HandlerContext) -> None:
            work.mark_in_thread(command.data["number"])

        registry.register_sync(DOMAIN, COMMAND_TYPE, handle)
        with ConnectionPool(self.dsn, min_size=4, max_size=WORKER_POOL, open=True) as pool:
            worker = SyncWorker(pool, domain=DOMAIN, registry=registry)
            await asyncio.to_thread(worker.run, work.concurrency, 1.0)


if __name__ == "__main__":
    main(ReliableCmd)
