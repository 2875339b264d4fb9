"""Breakers in the memory store, in their plainest reading. What they did is not taken back by a rollback."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from mainstay.commands.breakers import (
    LONGEST_WAIT,
    Breaker,
    BreakerEvent,
    BreakerEventType,
    BreakerRule,
    BreakerState,
)
from mainstay.commands.failures import fingerprint
from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.memory_unit import Row, State, Unit

BREAKER = "BREAKER"
"""Why such a command is parked, as the audit trail says it."""
_S, _B, _E = CommandStatus, BreakerState, BreakerEventType
_Who: TypeAlias = tuple[str | None, str | None]
"""Operator and reason."""
_SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class _Breaker:
    """One that is open or closing; ``is_forced``: an operator closed it, and failures count as attempts."""

    rule: BreakerRule
    fingerprint: str
    since: datetime
    changed_at: datetime
    next_at: datetime
    message: str | None
    state: BreakerState = _B.OPEN
    probe_id: UUID | None = None
    failed_probes: int = 0
    is_forced: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Domain, type and fingerprint."""
        return self.rule.domain, self.rule.command_type, self.fingerprint

    @property
    def wait(self) -> timedelta:
        """Until the next probe."""
        return timedelta(seconds=self.rule.probe_after * min(2**self.failed_probes, LONGEST_WAIT))


