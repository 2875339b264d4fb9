"""Time as something given, so that tests need not wait for it.

The database's clock alone decides leases and due times. This one serves what stays inside a process: back-off between
reconnects, ages in a memory store, measured durations.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a component takes the time from."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()


class FrozenClock:
    """A clock that moves only when told to, for tests.

    Args:
        start: First reading; aware. Midnight of 2026-01-01 UTC unless given.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = 0.0

    def now(self) -> datetime:
        """The time it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Seconds it was moved forward so far."""
        return self._elapsed

    def advance(self, by: timedelta | float) -> None:
        """Move forward.

        Args:
            by: A timedelta, or seconds.
        """
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        self._now += step
        self._elapsed += step.total_seconds()
