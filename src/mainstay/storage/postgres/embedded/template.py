"""Databases that start with mainstay's schema, by copying one that has it: quick enough for one per test."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg

from mainstay.storage.postgres.embedded.server import EmbeddedServer
from mainstay.storage.postgres.migrate import setup_database


def make_template(server: EmbeddedServer, name: str = "mainstay_template") -> str:
    """Make a database with the schema, or bring one up to date, for `EmbeddedServer.create_database(template=)`.

    Args:
        server: Started.
        name: The database.

    Returns:
        The name.

    Raises:
        EmbeddedServerError: The server is not started.
        MainstayError: What `setup_database` raises.
    """
    install_schema(server.dsn(name))
    return name


def install_schema(dsn: str) -> None:
    """`setup_database` for code that blocks, whether or not an event loop runs around it.

    Args:
        dsn: The database.

    Raises:
        psycopg.OperationalError: It cannot be reached.
        MainstayError: What `setup_database` raises.
    """

    async def install() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await setup_database(connection)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(install())).result()
