"""Worker processes: started, listened to, killed, stopped.

Each runs the real ``mainstay worker --json`` in a session of its own, so that Ctrl-C reaches only the demo, which then
stops them in order. Each holds a pipe to the demo as standard input and stops when that closes: however the demo ends,
no worker outlives it.
"""

import asyncio
import os
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import orjson

from mainstay.errors import MainstayError
from mainstay.operations.demo.handlers import DOMAIN

REGISTRY: Final = "mainstay.operations.demo.handlers:registry"
_START_TIMEOUT: Final = 30.0
_STOP_TIMEOUT: Final = 8.0


class WorkerProcessError(MainstayError):
    """A worker process of the demo ended by itself, or did not start."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """How a worker process is doing.

    Args:
        number: Counted from 1, in the order of starting.
        pid: Of the process; None before it starts.
        state: starting, working, killed or stopped.
        handled: Commands whose handlers have ended.
        per_second: Of them in the last second.
        in_flight: Handlers that run.
    """

    number: int
    pid: int | None
    state: str
    handled: int
    per_second: float
    in_flight: int


class WorkerProcess:
    """One worker process.

    Args:
        number: Counted from 1.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = "starting"
        self.handled = 0
        self.per_second = 0.0
        self.in_flight = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._said: deque[str] = deque(maxlen=5)

    @property
    def view(self) -> WorkerView:
        """How it is doing."""
        pid = self._process.pid if self._process else None
        return WorkerView(self.number, pid, self.state, self.handled, self.per_second, self.in_flight)

    async def start(self, dsn: str, *, concurrency: int, lease: float) -> None:
        """Start it and wait until it works.

        Raises:
            WorkerProcessError: It does not start; the message holds what it said.
        """
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mainstay.operations.cli", "worker", REGISTRY),
            *(
                "--json",
                "--concurrency",
                str(concurrency),
                "--visibility-timeout",
                str(lease),
                "--poll-interval",
                "0.5",
            ),
            *("--grace", "1", "--report-every", "0.25", "--stop-at-eof"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"DATABASE_URL": dsn},
        )
        self._reader = asyncio.create_task(self._read(self._process))
        started = asyncio.create_task(self._started.wait())
        try:
            await asyncio.wait({started, self._reader}, timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        if not self._started.is_set():
            raise WorkerProcessError(
                f"worker {self.number} does not start: {' '.join(self._said) or 'it says nothing'}"
            )
        self.state = "working"

    def check(self) -> None:
        """See that it still runs.

        Raises:
            WorkerProcessError: It ended by itself.
        """
        if self.state == "working" and self._process and self._process.returncode is not None:
            raise WorkerProcessError(f"worker {self.number} ended by itself: {' '.join(self._said)}")

    def kill(self) -> None:
        """SIGKILL: it has no chance to say or give back anything."""
        if self._process:
            self._process.kill()
        self.state = "killed"
        self.per_second = 0.0

    async def stop(self) -> None:
        """Stop it gently, and if that takes too long, not gently. Does nothing if it has ended."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self.state != "killed":
            self.state = "stopped"
        self.per_second = 0.0
        if self._reader:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Listen to what it logs."""
        if process.stdout is None:  # pragma: no cover - it was asked for
            return
        async for raw in process.stdout:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                self._said.append(raw.decode("utf-8", "replace").strip())
                continue
            if "error" in line:
                self._said.append(line["error"].get("message", ""))
            elif line.get("domain") == DOMAIN and "handled" in line:
                self.handled = line["handled"]
                self.in_flight = line["in_flight"]
                self.per_second = line.get("per_second", 0.0) if self.state == "working" else 0.0
            elif line.get("message") == "started" and line.get("domain") == DOMAIN:
                self._started.set()
            elif line.get("level") in ("warning", "error"):
                self._said.append(line.get("message", ""))


class Crew:
    """All worker processes of a run, those that were killed included.

    Args:
        dsn: Where they work.
        concurrency: Of each.
        lease: Of each, in seconds.
    """

    def __init__(self, dsn: str, *, concurrency: int, lease: float) -> None:
        self._dsn = dsn
        self._concurrency = concurrency
        self._lease = lease
        self.members: list[WorkerProcess] = []

    async def start(self, count: int) -> None:
        """Start this many more.

        Raises:
            WorkerProcessError: One does not start.
        """
        new = [WorkerProcess(len(self.members) + n + 1) for n in range(count)]
        self.members += new
        async with asyncio.TaskGroup() as group:
            for member in new:
                group.create_task(member.start(self._dsn, concurrency=self._concurrency, lease=self._lease))

    def victim(self) -> WorkerProcess:
        """The one that has the most to lose."""
        return max((each for each in self.members if each.state == "working"), key=lambda each: each.in_flight)

    def check(self) -> None:
        """See that all that should run do.

        Raises:
            WorkerProcessError: One ended by itself.
        """
        for member in self.members:
            member.check()

    @property
    def views(self) -> list[WorkerView]:
        """How they are doing."""
        return [member.view for member in self.members]

    async def stop(self) -> None:
        """Stop all of them."""
        await asyncio.gather(*(member.stop() for member in self.members))
