"""PgQueuer: jobs in one table with a log table beside it; no payload or result is kept once a job is done.

Run as its documentation advises for throughput: the asyncpg driver, dequeuing in batches. Its worker has no limit on
tasks at once unless asked for (and then does more work per dequeue), so concurrency N is run as batches of N.
"""

import asyncio
import json
from datetime import timedelta

import asyncpg
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from protocol import COMMAND_TYPE, Peer, Work, main

WORKER_POOL = 20  # connections


class PgQueuer(Peer):
    distributions = ("pgqueuer", "asyncpg")

    async def install(self) -> str:
        conn = await asyncpg.connect(self.dsn)
        try:
            await Queries.from_asyncpg_connection(conn).install()
        finally:
            await conn.close()
        return f"asyncpg pool of {WORKER_POOL}, durable tables, batch_size = concurrency, no limit on tasks at once"

    async def open(self, connections: int) -> None:
        self._pool = await asyncpg.create_pool(self.dsn, min_size=connections, max_size=max(connections, WORKER_POOL))
        self._queries = Queries.from_asyncpg_pool(self._pool)

    async def close(self) -> None:
        if hasattr(self, "_pool"):
            await self._pool.close()

    async def send(self, number: int) -> None:
        await self._queries.enqueue(COMMAND_TYPE, json.dumps({"number": number}).encode())

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        await self._queries.enqueue(
            [COMMAND_TYPE] * len(numbers),
            [json.dumps({"number": number}).encode() for number in numbers],
            [0] * len(numbers),
            None if delay is None else [timedelta(seconds=delay)] * len(numbers),
        )

    async def work(self, work: Work) -> None:
        manager = QueueManager(self._queries)

        async def noop(job: Job) -> None:
            work.mark(json.loads(job.payload or b"{}")["number"])

        async def transactional(job: Job) -> None:
            number = json.loads(job.payload or b"{}")["number"]
            work.mark(number)
            await self._pool.execute("insert into effect (number) values ($1)", number)

        async def sync(job: Job) -> None:
            await asyncio.to_thread(work.mark_in_thread, json.loads(job.payload or b"{}")["number"])

        manager.entrypoint(COMMAND_TYPE)({"noop": noop, "transactional": transactional, "sync": sync}[work.handler])
        await manager.run(batch_size=work.concurrency)


if __name__ == "__main__":
    main(PgQueuer)
