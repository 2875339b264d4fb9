"""A bare NOTIFY from one connection to a LISTEN on another: nothing that is woken up by the server is faster.

The listener answers with a NOTIFY of its own. To the start of its "handler" is the way there, to the return of ``send``
the way there and back.
"""

from protocol import Peer, Work, main
from psycopg import AsyncConnection

CHANNEL, ECHO = "bench_notify", "bench_notify_echo"


class BareNotify(Peer):
    distributions = ("psycopg",)

    async def install(self) -> str:
        return "psycopg, LISTEN and NOTIFY with a payload, nothing stored"

    async def open(self, connections: int) -> None:
        self._conn = await AsyncConnection.connect(self.dsn, autocommit=True)
        await self._conn.execute(f"listen {ECHO}")

    async def close(self) -> None:
        if hasattr(self, "_conn"):
            await self._conn.close()

    async def send(self, number: int) -> None:
        await self._conn.execute("select pg_notify(%s, %s)", (CHANNEL, str(number)))
        async for _ in self._conn.notifies(timeout=1.0, stop_after=1):
            pass

    async def request(self, number: int) -> None:
        await self.send(number)

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        for number in numbers:
            await self.send(number)

    async def work(self, work: Work) -> None:
        await self._conn.execute(f"unlisten {ECHO}")
        await self._conn.execute(f"listen {CHANNEL}")
        while True:
            async for notification in self._conn.notifies(stop_after=1):
                work.mark(int(notification.payload))
            await self._conn.execute(f"notify {ECHO}")


if __name__ == "__main__":
    main(BareNotify)
