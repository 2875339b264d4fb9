"""procrastinate: jobs in a table, with an event row for each change of state written by triggers."""

from typing import Any

from procrastinate import App, PsycopgConnector
from protocol import COMMAND_TYPE, Peer, Work, main

WORKER_POOL = 20  # connections
INSERT_EFFECT = "insert into effect (number) values (%(number)s)"


class Procrastinate(Peer):
    distributions = ("procrastinate", "psycopg")

    async def install(self) -> str:
        async with App(connector=PsycopgConnector(conninfo=self.dsn)).open_async() as app:
            await app.schema_manager.apply_schema_async()
        return f"PsycopgConnector, pool of {WORKER_POOL}, concurrency as asked, LISTEN on, finished jobs kept"

    async def open(self, connections: int) -> None:
        self._app = App(
            connector=PsycopgConnector(conninfo=self.dsn, min_size=connections, max_size=max(connections, WORKER_POOL))
        )
        await self._app.open_async()
        self._task = self._register(Work(1, "noop", record=False))

    async def close(self) -> None:
        if hasattr(self, "_app"):
            await self._app.close_async()

    def _register(self, work: Work) -> Any:
        async def noop(number: int) -> None:
            work.mark(number)

        async def transactional(number: int) -> None:
            work.mark(number)
            await self._app.connector.execute_query_async(INSERT_EFFECT, number=number)

        def sync(number: int) -> None:
            work.mark_in_thread(number)

        handler = {"noop": noop, "transactional": transactional, "sync": sync}[work.handler]
        self._app.tasks.pop(COMMAND_TYPE, None)
        return self._app.task(name=COMMAND_TYPE)(handler)

    async def send(self, number: int) -> None:
        await self._task.defer_async(number=number)

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        task = self._task if delay is None else self._task.configure(schedule_in={"seconds": int(delay)})
        await task.batch_defer_async(*({"number": number} for number in numbers))

    async def work(self, work: Work) -> None:
        self._register(work)
        await self._app.run_worker_async(concurrency=work.concurrency, install_signal_handlers=False)


if __name__ == "__main__":
    main(Procrastinate)
