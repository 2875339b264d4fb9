"""Worker processes, and what is done to them."""

import random
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.worker_process import DIED, Plan

ROOT = Path(__file__).parents[2]
LEAVE = 90.0
"""Seconds that a worker may take to end after SIGTERM."""


class Fleet:
    """Some worker processes. However the block ends, none of them outlives it.

    Args:
        plan: How each of them works.
        draw: Chooses victims.
    """

    def __init__(self, plan: Plan, draw: random.Random) -> None:
        self._plan = plan
        self._draw = draw
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the fleet
        self.died: list[int] = []
        """Exit codes of those that ended although nobody told them to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            _kill(process)
        self._log.close()

    def start(self, count: int) -> None:
        command = [sys.executable, "-m", "tests.chaos.worker_process", self._plan.to_json()]
        self._processes += [
            subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                preexec_fn=_deaf_at_first,  # noqa: PLW1509 - it only ignores two signals
            )
            for _ in range(count)
        ]

    def choose(self) -> "subprocess.Popen[bytes]":
        return self._draw.choice(self._processes)

    def kill_one(self) -> None:
        """SIGKILL one of them, and start another in its place."""
        victim = self.choose()
        self._processes.remove(victim)
        _kill(victim)
        self.start(1)

    def signal_all(self, number: int) -> None:
        """Send each of them a signal."""
        for process in self._processes:
            process.send_signal(number)

    def check(self) -> None:
        """See that all of them live.

        Raises:
            AssertionError: One has ended by itself; with the end of the log.
        """
        if any(process.poll() is not None for process in self._processes):
            raise AssertionError(f"a worker process ended by itself:\n{self.log_tail()}")

    def replace_dead(self) -> int:
        """Start another for each that a handler ended on purpose; how many there were.

        Raises:
            AssertionError: One has ended for another reason; with the end of the log.
        """
        if any(process.poll() not in (None, DIED) for process in self._processes):
            self.check()
        dead = [process for process in self._processes if process.poll() is not None]
        for process in dead:
            self._processes.remove(process)
            self.died.append(process.returncode)
            _kill(process)
        self.start(len(dead))
        return len(dead)

    def stop(self) -> None:
        """End all of them gently, and note who did not end so."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(LEAVE)
            except subprocess.TimeoutExpired:
                self.died.append(-signal.SIGKILL)
            if process.returncode not in (0, -signal.SIGTERM):  # one that had not begun ends at the signal
                self.died.append(process.returncode)
            _kill(process)
        self._processes.clear()

    def ended_badly(self, *, may_die: bool) -> int:
        """How many ended by themselves, except those that a handler ended on purpose."""
        return sum(1 for code in self.died if not (may_die and code == DIED))

    def log_tail(self, size: int = 6000) -> str:
        """The end of what they logged."""
        end = self._log.seek(0, 2)
        self._log.seek(max(0, end - size))
        return self._log.read().decode("utf-8", "replace")


def _deaf_at_first() -> None:
    """A signal that steps the clock must not end a process that has not begun to listen."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()
