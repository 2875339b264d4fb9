"""A PgBouncer of the tests' own, where Debian's package or another has put one."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.servers import reachable_directory
from tests.support.waiting import eventually_sync

PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
UNPRIVILEGED = ("postgres", "nobody")
PORT = 6432
"""Part of the socket's name; nobody listens there."""


def program() -> str:
    """Where PgBouncer is; skips the test where it is not installed."""
    found = shutil.which("pgbouncer", path=PLACES)
    if found is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    return found


class PgBouncer:
    """A running one.

    Args:
        folder: Where its socket is: no other process can have taken its address.
        log: What it says.
        user: As whom it connects.
    """

    def __init__(self, folder: Path, log: Path, user: str) -> None:
        self._folder = quote(str(folder), safe="")
        self._user = user
        self.log = log

    def dsn(self, database: str) -> str:
        """How to connect to a database through it."""
        return f"postgresql://{quote(self._user)}@/{quote(database, safe='')}?host={self._folder}&port={PORT}"


@contextmanager
def pgbouncer(admin_dsn: str, *, mode: str = "transaction", connections: int = 5) -> Iterator[PgBouncer]:
    """Start one in front of a server, and stop it at the end of the block.

    In transaction mode it hands out its server connections in turn, so that what is left behind on one is missed at
    once, or found by somebody else.

    Args:
        admin_dsn: How to connect to any database of the server; no password.
        mode: ``session``, ``transaction`` or ``statement``.
        connections: To the server at most, for each database.
    """
    executable = program()
    target = conninfo_to_dict(admin_dsn)
    user = str(target.get("user") or pwd.getpwuid(os.geteuid()).pw_name)
    with reachable_directory() as folder:
        config, log = folder / "pgbouncer.ini", folder / "pgbouncer.log"
        server = " ".join(f"{name}={target[name]}" for name in ("host", "port") if target.get(name))
        config.write_text(
            "[databases]\n"
            f"* = {server} user={user}\n"
            "[pgbouncer]\n"
            f"listen_addr =\nlisten_port = {PORT}\nunix_socket_dir = {folder}\n"
            f"auth_type = any\npool_mode = {mode}\n"
            f"default_pool_size = {connections}\nmax_client_conn = 200\nserver_round_robin = 1\n"
        )
        command = [executable, str(config)]
        if os.geteuid() == 0:  # it refuses to run as root
            known = {each.pw_name for each in pwd.getpwall()}
            account = next(name for name in UNPRIVILEGED if name in known)
            command[1:1] = ["-u", account]
            shutil.chown(folder, account)
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            one = PgBouncer(folder, log, user)
            try:
                eventually_sync(lambda: _answers(one, process), what="PgBouncer answers")
                yield one
            finally:
                process.kill()  # asked to end, newer ones wait for their clients
                process.wait()


def _answers(one: PgBouncer, process: "subprocess.Popen[bytes]") -> bool:
    if process.poll() is not None:
        pytest.fail(f"PgBouncer ended at once: {one.log.read_text()}")
    try:
        with psycopg.connect(one.dsn("postgres"), connect_timeout=10):
            return True
    except psycopg.OperationalError:
        return False
