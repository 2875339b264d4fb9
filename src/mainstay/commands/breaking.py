"""How breakers are set and moved by hand: checked here, kept by the `BreakerStore`, and told to sleeping workers."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from mainstay.commands.breakers import Breaker, BreakerEvent, BreakerRule, BreakerStore
from mainstay.commands.checks import checked_count, checked_page, checked_seconds, checked_text, domain_filter
from mainstay.errors import InvalidInputError, InvalidOperationError, shown
from mainstay.message import checked_domain, checked_type

WAKE = 100
"""Sleeping workers that are woken when something may be let go, or a gate opens."""
_FIELD_LIMIT = 200
_MOST_FAILURES = 10_000
_SHORTEST, _LONGEST = 0.01, 86_400.0
_SLOWEST, _FASTEST = 0.001, 10_000.0
_FINGERPRINT = re.compile(r"[0-9a-f]{12}")


class Places(Protocol):
    """What breakers need beside their own store."""

    @property
    def breakers(self) -> BreakerStore:
        """Where breakers live."""
        ...

    async def ensure_queue(self, domain: str) -> None:
        """See `CommandStore.ensure_queue`."""

    async def wake(self, domains: Sequence[str]) -> int:
        """See `CommandStore.wake`."""
        ...


class Breakers:
    """Breakers of command types: they live in the database, and hold for every worker until they are removed.

    Args:
        store: Where commands live.
    """

    def __init__(self, store: Places) -> None:
        self._store = store

    async def set(
        self,
        domain: str,
        command_type: str,
        *,
        failures: int = 5,
        within: timedelta | float = 60.0,
        probe_after: timedelta | float = 30.0,
        drip: float = 10.0,
        operator: str | None = None,
    ) -> BreakerRule:
        """Give a command type breakers, in place of the rule that it had.

        Args:
            domain: Whose commands.
            command_type: Which of them.
            failures: So many attempts that fail alike open a breaker; of at least two commands, unless it is 1.
            within: In so many seconds (or timedelta).
            probe_after: Seconds (or timedelta) until one command is let go as a probe; each that fails doubles it, up
                to 16 times as long.
            drip: Commands a second that are let go after a probe ended well.
            operator: Who does it.

        Raises:
            InvalidInputError: A value out of range.
        """
        rule = BreakerRule(
            checked_domain(domain),
            checked_type(command_type),
            checked_count(failures, "failures"),
            _span(within, "within"),
            _span(probe_after, "probe_after"),
            _rate(drip),
        )
        if rule.failures > _MOST_FAILURES:
            raise InvalidInputError(f"failures must be at most {_MOST_FAILURES:,}, not {shown(failures)}")
        who = checked_text(operator, "operator", _FIELD_LIMIT)
        await self._store.ensure_queue(rule.domain)
        await self._store.breakers.set_rule(rule, operator=who)
        await self._store.wake([rule.domain] * WAKE)
        return rule

    async def remove(self, domain: str, command_type: str, *, operator: str | None = None) -> bool:
        """Take the breakers of a type away, and let go what they hold, as fast as ``drip`` says.

        Returns:
            Whether it had any.
        """
        who = checked_text(operator, "operator", _FIELD_LIMIT)
        removed = await self._store.breakers.remove_rule(
            checked_domain(domain), checked_type(command_type), operator=who
        )
        if removed:
            await self._store.wake([domain] * WAKE)
        return removed

    async def rules(self, domain: str | None = None) -> list[BreakerRule]:
        """What was set, by domain and type."""
        return await self._store.breakers.list_rules(domain_filter(domain))

    async def history(self, domain: str | None = None, limit: int = 50) -> list[BreakerEvent]:
        """What happened to rules and breakers, newest first.

        Args:
            domain: Only of this one.
            limit: Events at most.
        """
        checked_page(limit, 0)
        return await self._store.breakers.list_events(domain_filter(domain), limit=limit)

    async def force_open(
        self,
        domain: str,
        command_type: str,
        fingerprint: str,
        *,
        operator: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Open a breaker before it opens by itself.

        Args:
            domain: Whose commands.
            command_type: Which of them.
            fingerprint: What their failures say, as `TroubleshootingQueue.list_groups` tells it.
            operator: Who does it.
            reason: Why.

        Returns:
            False if it was open.

        Raises:
            InvalidInputError: An argument cannot be accepted.
            InvalidOperationError: The type has no breakers.
        """
        which, who, why = _which(domain, command_type, fingerprint), *who_and_why(operator, reason)
        if await self._store.breakers.open(*which, operator=who, reason=why):
            return True
        rules = await self._store.breakers.list_rules(which[0])
        if not any(rule.command_type == which[1] for rule in rules):
            raise InvalidOperationError(f"{domain} {command_type} has no breakers; see Breakers.set")
        return False

    async def force_close(
        self,
        domain: str,
        command_type: str,
        fingerprint: str,
        *,
        operator: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Let go what a breaker holds, as fast as ``drip`` says. From then on failures count as attempts again.

        Args:
            domain: Whose commands.
            command_type: Which of them.
            fingerprint: Which breaker.
            operator: Who does it.
            reason: Why.

        Returns:
            False if there was nothing to close.

        Raises:
            InvalidInputError: An argument cannot be accepted.
        """
        which, who, why = _which(domain, command_type, fingerprint), *who_and_why(operator, reason)
        closed = await self._store.breakers.close(*which, operator=who, reason=why)
        if closed:
            await self._store.wake([domain] * WAKE)
        return closed

    async def list(self, domain: str | None = None) -> list[Breaker]:
        """Breakers that are open or closing, by domain, type and fingerprint."""
        return await self._store.breakers.list_breakers(domain_filter(domain))


def who_and_why(operator: str | None, reason: str | None) -> tuple[str | None, str | None]:
    """An operator's name and reason, checked."""
    return checked_text(operator, "operator", _FIELD_LIMIT), checked_text(reason, "reason")


def _which(domain: str, command_type: str, fingerprint: str) -> tuple[str, str, str]:
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise InvalidInputError(f"a fingerprint has 12 hexadecimal digits, unlike {shown(fingerprint)}")
    return checked_domain(domain), checked_type(command_type), fingerprint


def _span(given: timedelta | float, name: str) -> float:
    seconds = checked_seconds(given, name)
    if not _SHORTEST <= seconds <= _LONGEST:
        raise InvalidInputError(f"{name} must be {_SHORTEST:g} to {_LONGEST:,.0f} seconds, not {shown(given)}")
    return seconds


def _rate(drip: float) -> float:
    if not isinstance(drip, int | float) or isinstance(drip, bool) or not _SLOWEST <= drip <= _FASTEST:
        raise InvalidInputError(f"drip must be {_SLOWEST:g} to {_FASTEST:,.0f} commands a second, not {shown(drip)}")
    return float(drip)
