"""What holds commands up on purpose: pauses and limits.

A gate stands before a command type, or before a whole domain. Commands pass it when they are received, so sending costs
nothing, and a gate that is changed holds for what is queued already. What may not pass is parked: it stays PENDING,
spends no attempt, and starts when it may, in the order of the queue.

Promises. A paused domain or type starts nothing. Of a limited type never more than ``max_running`` commands run at
once, over all workers and processes, nor more than ``max_running_per`` with the same value of a field; and in no
``per_seconds`` do more than ``rate`` start. Running is what is IN_PROGRESS: a killed worker's commands count until
their leases end. A handler that outlives its lease or its timeout cannot be counted.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

SHORTEST_WINDOW = 1.0
"""Seconds that a rate limit looks at, at least."""


def rate_slack(per_seconds: float) -> float:
    """Seconds by which a command may start later than it was admitted; the limit looks back as much further."""
    return min(max(per_seconds / 10, 0.1), 1.0)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many commands of a type may run at once, and how many may start in a time.

    Args:
        domain: Whose commands.
        command_type: Which of them.
        max_running: How many may run at once; None: any number.
        per: Field of the payload (``"a.b"`` for one inside another), or ``"header:NAME"``.
        max_running_per: How many with the same value of that field may run at once.
        rate: How many may start in ``per_seconds``.
        per_seconds: Seconds, at least 1.
        burst: How many of ``rate`` may start together; 1 spreads them evenly.
    """

    domain: str
    command_type: str
    max_running: int | None = None
    per: str | None = None
    max_running_per: int | None = None
    rate: int | None = None
    per_seconds: float | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit, how many commands run under it now, and how many wait for it."""

    limit: Limit
    running: int
    parked: int


@dataclass(frozen=True, slots=True)
class Pause:
    """A domain, or one of its types, of which no command starts.

    Args:
        domain: Which.
        command_type: Which of its types; None: all of it.
        since: When it was paused.
        operator: Who did it.
        reason: Why.
        parked: How many commands of the type wait for it so far; of a whole domain none: they stay in the queue.
    """

    domain: str
    command_type: str | None
    since: datetime
    operator: str | None
    reason: str | None
    parked: int


class GateStore(Protocol):
    """What gates ask of a database."""

    async def set_limit(self, limit: Limit) -> None:
        """Set all limits of a type. What runs now counts; the domain's queue must exist."""
        ...

    async def remove_limit(self, domain: str, command_type: str) -> bool:
        """Take the limits of a type away; whether there were any."""
        ...

    async def list_limits(self, domain: str | None) -> list[LimitState]:
        """Limits, by domain and type."""
        ...

    async def pause(self, domain: str, command_type: str | None, *, operator: str | None, reason: str | None) -> bool:
        """Start no more commands of a domain or type; False if it was paused already."""
        ...

    async def resume(self, domain: str, command_type: str | None) -> bool:
        """Start commands again; False if it was not paused."""
        ...

    async def list_pauses(self, domain: str | None) -> list[Pause]:
        """What is paused, by domain and type."""
        ...
