"""Bare SQL: the limit. The same writes as a command's life in mainstay, as one statement per step, and nothing else.

The worker receives ``concurrency`` commands in one statement and completes them in one, the two overlapping on two
connections; with a concurrency of 1 that is one command at a time, as for everyone.
"""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

from protocol import COMMAND_TYPE, DEPOSIT, DOMAIN, Peer, Work, deposit, main
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

CHANNEL, REPLY_CHANNEL = "bench", "bench_reply"


def statements() -> dict[str, str]:
    """The statements of the SQL file beside this one, by name."""
    parts = Path(__file__).with_suffix(".sql").read_text().split("-- name: ")[1:]
    return {name.strip(): text.strip() for name, _, text in (part.partition("\n") for part in parts)}


class BareSql(Peer):
    distributions = ("psycopg",)

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._sql = statements()

    async def install(self) -> str:
        async with await AsyncConnection.connect(self.dsn, autocommit=True) as conn:
            await conn.execute(self._sql["schema"])
        return "psycopg, two connections, one statement each to send, receive and complete; NOTIFY for latency only"

    async def open(self, connections: int) -> None:
        self._pool = AsyncConnectionPool(
            self.dsn, min_size=connections, max_size=max(connections, 2), kwargs={"autocommit": True}, open=False
        )
        await self._pool.open(wait=True)

    async def close(self) -> None:
        if hasattr(self, "_pool"):
            await self._pool.close()

    async def send(self, number: int) -> None:
        await self.send_batch(range(number, number + 1), None)

    async def send_to_idle(self, number: int) -> None:
        await self.send(number)
        async with self._pool.connection() as conn:
            await conn.execute(f"notify {CHANNEL}")

    async def request(self, number: int) -> None:
        async with self._pool.connection() as listening:
            await listening.execute(f"listen {REPLY_CHANNEL}")
            await self.send_to_idle(number)
            async for _ in listening.notifies(stop_after=1):
                pass

    async def send_batch(self, numbers: range, delay: float | None) -> None:
        await self._send(COMMAND_TYPE, [{"number": number} for number in numbers])

    async def send_deposits(self, numbers: range, accounts: int) -> None:
        await self._send(DEPOSIT, [deposit(number, accounts) for number in numbers])

    async def _send(self, command_type: str, payloads: list[dict[str, Any]]) -> None:
        count = len(payloads)
        values = {
            "ids": [uuid.uuid4() for _ in payloads],
            "domains": [DOMAIN] * count,
            "types": [command_type] * count,
            "data": [json.dumps(payload) for payload in payloads],
        }
        async with self._pool.connection() as conn:
            await conn.execute(self._sql["send"], values)

    async def work(self, work: Work) -> None:
        async with (
            await AsyncConnection.connect(self.dsn, autocommit=True) as reading,
            await AsyncConnection.connect(self.dsn, autocommit=True) as writing,
        ):
            completing: asyncio.Task[None] | None = None
            await reading.execute(f"listen {CHANNEL}")
            while True:
                cursor = await reading.execute(self._sql["receive"], {"count": work.concurrency})
                rows = await cursor.fetchall()
                for _, _, data in rows:
                    work.mark(data["number"])
                if completing:
                    await completing
                    completing = None
                if rows:
                    completing = asyncio.create_task(self._complete(writing, rows, work.handler))
                else:
                    async for _ in reading.notifies(timeout=0.1, stop_after=1):
                        pass

    async def _complete(self, conn: AsyncConnection, rows: list[tuple[Any, ...]], handler: str) -> None:
        if handler == "decide":
            await asyncio.gather(*(self._decide(row) for row in rows))
            return
        values = {"messages": [row[0] for row in rows], "ids": [row[1] for row in rows]}
        if handler != "transactional":
            await conn.execute(self._sql["complete"], values)
            if handler == "reply":
                await conn.execute(f"notify {REPLY_CHANNEL}")
            return
        async with conn.transaction(), conn.pipeline():
            await conn.execute(self._sql["effect"], {"numbers": [row[2]["number"] for row in rows]})
            await conn.execute(self._sql["complete"], values)

    async def _decide(self, row: tuple[Any, ...]) -> None:
        """Load, append and complete in a transaction: two round trips."""
        message, command_id, data = row
        async with self._pool.connection() as conn:
            async with conn.pipeline():
                await conn.execute("begin")
                cursor = await conn.execute(self._sql["load"], data)
            balance = version = 0
            for version, amount in await cursor.fetchall():  # noqa: B007  # the last one counts
                balance += amount
            event = {"version": version + 1, "event_id": uuid.uuid4(), "command_id": command_id}
            async with conn.pipeline():
                await conn.execute(
                    self._sql["append"], {**data, **event, "payload": json.dumps({"amount": data["amount"]})}
                )
                await conn.execute(self._sql["complete"], {"messages": [message], "ids": [command_id]})
                await conn.execute("commit")


if __name__ == "__main__":
    main(BareSql)
