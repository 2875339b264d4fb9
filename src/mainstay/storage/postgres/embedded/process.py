"""What the embedded server needs to know of the operating system: locks between processes, and the postmaster.

A lock is an ``flock`` on a small file. The kernel gives it back when the process ends, even by SIGKILL, so there is no
list of process ids to keep honest. A lock belongs to the open file, not to the thread: two locks in one process
exclude each other as two processes do.
"""

import errno
import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mainstay.errors import EmbeddedServerError

PAUSE = 0.01
_PIDFILE_LINES = 8
_PF_EXITING = 0x4

#: Way to stop -> signal, and the seconds after which the next way is tried.
ESCALATION = {"fast": (signal.SIGINT, 60.0), "immediate": (signal.SIGQUIT, 10.0), "kill": (signal.SIGKILL, 10.0)}


class Deadline:
    """A moment after which waiting is given up."""

    def __init__(self, seconds: float) -> None:
        """Start counting.

        Args:
            seconds: How long waiting may take.
        """
        self._end = time.monotonic() + seconds

    def passed(self) -> bool:
        """Whether the moment has come."""
        return time.monotonic() >= self._end

    def pause(self, what: str) -> None:
        """Wait for a moment before looking again.

        Args:
            what: What is waited for, for the message.

        Raises:
            EmbeddedServerError: The deadline has passed.
        """
        if self.passed():
            raise EmbeddedServerError(f"gave up waiting for {what}")
        time.sleep(PAUSE)


class FileLock:
    """An ``flock`` on a file of its own. The descriptor is not inherited by programs that this process starts."""

    def __init__(self, path: Path) -> None:
        """Open the file, making it if need be; nothing is locked yet.

        Raises:
            OSError: The file cannot be opened.
        """
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_exclusive(self) -> bool:
        """Take the lock for us alone if that is possible at once."""
        return self._try(fcntl.LOCK_EX)

    def exclusive(self, deadline: Deadline) -> None:
        """Take the lock for us alone.

        Raises:
            EmbeddedServerError: The deadline has passed.
        """
        while not self._try(fcntl.LOCK_EX):
            deadline.pause(f"{self.path}: another process is starting or stopping the server")

    def shared(self, deadline: Deadline) -> None:
        """Take the lock together with others.

        Raises:
            EmbeddedServerError: The deadline has passed.
        """
        while not self._try(fcntl.LOCK_SH):
            deadline.pause(f"{self.path}: the server is being stopped")

    def release(self) -> None:
        """Give the lock back but keep the file open."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file. A duplicate that another process inherited keeps the lock."""
        os.close(self.fd)

    def _try(self, operation: int) -> bool:
        try:
            fcntl.flock(self.fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def exclusively(path: Path, deadline: Deadline) -> Iterator[None]:
    """Hold the lock of a file for the length of a block.

    Raises:
        EmbeddedServerError: The deadline has passed.
        OSError: The file cannot be opened.
    """
    lock = FileLock(path)
    try:
        lock.exclusive(deadline)
        yield
    finally:
        lock.close()


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What ``postmaster.pid`` tells.

    Args:
        cluster: PostgreSQL's data directory.
        pid: Process id of the postmaster.
        port: Port that it listens on; part of the socket's name as well.
        sockets: Directory of its Unix socket.
        tcp: Whether it listens on a TCP port, too.
        ready: Whether it said that it accepts connections.
    """

    cluster: Path
    pid: int
    port: int
    sockets: Path
    tcp: bool
    ready: bool

    @classmethod
    def read(cls, cluster: Path) -> Self | None:
        """Read the file; None if there is none, or none that is complete yet."""
        try:
            text = (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return None
        lines = [line.strip() for line in text.split("\n")]
        if len(lines) < _PIDFILE_LINES or not lines[0].isdigit() or not lines[3].isdigit():
            return None
        return cls(cluster, int(lines[0]), int(lines[3]), Path(lines[4]), bool(lines[5]), lines[7] == "ready")

    @classmethod
    def find(cls, cluster: Path) -> Self | None:
        """The postmaster of a data directory if it accepts connections, else None."""
        found = cls.read(cluster)
        return found if found and found.ready and found.lives() and found.answers() else None

    def lives(self) -> bool:
        """Whether the process is there and is really this postmaster: after a reboot its id may be somebody else's."""
        return _is_postmaster(self.pid, self.cluster)

    def is_there(self) -> bool:
        """Whether it lives, or is dying: for a moment it has no command line any more, and its files are still open."""
        return self.lives() or _is_dying(self.pid)

    def answers(self) -> bool:
        """Whether somebody listens on the socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(str(self.sockets / f".s.PGSQL.{self.port}"))
            except OSError:
                return False
        return True

    def end(self, mode: str) -> None:
        """Stop it and wait until it is gone.

        Args:
            mode: ``"fast"`` breaks connections and shuts down cleanly; ``"immediate"`` leaves recovery to the next
                start; ``"kill"`` is SIGKILL. A mode that does not work in time is followed by the next.

        Raises:
            EmbeddedServerError: It does not go.
        """
        modes = list(ESCALATION)
        for number, seconds in [ESCALATION[later] for later in modes[modes.index(mode) :]]:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return
            deadline = Deadline(seconds)
            while self.is_there() and not deadline.passed():
                time.sleep(PAUSE)
            if not self.is_there():
                return
        raise EmbeddedServerError(f"PostgreSQL (process {self.pid}) does not end, not even by SIGKILL")


def forget_dead_postmaster(cluster: Path) -> bool:
    """Remove a ``postmaster.pid`` whose process is gone, a zombie, or somebody else's by now.

    PostgreSQL does this itself only when no process of the same account has the number by now; in containers, where
    numbers start again at 1, that is often not so. The caller must hold the supervisor's lock.

    Returns:
        Whether there was a leftover of any kind: then PostgreSQL may need a moment until its last children are gone.
    """
    pidfile = cluster / "postmaster.pid"
    try:
        first = pidfile.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except FileNotFoundError:
        return False
    if not first.isdigit() or not _is_postmaster(int(first), cluster):
        pidfile.unlink(missing_ok=True)
    return True


def _is_postmaster(pid: int, cluster: Path) -> bool:
    """Whether a process is the postmaster of a data directory, judged by its command line where that can be read."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH) and Path("/proc/self/cmdline").exists():
            return False
        return _exists(pid)
    program, *arguments = command.split(b"\0")  # a zombie's is empty
    return program.endswith(b"postgres") and os.fsencode(cluster) in arguments


def _is_dying(pid: int) -> bool:
    """Whether a process has begun to exit (the kernel's ``PF_EXITING``) and is not yet a zombie or gone: proc(5)."""
    try:
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return False
    return state not in ("Z", "X") and bool(int(fields[5]) & _PF_EXITING)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
