"""A bank on PostgreSQL: accounts, transfers that are undone if they cannot be done, and an interface for the web.

    python -m examples.bank                             its story, on an embedded PostgreSQL
    python -m examples.bank --serve                     and then the interface, until Ctrl-C
    python -m examples.bank --dsn postgresql://...      the same on a database of yours, where everything stays

It needs FastAPI and uvicorn, which `make install` brings. Read `domain.py` first, then `transfers.py`,
`views.py`, `bank.py` and `web.py`. `story.py` plays the customers.
"""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import ExitStack, suppress

import uvicorn

from examples.bank.bank import open_bank
from examples.bank.story import Story
from examples.bank.web import web
from mainstay import StorageUnavailableError
from mainstay.storage.postgres.embedded import EmbeddedServer


async def run(dsn: str, payments: int) -> None:
    async with open_bank(dsn) as bank:
        await Story(bank, payments).tell()


def main() -> None:
    """Run where the command line says."""
    options = argparse.ArgumentParser(description="A bank on PostgreSQL.")
    options.add_argument("--dsn", help="of a PostgreSQL; an embedded one unless given")
    options.add_argument("--payments", type=int, default=60, help="transfers on payday")
    options.add_argument("--serve", action="store_true", help="serve the interface afterwards")
    options.add_argument("--port", type=int, default=8000, help="of the interface, on 127.0.0.1")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends as Ctrl-C does, and cleans up
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        dsn = chosen.dsn
        if dsn is None:
            server, database = stack.enter_context(EmbeddedServer()), f"bank_{os.getpid()}"
            stack.callback(server.drop_database, database)
            dsn = server.dsn(database)
        try:
            asyncio.run(run(dsn, chosen.payments))
        except StorageUnavailableError as error:
            sys.exit(str(error))
        if chosen.serve:
            os.environ["DATABASE_URL"] = dsn
            uvicorn.run(web, host="127.0.0.1", port=chosen.port)


if __name__ == "__main__":
    main()
