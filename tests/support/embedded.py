"""Other processes that use an embedded server, and what can be asked about a server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from mainstay.storage.postgres.embedded.process import FileLock

#: Uses a server until its standard input ends; says where the server is.
USER = """
import json, sys
from mainstay.storage.postgres.embedded import EmbeddedServer
with EmbeddedServer(sys.argv[1], durable=False) as server:
    print(json.dumps({"dsn": server.dsn(), "pid": server.pid, "data_dir": str(server.data_dir)}), flush=True)
    sys.stdin.read()
"""


class OtherProcess:
    """Another process that uses the server of a data directory."""

    def __init__(
        self,
        data_dir: Path | str,
        *,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-c", USER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            text=True,
            **options,
        )

    def told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise AssertionError(said)
        return json.loads(line)

    def leave(self) -> None:
        self._process.communicate(timeout=90)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=90)


@contextmanager
def another(data_dir: Path | str, **options: Any) -> Iterator[OtherProcess]:
    process = OtherProcess(data_dir, **options)
    try:
        yield process
    finally:
        process.kill()


def remember(dsn: str, what: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("create table if not exists remembered (what text)")
        conn.execute("insert into remembered values (%s)", [what])


def remembered(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        return [what for (what,) in conn.execute("select what from remembered order by what")]


def answers(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn) as conn:
            return conn.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that only its parent can remove."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def owns_no_supervisor(data_dir: Path) -> bool:
    lock = FileLock(data_dir / "supervisor.lock")
    try:
        return lock.try_exclusive()
    finally:
        lock.close()
