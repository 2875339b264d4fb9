"""How one cell of the table is measured, once."""

import statistics
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg

from benchmarks.laboratory import Laboratory
from benchmarks.processes import PeerFailedError, Progress, Runner, wait_until_idle
from benchmarks.scenario import Scenario

CONNECTIONS = 4  # opened before the clock starts; peers may open more up to their own pool's size
DAY = 86_400.0
CHUNK = 1_000
WORKED = 100  # commands of a history that are worked off; the rest are copies of them
WARM_UP = 5  # latencies left out: plans, caches, the first LISTEN
TENTH = 10
FEWEST_ACCOUNTS = 100  # more than there are deposits in hand
MEGABYTE = 1024 * 1024
GAP = 0.025  # seconds, on average, between two commands to an idle worker


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Args:
        value: Commands a second, or milliseconds.
        extra: What else was seen on the way.
    """

    value: float
    extra: dict[str, Any]


class Bench:
    """Measures one peer in one laboratory.

    Args:
        laboratory: Where its databases are made.
        runner: Runs its script.
        smoke: Whether sizes are small.
        timeout: Seconds after which a measurement is given up.
    """

    table: ClassVar[str] = "create table effect (number bigint not null)"
    """What handlers write to."""

    def __init__(self, laboratory: Laboratory, runner: Runner, *, smoke: bool, timeout: float) -> None:
        self._laboratory = laboratory
        self._runner = runner
        self._smoke = smoke
        self._timeout = timeout
        self._key = runner.peer.key
        self.about: dict[str, Any] = {}

    def install(self) -> None:
        """Prepare the database that all others of this peer are copied from.

        Raises:
            PeerFailedError: Its schema could not be made.
        """

        def prepare(dsn: str) -> None:
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(self.table.encode())
            self.about = self._runner.ask("install", dsn, timeout=self._timeout)

        self._laboratory.template(self._key, prepare)

    def measure(self, scenario: Scenario, progress: Progress) -> Sample:
        """Measure one scenario once.

        Raises:
            PeerFailedError: The peer failed at it.
        """
        kinds = {
            "send": self._send,
            "batch": self._batch,
            "drain": self._drain,
            "latency": self._latency,
            "round-trip": self._round_trip,
            "memory": self._memory,
            "snapshot": self._snapshot,
        }
        return kinds[scenario.kind](scenario, progress)

    def _send(self, scenario: Scenario, _progress: Progress) -> Sample:
        count = scenario.size(self._key, smoke=self._smoke)
        with self._laboratory.copy(self._key) as dsn:
            answer = self._runner.ask("send", dsn, timeout=self._timeout, count=count, senders=scenario.senders)
        return Sample(count / answer["seconds"], {"count": count})

    def _batch(self, scenario: Scenario, _progress: Progress) -> Sample:
        count = scenario.size(self._key, smoke=self._smoke)
        with self._laboratory.copy(self._key) as dsn:
            self._fill(dsn, 1)
            answer = self._runner.ask("batch", dsn, timeout=self._timeout, count=count, chunk=scenario.chunk)
        return Sample(count / answer["seconds"], {"count": count})

    def _drain(self, scenario: Scenario, progress: Progress) -> Sample:
        count = scenario.size(self._key, smoke=self._smoke)
        with self._laboratory.copy(self._filled(scenario, count, progress)) as dsn:

            def work_off() -> Sample:
                return self._work_off(
                    dsn, count, progress, scenario.processes, concurrency=scenario.concurrency, handler=scenario.handler
                )

            if (
                scenario.history
            ):  # nothing of a copy is in the server's memory yet, and the more there is, the more it reads
                work_off()
                self._fill(dsn, count)
            return work_off()

    def _latency(self, scenario: Scenario, progress: Progress) -> Sample:
        count = scenario.size(self._key, smoke=self._smoke) + WARM_UP
        with (
            self._laboratory.copy(self._key) as dsn,
            self._runner.workers(
                dsn, 1, concurrency=scenario.concurrency, handler="noop", connections=CONNECTIONS, record=True
            ) as workers,
        ):
            workers.go()
            sent = self._runner.ask("pace", dsn, timeout=self._timeout, count=count, gap=GAP)["sent"]
            workers.wait(count, progress)
            starts = dict(workers.stop()[0]["starts"])
        whole = [(starts[number] - called) * 1_000 for number, called, _ in sent[WARM_UP:]]
        after = [(starts[number] - returned) * 1_000 for number, _, returned in sent[WARM_UP:]]
        return Sample(
            statistics.median(whole),
            {
                "count": len(whole),
                "p95_ms": statistics.quantiles(whole, n=20)[-1],
                "after_send_returned_ms": statistics.median(after),
                "send_ms": statistics.median((returned - called) * 1_000 for _, called, returned in sent[WARM_UP:]),
            },
        )

    def _round_trip(self, scenario: Scenario, _progress: Progress) -> Sample:
        count = scenario.size(self._key, smoke=self._smoke) + WARM_UP
        with (
            self._laboratory.copy(self._key) as dsn,
            self._runner.workers(
                dsn,
                1,
                concurrency=scenario.concurrency,
                handler=scenario.handler,
                connections=CONNECTIONS,
                record=False,
            ) as workers,
        ):
            workers.go()
            took = self._runner.ask("request", dsn, timeout=self._timeout, count=count, gap=GAP)["took"]
            workers.stop()
        whole = [seconds * 1_000 for seconds in took[WARM_UP:]]
        return Sample(statistics.median(whole), {"count": len(whole), "p95_ms": statistics.quantiles(whole, n=20)[-1]})

    def _memory(self, scenario: Scenario, progress: Progress) -> Sample:
        """What a worker holds at the end beyond what it held after a tenth of the work, in MB."""
        count = scenario.size(self._key, smoke=self._smoke)
        with (
            self._laboratory.copy(self._filled(scenario, count, progress)) as dsn,
            self._runner.workers(
                dsn,
                1,
                concurrency=scenario.concurrency,
                handler="noop",
                connections=CONNECTIONS,
                record=False,
                weigh=True,
            ) as workers,
        ):
            workers.go()
            workers.wait(count, progress)
            workers.stop()
        weights = workers.weights
        if not weights:
            raise PeerFailedError("it never said how much memory it holds")
        early = [holds for handled, holds in weights if handled <= count / TENTH] or [weights[0][1]]
        late = [holds for handled, holds in weights if handled > count - count / TENTH] or [weights[-1][1]]
        grown = (statistics.median(late) - max(early)) / MEGABYTE
        return Sample(
            max(grown, 0.0), {"count": count, "early_mb": max(early) / MEGABYTE, "late_mb": max(late) / MEGABYTE}
        )

    def _snapshot(self, scenario: Scenario, progress: Progress) -> Sample:
        """Fill and work off, again and again, a database with a snapshot held open and one without, in turn."""
        count = scenario.size(self._key, smoke=self._smoke)
        end = time.monotonic() + (0.0 if self._smoke else scenario.seconds)
        rates: list[tuple[float, ...]] = []
        copy = self._laboratory.copy
        with copy(self._key) as held, copy(self._key) as free, psycopg.connect(held) as holder:
            holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            holder.execute("select count(*) from pg_catalog.pg_class")  # the first statement takes the snapshot
            while not rates or time.monotonic() < end:
                pair = {}
                for dsn in (held, free) if len(rates) % 2 else (free, held):
                    self._fill(dsn, count)
                    pair[dsn] = self._work_off(
                        dsn,
                        count,
                        progress,
                        scenario.processes,
                        concurrency=scenario.concurrency,
                        handler=scenario.handler,
                    ).value
                rates.append((pair[held], pair[free]))
        late = rates[len(rates) // 2 :]
        return Sample(
            statistics.median(rate for rate, _ in late),
            {"count": count * len(rates), "without": statistics.median(rate for _, rate in late), "rates": rates},
        )

    def _fill(self, dsn: str, count: int, delay: float | None = None, *, keys: int = 0, accounts: int = 0) -> None:
        self._runner.ask(
            "batch",
            dsn,
            timeout=max(self._timeout, 900),
            count=count,
            chunk=CHUNK,
            delay=delay,
            keys=keys,
            accounts=accounts,
        )

    def _filled(self, scenario: Scenario, count: int, progress: Progress) -> str:
        deferred = scenario.before(scenario.deferred, smoke=self._smoke)
        history = scenario.before(scenario.history, smoke=self._smoke)
        blocked = scenario.before(scenario.blocked, smoke=self._smoke)
        source = self._key
        if deferred or history or blocked:

            def age(dsn: str) -> None:
                if deferred:
                    self._fill(dsn, deferred, DAY)
                if history:
                    worked = min(WORKED, history)
                    self._fill(dsn, worked)
                    self._work_off(dsn, worked, progress, 1, concurrency=scenario.concurrency, handler="noop")
                    self._copy(dsn, history // worked - 1)
                if blocked:
                    self._fill(dsn, 1, keys=1)
                    self._work_off(dsn, 1, progress, 1, concurrency=1, handler="refuse")
                    self._fill(dsn, blocked, keys=1)

            source = self._laboratory.template(f"{self._key}/{deferred}/{history}/{blocked}", age, self._key)
        keys = scenario.keys
        accounts = max(FEWEST_ACCOUNTS, count // scenario.per_account) if scenario.per_account else 0
        return self._laboratory.template(
            f"{source}/{count}/{keys}/{accounts}",
            lambda dsn: self._fill(dsn, count, keys=keys, accounts=accounts),
            source,
        )

    def _copy(self, dsn: str, copies: int) -> None:
        """Add so many copies of every command that was completed."""
        if copies:
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(self._runner.peer.history_statements, {"copies": copies})

    def _work_off(
        self, dsn: str, count: int, progress: Progress, processes: int, *, concurrency: int, handler: str
    ) -> Sample:
        with self._runner.workers(
            dsn, processes, concurrency=concurrency, handler=handler, connections=CONNECTIONS, record=False
        ) as workers:
            begin = workers.go()
            workers.wait(count, progress)
            end = wait_until_idle(dsn, self._runner.peer.idle_query, timeout=self._timeout)
            last = workers.stop()
        handled = sum(message["handled"] for message in last)
        if handler == "transactional":
            with psycopg.connect(dsn) as conn:
                row = conn.execute("select count(*) from effect").fetchone()
            if not row or row[0] < count:
                raise PeerFailedError(f"{count} commands left {row[0] if row else 0} rows")
        return Sample(
            count / (end - begin),
            {"count": count, "handled": handled, "memory": max(message["memory"] for message in last)},
        )
