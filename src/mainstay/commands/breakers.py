"""What holds up one kind of failure: a breaker for each fingerprint.

A *rule* says of a command type: when so many attempts fail alike within a time, it is not the commands' fault. Then a
breaker opens for that (domain, type, fingerprint). What fails so from now on is parked instead of retried, and that
attempt is not counted; everything else of the type goes on.

::

              `failures` within `within`, or an operator
    (nothing) ─────────────────────────────────────────> OPEN ──probe fails──> OPEN, for twice as long
        ^                                                │  ^
        │                     a probe ends well, or an   │  │ `failures` again
        │                                     operator   v  │
        └── nothing waits, and `within` has passed ── CLOSING, `drip` commands a second

Promises. While it is open, one parked command at a time is let go, as a probe, over all workers and processes. A
failure that is parked spends no attempt, so an outage sends nothing to the troubleshooting queue. A probe counts while
its command is ready or in progress, so a killed worker's probe is tried again when its lease ends. A failure belongs to
a breaker by its message alone, and only if it is transient: what a handler calls permanent is an operator's at once.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol
from uuid import UUID

LONGEST_WAIT: Final = 16
"""Times ``probe_after`` that failed probes make the wait at most; each doubles it."""


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When breakers of a command type open, and how they close.

    Args:
        domain: Whose commands.
        command_type: Which of them.
        failures: So many attempts that fail alike open one; of at least two commands, unless it is 1.
        within: In so many seconds.
        probe_after: Seconds until the first probe.
        drip: Commands a second that are let go after a probe ended well.
    """

    domain: str
    command_type: str
    failures: int
    within: float
    probe_after: float
    drip: float


class BreakerState(StrEnum):
    """Whether what is parked waits for a probe, or is being let go."""

    OPEN = "OPEN"
    CLOSING = "CLOSING"


class BreakerEventType(StrEnum):
    """What the trail of breakers tells."""

    SET = "SET"
    REMOVED = "REMOVED"
    OPENED = "OPENED"
    PROBED = "PROBED"
    PROBE_FAILED = "PROBE_FAILED"
    CLOSED = "CLOSED"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker that is open, or closing.

    Args:
        domain: Whose commands.
        command_type: Which of them.
        fingerprint: What their failures say; see `mainstay.commands.failures.fingerprint`.
        state: OPEN or CLOSING.
        since: When it opened first.
        parked: How many commands wait.
        probe_id: The command that is let go to see whether it works again.
        failed_probes: How many such failed since it opened last.
        next_at: When the next probe, or the next of the drip, may go.
        example_message: What one of the failures said.
    """

    domain: str
    command_type: str
    fingerprint: str
    state: BreakerState
    since: datetime
    parked: int
    probe_id: UUID | None
    failed_probes: int
    next_at: datetime
    example_message: str | None


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """What happened to a rule or a breaker.

    Args:
        at: When.
        domain: Whose commands.
        command_type: Which of them.
        fingerprint: Of the breaker; None if it is about the rule.
        event_type: What.
        operator: Who, if it was not mainstay itself.
        reason: Why.
        details: More.
    """

    at: datetime
    domain: str
    command_type: str
    fingerprint: str | None
    event_type: BreakerEventType
    operator: str | None = None
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


class BreakerStore(Protocol):
    """What breakers ask of a database."""

    async def set_rule(self, rule: BreakerRule, *, operator: str | None) -> None:
        """Set the rule of a type, also for breakers that are open."""
        ...

    async def remove_rule(self, domain: str, command_type: str, *, operator: str | None) -> bool:
        """Take the rule of a type away, and let go what its breakers hold; whether there was one."""
        ...

    async def list_rules(self, domain: str | None) -> list[BreakerRule]:
        """Rules, by domain and type."""
        ...

    async def list_breakers(self, domain: str | None) -> list[Breaker]:
        """What is open or closing, by domain, type and fingerprint."""
        ...

    async def open(
        self, domain: str, command_type: str, fingerprint: str, *, operator: str | None, reason: str | None
    ) -> bool:
        """Open a breaker by hand; False if it is open, or the type has no rule."""
        ...

    async def close(
        self, domain: str, command_type: str, fingerprint: str, *, operator: str | None, reason: str | None
    ) -> bool:
        """Let go what a breaker holds, and count failures again; False if it is not open or closing."""
        ...

    async def list_events(self, domain: str | None, *, limit: int) -> list[BreakerEvent]:
        """What happened, newest first."""
        ...
