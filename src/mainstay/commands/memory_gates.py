"""Gates in the memory store: pauses and limits in their plainest reading. Running is counted, whenever it is asked."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mainstay.commands.gates import Limit, LimitState, Pause, rate_slack
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.memory_unit import Key, Row, State, Unit, as_value

WHOLE = ""
"""The type under which a whole domain is paused."""


@dataclass(slots=True)
class Gate:
    """What stands before a command type, or before a domain."""

    domain: str
    command_type: str
    limit: Limit | None = None
    pause: Pause | None = None
    starts: list[datetime] = field(default_factory=list)


class MemoryGateStore:
    """`mainstay.commands.gates.GateStore` in memory.

    Args:
        state: Whose commands pass the gates.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._gates: dict[tuple[str, str], Gate] = {}

    # -- the protocol -------------------------------------------------------------------------------------------------
    async def set_limit(self, limit: Limit) -> None:
        """Set all limits of a type."""
        self._gate(limit.domain, limit.command_type).limit = limit

    async def remove_limit(self, domain: str, command_type: str) -> bool:
        """Take the limits of a type away; whether there were any."""
        gate = self._gates.get((domain, command_type))
        if gate is None or gate.limit is None:
            return False
        gate.limit, gate.starts = None, []
        return True

    async def list_limits(self, domain: str | None) -> list[LimitState]:
        """Limits, by domain and type."""
        return [
            LimitState(gate.limit, len(self._running(gate, None)), self._parked(gate))
            for key, gate in sorted(self._gates.items())
            if domain in (None, key[0]) and gate.limit is not None
        ]

    async def pause(self, domain: str, command_type: str | None, *, operator: str | None, reason: str | None) -> bool:
        """Start no more commands of a domain or type; False if it was paused already."""
        gate = self._gate(domain, command_type or WHOLE)
        if gate.pause is not None:
            return False
        gate.pause = Pause(domain, command_type, self._state.clock.now(), operator, reason, 0)
        return True

    async def resume(self, domain: str, command_type: str | None) -> bool:
        """Start commands again; False if it was not paused."""
        gate = self._gates.get((domain, command_type or WHOLE))
        if gate is None or gate.pause is None:
            return False
        gate.pause = None
        return True

    async def list_pauses(self, domain: str | None) -> list[Pause]:
        """What is paused, by domain and type."""
        return [
            Pause(p.domain, p.command_type, p.since, p.operator, p.reason, self._parked(gate))
            for key, gate in sorted(self._gates.items())
            if domain in (None, key[0]) and (p := gate.pause) is not None
        ]

    # -- for receiving ------------------------------------------------------------------------------------------------
    def is_paused(self, domain: str) -> bool:
        """Whether a whole domain is paused."""
        gate = self._gates.get((domain, WHOLE))
        return gate is not None and gate.pause is not None

    def find(self, row: Row) -> Gate | None:
        """The gate that a command has to pass."""
        return self._gates.get((row.new.domain, row.new.command_type))

    def held_up(self, unit: Unit, gate: Gate, row: Row) -> str | None:
        """Why a command may not start, as the audit trail says it; None if it may."""
        if gate.pause is not None:
            return "PAUSE"
        if (limit := gate.limit) is None:
            return None
        running = self._running(gate, unit)
        if limit.max_running is not None and len(running) >= limit.max_running:
            return "LIMIT"
        if limit.max_running_per is not None and limit.per is not None:
            key = limit_key(limit.per, row)
            if sum(limit_key(limit.per, each) == key for each in running) >= limit.max_running_per:
                return "LIMIT"
        return "LIMIT" if self._next_start(gate, unit.now) > unit.now else None

    def start(self, unit: Unit, gate: Gate) -> float | None:
        """A command passes; seconds within which it must start, if its rate is limited."""
        if gate.limit is None or gate.limit.per_seconds is None:
            return None
        gate.starts.append(unit.now)
        return rate_slack(gate.limit.per_seconds)

    def waits(self, domain: str) -> list[float]:
        """Seconds until each rate limit that holds something up lets the next one start."""
        now = self._state.clock.now()
        return [
            (self._next_start(gate, now) - now).total_seconds()
            for gate in self._gates.values()
            if gate.domain == domain and gate.pause is None and gate.starts and self._parked(gate)
        ]

    def _gate(self, domain: str, command_type: str) -> Gate:
        return self._gates.setdefault((domain, command_type), Gate(domain, command_type))

    def _next_start(self, gate: Gate, now: datetime) -> datetime:
        """When the rate limit lets the next one start."""
        limit = gate.limit
        if limit is None or limit.rate is None or limit.per_seconds is None or limit.burst is None:
            return now
        whole = timedelta(seconds=limit.per_seconds + rate_slack(limit.per_seconds))
        short = timedelta(seconds=limit.per_seconds * limit.burst / limit.rate)
        gate.starts = [at for at in gate.starts if at > now - whole]
        free = now
        for count, window in ((limit.rate, whole), (limit.burst, short)):
            if len(gate.starts) >= count:
                free = max(free, gate.starts[-count] + window)
        return free

    def _running(self, gate: Gate, unit: Unit | None) -> list[Row]:
        rows = [self._seen(unit, key) for key in {*self._state.rows, *(unit.written() if unit else ())}]
        return [
            row
            for row in rows
            if row.status is CommandStatus.IN_PROGRESS
            and (row.new.domain, row.new.command_type) == (gate.domain, gate.command_type)
        ]

    def _seen(self, unit: Unit | None, key: Key) -> Row:
        return (unit.row(key) if unit else None) or self._state.rows[key]

    def _parked(self, gate: Gate) -> int:
        keys = self._state.parked.get(gate.domain, ())
        rows = [self._state.rows[key] for key in keys]
        return sum(row.held_by is None and row.new.command_type == gate.command_type for row in rows)


def limit_key(per: str, row: Row) -> str:
    """What ``max_running_per`` counts a command under."""
    if per.startswith("header:"):
        value: Any = (as_value(row.new.headers) or {}).get(per.removeprefix("header:"))
    else:
        value = as_value(row.data)
        for name in per.split("."):
            value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else str(value)
