"""Making the embedded server's data directory, and getting a server to run on it.

Everything here happens under ``start.lock``.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mainstay.errors import EmbeddedServerError
from mainstay.storage.postgres.embedded import supervisor
from mainstay.storage.postgres.embedded.place import MAJOR, Place
from mainstay.storage.postgres.embedded.process import Deadline, FileLock, Postmaster, forget_dead_postmaster

SUPERUSER = "postgres"
_SETTINGS = {"max_connections": "200", "shared_buffers": "128MB", "timezone": "UTC", "log_timezone": "UTC"}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # a crash of the server alone still loses nothing
_UNIX_PORT = 5432
_LOG_LIMIT = 10_000_000  # bytes; a longer log is set aside at the next start
_RECOVERY = 15.0  # seconds in which a server that crashed may still be losing its last children


@dataclass(frozen=True, slots=True)
class Wish:
    """How a server should be if it is ours to start.

    Args:
        settings: PostgreSQL settings by name.
        durable: Whether commits survive a crash of the machine.
        port: TCP port of 127.0.0.1; 0 for any, None for none.
        sockets: Directory of the Unix socket in an earlier run.
    """

    settings: Mapping[str, str]
    durable: bool
    port: int | None
    sockets: Path | None

    def arguments(self, sockets: Path) -> list[str]:
        """The settings as arguments of ``postgres``: they pass through no shell and no configuration file."""
        port = _free_port() if self.port == 0 else self.port
        settings = _SETTINGS | ({} if self.durable else _NOT_DURABLE) | dict(self.settings)
        settings |= {
            "listen_addresses": "" if port is None else "127.0.0.1",
            "port": str(port or _UNIX_PORT),
            "unix_socket_directories": '"{}"'.format(str(sockets).replace('"', '""')),
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def make_cluster(place: Place, *, durable: bool) -> None:
    """Make PostgreSQL's data directory if there is none; whole, or not at all.

    Raises:
        EmbeddedServerError: It cannot be made, or another major version made it.
        OSError: A file operation failed.
    """
    for leftover in place.data_dir.glob("init-*"):  # of a starter that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    version = place.cluster / "PG_VERSION"
    if version.exists():
        found = version.read_text(encoding="ascii").strip()
        if found != MAJOR:
            raise EmbeddedServerError(f"{place.data_dir} was made by PostgreSQL {found}, and this is {MAJOR}")
        return
    scratch = Path(tempfile.mkdtemp(prefix="init-", dir=place.data_dir))
    try:
        password = scratch / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), encoding="ascii")
        place.give(scratch, password)
        initdb = subprocess.run(  # noqa: S603 - a program of the wheel
            [
                *(str(place.binaries / "initdb"), "-D", str(scratch / "pgdata"), "-U", SUPERUSER),
                *("--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"),
                *(f"--pwfile={password}", "--no-instructions", *([] if durable else ["--no-sync"])),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            check=False,
            **place.options(),
        )
        if initdb.returncode != 0:
            said = initdb.stdout.decode("utf-8", "replace")[-2000:]
            raise EmbeddedServerError(f"no database can be made in {place.data_dir}; initdb says:\n{said}")
        password.replace(place.password)
        (scratch / "pgdata").rename(place.cluster)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run_server(place: Place, wish: Wish, deadline: Deadline) -> Postmaster:
    """Join the server, or start one; returns when it accepts connections.

    The caller holds ``users.lock`` shared, so no supervisor stops the server meanwhile.

    Raises:
        EmbeddedServerError: It does not start, or one runs that does not listen where the caller wants.
        OSError: A file operation failed.
    """
    patience = Deadline(0)
    attempts = 0
    mark = 0
    while (found := Postmaster.find(place.cluster)) is None:
        lock = FileLock(place.lock("supervisor"))
        try:
            if lock.try_exclusive():  # so there is no supervisor, and nothing for us to wait for
                if attempts and patience.passed():
                    tail = log_tail(place.log, start=mark)
                    raise EmbeddedServerError(f"PostgreSQL does not start; its log says:\n{tail}")
                crashed = forget_dead_postmaster(place.cluster)
                if crashed and not attempts:
                    patience = Deadline(_RECOVERY)
                attempts += 1
                mark = _spawn(place, wish, lock)
        finally:
            lock.close()
        if deadline.passed():
            tail = log_tail(place.log, start=mark)
            raise EmbeddedServerError(f"PostgreSQL did not accept connections in time; its log says:\n{tail}")
        deadline.pause("PostgreSQL")
    if wish.port is not None and (not found.tcp or wish.port not in (0, found.port)):
        raise EmbeddedServerError(
            f"the server in {place.data_dir} runs already, and not on TCP port {wish.port or 'of any number'}; "
            "stop the programs that use it first"
        )
    return found


def log_tail(log: Path, *, lines: int = 20, start: int = 0) -> str:
    """The end of a log.

    Args:
        log: The file.
        lines: How many lines at most.
        start: Bytes to skip.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - 100_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _spawn(place: Place, wish: Wish, lock: FileLock) -> int:
    """Start the supervisor, which starts the server. It inherits the lock that we hold.

    Returns:
        Where in the log this run begins.
    """
    sockets = place.make_socket_directory(wish.sockets)
    for leftover in sockets.glob(".s.PGSQL.*"):
        leftover.unlink()
    if place.log.exists() and place.log.stat().st_size > _LOG_LIMIT:
        place.log.replace(place.log.with_suffix(".log.1"))
    place.log.touch(mode=0o600)
    mark = place.log.stat().st_size
    account = place.account
    users = FileLock(place.lock("users"))
    try:
        with place.log.open("ab") as log:
            subprocess.run(  # noqa: S603 - our own script
                [
                    *(sys.executable, "-I", "-S", supervisor.__file__, str(users.fd), str(sockets)),
                    *((str(account.uid), str(account.gid)) if account else ("-", "-")),
                    *(str(place.binaries / "postgres"), "-D", str(place.cluster), *wish.arguments(sockets)),
                ],
                pass_fds=(users.fd, lock.fd),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                check=False,
            )
    finally:
        users.close()
    return mark


def _environment() -> dict[str, str]:
    """Our environment without what would steer PostgreSQL behind our back."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
