"""Rules in words, for whoever reads them: on the command line and in the console."""

from mainstay.commands.breakers import BreakerRule
from mainstay.commands.gates import Limit

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def limit_in_words(limit: Limit) -> str:
    """A limit in words."""
    parts = []
    if limit.max_running is not None:
        parts.append(f"{limit.max_running:,} at once")
    if limit.max_running_per is not None:
        parts.append(f"{limit.max_running_per:,} at once per {limit.per}")
    if limit.rate is not None:
        window = "second" if limit.per_seconds == 1 else f"{limit.per_seconds:g} s"
        together = "" if limit.burst == limit.rate else f", {limit.burst:,} together"
        parts.append(f"{limit.rate:,} per {window}{together}")
    return "; ".join(parts)


def rule_in_words(rule: BreakerRule) -> str:
    """When breakers of a type open, and how they close, in words."""
    opens = f"{rule.failures:,} failures alike within {rule.within:g} s"
    return f"{opens}; a probe after {rule.probe_after:g} s; then {rule.drip:g} a second"


def every_in_words(seconds: float) -> str:
    """A distance of due times, in the largest unit of which it is a whole number."""
    for size, unit in _UNITS:
        if seconds % size == 0:
            return f"every {seconds / size:,.0f} {unit}"
    return f"every {seconds:g} s"
