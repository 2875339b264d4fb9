"""What handlers in other processes wrote down, and what can be counted in it; see `tests.support.limited_worker`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Log:
    """What handlers wrote down."""

    path: Path

    def lines(self, *what: str) -> list[list[str]]:
        found = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [line for line in found if line[0] in what]

    def started(self, command_type: str) -> list[str]:
        return [run for _, run, of_type, _, _ in self.lines("start") if of_type == command_type]

    def runs(self, command_type: str) -> Iterator[tuple[int, int, str]]:
        """Start, end and customer of each run; what a killed process left open ended when it was seen dead.

        Runs may have one name: an attempt that a breaker held is made again, and perhaps in the same process.
        """
        ends: dict[str, list[int]] = {}
        for _, name, _, _, at in self.lines("end", "dead"):
            ends.setdefault(name, []).append(int(at))
        for _, run, of_type, customer, at in self.lines("start"):
            if of_type == command_type:
                yield int(at), ends[run].pop(0) if ends.get(run) else ends[process_of(run)][0], customer


def process_of(run: str) -> str:
    return run.rpartition("/")[2]


@contextmanager
def workers(dsn: str, path: Path, count: int) -> Iterator[Log]:
    """So many workers in processes of their own, for the length of a block."""
    command = [sys.executable, "-m", "tests.support.limited_worker", dsn, str(path), str(count)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE) as forking:
        yield Log(path)  # at the end the processes see the end of their input
    assert forking.returncode == 0


def most_at_once(runs: list[tuple[int, int, str]]) -> int:
    """How many ran at the same moment at most; an end comes before a start of the same moment."""
    moves = sorted([(start, 1) for start, _, _ in runs] + [(end, -1) for _, end, _ in runs])
    most = now = 0
    for _, change in moves:
        now += change
        most = max(most, now)
    return most


def most_within(starts: list[int], window: int) -> int:
    """How many starts lie in any half-open window of this length at most."""
    starts, most, first = sorted(starts), 0, 0
    for last, at in enumerate(starts):
        while at - starts[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most