class MemoryBreakerStore:
    """`mainstay.commands.breakers.BreakerStore` in memory.

    Args:
        state: Whose commands they hold.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._rules: dict[tuple[str, str], BreakerRule] = {}
        self._breakers: dict[tuple[str, str, str], _Breaker] = {}
        self._failures: list[tuple[tuple[str, str, str], UUID, datetime]] = []
        self._events: list[BreakerEvent] = []

    # -- the protocol -------------------------------------------------------------------------------------------------
    async def set_rule(self, rule: BreakerRule, *, operator: str | None) -> None:
        """Set the rule of a type, also for breakers that are open."""
        self._rules[rule.domain, rule.command_type] = rule
        for each in self._of(rule.domain, rule.command_type):
            each.rule = rule
        told = {name: getattr(rule, name) for name in ("failures", "within", "probe_after", "drip")}
        self._tell((rule.domain, rule.command_type, None), _E.SET, (operator, None), **told)

    async def remove_rule(self, domain: str, command_type: str, *, operator: str | None) -> bool:
        """Take the rule of a type away, and let go what its breakers hold; whether there was one."""
        if self._rules.pop((domain, command_type), None) is None:
            return False
        self._failures = [each for each in self._failures if each[0][:2] != (domain, command_type)]
        self._tell((domain, command_type, None), _E.REMOVED, (operator, None))
        for each in self._of(domain, command_type):
            self._close(each, self._state.clock.now(), (operator, None), is_forced=True)
        return True

    async def list_rules(self, domain: str | None) -> list[BreakerRule]:
        """Rules, by domain and type."""
        return [rule for key, rule in sorted(self._rules.items()) if domain in (None, key[0])]

    async def list_breakers(self, domain: str | None) -> list[Breaker]:
        """What is open or closing, by domain, type and fingerprint."""
        return [
            Breaker(
                *key,
                state=each.state,
                since=each.since,
                parked=len(self._parked(each)),
                probe_id=each.probe_id,
                failed_probes=each.failed_probes,
                next_at=each.next_at,
                example_message=each.message,
            )
            for key, each in sorted(self._breakers.items())
            if domain in (None, key[0])
        ]

    async def open(
        self, domain: str, command_type: str, fingerprint: str, *, operator: str | None, reason: str | None
    ) -> bool:
        """Open a breaker by hand; False if it is open, or the type has no rule."""
        found, rule = self._breakers.get((domain, command_type, fingerprint)), self._rules.get((domain, command_type))
        if rule is None or (found is not None and found.state is _B.OPEN):
            return False
        self._open(rule, fingerprint, self._state.clock.now(), None, (operator, reason))
        return True

    async def close(
        self, domain: str, command_type: str, fingerprint: str, *, operator: str | None, reason: str | None
    ) -> bool:
        """Let go what a breaker holds, and count failures again; False if it is not open or closing."""
        found = self._breakers.get((domain, command_type, fingerprint))
        if found is None or found.is_forced:
            return False
        self._close(found, self._state.clock.now(), (operator, reason), is_forced=True)
        return True

    async def list_events(self, domain: str | None, *, limit: int) -> list[BreakerEvent]:
        """What happened, newest first."""
        return [event for event in reversed(self._events) if domain in (None, event.domain)][:limit]

    # -- for completing -----------------------------------------------------------------------------------------------
    def holds(self, unit: Unit, row: Row, message: str | None) -> bool:
        """Note a failed attempt; whether a breaker holds it, and the command is parked instead of anything else."""
        rule = self._rules.get((row.new.domain, row.new.command_type))
        key = (row.new.domain, row.new.command_type, fingerprint(message))
        found = self._breakers.get(key)
        if row.cancel_request is not None or (rule is None and (found is None or found.is_forced)):
            return False
        if rule is not None and (found is None or found.state is _B.CLOSING):
            self._failures.append((key, row.new.command_id, unit.now))
            since = unit.now - timedelta(seconds=rule.within)
            self._failures = [each for each in self._failures if each[0][:2] != key[:2] or each[2] > since]
            alike = [each for each in self._failures if each[0] == key and (not found or each[2] >= found.changed_at)]
            spread = found is not None and not found.is_forced
            if len(alike) >= rule.failures and (spread or len({each[1] for each in alike}) >= min(2, rule.failures)):
                found = self._open(rule, key[2], unit.now, message)
        if found is None or found.is_forced:
            return False
        if found.probe_id == row.new.command_id:
            found.probe_id = None
            found.failed_probes += 1
            found.next_at = unit.now + found.wait
            self._tell(key, _E.PROBE_FAILED, command_id=str(row.new.command_id))
        return True

    def park(self, unit: Unit, row: Row) -> None:
        """Let a command wait for its breaker."""
        row.msg_id = row.ready_since = row.due_at = None
        row.parked, row.held_by = BREAKER, fingerprint(row.error_message)
        unit.audit(row.key, AuditEventType.PARKED, reason=BREAKER, fingerprint=row.held_by)

    # -- for receiving ------------------------------------------------------------------------------------------------
    def work(self, unit: Unit, domain: str) -> None:
        """Park retries that are due and would fail alike; let go probes, and what drips back."""
        for found in [each for key, each in sorted(self._breakers.items()) if key[0] == domain]:
            for key in list(self._state.deferred.get(domain, ())) if not found.is_forced else ():
                row = self._state.rows[key]
                is_due = row.due_at is not None and row.due_at <= unit.now
                if is_due and self._is_alike(found, row) and not unit.claimed_elsewhere(key):
                    self.park(unit, unit.write(row))
            if found.probe_id is None or self._is_judged(unit, found):
                self._let_go(unit, found)

    def is_probe(self, row: Row) -> bool:
        """Whether a command was let go to see whether it works again."""
        return any(each.probe_id == row.new.command_id for each in self._of(row.new.domain, row.new.command_type))

    def waits(self, domain: str) -> Iterator[float]:
        """Seconds until there is something to do for each breaker."""
        now = self._state.clock.now()
        for found in [each for key, each in self._breakers.items() if key[0] == domain]:
            if found.probe_id is None:
                due = found.next_at if self._parked(found) else found.next_at + self._keeps(found)
                yield max(0.0, (due - now).total_seconds())
            elif not self._is_under_way(found):
                yield 0.0

    def is_held(self, row: Row) -> bool:
        """Whether a breaker stands for what is parked."""
        return row.held_by is None or (row.new.domain, row.new.command_type, row.held_by) in self._breakers

    def _is_judged(self, unit: Unit, found: _Breaker) -> bool:
        """Judge a probe; whether there is more to do now."""
        if found.probe_id is None or self._is_under_way(found):
            return False
        if self._state.rows[found.rule.domain, found.probe_id].status in (_S.COMPLETED, _S.FAILED):
            self._close(found, unit.now)
            return True
        found.probe_id, found.next_at = None, unit.now + found.wait  # it says nothing about the dependency
        return False

    def _let_go(self, unit: Unit, found: _Breaker) -> None:
        waiting = [row for row in self._parked(found) if not unit.claimed_elsewhere(row.key)]
        if waiting and found.next_at <= unit.now and found.state is _B.OPEN and _is_late(waiting[0], unit.now):
            for row in waiting:  # the receive that follows ends them
                if _is_late(row, unit.now):
                    self._release(unit, row, is_probe=False)
        elif waiting and found.next_at <= unit.now and found.state is _B.OPEN:
            found.probe_id = waiting[0].new.command_id
            self._release(unit, waiting[0], is_probe=True)
            self._tell(found.key, _E.PROBED, command_id=str(found.probe_id))
        elif waiting and found.next_at <= unit.now:
            base = max(found.next_at, unit.now - _SECOND)
            count = min(len(waiting), 1 + int((unit.now - base).total_seconds() * found.rule.drip))
            for row in waiting[:count]:
                self._release(unit, row, is_probe=False)
            found.next_at = base + timedelta(seconds=count / found.rule.drip)
        elif not self._parked(found) and found.next_at + self._keeps(found) <= unit.now:
            del self._breakers[found.key]
            self._failures = [each for each in self._failures if each[0] != found.key]
            self._tell(found.key, _E.ENDED)

    def _release(self, unit: Unit, found: Row, *, is_probe: bool) -> None:
        row = unit.write(found)
        row.parked = row.held_by = None
        if row.new.key is None:
            unit.enqueue(row)
        unit.audit(row.key, AuditEventType.RELEASED, probe=True if is_probe else None)

    # -- changing state -----------------------------------------------------------------------------------------------
    def _open(
        self, rule: BreakerRule, found: str, now: datetime, message: str | None, who: _Who = (None, None)
    ) -> _Breaker:
        before = self._breakers.get((rule.domain, rule.command_type, found))
        since, text = (before.since, message or before.message) if before else (now, message)
        made = _Breaker(rule, found, since, now, now + timedelta(seconds=rule.probe_after), text)
        self._breakers[made.key] = made
        self._failures = [each for each in self._failures if each[0] != made.key]
        self._tell(made.key, _E.OPENED, who, message=message)
        return made

    def _close(self, found: _Breaker, now: datetime, who: _Who = (None, None), *, is_forced: bool = False) -> None:
        found.state, found.is_forced, found.probe_id, found.failed_probes = _B.CLOSING, is_forced, None, 0
        found.changed_at = found.next_at = now
        self._failures = [each for each in self._failures if each[0] != found.key]
        self._tell(found.key, _E.CLOSED, who)

    def _tell(
        self, key: tuple[str, str, str | None], event: BreakerEventType, who: _Who = (None, None), **details: object
    ) -> None:
        told = {name: value for name, value in details.items() if value is not None}
        self._events.append(BreakerEvent(self._state.clock.now(), *key, event, *who, details=told))

    # -- looking ------------------------------------------------------------------------------------------------------
    def _of(self, domain: str, command_type: str) -> list[_Breaker]:
        return [each for key, each in sorted(self._breakers.items()) if key[:2] == (domain, command_type)]

    def _keeps(self, found: _Breaker) -> timedelta:
        """How long a breaker is kept for which nothing waits."""
        return timedelta(seconds=found.rule.within if found.key[:2] in self._rules else 0)

    def _is_alike(self, found: _Breaker, row: Row) -> bool:
        key = (row.new.domain, row.new.command_type, fingerprint(row.error_message))
        return row.error_message is not None and key == found.key

    def _parked(self, found: _Breaker) -> list[Row]:
        rows = [self._state.rows[key] for key in self._state.parked.get(found.rule.domain, ())]
        mine = [row for row in rows if (row.new.command_type, row.held_by) == found.key[1:]]
        return sorted(mine, key=lambda row: (row.updated_at, row.seq))

    def _is_under_way(self, found: _Breaker) -> bool:
        """Whether the probe is ready or in progress, and so may still tell something."""
        row = self._state.rows.get((found.rule.domain, found.probe_id)) if found.probe_id else None
        if row is None or row.status is not _S.PENDING:
            return row is not None and row.status is _S.IN_PROGRESS
        turn = self._state.heads.get((row.new.domain, row.new.key or ""), row.key)
        return row.due_at is None and row.held_by is None and (turn == row.key or not row.in_line)


def _is_late(row: Row, now: datetime) -> bool:
    """Whether a command has expired."""
    return row.new.expires_at is not None and row.new.expires_at <= now
