"""Runs peer scripts: one process for each request, or workers that are started together and told to stop."""

import json
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.environments import command_for, environment_for
from benchmarks.line_up import Peer

Progress = Callable[[int, int], None]
POLL = 0.002  # seconds between two looks at whether everything is committed
SILENCE = 60.0  # seconds without news after which a worker is given up


class PeerFailedError(Exception):
    """A peer's process ended with an error or said nothing for too long."""


class Process:
    """A peer's process and what it writes to standard error.

    Args:
        command: What to run.
        environment: Its environment variables.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by end(); a pipe nobody reads would fill up
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            env=environment,
        )

    def complaint(self) -> str:
        """The last line of what it wrote to standard error."""
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it ended without a word"

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()
        self._errors.close()


class Runner:
    """Talks to one peer's processes.

    Args:
        peer: Whose script to run.
        python: With which interpreter.
    """

    def __init__(self, peer: Peer, python: Path) -> None:
        self.peer = peer
        self._python = python

    def ask(self, op: str, dsn: str, *, timeout: float, **request: Any) -> dict[str, Any]:
        """Have the peer answer one request in a process of its own.

        Args:
            op: The operation; see ``peers/protocol.py``.
            dsn: Its database.
            timeout: Seconds after which it is killed.
            request: The rest of the request.

        Raises:
            PeerFailedError: It failed or took too long.
        """
        with self._start(op, dsn, request) as process:
            try:
                answer, _ = process.popen.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise PeerFailedError(f"{op} took more than {timeout:.0f} s") from None
            if process.popen.returncode or not answer.strip():
                raise PeerFailedError(f"{op}: {process.complaint()}")
        return dict(json.loads(answer.strip().splitlines()[-1]))

    @contextmanager
    def _start(self, op: str, dsn: str, request: dict[str, Any]) -> Iterator[Process]:
        asked = json.dumps({"op": op, "dsn": dsn, **request})
        process = Process(command_for(self.peer, self._python, asked), environment_for(self.peer))
        try:
            yield process
        finally:
            process.end()

    @contextmanager
    def workers(self, dsn: str, count: int, **request: Any) -> Iterator["Workers"]:
        """Start worker processes and wait until each is ready to be told to go.

        Args:
            dsn: The peer's database.
            count: How many processes.
            request: ``concurrency``, ``handler``, ``connections``, ``record`` and, for `Workers.weights`, ``weigh``.
        """
        with self._start("work", dsn, request) as first:
            if count == 1:
                yield Workers([first])
                return
            with self.workers(dsn, count - 1, **request) as others:
                yield Workers([first, *others.processes])


class Workers:
    """Worker processes that run at the same time.

    Args:
        processes: As started; each will say that it is ready.
    """

    def __init__(self, processes: list[Process]) -> None:
        self.processes = processes
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._handled = [0] * len(processes)
        self.weights: list[tuple[int, int]] = []
        """Commands handled in all, and the memory that the process that told held then, in bytes."""

    def go(self) -> float:
        """Let all begin at once; return when, on the monotonic clock.

        Raises:
            PeerFailedError: One of them failed to start.
        """
        for number, process in enumerate(self.processes):
            threading.Thread(target=self._listen, args=(number, process), daemon=True).start()
        for _ in self.processes:
            self._next()
        begin = time.monotonic()
        self._tell("go")
        return begin

    def wait(self, count: int, progress: Progress) -> None:
        """Wait until so many commands were handled in all.

        Raises:
            PeerFailedError: A worker ended, or none made progress for a minute.
        """
        while (handled := sum(self._handled)) < count:
            progress(handled, count)
            self._next()
        progress(count, count)

    def stop(self) -> list[dict[str, Any]]:
        """Stop all; return what each says at the end.

        Raises:
            PeerFailedError: One of them failed instead.
        """
        self._tell("stop")
        last: dict[int, dict[str, Any]] = {}
        while len(last) < len(self.processes):
            number, message = self._next()
            if message.get("finished"):
                last[number] = message
        return list(last.values())

    def _tell(self, word: str) -> None:
        for process in self.processes:
            if process.popen.stdin:
                process.popen.stdin.write(f"{word}\n")

    def _listen(self, number: int, process: Process) -> None:
        message: dict[str, Any] = {}
        for line in process.popen.stdout or ():
            message = json.loads(line)
            self._said.put((number, message))
        if not message.get("finished"):
            self._said.put((number, None))

    def _next(self) -> tuple[int, dict[str, Any]]:
        try:
            number, message = self._said.get(timeout=SILENCE)
        except queue.Empty:
            raise PeerFailedError(f"no progress for {SILENCE:.0f} s at {sum(self._handled)} commands") from None
        if message is None:
            raise PeerFailedError(f"worker ended: {self.processes[number].complaint()}")
        self._handled[number] = message.get("handled", self._handled[number])
        if "holds" in message:
            self.weights.append((sum(self._handled), message["holds"]))
        return number, message


def wait_until_idle(dsn: str, question: str, *, timeout: float) -> float:
    """Wait until everything handled is committed too; return when, on the monotonic clock.

    Raises:
        PeerFailedError: It took too long.
    """
    deadline = time.monotonic() + timeout
    with psycopg.connect(dsn, autocommit=True) as conn:
        while True:
            row = conn.execute(question.encode()).fetchone()
            now = time.monotonic()
            if row and row[0]:
                return now
            if now > deadline:
                raise PeerFailedError("handled everything, but never completed it")
            time.sleep(POLL)
