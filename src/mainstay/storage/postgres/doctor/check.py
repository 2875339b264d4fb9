"""What a check is: a name, a level, what was seen, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

_MINUTE = 60
_HOUR = 3600
_DAY = 86_400
_KIB = 1024
_MAX_SHOWN = 3


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARNING = "WARNING"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: Which check; one name may come several times, once for each subject.
        level: How bad it is.
        seen: What was seen, in one sentence.
        advice: What to do, with the statement or command to run; None if nothing is to be done.
        subject: What it is about: a table, a queue, a session; None for the whole database.
    """

    name: str
    level: Level
    seen: str
    advice: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is worth a word.

    Args:
        long_transaction: Seconds; ten times as long is a fault.
        held_feed: Seconds for which a transaction that has appended events may stay open; ten times as long is a fault.
        projection_lag: Seconds that a projection may be behind; ten times as long is a fault.
        dead_rows: Of one table, and five times what its settings allow.
        since_vacuum: Seconds.
        unread: Seconds for which a message may have been received and was not.
        clock: Seconds between the database's clock and this host's.
        connections: Share of those allowed; 95 % is a fault.
        bloat_bytes: Of a queue's table, ten times what its rows need.
        kept_wal_bytes: Write-ahead log that one replication slot keeps.
        wraparound: As a multiple of the age at which autovacuum begins to hurry; five times as much is a fault.
    """

    long_transaction: float = 60.0
    held_feed: float = 5.0
    projection_lag: float = 60.0
    dead_rows: int = 10_000
    since_vacuum: float = 600.0
    unread: float = 60.0
    clock: float = 1.0
    connections: float = 0.8
    bloat_bytes: int = 64 * 1024 * 1024
    kept_wal_bytes: int = 1024 * 1024 * 1024
    wraparound: float = 1.5


def ok(name: str, seen: str) -> Check:
    """Nothing is to be done."""
    return Check(name, Level.OK, seen)


def warning(name: str, seen: str, advice: str, subject: str | None = None) -> Check:
    """It works, and will hurt."""
    return Check(name, Level.WARNING, seen, advice, subject)


def fault(name: str, seen: str, advice: str, subject: str | None = None) -> Check:
    """A promise does not hold, or it does not work."""
    return Check(name, Level.FAULT, seen, advice, subject)


def unless(found: Iterator[Check], name: str, seen: str) -> list[Check]:
    """What was found or, if that is nothing, that all is well."""
    return list(found) or [ok(name, seen)]


def span(seconds: float) -> str:
    """A length of time for people: 12 s, 3 min, 2 h, 5 d."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(number: float) -> str:
    """A number of bytes for people: 12 kB, 3.4 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 10 * _KIB:
            return f"{number:,.0f} {unit}"
        number /= _KIB
    return f"{number:,.0f} TB"


def some(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    rest = len(names) - _MAX_SHOWN
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")
