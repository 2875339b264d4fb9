"""What operators ask about what is going on: how much moved in the last minutes or hours, and who is at work."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from mainstay.commands.activity import Interval, LiveWorker
from mainstay.storage.postgres.activity import PostgresActivity

INTERVALS: Final = 60
"""Of one span."""
OVER: Final = 2.0
"""Seconds after its end an interval is read: what was about to be written has been, or its transaction is seen."""
SETTLED: Final = 60.0
"""Seconds after which what happened in an interval is taken for known, whatever transactions last longer."""


class Span(StrEnum):
    """How far back."""

    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"

    @property
    def step(self) -> timedelta:
        """The length of one interval."""
        return {Span.QUARTER: timedelta(seconds=15), Span.HOUR: timedelta(minutes=1), Span.DAY: timedelta(minutes=24)}[
            self
        ]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened to commands lately.

    Args:
        span: How far back.
        step: Seconds in one interval.
        until: The end of the last interval.
        intervals: The oldest first; all are over.
        missing: Intervals before the first one that were not counted yet.
    """

    span: Span
    step: float
    until: datetime
    intervals: list[Interval]
    missing: int


class History:
    """The intervals of a span. What is settled is read once; a look takes little more than its budget.

    Settled is an interval whose transactions have ended, which is asked before it is read. One that is over while some
    of them last is read, and is read once more when it is settled.

    Args:
        store: Asks.
        span: How far back.
    """

    def __init__(self, store: PostgresActivity, span: Span) -> None:
        self._store = store
        self._span = span
        self._read: dict[datetime, tuple[bool, Interval]] = {}

    async def look(self, *, budget: float, now: datetime | None = None) -> Traffic:
        """What happened, as far back as could be read.

        Args:
            budget: Seconds after which no older interval is begun; one, at least, is read.
            now: The time, if it is not this one.
        """
        moment, step, begun = now or datetime.now(UTC), self._span.step, time.monotonic()
        seconds = step.total_seconds()
        until = datetime.fromtimestamp((moment.timestamp() - OVER) // seconds * seconds, UTC)
        times = [until - n * step for n in range(1, INTERVALS + 1)]
        self._read = {at: each for at, each in self._read.items() if at >= times[-1]}
        settled_before = moment - timedelta(seconds=SETTLED)
        if any(not self._read[at][0] if at in self._read else at + step > settled_before for at in times):
            ended_before = await self._store.settled_before() - timedelta(seconds=OVER)
            settled_before = max(settled_before, ended_before)
        known: list[Interval] = []
        for at in times:
            is_settled = at + step <= settled_before
            was_settled, found = self._read.get(at, (False, None))
            has_time = not known or time.monotonic() - begun <= budget
            if has_time and (found is None or is_settled > was_settled):
                found = await self._store.interval(at, at + step)
                self._read[at] = (is_settled, found)
            if found is None:
                break
            known.append(found)
        missing = INTERVALS - len(known)
        return Traffic(self._span, seconds, until, known[::-1], missing)


class Activity:
    """Asks what is going on.

    Args:
        pool: An open ``psycopg_pool.AsyncConnectionPool``.
    """

    def __init__(self, pool: Any) -> None:
        self._store = PostgresActivity(pool)

    def history(self, span: Span) -> History:
        """What happened in the last minutes or hours; keep it, to read nothing twice."""
        return History(self._store, span)

    async def workers(self) -> list[LiveWorker]:
        """The workers that are alive, and what each handles, by name.

        One that neither sleeps nor has a command, as between two looks into its queue, is not seen.
        """
        return await self._store.workers()
