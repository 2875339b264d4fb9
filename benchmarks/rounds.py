"""A run: scenario by scenario its rounds, in each of which every peer is measured once, in turn."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.environments import NotInstalledError, python_for
from benchmarks.event_measurements import EventBench
from benchmarks.laboratory import Laboratory
from benchmarks.line_up import Peer
from benchmarks.measurements import Bench
from benchmarks.processes import PeerFailedError, Runner
from benchmarks.results import Results
from benchmarks.scenario import Scenario


class Run:
    """Measures every scenario with every peer.

    Args:
        results: Filled as the run goes on.
        laboratory: Where databases are made.
        console: Where progress is shown.
        timeout: Seconds after which one measurement is given up.
        save: Called after each measurement, so that a run that is broken off leaves what it found.
    """

    def __init__(
        self, results: Results, laboratory: Laboratory, console: Console, timeout: float, save: Callable[[], None]
    ) -> None:
        self._results = results
        self._laboratory = laboratory
        self._console = console
        self._timeout = timeout
        self._save = save
        self._benches: dict[str, Bench] = {}

    def run(self) -> None:
        """Measure it all.

        One measurement at a time: only so do the figures compare. A smoke run compares nothing, and takes all peers at
        once.
        """
        self._make_ready()
        plan = self._plan()
        lanes = (
            [[step for step in plan if step[2].key == key] for key in self._benches] if self._results.smoke else [plan]
        )
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress, ThreadPoolExecutor(len(lanes) or 1) as threads:
            whole = progress.add_task("all measurements", total=len(plan))
            for done in [threads.submit(self._walk, lane, progress, whole) for lane in lanes]:
                done.result()
        self._save()

    def _walk(self, lane: list[tuple[int, Scenario, Peer]], progress: Progress, whole: TaskID) -> None:
        current = progress.add_task("", total=None)
        for number, scenario, peer in lane:
            description = f"round {number}/{self._results.rounds}  {scenario.title}  [bold]{peer.title}[/]"
            progress.update(current, description=description, completed=0, total=None)
            self._measure(scenario, peer, _to(progress, current))
            progress.advance(whole)
            if not self._results.smoke:
                self._save()
        progress.remove_task(current)

    def _make_ready(self) -> None:
        for peer in self._results.peers:
            with self._console.status(f"making {peer.title} ready"):
                try:
                    kind = EventBench if peer.room == "events" else Bench
                    bench = kind(
                        self._laboratory,
                        Runner(peer, python_for(peer)),
                        smoke=self._results.smoke,
                        timeout=self._timeout,
                    )
                    bench.install()
                except NotInstalledError as error:
                    self._results.missing[peer.key] = str(error)
                    self._console.print(f"[yellow]{peer.title} is left out, it could not be installed:[/] {error}")
                except PeerFailedError as error:
                    self._results.cell("install", peer.key).error = str(error)
                else:
                    self._results.about[peer.key] = bench.about
                    self._benches[peer.key] = bench

    def _plan(self) -> list[tuple[int, Scenario, Peer]]:
        return [
            (number, scenario, peer)
            for _, together in groupby(self._results.scenarios, key=lambda scenario: scenario.group or scenario.key)
            for scenarios in [list(together)]
            for number in range(1, self._results.rounds + 1)
            for scenario in scenarios
            for peer in self._results.peers
            if peer.key in scenario.peers and peer.key in self._benches
        ]

    def _measure(self, scenario: Scenario, peer: Peer, progress: Callable[[int, int], None]) -> None:
        cell = self._results.cell(scenario.key, peer.key)
        if cell.error:
            return  # it would fail again
        try:
            cell.samples.append(self._benches[peer.key].measure(scenario, progress))
        except PeerFailedError as error:
            cell.error = str(error)


def _to(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return show


def output_paths(root: Path) -> tuple[Path, Path, Path]:
    """Where the JSON file, the page and the chart go."""
    return root / "benchmarks/results/latest.json", root / "docs/benchmarks.md", root / "docs/benchmarks.svg"
