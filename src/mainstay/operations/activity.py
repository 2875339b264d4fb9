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
SETTLED: Final = 60.0
"""Seconds after which what happened in an interval is taken for known: transactions of that time have ended."""


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
        intervals: The oldest first. The last one is not over.
        missing: Intervals before the first one that were not counted yet.
    """

    span: Span
    step: float
    until: datetime
    intervals: list[Interval]
    missing: int


class History:
    """The intervals of a span. What is settled is read once; a look takes little more than its budget.

    Args:
        store: Asks.
        span: How far back.
    """

    def __init__(self, store: PostgresActivity, span: Span) -> None:
        self._store = store
        self._span = span
        self._settled: dict[datetime, Interval] = {}

    async def look(self, *, budget: float, now: datetime | None = None) -> Traffic:
        """What happened, as far back as could be read.

        Args:
            budget: Seconds after which no older interval is begun; one, at least, is read.
            now: The time, if it is not this one.
        """
        moment, step, begun = now or datetime.now(UTC), self._span.step, time.monotonic()
        last = datetime.fromtimestamp(moment.timestamp() // step.total_seconds() * step.total_seconds(), UTC)
        times = [last - n * step for n in range(INTERVALS)]
        self._settled = {at: each for at, each in self._settled.items() if at >= times[-1]}
        known: list[Interval] = []
        for at in times:
            found = self._settled.get(at)
            if found is None:
                if known and time.monotonic() - begun > budget:
                    break
                found = await self._store.interval(at, at + step)
                if (moment - at - step).total_seconds() > SETTLED:
                    self._settled[at] = found
            known.append(found)
        missing = INTERVALS - len(known)
        return Traffic(self._span, step.total_seconds(), last + step, known[::-1], missing)


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
