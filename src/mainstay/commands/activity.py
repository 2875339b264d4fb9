"""What is going on with commands: how many moved in a time, how long they took, and who handles what."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class Percentiles(NamedTuple):
    """Lengths of time in seconds: half, 95 and 99 of 100 were no longer."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened to commands in an interval.

    Args:
        at: Its begin.
        sent: How many were sent.
        completed: How many ended well.
        failed: How many failed for good, or came to wait for an operator.
        retried: How many failed and are tried again.
        waits: How long those that were started waited for it, measured on some hundreds; None if none was.
        handlings: How long those that ended were handled; None if none did.
    """

    at: datetime
    sent: int
    completed: int
    failed: int
    retried: int
    waits: Percentiles | None
    handlings: Percentiles | None


@dataclass(frozen=True, slots=True)
class Handled:
    """A command in a worker's hand.

    Args:
        command_id: Which.
        command_type: Of which type.
        attempt: Which of its attempts this is.
        since: When it was received.
        leased_until: When another worker may have it, unless this one renews its lease.
    """

    command_id: UUID
    command_type: str
    attempt: int
    since: datetime
    leased_until: datetime


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that is alive, or was killed so lately that its leases last.

    Args:
        name: Its name.
        domain: Whose commands it handles.
        asleep_until: It waits for commands, and looks by itself then; None if it has not said so.
        handles: The commands in its hand, the longest first.
    """

    name: str
    domain: str
    asleep_until: datetime | None
    handles: list[Handled]
