"""Schema folders of the tests' own, and what is asked of the databases that they are installed in."""

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from mainstay.storage.postgres import schema_files, snapshot
from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.schema_files import SchemaFiles

PACKAGED = files("mainstay.storage.postgres") / "schema"

COMMANDS = """
create schema commandbus;
create function commandbus.clock() returns timestamptz language sql as $$ select clock_timestamp() $$;
create table commandbus.command (id int primary key, at timestamptz default commandbus.clock());
"""
# `add` names `twice`, which is applied after it.
ADD = "create or replace function commandbus.add(a int) returns int language sql as $$ select commandbus.twice(a) $$;"
TWICE = "create or replace function commandbus.twice(a int) returns int language sql as $$ select a * 2 $$;"
THRICE = TWICE.replace("a * 2", "a * 3")


class Folder:
    """A schema folder under construction: the package's ledger and PGMQ, and whatever a test puts in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "migrations").mkdir(parents=True)
        (path / "functions" / "commands").mkdir(parents=True)
        for name in ("ledger.sql", "pgmq.sql"):
            (path / name).write_text((PACKAGED / name).read_text(encoding="utf-8"))

    def migration(self, name: str, text: str, *, breaking: bool = False) -> None:
        said = "yes" if breaking else "no"
        (self.path / "migrations" / f"{name}.sql").write_text(f"-- breaking: {said}\n{text}\n")

    def function(self, name: str, text: str) -> None:
        (self.path / "functions" / "commands" / f"{name}.sql").write_text(f"{text}\n")

    def load(self, release: str = "1.0") -> SchemaFiles:
        return schema_files.load(self.path, release=release)


def commands_folder(path: Path) -> Folder:
    """A folder of one migration and two functions."""
    made = Folder(path)
    made.migration("0001_commands", COMMANDS)
    made.function("add", ADD)
    made.function("twice", TWICE)
    return made


async def run(pool: AsyncConnectionPool[Any], statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def ask(pool: AsyncConnectionPool[Any], question: str) -> object:
    async with pool.connection() as conn:
        row = await (await conn.execute(question.encode())).fetchone()
        return row[0] if row else None


async def schemas(pool: AsyncConnectionPool[Any]) -> object:
    return await ask(
        pool,
        "select coalesce(array_agg(nspname::text order by nspname), '{}') from pg_namespace "
        "where nspname in ('commandbus', 'mainstay', 'pgmq')",
    )


def programs() -> Path:
    """Where pg_dump and psql are, of a version that is not older than any server of ours."""
    return EmbeddedServer().bin_dir


async def dump(dsn: str) -> str:
    found = await asyncio.to_thread(snapshot.dump, programs() / "pg_dump", dsn)
    # Some builds of PostgreSQL stamp every column with the moment at which it was made.
    return "\n".join(line for line in found.splitlines() if "(pg_attver=" not in line)
