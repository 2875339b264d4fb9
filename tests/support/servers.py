"""The PostgreSQL servers that tests run on, and throw-away databases on them.

``18`` is the embedded server, or the one that MAINSTAY_TEST_DSN names. ``15`` is the one at 127.0.0.1:5432, or the one
that MAINSTAY_TEST_PG15_DSN names; where there is none, its tests are skipped, but fail if CI is set.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from mainstay.storage.postgres.embedded import EmbeddedServer
from mainstay.storage.postgres.embedded.template import install_schema
from tests.support.backends import KEPT
from tests.support.renewing import Original, Renewed

PG15 = "postgresql://postgres@127.0.0.1:5432/postgres"
SHARED_MEMORY = Path("/dev/shm")
ROOMY = 4 * 1024**3


class Server:
    """A server on which tests make databases and remove them.

    No test of them crashes it, so nobody need wait for a disk: `restartable_server` is there for that.

    Args:
        name: Its major version.
        admin_dsn: A database of it that can be connected to.
        is_ours: It is the tests' own, set up as they need it. On any other, a database does not wait for the disk, and
            a crash may take back what it had committed.
    """

    def __init__(self, name: str, admin_dsn: str, *, is_ours: bool = False) -> None:
        self.name = name
        self.admin_dsn = admin_dsn
        self._is_ours = is_ours
        # Quicker than writing the copy to the log, but only where fsync is off.
        self._strategy = sql.SQL(" strategy file_copy" if is_ours else "")
        self._template: str | None = None
        self._original: Original | None = None
        self._unused: list[str] = []
        self._renewed: dict[str, Renewed] = {}

    def dsn(self, database: str) -> str:
        """How to connect to a database of this server: a URL if we were given one."""
        if "://" not in self.admin_dsn:
            return make_conninfo(self.admin_dsn, dbname=database)
        return urlunsplit(urlsplit(self.admin_dsn)._replace(path=f"/{quote(database, safe='')}"))

    def template(self) -> str:
        """The database with the schema that others are copied from; installed when first asked for."""
        if self._template is None:
            name = self.create_database(prefix="mainstay_template")
            install_schema(self.dsn(name))
            self._template, self._original = name, Original.of(self.dsn(name))
        return self._template

    def create_database(self, template: str | None = None, *, prefix: str = "mainstay_test") -> str:
        name = f"{prefix}_{uuid4().hex[:12]}"
        copied = sql.SQL(" template {}{}").format(sql.Identifier(template), self._strategy) if template else sql.SQL("")
        self._run(sql.SQL("create database {}{}").format(sql.Identifier(name), copied))
        if not self._is_ours:
            self._run(sql.SQL("alter database {} set synchronous_commit = off").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        if name in self._renewed:
            self._renewed.pop(name).close()
        KEPT.close(name)
        self._run(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    @contextmanager
    def database(self, *, schema: bool = True, untouched: bool = False) -> Iterator[str]:
        """The name of a database for the length of a block: new, or as good as new unless it must be `untouched`."""
        template = self.template() if schema else None
        name = self._unused.pop() if schema and self._unused and not untouched else self.create_database(template)
        renewed = False
        try:
            yield name
            renewed = schema and not untouched and self._restore(name)
        finally:
            if renewed:
                self._unused.append(name)
            else:
                self.drop_database(name)

    def _restore(self, name: str) -> bool:
        if self._original is None:
            return False
        return self._renewed.setdefault(name, Renewed(self._original, self.dsn(name))).restore()

    def close(self) -> None:
        for name in filter(None, [self._template, *self._unused]):
            self.drop_database(name)
        self._template, self._original, self._unused = None, None, []

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.admin_dsn, autocommit=True) as conn:
            conn.execute(statement)


class Servers:
    """Starts or finds a server when a test first needs it."""

    def __init__(self) -> None:
        self._exit = ExitStack()
        self._servers: dict[str, Server | str] = {}

    def get(self, name: str) -> Server:
        """The server of a major version, ``"18"`` or ``"15"``; skips or fails the test where there is none."""
        if name not in self._servers:
            found = self._modern() if name == "18" else _reachable(name)
            if isinstance(found, Server):
                self._exit.callback(found.close)
            self._servers[name] = found
        server = self._servers[name]
        if isinstance(server, Server):
            return server
        if os.environ.get("CI"):
            pytest.fail(server)
        pytest.skip(server)

    def close(self) -> None:
        self._exit.close()

    def _modern(self) -> Server:
        dsn = os.environ.get("MAINSTAY_TEST_DSN")
        if not dsn:
            directory = self._exit.enter_context(reachable_directory())
            embedded = self._exit.enter_context(EmbeddedServer(directory / "data", durable=False))
            return Server("18", embedded.dsn("postgres"), is_ours=True)
        return Server("18", dsn)


@contextmanager
def reachable_directory(*, in_memory: bool = True) -> Iterator[Path]:
    """A temporary directory that the account of the embedded server can enter, also when root runs the tests.

    In memory, if there is much of it, because every test makes a database; programs may not be executable there.
    """
    base = SHARED_MEMORY if in_memory and _is_roomy(SHARED_MEMORY) else None
    if base is None and os.geteuid() == 0 and Path("/tmp").is_dir():
        base = Path("/tmp")
    path = Path(tempfile.mkdtemp(prefix="mainstay-test-", dir=base))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _is_roomy(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK) and shutil.disk_usage(path).free > ROOMY


def copy_data(source: Path, target: Path) -> Path:
    """Copy the data directory of a stopped server, owners and modes included."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target


@asynccontextmanager
async def open_pool(dsn: str, **options: Any) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """A pool of 1 to 10 connections, open for the length of a block."""
    async with AsyncConnectionPool(dsn, **{"min_size": 1, "max_size": 10, "open": False, **options}) as pool:
        yield pool


def _reachable(name: str) -> Server | str:
    dsn = os.environ.get(f"MAINSTAY_TEST_PG{name}_DSN", PG15)
    try:
        with psycopg.connect(dsn, connect_timeout=60) as conn:
            version = conn.info.server_version // 10_000
    except psycopg.OperationalError as error:
        return f"no PostgreSQL {name} (MAINSTAY_TEST_PG{name}_DSN): {error}"
    if version != int(name):
        return f"MAINSTAY_TEST_PG{name}_DSN, or its default, is a PostgreSQL {version}, not {name}"
    return Server(name, dsn)
