"""How one cell of the table about events is measured, once."""

from collections.abc import Callable

import psycopg

from benchmarks.measurements import Bench, Sample
from benchmarks.processes import PeerFailedError, Progress
from benchmarks.scenario import Scenario

IN_A_STREAM = 100  # events, where nothing says otherwise
AFTER_SNAPSHOT = 50  # events of an aggregate that are not in its snapshot


class EventBench(Bench):
    """Measures one peer in one laboratory; arguments as `Bench`."""

    table = "create table total (stream uuid primary key, quantity bigint not null)"

    def measure(self, scenario: Scenario, progress: Progress) -> Sample:
        """Measure one scenario once.

        Raises:
            PeerFailedError: The peer failed at it.
        """
        del progress
        count = scenario.size(self._key, smoke=self._smoke)
        kinds: dict[str, Callable[[Scenario, int], Sample]] = {
            "append": self._append,
            "stream": self._stream,
            "feed": self._feed,
            "project": self._project,
            "load": self._load,
        }
        return kinds[scenario.kind](scenario, count)

    def _append(self, scenario: Scenario, count: int) -> Sample:
        calls = count // scenario.events // scenario.writers
        with self._laboratory.copy(self._key) as dsn:
            seconds = self._seconds(
                "append", dsn, calls=calls, size=scenario.events, writers=scenario.writers, work=scenario.work
            )
        appended = calls * scenario.events * scenario.writers
        return Sample(appended / seconds, {"count": appended})

    def _stream(self, scenario: Scenario, count: int) -> Sample:
        with self._laboratory.copy(self._streams(count, scenario.events)) as dsn:
            seconds = self._seconds("stream", dsn, streams=count, events=scenario.events)
        return Sample(count * scenario.events / seconds, {"count": count * scenario.events})

    def _feed(self, _scenario: Scenario, count: int) -> Sample:
        with self._laboratory.copy(self._streams(count // IN_A_STREAM, IN_A_STREAM)) as dsn:
            seconds = self._seconds("feed", dsn, events=count)
        return Sample(count / seconds, {"count": count})

    def _project(self, _scenario: Scenario, count: int) -> Sample:
        with self._laboratory.copy(self._streams(count // IN_A_STREAM, IN_A_STREAM)) as dsn:
            seconds = self._seconds("project", dsn, events=count)
            with psycopg.connect(dsn) as conn:
                row = conn.execute("select sum(quantity) from total").fetchone()
        if not row or row[0] != count:
            raise PeerFailedError(f"{count} events were counted as {row[0] if row else 0}")
        return Sample(count / seconds, {"count": count})

    def _load(self, scenario: Scenario, count: int) -> Sample:
        before = AFTER_SNAPSHOT if scenario.snapshots else 0
        with self._laboratory.copy(self._streams(1, scenario.events, before)) as dsn:
            seconds = self._seconds("load", dsn, times=count, events=scenario.events, snapshots=scenario.snapshots)
        return Sample(seconds * 1_000 / count, {"count": count})

    def _streams(self, streams: int, events: int, after_snapshot: int = 0) -> str:
        """A database with so many streams of so many events."""
        return self._laboratory.template(
            f"{self._key}/{streams}/{events}/{after_snapshot}",
            lambda dsn: self._seconds("fill", dsn, streams=streams, events=events, after_snapshot=after_snapshot),
            self._key,
        )

    def _seconds(self, op: str, dsn: str, **request: float) -> float:
        return float(self._runner.ask(op, dsn, timeout=self._timeout, **request)["seconds"])
