"""PostgreSQL clusters of a test's own, to be dumped and restored, copied by streaming, stopped and promoted.

``18`` is made with the programs of the embedded server's wheel, ``15`` with Debian's, or with those in the directory
that MAINSTAY_TEST_PG15_BIN names. Where they are missing, tests are skipped with the reason, but fail if CI is set.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mainstay.errors import MainstayError
from mainstay.storage.postgres.embedded.place import settle
from mainstay.storage.postgres.embedded.template import install_schema
from tests.support.servers import copy_data, reachable_directory

DEBIAN = "/usr/lib/postgresql/{}/bin"
NEEDED = ("initdb", "pg_ctl", "postgres", "pg_basebackup", "pg_dump", "pg_restore")
DATABASE = "events"
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "40",
    "max_prepared_transactions": "10",
    "max_wal_senders": "4",
    "shared_buffers": "32MB",
    "wal_level": "replica",
}


@dataclass(frozen=True)
class Programs:
    """The programs of one major version, and the account that runs them."""

    version: str
    directory: Path
    options: Mapping[str, Any]

    def run(self, program: str, *arguments: str) -> str:
        """Run one to its end, as the account; what it said."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        done = subprocess.run(
            [str(self.directory / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment | {"LC_ALL": "C"},
            text=True,
            check=False,
            **self.options,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}"
        return done.stdout


def find_programs(version: str, home: Path) -> Programs:
    """The programs of a version; skips or fails the test where there are none.

    Args:
        version: ``"18"`` or ``"15"``.
        home: A directory that the account can enter.
    """
    try:
        place = settle(home)
    except MainstayError as error:
        return _missing(str(error))
    directory = place.binaries
    if version != "18":
        directory = Path(os.environ.get(f"MAINSTAY_TEST_PG{version}_BIN", DEBIAN.format(version)))
    if missing := [name for name in NEEDED if not (directory / name).exists()]:
        return _missing(f"no {missing[0]} of PostgreSQL {version} in {directory} (MAINSTAY_TEST_PG{version}_BIN)")
    place.give(home)
    return Programs(version, directory, place.options())


def _missing(reason: str) -> Programs:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Cluster:
    """One cluster, which listens on a Unix socket in its own directory.

    Args:
        programs: Of its version.
        directory: Belongs to the account; the data is in ``data`` below it.
    """

    def __init__(self, programs: Programs, directory: Path) -> None:
        self.programs = programs
        self.directory = directory
        self.data = directory / "data"
        self._runs = False

    def dsn(self, database: str = DATABASE) -> str:
        """How to connect to a database."""
        return make_conninfo("", host=str(self.directory), user="postgres", dbname=database)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        settings = SETTINGS | {"unix_socket_directories": str(self.directory)}
        given = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = str(self.directory / "log")
        self.programs.run("pg_ctl", "start", "--wait", "-D", str(self.data), "-l", log, "-o", given)
        self._runs = True

    def stop(self, mode: str = "fast") -> None:
        """Stop it, if it runs; ``"immediate"`` is a crash."""
        if self._runs:
            self.programs.run("pg_ctl", "stop", "--wait", "-D", str(self.data), "-m", mode)
            self._runs = False

    def take_the_place_of(self, other: "Cluster") -> None:
        """Answer where another cluster did, from the next start on."""
        self.directory = other.directory

    def promote(self) -> None:
        """Make a standby a primary."""
        self.programs.run("pg_ctl", "promote", "--wait", "-D", str(self.data))

    def dump(self, file: Path) -> None:
        """Dump the database."""
        self.programs.run("pg_dump", "--format=custom", "--compress=0", f"--file={file}", self.dsn())

    def restore(self, file: Path) -> None:
        """Make the database from a dump; it must not be there."""
        self.programs.run("pg_restore", "--create", "--exit-on-error", f"--dbname={self.dsn('postgres')}", str(file))


class Clusters:
    """Makes clusters of one version, in one directory."""

    def __init__(self, programs: Programs, home: Path) -> None:
        self._programs = programs
        self._home = home
        self._made: list[Cluster] = []
        self._original: Path | None = None
        self._numbers = count()

    def blank(self) -> Cluster:
        """A new cluster without our database; not started."""
        cluster = self._next()
        self._programs.run(
            "initdb", "-D", str(cluster.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"
        )
        return cluster

    def primary(self) -> Cluster:
        """A running cluster with our schema in a database."""
        if self._original is None:
            original = self.blank()
            self._made.remove(original)
            original.start()
            with psycopg.connect(original.dsn("postgres"), autocommit=True) as conn:
                conn.execute(f"create database {DATABASE}")
            install_schema(original.dsn())
            original.stop()
            self._original = original.data
        cluster = self._next()
        copy_data(self._original, cluster.data)
        cluster.start()
        return cluster

    def standby(self, primary: Cluster) -> Cluster:
        """A running copy of a primary that streams from it."""
        cluster = self._next()
        self._programs.run(
            *("pg_basebackup", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync"),
            *(f"--dbname={primary.dsn('postgres')}", "-D", str(cluster.data)),
        )
        cluster.start()
        return cluster

    def close(self) -> None:
        """Stop and remove them all; only what primaries are copied from stays."""
        for cluster in self._made:
            cluster.stop("immediate")
            shutil.rmtree(cluster.data.parent)
        self._made.clear()

    def _next(self) -> Cluster:
        directory = self._home / str(next(self._numbers))
        directory.mkdir(mode=0o700)
        if "user" in self._programs.options:
            os.chown(directory, self._programs.options["user"], self._programs.options["group"])
        self._made.append(Cluster(self._programs, directory))
        return self._made[-1]


@contextmanager
def clusters_of(version: str) -> Iterator[Clusters]:
    """Clusters of a version, stopped and removed at the end of the block."""
    with reachable_directory() as path:
        home = path / "clusters"
        clusters = Clusters(find_programs(version, home), home)
        try:
            yield clusters
        finally:
            clusters.close()
