"""The feed under a storm: many writers in several processes, kills, and readers that must not miss an event.

``python -m tests.chaos.feed [--events N] [--writers N] [--minutes N]`` is the long form; ``make chaos`` ends with it.
Writers append 1 to 5 events at a time, in transactions with random delays, savepoints, and 15 % that roll back; their
backends are terminated and their processes killed. Every event tells which one its writer had seen before.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mainstay.storage.postgres.embedded import EmbeddedServer
from tests.chaos.feed_process import APPLICATION, Part, Seen
from tests.support.servers import Server, reachable_directory
from tests.support.waiting import eventually_sync

ROOT = Path(__file__).parents[2]
KILL_EVERY = 1.0
"""Seconds between two kills."""
LONGEST = 45.0
"""Minutes after which the long form ends, however many events there are."""
TERMINATE = """
    select pg_terminate_backend(pid) from (
        select pid from pg_stat_activity
        where datname = current_database() and application_name = %s order by random() limit 2) as victims
"""


@dataclass(frozen=True)
class Storm:
    """What came of it."""

    events: int
    drawn: int
    seconds: float
    terminated: int
    killed: int
    readers: list[Seen]
    naive: list[Seen]
    findings: list[dict[str, Any]]

    @property
    def holds(self) -> bool:
        return not self.findings and all(
            (seen.missed, seen.doubled, seen.stream_inverted, seen.cause_inverted) == (0, 0, 0, 0)
            and seen.events == self.events
            for seen in self.readers
        )


class Crew:
    """Processes of writers or readers."""

    def __init__(self, stack: ExitStack) -> None:
        self._processes: list[tuple[Part, subprocess.Popen[str]]] = []
        stack.callback(self._end)

    def start(self, part: Part) -> None:
        command = [sys.executable, "-m", "tests.chaos.feed_process", part.to_json()]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._processes.append((part, process))
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"

    def kill_one(self, draw: random.Random) -> None:
        """Kill a process, and start another one in its place."""
        part, process = self._processes.pop(draw.randrange(len(self._processes)))
        process.kill()
        process.communicate()
        self.start(Part(**{**vars(part), "seed": part.seed + 100}))

    def finish(self) -> list[str]:
        """Let all end what they do; what they said."""
        for _, process in self._processes:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=1800)[0] for _, process in self._processes]
        assert all(process.returncode == 0 for _, process in self._processes)
        return said

    def _end(self) -> None:
        for _, process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def storm(
    dsn: str,
    *,
    events: int,
    writers: int,
    seed: int,
    processes: int = 4,
    readers: int = 2,
    longest: float = 60 * LONGEST,
    counted: Callable[[int], None] = lambda _: None,
) -> Storm:
    """Let it rage until so many events are there, or the time (seconds) is over."""
    draw = random.Random(seed)
    terminated = killed = 0
    began = time.monotonic()
    with ExitStack() as stack:
        conn = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        writing, reading, naively = Crew(stack), Crew(stack), Crew(stack)
        for number in range(readers):
            reading.start(Part(dsn, seed + number))
        naively.start(Part(dsn, seed, naive=True))
        for number in range(processes):
            writing.start(Part(dsn, seed + number, writers=writers // processes))

        def count() -> int:
            ((found,),) = conn.execute("select count(*) from eventsource.event").fetchall()
            return int(found)

        next_count, found = 0.0, 0
        while found < events and time.monotonic() < began + longest:
            now = time.monotonic()
            eventually_sync(lambda until=now + KILL_EVERY: time.monotonic() >= until, what="the next kill")
            if draw.random() < 0.8:
                terminated += len(conn.execute(TERMINATE, [APPLICATION]).fetchall())
            else:
                killed += 1
                writing.kill_one(draw)
            if now >= next_count:
                found, next_count = count(), now + min(10.0, events / 10_000)
                counted(found)
        writing.finish()
        seconds = time.monotonic() - began
        seen = [Seen(**json.loads(said)) for said in reading.finish()]
        naive = [Seen(**json.loads(said)) for said in naively.finish()]
        faults = conn.execute("select invariant, details from eventsource.find_event_faults()").fetchall()
        ((drawn,),) = conn.execute("select last_value from eventsource.event_position").fetchall()
        findings = [{"invariant": invariant, **details} for invariant, details in faults]
        return Storm(count(), drawn, seconds, terminated, killed, seen, naive, findings)


def show(result: Storm) -> None:
    print(
        f"{result.events:,} events of {result.drawn:,} positions in {result.seconds:.0f} s; {result.terminated} "
        f"backends terminated, {result.killed} processes killed; fsck: {len(result.findings)} findings"
    )
    for name, group in (("reader", result.readers), ("naive reader", result.naive)):
        for seen in group:
            print(
                f"{name}: {seen.events:,} met, {seen.resumed} times resumed, {seen.missed:,} missed, {seen.doubled} "
                f"doubled, {seen.stream_inverted:,} out of their stream's order, {seen.cause_inverted:,} before "
                "their cause"
            )


def long_storm(console: Console, *, events: int, writers: int = 32, seed: int, minutes: float = LONGEST) -> Storm:
    """The long form, on a server of its own, with a bar that shows how far it is."""
    bar = Progress(
        TextColumn("the feed under a storm"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with ExitStack() as stack:
        directory = stack.enter_context(reachable_directory())
        embedded = stack.enter_context(EmbeddedServer(directory / "data", port=0, durable=False))
        server = Server("18", embedded.dsn("postgres"), is_ours=True)
        name = stack.enter_context(server.database())
        stack.enter_context(bar)
        task = bar.add_task("", total=events)
        tenths = 0

        def counted(found: int) -> None:
            nonlocal tenths
            bar.update(task, completed=min(found, events))
            if not console.is_terminal and 10 * found // events > tenths:
                tenths = 10 * found // events
                console.print(f"{found:,} events")

        return storm(server.dsn(name), events=events, writers=writers, seed=seed, longest=60 * minutes, counted=counted)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.feed", description="The feed under a storm.")
    parser.add_argument("--events", type=int, default=1_000_000, help="when that many are there, it is over")
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=LONGEST, help="after which it ends in any case")
    result = long_storm(Console(), **vars(parser.parse_args()))
    show(result)
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
