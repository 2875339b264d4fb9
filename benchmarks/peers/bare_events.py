"""Bare SQL: the limit. The event rows and indexes of mainstay, inserted in whatever order, and nothing else.

No stream is locked, no version checked, no order of the feed kept: a reader of it skips events when there are several
writers. Payloads are read as plain dictionaries. The projection does the reads and writes of mainstay's, in the same
batches and transactions.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from event_protocol import BATCH, PAGE, UPSERT, EventPeer, item, main
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

UPSERTING = UPSERT.format("%s", "%s")


def statements() -> dict[str, str]:
    """The statements of the SQL file beside this one, by name."""
    parts = Path(__file__).with_suffix(".sql").read_text().split("-- name: ")[1:]
    return {name.strip(): text.strip() for name, _, text in (part.partition("\n") for part in parts)}


class BareEvents(EventPeer):
    distributions = ("psycopg",)

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._sql = statements()

    async def install(self) -> str:
        async with await AsyncConnection.connect(self.dsn, autocommit=True) as conn:
            await conn.execute(self._sql["schema"])
        return f"psycopg, pool of as many as writers, a statement for each append; dictionaries; pages of {PAGE:,}"

    async def open(self, connections: int) -> None:
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            self.dsn, min_size=connections, max_size=connections, kwargs={"autocommit": True}, open=False
        )
        await self._pool.open(wait=True)

    async def close(self) -> None:
        if hasattr(self, "_pool"):
            await self._pool.close()

    async def append(self, stream: UUID, version: int, size: int, work: float) -> None:
        async with self._pool.connection() as conn:
            if not work:
                await self._insert(conn, stream, version, size)
                return
            async with conn.transaction():
                await self._insert(conn, stream, version, size)
                await conn.execute("select pg_sleep(%s)", (work,))

    async def _insert(self, conn: AsyncConnection[Any], stream: UUID, version: int, size: int) -> None:
        payloads = [json.dumps(item(version + number), default=str) for number in range(size)]
        values: dict[str, Any] = {"stream": _number(stream), "version": version + 1, "at": datetime.now(UTC)}
        if size == 1:
            await conn.execute(self._sql["append"], {**values, "id": uuid4(), "payload": payloads[0]})
        else:
            ids = [uuid4() for _ in payloads]
            await conn.execute(self._sql["append_many"], {**values, "ids": ids, "payloads": payloads})

    async def read_stream(self, stream: UUID) -> int:
        async with self._pool.connection() as conn:
            cursor = await conn.execute(self._sql["read_stream"], {"stream": _number(stream)})
            return len(await cursor.fetchall())

    async def read_feed(self) -> int:
        count, after = 0, 0
        async with self._pool.connection() as conn:
            while True:
                cursor = await conn.execute(self._sql["read_feed"], {"after": after, "limit": PAGE})
                rows = await cursor.fetchall()
                count += len(rows)
                if len(rows) < PAGE:
                    return count
                after = rows[-1][0]

    async def project(self, events: int) -> None:
        done = 0
        async with self._pool.connection() as reading, self._pool.connection() as writing:
            while done < events:
                cursor = await reading.execute(self._sql["read_feed"], {"after": done, "limit": BATCH})
                rows = await cursor.fetchall()
                async with writing.transaction():
                    await writing.execute(self._sql["begin"])
                    for row in rows:
                        await writing.execute(UPSERTING, (UUID(int=row[1]), row[-1]["quantity"]))
                    await writing.execute(self._sql["advance"], {"position": rows[-1][0]})
                done = rows[-1][0]

    async def load(self, stream: UUID, *, snapshots: bool) -> int:
        items, price = 0, Decimal(0)
        async with self._pool.connection() as conn:
            cursor = await conn.execute(self._sql["read_stream"], {"stream": _number(stream)})
            for row in await cursor.fetchall():
                items += row[-1]["quantity"]
                price += Decimal(row[-1]["price"])
        return items


def _number(stream: UUID) -> int:
    return stream.int % 2**63


if __name__ == "__main__":
    main(BareEvents)
