"""How far ahead a worker receives: what will start within `HORIZON`, and nothing while no handler starts.

What a rate limit lets through must start at once, and not beside what it lets through next: see `Deadlines`.
"""

from collections.abc import Sequence

from mainstay.commands.store import Lease, Received

HORIZON = 0.05
"""Seconds within which a command received ahead is expected to start."""
STALL = 0.5
"""Seconds without a new handler after which nothing is held ahead."""
MAX_AHEAD = 200
_SMOOTHING = 0.1


class Pace:
    """Learns how long handlers take. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._last_move = 0.0

    def took(self, seconds: float) -> None:
        """A handler took this long."""
        self._mean = seconds if self._mean is None else self._mean + _SMOOTHING * (seconds - self._mean)

    def moved(self, now: float) -> None:
        """A handler starts, or commands have come."""
        self._last_move = now

    def is_stalled(self, now: float) -> bool:
        """Whether nothing has moved for long."""
        return now - self._last_move > STALL

    def ahead(self, slots: int) -> int:
        """How many commands to hold beyond free slots; 0 until the first handler has ended."""
        if self._mean is None:
            return 0
        return min(MAX_AHEAD, int(slots * HORIZON / max(self._mean, 1e-6)))


class Deadlines:
    """Until when commands with a rate limit must start. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._latest: dict[Lease, float] = {}

    def note(self, received: Sequence[Received], asked: float) -> None:
        """These have come; they were asked for at this time."""
        self._latest |= {one.lease: asked + one.start_within for one in received if one.start_within is not None}

    def missed(self, lease: Lease, now: float) -> bool:
        """Whether a command that is about to start is too late; each is asked about once."""
        return bool(self._latest) and self._latest.pop(lease, now) < now
