"""How long the console's pages take over large tables.

``python -m tests.chaos.console_pages`` fills a database with a million commands, a million events, 50,000 keys and
10,000 commands that wait for an operator, asks for a page of every shape that can be come to by links, and for what
people look for in forms, through the whole application, and prints the medians; of the dashboard also the first time.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psycopg

from mainstay.operations.console import console
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.database import open_pool
from tests.support.console import OPERATOR, browser, tokens
from tests.support.console_world import settle
from tests.support.crawling import crawl, shape
from tests.support.servers import Servers

FILLS = Path(__file__).parents[1] / "integration/postgres"
ENOUGH = 100.0
"""Milliseconds that a page may take."""
TRIES = 7
FORMS = [
    "/commands?status=FAILED",
    "/commands?tenant_id=nobody",
    "/commands?text=nowhere&within=86400",
    "/events?event_type=Rare",
    "/events?tenant_id=nobody",
    "/events?tenant_id=nobody&after=0",
    "/events?tenant_id=tenant5",
    "/search?q=nothing-at-all",
    "/search?q=key+1",
    "/troubleshooting?batch_id=00000000-0000-4000-8000-000000000001",
    "/troubleshooting/decide?action=RETRY",
]
"""What no link leads to."""


def fill(dsn: str, commands: int) -> None:
    """Put into a database what months leave behind."""
    parts = {"deferred": commands // 100, "completed": commands - commands // 100}
    with psycopg.connect(dsn, autocommit=True) as conn, psycopg.ClientCursor(conn) as cursor:
        cursor.execute((FILLS / "many_commands.sql").read_bytes(), parts)
        cursor.execute((FILLS / "many_failures.sql").read_bytes())
        cursor.execute((FILLS / "many_keys.sql").read_bytes(), {"keys": commands // 20})
        cursor.execute((FILLS / "many_events.sql").read_bytes())
        cursor.execute("vacuum analyze")


async def pages(client: httpx.AsyncClient) -> dict[str, str]:
    """One address of every shape."""
    found: dict[str, str] = {}
    async for _, address, answer in crawl(client):
        if "html" in answer.headers.get("content-type", ""):
            found.setdefault(shape(address), address)
    return found


async def timed(client: httpx.AsyncClient, address: str) -> tuple[float, int]:
    """The median of some requests in milliseconds, and the size of the answer."""
    took, size = [], 0
    for _ in range(TRIES):
        began = time.perf_counter()
        answer = await client.get(address)
        took.append(1_000 * (time.perf_counter() - began))
        size = len(answer.content)
        if took[-1] > 20 * ENOUGH:
            break
    return median(took), size


async def measure(dsn: str) -> list[tuple[str, float, int]]:
    """Each page, its median and its size, the slowest first."""
    async with open_pool(dsn, max_size=8) as pool:
        operator = Operator(pool)
        app: Any = console(operator, auth=tokens())
        async with browser(app, OPERATOR) as client:
            began = time.perf_counter()
            first = await client.get("/")
            found = [("/ for the first time", 1_000 * (time.perf_counter() - began), len(first.content))]
            linked = (await pages(client)).values()
            found += [(address, *await timed(client, address)) for address in (*linked, *FORMS)]
        await operator.bus.close()
    return sorted(found, key=lambda each: -each[1])


async def prepare(dsn: str, commands: int) -> None:
    """Very much of most, and one of everything."""
    await asyncio.to_thread(fill, dsn, commands)
    async with open_pool(dsn) as pool:
        await settle(pool, project=False)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.console_pages", description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000)
    given = parser.parse_args()
    servers = Servers()
    try:
        server = servers.get("18")
        with server.database(untouched=True) as name:
            began = time.monotonic()
            asyncio.run(prepare(server.dsn(name), given.commands))
            print(f"filled in {time.monotonic() - began:.0f} s")
            slow = 0
            for address, took, size in asyncio.run(measure(server.dsn(name))):
                slow += took > ENOUGH
                print(f"{took:8.0f} ms {size / 1_000:8.0f} kB  {address[:90]}")
            print(f"{slow} pages miss {ENOUGH:.0f} ms")
    finally:
        servers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
